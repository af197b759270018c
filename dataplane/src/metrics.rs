//! Metrics for Prometheus: `GET /metrics` over HTTP/1, one request per connection, answered from
//! the node's status. Nothing in it is secret; it holds names, counts and times.
//!
//! ```text
//!  Prometheus ─▶ 127.0.0.1:9820 ─▶ answer ─▶ NodeHandle::status
//!                                    └─▶ names (what) ─▶ text (how)
//! ```

mod names;
mod text;

use std::{
    convert::Infallible,
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use weft_agent::AgentHandle;

use crate::node::NodeHandle;

/// Where the metrics are.
const PATH: &str = "/metrics";
/// Connections at a time; more wait in the kernel's queue. Two Prometheus servers and a person
/// need three. Each holds one answer: 1 MB on a host with 1,000 peers.
const CONNECTIONS_MAX: usize = 8;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may last altogether; Prometheus gives up after 10 s by default.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the node may take to answer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head of a request in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Pause after the kernel could not give a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens for scrapes.
///
/// # Errors
/// When the address is taken or not of this host.
pub fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let listener = net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers scrapes until it is dropped; connections end with it.
pub async fn serve(listener: TcpListener, node: NodeHandle, agent: Option<AgentHandle>) {
    let source = Source { node, agent, started: SystemTime::now() };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        // Those that ended meanwhile.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = source.clone();
                connections.spawn(async move {
                    let served = connection(stream, &source);
                    if tokio::time::timeout(CONNECTION_TIMEOUT, served).await.is_err() {
                        tracing::debug!("a client of the metrics was too slow");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Where an exposition comes from.
#[derive(Clone)]
struct Source {
    node: NodeHandle,
    /// Of a host that follows a control plane.
    agent: Option<AgentHandle>,
    started: SystemTime,
}

async fn connection(stream: TcpStream, source: &Source) {
    let service = service_fn(|request| async move {
        Ok::<_, Infallible>(answer(&request, async || scrape(source).await).await)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for metrics broke");
    }
}

/// The exposition, or why there is none.
async fn scrape(source: &Source) -> Result<String, String> {
    let control = source.agent.as_ref().map(AgentHandle::status);
    match tokio::time::timeout(STATUS_TIMEOUT, source.node.status(None)).await {
        Ok(Ok(status)) => Ok(names::exposition(&status, control.as_ref(), source.started)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the daemon is busy".to_owned()),
    }
}

async fn answer<B>(
    request: &Request<B>,
    scrape: impl AsyncFnOnce() -> Result<String, String>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        let hint = format!("nothing here; metrics are at {PATH}\n");
        return plain(StatusCode::NOT_FOUND, hint);
    }
    if request.method() != Method::GET {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    match scrape().await {
        Ok(exposition) => {
            let mut found = plain(StatusCode::OK, exposition);
            let content_type = HeaderValue::from_static(text::CONTENT_TYPE);
            found.headers_mut().insert(CONTENT_TYPE, content_type);
            found
        }
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn ask(method: Method, path: &str, scraped: Result<&str, &str>) -> (u16, String, String) {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let scraped = scraped.map(str::to_owned).map_err(str::to_owned);
        let response = answer(&request, async || scraped).await;
        let header = |name| {
            let value = response.headers().get(name);
            value.map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let (allow, content_type) = (header(ALLOW), header(CONTENT_TYPE));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (status, if status == 405 { allow } else { content_type }, body)
    }

    #[tokio::test]
    async fn only_one_path_and_one_method_are_answered() {
        let prometheus = "text/plain; version=0.0.4; charset=utf-8".to_owned();
        let text = "text/plain; charset=utf-8".to_owned();
        let found = (200, prometheus, "weft 1\n".to_owned());
        assert_eq!(ask(Method::GET, "/metrics", Ok("weft 1\n")).await, found);
        assert_eq!(ask(Method::GET, "/metrics?x=1", Ok("weft 1\n")).await, found);
        let elsewhere = "nothing here; metrics are at /metrics\n".to_owned();
        for path in ["/", "/metric", "/metrics/", "/metrics/x", "//metrics"] {
            let missing = (404, text.clone(), elsewhere.clone());
            assert_eq!(ask(Method::GET, path, Ok("")).await, missing, "{path}");
        }
        for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::DELETE] {
            let refused = (405, "GET".to_owned(), "expected GET\n".to_owned());
            assert_eq!(ask(method, "/metrics", Ok("")).await, refused);
        }
        let stopping = (503, text, "the daemon stops\n".to_owned());
        assert_eq!(ask(Method::GET, "/metrics", Err("the daemon stops")).await, stopping);
    }
}
