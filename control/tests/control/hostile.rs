//! Callers who mean no good, or are slow.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
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

fn allow_descriptors() {
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
