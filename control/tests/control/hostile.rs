//! Callers who mean no good, or are slow.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Interval, interval, pause, resume, timeout},
};
use tonic::{
    Code, Request, Status,
    body::Body,
    client::Grpc,
    codegen::{Service, http, http::uri::PathAndQuery},
    transport::Channel,
};
use tonic_prost::ProstCodec;
use weft_control_api::v1::{self, host_agent_client::HostAgentClient};

use crate::site::{PASSWORD, Site, code, next};

/// More than there are places for.
const IDLE: usize = 5_000;
/// Everybody else is answered within this time.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take, and some.
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);

/// As many as the system lets a process have.
pub(crate) fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_say_nothing_keep_nobody_out() {
    allow_descriptors();
    let site = Site::start().await;
    let host = site.enrol("host-a").await;
    let mut agent = HostAgentClient::new(site.connect(Some(&host)).await);
    let mut news = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut news).await.unwrap();
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(site.address).await.unwrap());
    }
    let begun = Instant::now();
    let token = timeout(ANSWER_MAX, site.login("operator@weft.example", PASSWORD)).await;
    assert!(token.unwrap().is_ok(), "after {:?}", begun.elapsed());
    // Who was there before is there still.
    let report = v1::ReportRequest::default();
    timeout(ANSWER_MAX, agent.report(report)).await.unwrap().unwrap();
    // The oldest have lost their places.
    let mut byte = [0];
    let end = timeout(ANSWER_MAX, idle[0].read(&mut byte)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn who_shakes_hands_slowly_is_given_up() {
    let site = Site::start().await;
    let mut slow = TcpStream::connect(site.address).await.unwrap();
    let begun = Instant::now();
    // A record of a handshake that says it has 512 bytes.
    for byte in [22, 3, 1, 2, 0].into_iter().chain(std::iter::repeat_n(0, 512)) {
        let mut answer = [0; 64];
        let sent = slow.write_all(&[byte]).await;
        let heard = timeout(Duration::from_millis(500), slow.read(&mut answer)).await;
        if sent.is_err() || matches!(heard, Ok(Ok(0) | Err(_))) {
            assert!(begun.elapsed() < HANDSHAKE_MAX);
            return;
        }
        assert!(begun.elapsed() < HANDSHAKE_MAX, "it is waited for still");
    }
    panic!("a handshake of zeros is no handshake");
}

/// How long it may take until a call is answered.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A request of 16 KiB, of which a byte comes each second.
struct Slow(Interval, std::vec::IntoIter<u8>);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        ready!(self.0.poll_tick(context));
        let byte = self.1.next().unwrap_or_default();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![byte])))))
    }
}

/// Asks so slowly; returns what is said of it.
async fn ask_slowly(mut channel: Channel, second: Duration) -> String {
    let head = vec![0, 0, 0, 64, 0].into_iter();
    let request = http::Request::post("/weft.control.v1.Sessions/Login")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Slow(interval(second), head)))
        .unwrap();
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let answer = channel.call(request).await.unwrap();
    answer.headers()["grpc-status"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_asks_slowly_is_given_up() {
    let site = Site::start().await;
    let channels = [site.connect(None).await, site.connect(None).await, site.connect(None).await];
    // Nothing is waited for but time, so that a minute is over in no time.
    pause();
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    let slow = channels.map(|channel| tokio::spawn(ask_slowly(channel, second)));
    for one in slow {
        assert_ne!(one.await.unwrap(), "0");
        let took = begun.elapsed();
        assert!(took <= CALL_MAX + 5 * second && took >= CALL_MAX / 2, "{took:?}");
    }
    resume();
    assert!(site.login("operator@weft.example", PASSWORD).await.is_ok());
}

/// What a later version asks with.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterLogin {
    #[prost(string, tag = "1")]
    email: String,
    #[prost(string, tag = "2")]
    password: String,
    #[prost(string, tag = "9000")]
    later: String,
}

/// A number where there is to be text.
#[derive(Clone, PartialEq, prost::Message)]
struct WrongLogin {
    #[prost(uint64, tag = "1")]
    email: u64,
}

async fn login<M: prost::Message + 'static>(
    channel: &Channel,
    message: M,
) -> Result<v1::LoginResponse, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/weft.control.v1.Sessions/Login");
    let answer = client.unary(Request::new(message), path, ProstCodec::default()).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn what_is_not_known_is_not_looked_at_and_what_is_too_long_or_wrong_is_refused() {
    let site = Site::start().await;
    let channel = site.connect(None).await;
    let later = |len| LaterLogin {
        email: "operator@weft.example".to_owned(),
        password: PASSWORD.to_owned(),
        later: "x".repeat(len),
    };
    login(&channel, later(1_000)).await.unwrap();
    assert_eq!(code(login(&channel, later(2 << 20)).await), Code::OutOfRange);
    assert_ne!(code(login(&channel, WrongLogin { email: 7 }).await), Code::Ok);
    // The same connection is of use still.
    login(&channel, later(0)).await.unwrap();
}
