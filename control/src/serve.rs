//! The server: TLS connections in, calls out.
//!
//! ```text
//!   accept ──▶ place among those who shake hands ──▶ TLS, 10 s ──▶ place among hosts or strangers ──▶ HTTP/2 ──▶ api
//! ```

mod door;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use weft_model::liveness::KEEP_INTERVAL;
use weft_pki::installation::{self, ServerName};

pub use self::door::CONNECTIONS_MAX;
use crate::{api, app::App, audit::BOUNDS_INTERVAL};

/// Connections that wait to be served.
const INCOMING_MAX: usize = 256;
/// How long it may take until a call is answered, or begins to be.
const CALL_MAX: Duration = Duration::from_secs(60);
/// Calls at once on one connection that shows a certificate.
const MEMBER_STREAMS_MAX: u32 = 64;
/// The same on one that shows none.
const STRANGER_STREAMS_MAX: u32 = 16;
/// What comes on a connection before it is read, bytes: the least that HTTP/2 has.
const WINDOW_BYTES: u32 = 65_535;
/// Headers of one call, bytes.
const HEADERS_BYTES_MAX: u32 = 8 << 10;
/// A connection on which nothing happens is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const KEEPALIVE_ANSWER_MAX: Duration = Duration::from_secs(20);
/// How often what was kept long enough of the audit is removed.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(24 * 3_600);
/// How often it is looked whether the clock is believed by now, without which nothing of the audit is removed.
const EXPIRE_RETRY: Duration = Duration::from_secs(3_600);
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
/// When the server has no certificate, or cannot go on: also when a later release works on the store by now. A broken
/// connection is no such case.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    names: &[ServerName],
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let own = Arc::new(OwnCertificate(RwLock::new(Arc::new(app.server_certificate(names)?))));
    let config = tls_config(&app, Arc::clone(&own))?;
    let (strangers, strange) = mpsc::channel(INCOMING_MAX);
    let (members, known) = mpsc::channel(INCOMING_MAX);
    let inside = door::Inside { strangers, members };
    let accepting = tokio::spawn(door::accept(listener, TlsAcceptor::from(config), inside));
    let renewing = tokio::spawn(renew(own, Arc::clone(&app), names.to_vec()));
    let keeping = tokio::spawn(keep_heartbeats(Arc::clone(&app)));
    let expiring = tokio::spawn(expire(Arc::clone(&app)));
    let counting = tokio::spawn(record_left_out(Arc::clone(&app)));
    let keys = {
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.follow_keys().await })
    };
    let master_keys = {
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.follow_master_keys().await })
    };
    let shipping = {
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.ship_audit().await })
    };
    let standing = {
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.follow_standing().await })
    };
    let time = {
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.follow_time().await })
    };
    let (routes, readiness) = api::services(&app).await?;
    let telling = tokio::spawn(readiness.tell(app.trouble()));
    let (going, gone) = watch::channel(());
    let served = {
        let until = |mut gone: watch::Receiver<()>| async move { drop(gone.changed().await) };
        let serve = |streams_max, incoming| {
            let router = server(streams_max).add_routes(routes.clone());
            let incoming = ReceiverStream::new(incoming);
            router.serve_with_incoming_shutdown(incoming, until(gone.clone()))
        };
        let stopping = async {
            stop.await;
            drop(going);
            Ok(())
        };
        let serving = async {
            tokio::try_join!(
                serve(STRANGER_STREAMS_MAX, strange),
                serve(MEMBER_STREAMS_MAX, known),
                stopping
            )
        };
        tokio::select! {
            served = serving => served.map(drop).map_err(anyhow::Error::from),
            // At once: what it would write is not what a later release expects.
            error = app.view().outgrown() => Err(error.into()),
        }
    };
    accepting.abort();
    renewing.abort();
    keeping.abort();
    expiring.abort();
    counting.abort();
    keys.abort();
    master_keys.abort();
    shipping.abort();
    standing.abort();
    time.abort();
    telling.abort();
    served
}

/// Serves connections of which each makes so many calls at once.
fn server(streams_max: u32) -> Server {
    Server::builder()
        .timeout(CALL_MAX)
        .max_concurrent_streams(streams_max)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER_MAX))
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

async fn keep_heartbeats(app: Arc<App>) {
    loop {
        sleep(KEEP_INTERVAL).await;
        if let Err(error) = app.keep_heartbeats().await {
            tracing::warn!(%error, "what hosts said is not kept yet");
        }
    }
}

async fn expire(app: Arc<App>) {
    loop {
        let pause = match app.expire_audit().await {
            Ok(true) => EXPIRE_INTERVAL,
            Ok(false) => EXPIRE_RETRY,
            Err(error) => {
                tracing::error!(%error, "what is old of the audit is not removed");
                EXPIRE_INTERVAL
            }
        };
        sleep(pause).await;
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
