//! What one connection may have held for it, and how many there are of one source or host: seen as bytes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::Code;
use weft_control_api::v1::{
    self, policies_client::PoliciesClient, sessions_client::SessionsClient,
};

use crate::site::{Host, Site, code, name, with};

/// Connections that show no certificate, of one source.
const SOURCE_STRANGERS_MAX: usize = 128;
/// Connections of one host.
const HOST_CONNECTIONS_MAX: usize = 8;
/// What a client begins with: the preface and settings that say nothing (RFC 9113 sections 3.4, 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
/// A frame of settings says that the other's are known.
const ACK: u8 = 1;

/// A connection from an address of this machine, of a host or of nobody.
async fn connect(site: &Site, from: &str, host: Option<&Host>) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(site.anchor.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match host {
        Some(host) => {
            let chain = CertificateDer::pem_slice_iter(host.certificate.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(host.key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let stream = socket.connect(site.address).await.unwrap();
    let name = ServerName::try_from("control.example").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream
}

/// What the server says of how much it takes: its settings, and whether its window is larger than at first.
async fn said(stream: &mut TlsStream<TcpStream>) -> (Vec<(u16, u32)>, bool) {
    let (mut settings, mut is_larger) = (Vec::new(), false);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        stream.read_exact(&mut payload).await.unwrap();
        match (head[3], head[4]) {
            (SETTINGS, ACK) => return (settings, is_larger),
            (SETTINGS, _) => settings.extend(payload.chunks(6).map(|one| {
                let value = [one[2], one[3], one[4], one[5]];
                (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes(value))
            })),
            (kind, _) => is_larger |= kind == WINDOW_UPDATE,
        }
    }
}

#[tokio::test]
async fn a_connection_has_so_many_calls_and_so_much_on_its_way() {
    let site = Site::start().await;
    let host = site.enrol("host-a").await;
    for (host, calls) in [(None, 16), (Some(&host), 64)] {
        let mut stream = connect(&site, "127.0.0.1", host).await;
        let (settings, is_larger) =
            timeout(Duration::from_secs(20), said(&mut stream)).await.unwrap();
        let value = |id| settings.iter().find(|(key, _)| *key == id).map(|(_, value)| *value);
        // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE.
        assert_eq!((value(3), value(6)), (Some(calls), Some(8_192)), "{settings:?}");
        assert!(value(4).is_none_or(|window| window <= 65_535) && !is_larger, "{settings:?}");
    }
}

/// Whether it has ended, in so much time.
async fn ends(stream: &mut TlsStream<TcpStream>, time: Duration) -> bool {
    let mut bytes = [0; 1_024];
    let all = async { while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {} };
    timeout(time, all).await.is_ok()
}

/// Of `len_max` from one address, and one more, the oldest ends; one of another stays.
async fn has_at_most(site: &Site, len_max: usize, host: Option<&Host>, other: Option<&Host>) {
    let mut good = connect(site, "127.0.0.2", other).await;
    let mut all = Vec::new();
    for _ in 0..=len_max {
        all.push(connect(site, "127.0.0.1", host).await);
    }
    assert!(ends(&mut all[0], Duration::from_secs(20)).await, "the oldest stays");
    let short = Duration::from_millis(200);
    assert!(!ends(&mut all[1], short).await && !ends(&mut all[len_max], short).await);
    assert!(!ends(&mut good, short).await);
}

#[tokio::test]
async fn a_source_has_so_many_connections_and_gives_up_its_own_oldest() {
    let site = Site::start().await;
    has_at_most(&site, SOURCE_STRANGERS_MAX, None, None).await;
}

#[tokio::test]
async fn a_host_has_so_many_connections_and_gives_up_its_own_oldest() {
    let site = Site::start().await;
    let (a, b) = (site.enrol("host-a").await, site.enrol("host-b").await);
    has_at_most(&site, HOST_CONNECTIONS_MAX, Some(&a), Some(&b)).await;
}

#[tokio::test]
async fn requests_are_as_long_as_they_need_to_be() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    site.environment(&owner, "acme", "shop").await;
    let channel = site.connect(None).await;
    let mut sessions = SessionsClient::new(channel.clone());
    let login = |len| v1::LoginRequest { password: "x".repeat(len), ..Default::default() };
    assert_eq!(code(sessions.login(login(15 << 10)).await), Code::Unauthenticated);
    assert_eq!(code(sessions.login(login(16 << 10)).await), Code::OutOfRange);
    // A policy may be long, and is read as one: what is wrong with it is told.
    let mut policies = PoliciesClient::new(channel);
    let set = v1::SetPolicyRequest {
        environment: name("acme/shop"),
        rules: vec![v1::Rule::default(); 100_000],
        ..Default::default()
    };
    assert_eq!(code(policies.set_policy(with(set, &owner)).await), Code::InvalidArgument);
}
