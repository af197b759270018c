//! Programs that are no hosts of ours: scanners, old TLS, silence, guesses at environments.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConnection, SignatureScheme,
    client::ResolvesClientCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::Instant,
};
use tokio_rustls::TlsConnector;

use super::lab::{Indices, Lab, Pair, deadline, host, pipe, serve, shake, side, stranger};
use crate::{HandshakeError, ServerEnvironments, Step, connect};

/// As the protocol has it, whatever the code says.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a client can see of a server.
#[derive(Debug, PartialEq)]
struct Seen {
    alert: String,
    application_data: usize,
    /// What the server asked for in a certificate: names of authorities, kinds of signature.
    asked: (Vec<Vec<u8>>, Vec<SignatureScheme>),
    chain_len: usize,
    group: Option<rustls::NamedGroup>,
    tickets: u32,
}

#[derive(Debug)]
struct Curious {
    key: SingleCertAndKey,
    asked: std::sync::Mutex<(Vec<Vec<u8>>, Vec<SignatureScheme>)>,
}

impl ResolvesClientCert for Curious {
    fn resolve(&self, names: &[&[u8]], kinds: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let names = names.iter().map(|name| name.to_vec()).collect();
        *self.asked.lock().unwrap() = (names, kinds.to_vec());
        ResolvesClientCert::resolve(&self.key, &[], kinds)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Connects with any name and any certificate and reports everything.
async fn look(lab: &Lab, name: ServerName<'static>, pair: &Pair) -> (Seen, HandshakeError) {
    let mut config = stranger(Some(pair));
    let key = config
        .client_auth_cert_resolver
        .resolve(&[], &super::super::verifier::SIGNATURES.supported_schemes())
        .unwrap();
    let curious = Arc::new(Curious {
        key: SingleCertAndKey::from(CertifiedKey::clone(&key)),
        asked: Default::default(),
    });
    config.client_auth_cert_resolver = Arc::clone(&curious) as Arc<dyn ResolvesClientCert>;
    let (near, far) = pipe();
    let client = async {
        let connector = TlsConnector::from(Arc::new(config));
        let mut tls = connector.connect(name, near).await.unwrap();
        let mut said = Vec::new();
        let alert = tls.read_to_end(&mut said).await.unwrap_err();
        let common: &ClientConnection = tls.get_ref().1;
        Seen {
            alert: alert.to_string(),
            application_data: said.len(),
            asked: curious.asked.lock().unwrap().clone(),
            chain_len: common.peer_certificates().unwrap().len(),
            group: common.negotiated_key_exchange_group().map(|g| g.name()),
            tickets: common.tls13_tickets_received(),
        }
    };
    let indices = Indices::new();
    let (seen, refused) = tokio::join!(client, serve(far, [lab.host("host-b")], side(1, &indices)));
    assert_eq!(indices.ever_given(), 0);
    (seen, refused.unwrap_err())
}

#[tokio::test]
async fn unknown_and_foreign_look_the_same() {
    let (lab, foreign) = (Lab::new("acme"), Lab::new("acme"));
    // With every kind of certificate that is not of this environment's authority.
    let mut expired = foreign.params("host-a");
    expired.not_after = (std::time::SystemTime::now() - super::lab::DAY / 2).into();
    let mut nameless = foreign.params("host-a");
    nameless.subject_alt_names.clear();
    for params in [foreign.params("host-a"), expired, nameless] {
        let pair = foreign.issue(&params);
        let (known, error) = look(&lab, lab.server_name(), &pair).await;
        assert!(matches!(error, HandshakeError::Certificate(_)), "{error}");
        assert_eq!((known.application_data, known.tickets), (0, 0));
        assert!(known.asked.0.is_empty(), "no names of authorities");
        for name in [
            foreign.server_name(),
            ServerName::try_from("example.org").unwrap(),
            ServerName::try_from("acme.weft.invalid").unwrap(),
            // No SNI at all.
            ServerName::try_from("192.0.2.1").unwrap(),
        ] {
            let (unknown, error) = look(&lab, name.clone(), &pair).await;
            assert!(matches!(error, HandshakeError::UnknownEnvironment), "{error}");
            assert_eq!(unknown, known, "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_good_certificate_does_not_help_with_an_unknown_tag() {
    let lab = Lab::new("acme");
    let pair = lab.issue(&lab.params("host-a"));
    let name = ServerName::try_from("example.org").unwrap();
    let (seen, error) = look(&lab, name, &pair).await;
    assert!(matches!(error, HandshakeError::UnknownEnvironment));
    assert!(seen.alert.contains("UnknownCA"), "{}", seen.alert);
}

#[tokio::test]
async fn a_client_that_meets_a_decoy_refuses_it() {
    let (acme, globex) = (Lab::new("acme"), Lab::new("globex"));
    let (client, server) = shake(&globex.host("host-a"), "host-b", &[acme.host("host-b")]).await;
    assert_eq!(client.unwrap_err().label(), "certificate_untrusted");
    assert_eq!(server.unwrap_err().label(), "unknown_environment");
}

#[tokio::test]
async fn another_application_protocol_is_refused() {
    let lab = Lab::new("acme");
    let pair = lab.issue(&lab.params("host-a"));
    for protocols in [vec![], vec![b"h2".to_vec()]] {
        let mut config = stranger(Some(&pair));
        config.alpn_protocols = protocols;
        let (near, far) = pipe();
        let client = async {
            let connector = TlsConnector::from(Arc::new(config));
            if let Ok(mut tls) = connector.connect(lab.server_name(), near).await {
                let mut said = Vec::new();
                let _ = tls.read_to_end(&mut said).await;
                assert_eq!(said, b"");
            }
        };
        let indices = Indices::new();
        let (refused, ()) =
            tokio::join!(serve(far, [lab.host("host-b")], side(1, &indices)), client);
        assert!(["protocol", "tls"].contains(&refused.unwrap_err().label()));
        assert_eq!(indices.ever_given(), 0);
    }
}

#[tokio::test]
async fn tls_1_2_is_refused_with_an_alert() {
    // A ClientHello as of 2008: version 3.3, no supported_versions extension.
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &[0, 2, 0xc0, 0x2b],
        &[1, 0],
        &[0, 22],
        &[0, 10, 0, 4, 0, 2, 0, 29],
        &[0, 13, 0, 4, 0, 2, 4, 3],
        &[0, 11, 0, 2, 1, 0],
    ]
    .concat();
    let length = u16::try_from(body.len()).unwrap();
    let record =
        [&[22, 3, 1][..], &(length + 4).to_be_bytes(), &[1, 0], &length.to_be_bytes(), &body]
            .concat();
    let lab = Lab::new("acme");
    let (mut near, far) = pipe();
    near.write_all(&record).await.unwrap();
    let indices = Indices::new();
    let client = async {
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (refused, answer) =
        tokio::join!(serve(far, [lab.host("host-b")], side(1, &indices)), client);
    assert!(matches!(refused, Err(HandshakeError::UnknownEnvironment)));
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70], "fatal alert protocol_version");
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    let lab = Lab::new("acme");
    let server = lab.host("host-b");
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 600], &[0xff; 600]] {
        let (mut near, far) = pipe();
        near.write_all(noise).await.unwrap();
        near.shutdown().await.unwrap();
        let indices = Indices::new();
        let refused = serve(far, [Arc::clone(&server)], side(1, &indices)).await;
        assert_eq!(refused.unwrap_err().label(), "tls");
    }
    let (near, far) = pipe();
    drop(near);
    let closed = serve(far, [server], side(1, &Indices::new())).await;
    assert!(matches!(closed, Err(HandshakeError::Closed(Step::Start))));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_hits_the_deadline() {
    let lab = Lab::new("acme");
    let (near, far) = pipe();
    let begun = Instant::now();
    let silent = serve(far, [lab.host("host-b")], side(1, &Indices::new())).await;
    assert!(matches!(silent, Err(HandshakeError::Timeout(Step::Start))));
    assert_eq!(begun.elapsed(), DEADLINE);
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_does_not_get_more_time() {
    // One byte of a ClientHello each second is progress, but not enough.
    let lab = Lab::new("acme");
    let (mut near, far) = pipe();
    let begun = Instant::now();
    let drip = async {
        for byte in [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if near.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    };
    let indices = Indices::new();
    let (slow, ()) = tokio::join!(serve(far, [lab.host("host-b")], side(1, &indices)), drip);
    assert!(matches!(slow, Err(HandshakeError::Timeout(Step::Start))));
    assert!(begun.elapsed() >= DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_hits_the_deadline() {
    let lab = Lab::new("acme");
    let (near, far) = pipe();
    let (name, local) = (host("host-b"), side(1, &Indices::new()));
    let begun = Instant::now();
    let silent = connect(near, &lab.host("host-a"), &name, &local, deadline()).await;
    assert!(matches!(silent, Err(HandshakeError::Timeout(Step::Tls))));
    assert_eq!(begun.elapsed(), DEADLINE);
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_hits_the_deadline() {
    let lab = Lab::new("acme");
    // Room for its own first flight, but not for the server's.
    let (near, far) = duplex(256);
    let pair = lab.issue(&lab.params("host-a"));
    let connector = TlsConnector::from(Arc::new(stranger(Some(&pair))));
    let (mut relay_near, client_end) = pipe();
    let (mut read_half, mut write_half) = tokio::io::split(near);
    let client = tokio::spawn(async move {
        let _ = connector.connect(lab.server_name(), client_end).await;
    });
    let forward = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(n) = relay_near.read(&mut buffer).await {
            if n == 0 || write_half.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    });
    let lab = Lab::new("acme");
    let begun = Instant::now();
    let stuck = serve(far, [lab.host("host-b")], side(1, &Indices::new())).await;
    assert!(matches!(stuck, Err(HandshakeError::Timeout(Step::Tls))));
    assert_eq!(begun.elapsed(), DEADLINE);
    let _ = read_half.read_u8().await;
    client.abort();
    forward.abort();
}

#[tokio::test]
async fn a_stranger_too_many_is_not_answered() {
    let lab = Lab::new("acme");
    let environments = ServerEnvironments::new([lab.host("host-b")]).unwrap();
    let (near, far) = pipe();
    let (mut received, mut said) = tokio::io::split(near);
    let pair = lab.issue(&lab.params("host-a"));
    let client = async {
        let name = lab.server_name();
        let mut hello = Vec::new();
        let mut tls = ClientConnection::new(Arc::new(stranger(Some(&pair))), name).unwrap();
        tls.write_tls(&mut hello).unwrap();
        said.write_all(&hello).await.unwrap();
        let mut answer = Vec::new();
        received.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let refused = crate::accept(far, &environments, || false, |_, _| None, deadline());
    let (answer, outcome) = tokio::join!(client, refused);
    assert!(matches!(outcome, Err(HandshakeError::Crowded)), "{outcome:?}");
    assert!(answer.is_empty(), "not even an alert: {} bytes", answer.len());
}
