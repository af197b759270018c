//! The server: TLS connections in, calls out.
//!
//! ```text
//!   accept ──▶ place among the connections ──▶ TLS, 10 s ──▶ who is it ──▶ HTTP/2 ──▶ api
//! ```

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use weft_pki::installation::{self, ServerName};

use crate::{
    api::{self, Peer},
    app::App,
    audit::BOUNDS_INTERVAL,
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 8_192;
/// TLS handshakes at once.
const HANDSHAKES_MAX: usize = 256;
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Calls at once on one connection.
const STREAMS_MAX: u32 = 64;
/// A connection on which nothing happens is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const KEEPALIVE_ANSWER_MAX: Duration = Duration::from_secs(20);
/// After a connection could not be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often what is over is removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);
/// How often what was kept long enough of the audit is removed.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(24 * 3_600);
/// How often the server gives itself a new certificate.
const RENEW_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// The server's own certificate, always a young one. Its key is in memory only.
#[derive(Debug)]
struct OwnCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Serves on `listener` until `stop` is over; calls that run are finished then.
///
/// # Errors
/// When the server has no certificate, or cannot go on; a broken connection is no such case.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    names: &[ServerName],
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let own = Arc::new(OwnCertificate(RwLock::new(Arc::new(app.server_certificate(names)?))));
    let config = tls_config(&app, Arc::clone(&own))?;
    let (connections, incoming) = mpsc::channel(HANDSHAKES_MAX);
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(config), connections));
    let renewing = tokio::spawn(renew(own, Arc::clone(&app), names.to_vec()));
    let tidying = tokio::spawn(tidy(Arc::clone(&app)));
    let expiring = tokio::spawn(expire(Arc::clone(&app)));
    let counting = tokio::spawn(record_left_out(Arc::clone(&app)));
    let keys = {
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.follow_keys().await })
    };
    let mut server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER_MAX));
    let served = api::services(&app, &mut server)
        .await?
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop)
        .await;
    accepting.abort();
    renewing.abort();
    tidying.abort();
    expiring.abort();
    counting.abort();
    keys.abort();
    Ok(served?)
}

fn tls_config(app: &App, own: Arc<OwnCertificate>) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(installation::anchor(app.anchor().as_bytes())?)?;
    // Who shows no certificate shows a token, or enrols.
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every connection shows its certificate anew.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

async fn renew(own: Arc<OwnCertificate>, app: Arc<App>, names: Vec<ServerName>) {
    loop {
        sleep(RENEW_INTERVAL).await;
        match app.server_certificate(&names) {
            Ok(new) => *own.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new),
            Err(error) => tracing::error!(%error, "the server's certificate is not renewed"),
        }
    }
}

async fn tidy(app: Arc<App>) {
    loop {
        if let Err(error) = app.tidy().await {
            tracing::warn!(%error, "what is over is not removed yet");
        }
        sleep(TIDY_INTERVAL).await;
    }
}

async fn expire(app: Arc<App>) {
    loop {
        if let Err(error) = app.recorder().expire().await {
            tracing::error!(%error, "what is old of the audit is not removed");
        }
        sleep(EXPIRE_INTERVAL).await;
    }
}

async fn record_left_out(app: Arc<App>) {
    loop {
        sleep(BOUNDS_INTERVAL).await;
        if let Err(error) = app.recorder().record_left_out().await {
            tracing::error!(%error, "how many refusals were left out of the audit is not recorded");
        }
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        // Semaphores that nobody closes.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let connection =
                        Connection { peer: peer(&stream, from.ip()), stream, _place: place };
                    // The server is gone: so is the connection.
                    let _ = connections.send(Ok(connection)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
            drop(handshake);
        });
    }
}

fn peer(stream: &TlsStream<TcpStream>, address: IpAddr) -> Peer {
    let chain = stream.get_ref().1.peer_certificates();
    let shown = chain.and_then(|chain| chain.first());
    // The library has judged the chain; a certificate that says nothing of a member makes nobody one.
    let member = shown.and_then(|certificate| installation::member(certificate).ok());
    Peer { address: address.to_canonical(), member }
}

/// A connection with who is at its other end.
#[derive(Debug)]
struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
