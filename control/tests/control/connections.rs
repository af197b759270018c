//! What one connection may have held for it, and how many there are of one source or host: seen as bytes.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::Code;
use weft_control_api::v1::{
    self, policies_client::PoliciesClient, sessions_client::SessionsClient,
};

use crate::{
    hostile::allow_descriptors,
    site::{Host, PASSWORD, Site, code, name, with},
};

/// Connections that show no certificate, of all sources.
const STRANGERS_MAX: usize = 4_096;
/// More than that, from so many sources, so many at a time.
const SILENT: usize = 5_000;
const SILENT_SOURCES: usize = 50;
const SILENT_AT_ONCE: usize = 50;
/// Everybody else is answered within this time.
const ANSWER_MAX: Duration = Duration::from_secs(10);

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

/// Who trusts the site, and shows the certificate of a host or none.
fn config(site: &Site, host: Option<&Host>) -> Arc<ClientConfig> {
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
    Arc::new(config)
}

/// A connection on which nothing is said but who is there.
async fn shake_hands(
    config: Arc<ClientConfig>,
    from: IpAddr,
    to: SocketAddr,
) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let stream = socket.connect(to).await.unwrap();
    let name = ServerName::try_from("control.example").unwrap();
    TlsConnector::from(config).connect(name, stream).await.unwrap()
}

/// A connection from an address of this machine, of a host or of nobody.
async fn connect(site: &Site, from: &str, host: Option<&Host>) -> TlsStream<TcpStream> {
    let config = config(site, host);
    let mut stream = shake_hands(config, from.parse().unwrap(), site.address).await;
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

/// Whether the other end has ended it by now.
fn has_ended(stream: &TlsStream<TcpStream>) -> bool {
    let mut bytes = [0; 1_024];
    loop {
        match stream.get_ref().0.try_read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_shake_hands_and_say_nothing_keep_nobody_out() {
    allow_descriptors();
    let site = Site::start().await;
    let host = site.enrol("host-a").await;
    let mut agent = site.agent(&host).await;
    let config = config(&site, None);
    let mut silent = Vec::with_capacity(SILENT);
    for batch in 0..SILENT / SILENT_AT_ONCE {
        let mut shaking = JoinSet::new();
        for n in 0..SILENT_AT_ONCE {
            // No source has as many as it may.
            let source = u8::try_from((batch * SILENT_AT_ONCE + n) % SILENT_SOURCES).unwrap();
            let from = Ipv4Addr::new(127, 0, 1, source + 1).into();
            shaking.spawn(shake_hands(Arc::clone(&config), from, site.address));
        }
        silent.extend(shaking.join_all().await);
    }
    // Whoever comes is answered, and who was there before is there still.
    let token = timeout(ANSWER_MAX, site.login("operator@weft.example", PASSWORD)).await;
    assert!(token.unwrap().is_ok());
    let report = v1::ReportRequest::default();
    timeout(ANSWER_MAX, agent.report(report)).await.unwrap().unwrap();
    // Those above the limit have lost their places, and no others.
    let all_ended = async {
        let over = SILENT - STRANGERS_MAX;
        while silent.iter().filter(|stream| has_ended(stream)).count() < over {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(ANSWER_MAX, all_ended).await.unwrap();
    let stay = silent.iter().filter(|stream| !has_ended(stream)).count();
    assert!(stay >= STRANGERS_MAX - SILENT_AT_ONCE, "{stay}");
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
