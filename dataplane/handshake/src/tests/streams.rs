//! Connections that stay, for datagrams.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::lab::{Indices, Lab, deadline, host, pipe, side};
use crate::{
    Accepted, HandshakeError, ServerEnvironments, Stream, accept, connect_stream,
    exchange::Frames,
    stream::{connect_tls, drop_tls},
};

fn stream<S>(accepted: Accepted<S>) -> Stream<S> {
    match accepted {
        Accepted::Stream(stream) => stream,
        Accepted::Session(_) => panic!("a stream was asked for"),
    }
}

#[tokio::test]
async fn a_connection_stays_and_both_know_whose_it_is() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let environments = ServerEnvironments::new([b]).unwrap();
    let (indices, name) = (Indices::new(), host("host-b"));
    let local = side(2, &indices);
    let (near, far) = pipe();
    let (near, far) = tokio::join!(
        connect_stream(near, &a, &name, 7, deadline()),
        accept(far, &environments, || true, |_, _| Some(local), deadline())
    );
    let (mut near, mut far) = (near.unwrap(), stream(far.unwrap()));
    assert_eq!((near.host.as_str(), near.number), ("host-b", 7));
    assert_eq!((far.host.as_str(), far.number), ("host-a", 7));
    assert_eq!(near.environment, far.environment);
    assert_eq!(indices.ever_given(), 0, "it is no session");
    // Nothing of TLS follows, in either direction: the next byte is the other's.
    let mut got = [0; 4];
    near.connection.write_all(b"data").await.unwrap();
    far.connection.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"data");
    far.connection.write_all(b"back").await.unwrap();
    near.connection.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"back");
}

#[tokio::test]
async fn who_is_no_peer_gets_none() {
    let (lab, other) = (Lab::new("acme"), Lab::new("acme"));
    let (indices, name) = (Indices::new(), host("host-b"));
    for (client, is_peer) in [(lab.host("host-a"), false), (other.host("host-a"), true)] {
        let environments = ServerEnvironments::new([lab.host("host-b")]).unwrap();
        let (near, far) = pipe();
        let admit = |_: &_, _: &_| is_peer.then(|| side(2, &indices));
        let (near, far) = tokio::join!(
            connect_stream(near, &client, &name, 0, deadline()),
            accept(far, &environments, || true, admit, deadline())
        );
        assert!(near.is_err() && far.is_err());
    }
    assert_eq!(indices.outstanding(), 0);
}

/// Whoever asks for a session first cannot have the connection as well.
#[tokio::test]
async fn a_stream_is_asked_for_first_or_never() {
    let lab = Lab::new("acme");
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let environments = ServerEnvironments::new([b]).unwrap();
    let (indices, name) = (Indices::new(), host("host-b"));
    let (ours, theirs) = (side(2, &indices), side(2, &indices));
    let (near, far) = pipe();
    let client = async {
        let (_, mut tls) = connect_tls(near, &a, &name, deadline()).await.unwrap();
        let mut frames = Frames::new(&mut tls);
        let agreed = frames.agree(&ours).await.unwrap();
        // The server's last word is about the session.
        frames.ask_for_stream(0).await.unwrap();
        drop((agreed, drop_tls(tls)));
    };
    let ((), far) =
        tokio::join!(client, accept(far, &environments, || true, |_, _| Some(theirs), deadline()));
    assert!(matches!(far, Ok(Accepted::Session(_))));
}

#[tokio::test]
async fn a_number_that_no_lane_has_is_refused() {
    let lab = Lab::new("acme");
    let client = lab.host("host-a");
    let name = host("host-b");
    let server = ServerEnvironments::new([lab.host("host-b")]).unwrap();
    let indices = Indices::new();
    let local = side(2, &indices);
    let (a, b) = pipe();
    let (near, far) = tokio::join!(
        connect_stream(a, &client, &name, 64, deadline()),
        accept(b, &server, || true, |_, _| Some(local), deadline())
    );
    assert!(matches!(near, Err(HandshakeError::OwnParams(_))), "{near:?}");
    assert!(far.is_err());
}
