//! Authenticated peers that break the rules inside TLS, and connections that break anywhere.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    time::Instant,
};
use weft_types::ReceiverIndex;
use weft_wire::hello::Frame;

use super::lab::{Indices, Lab, Outcome, deadline, host, params, pipe, serve, side};
use crate::{
    Environment, HandshakeError, ProtocolError, ServerEnvironments, Step, connect,
    stream::{accept_tls, connect_tls},
};

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes).unwrap();
    }
    bytes
}

fn hello(lanes: u8) -> Frame {
    Frame::Hello(params(lanes).hello())
}

fn indices(count: u32) -> Frame {
    Frame::Indices((1..=count).map(ReceiverIndex).collect())
}

struct Hosts {
    a: Arc<Environment>,
    b: Arc<Environment>,
}

fn hosts() -> Hosts {
    let lab = Lab::new("acme");
    Hosts { a: lab.host("host-a"), b: lab.host("host-b") }
}

/// A good server meets a client that sends `bytes` inside TLS and then closes, if it is told to.
async fn serve_bytes(hosts: &Hosts, bytes: &[u8], close: bool) -> (Outcome, Arc<Indices>) {
    let (near, far) = pipe();
    let given = Indices::new();
    let name = host("host-b");
    let client = async {
        let (_, mut tls) = connect_tls(near, &hosts.a, &name, deadline()).await.unwrap();
        tls.write_all(bytes).await.unwrap();
        tls.flush().await.unwrap();
        if close {
            let _ = tls.shutdown().await;
        }
        let _ = tls.read_to_end(&mut Vec::new()).await;
    };
    let server = serve(far, [Arc::clone(&hosts.b)], side(2, &given));
    let (outcome, ()) = tokio::join!(server, client);
    (outcome, given)
}

/// A good client meets a server that does the same.
async fn connect_bytes(hosts: &Hosts, bytes: &[u8], close: bool) -> (Outcome, Arc<Indices>) {
    let (near, far) = pipe();
    let given = Indices::new();
    let (name, local) = (host("host-b"), side(2, &given));
    let environments = ServerEnvironments::new([Arc::clone(&hosts.b)]).unwrap();
    let server = async {
        let (_, _, mut tls) = accept_tls(far, &environments, || true, deadline()).await.unwrap();
        tls.write_all(bytes).await.unwrap();
        tls.flush().await.unwrap();
        if close {
            let _ = tls.shutdown().await;
        }
        let _ = tls.read_to_end(&mut Vec::new()).await;
    };
    let client = connect(near, &hosts.a, &name, &local, deadline());
    let (outcome, ()) = tokio::join!(client, server);
    (outcome, given)
}

#[tokio::test]
async fn frames_out_of_turn_are_refused() {
    let hosts = hosts();
    let unexpected = |outcome: &Outcome| {
        matches!(outcome, Err(HandshakeError::Protocol(ProtocolError::Unexpected { .. })))
    };
    for frames in [
        vec![Frame::Ready],
        vec![indices(2)],
        vec![hello(1), hello(1)],
        vec![hello(1), Frame::Ready],
    ] {
        let bytes = encoded(&frames);
        for (outcome, given) in
            [serve_bytes(&hosts, &bytes, false).await, connect_bytes(&hosts, &bytes, false).await]
        {
            assert!(unexpected(&outcome), "{frames:?}: {outcome:?}");
            assert_eq!(given.outstanding(), 0);
        }
    }
    let bytes = encoded(&[hello(1), indices(2), hello(1)]);
    let (outcome, given) = connect_bytes(&hosts, &bytes, false).await;
    assert!(unexpected(&outcome));
    assert_eq!((given.outstanding(), given.ever_given()), (0, 1));
}

#[tokio::test]
async fn bad_frames_are_refused() {
    let hosts = hosts();
    let after_hello = |rest: &[u8]| [&encoded(&[hello(1)]), rest].concat();
    for bytes in [
        vec![9, 1, 0, 0],
        vec![1, 2, 0, 24],
        vec![1, 1, 0, 25],
        vec![1, 1, 4, 1],
        after_hello(&[2, 1, 0, 5, 2, 0, 0, 0, 1]),
        after_hello(&[2, 1, 0, 9, 2, 0, 0, 0, 1, 0, 0, 0, 1]),
        after_hello(&[2, 1, 0, 5, 1, 0xff, 0, 0, 1]),
    ] {
        for (outcome, given) in
            [serve_bytes(&hosts, &bytes, false).await, connect_bytes(&hosts, &bytes, false).await]
        {
            let refused = matches!(outcome, Err(HandshakeError::Protocol(ProtocolError::Frame(_))));
            assert!(refused, "{bytes:?}: {outcome:?}");
            assert_eq!(given.outstanding(), 0);
        }
    }
}

#[tokio::test]
async fn there_is_one_index_for_each_lane() {
    let hosts = hosts();
    for count in [1, 3, 64] {
        let bytes = encoded(&[hello(1), indices(count)]);
        let (outcome, given) = serve_bytes(&hosts, &bytes, false).await;
        let found = usize::try_from(count).unwrap();
        let expected = ProtocolError::IndexCount { found, expected: 2 };
        assert!(matches!(outcome, Err(HandshakeError::Protocol(e)) if e == expected));
        assert_eq!((given.outstanding(), given.ever_given()), (0, 1));
    }
}

#[tokio::test]
async fn frames_cut_at_any_byte_are_no_handshake() {
    let hosts = hosts();
    let client = encoded(&[hello(1), indices(2)]);
    for cut in 0..client.len() {
        let (outcome, given) = serve_bytes(&hosts, &client[..cut], true).await;
        let closed = matches!(outcome, Err(HandshakeError::Closed(Step::Frames)));
        assert!(closed, "at {cut}: {outcome:?}");
        assert_eq!(given.outstanding(), 0, "at {cut}");
    }
    assert!(serve_bytes(&hosts, &client, false).await.0.is_ok());

    let server = encoded(&[hello(1), indices(2), Frame::Ready]);
    for cut in 0..server.len() {
        let (outcome, given) = connect_bytes(&hosts, &server[..cut], true).await;
        let closed = matches!(outcome, Err(HandshakeError::Closed(Step::Frames)));
        assert!(closed, "at {cut}: {outcome:?}");
        assert_eq!(given.outstanding(), 0, "at {cut}");
    }
    assert!(connect_bytes(&hosts, &server, false).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_after_its_hello_costs_no_indices() {
    let hosts = hosts();
    for bytes in [encoded(&[hello(1)]), encoded(&[hello(1), indices(2)])] {
        let begun = Instant::now();
        let (outcome, given) = connect_bytes(&hosts, &bytes, false).await;
        assert!(matches!(outcome, Err(HandshakeError::Timeout(Step::Frames))));
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert_eq!((given.outstanding(), given.ever_given()), (0, 1));
    }
    let (outcome, given) = serve_bytes(&hosts, &encoded(&[hello(1)]), false).await;
    assert!(matches!(outcome, Err(HandshakeError::Timeout(Step::Frames))));
    assert_eq!((given.outstanding(), given.ever_given()), (0, 1));
}

#[tokio::test]
async fn a_host_without_indices_says_so() {
    let hosts = hosts();
    let (near, far) = pipe();
    let (plenty, none) = (Indices::new(), Indices::limited(0));
    let (name, local) = (host("host-b"), side(1, &plenty));
    let (client, server) = tokio::join!(
        connect(near, &hosts.a, &name, &local, deadline()),
        serve(far, [Arc::clone(&hosts.b)], side(1, &none))
    );
    let error = server.unwrap_err();
    assert_eq!((error.label(), error.fault()), ("own_limits", crate::Fault::Own));
    assert_eq!(client.unwrap_err().label(), "closed");
    assert_eq!(plenty.outstanding(), 0);
}

/// Lets so many bytes be written, then closes.
struct Cut {
    stream: DuplexStream,
    rest: usize,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = bytes.len().min(self.rest);
        if allowed > 0 {
            self.rest -= allowed;
            return Pin::new(&mut self.stream).poll_write(context, &bytes[..allowed]);
        }
        let _ = Pin::new(&mut self.stream).poll_shutdown(context);
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[tokio::test]
async fn a_connection_that_breaks_anywhere_leaves_nothing() {
    let hosts = hosts();
    let name = host("host-b");
    let (mut client_done, mut server_done) = (0, 0);
    // About 2,300 bytes each way; 13 does not divide the records.
    for limit in (0..4000).step_by(13) {
        for cut_client in [true, false] {
            let (near, far) = pipe();
            let [near_limit, far_limit] = match cut_client {
                true => [limit, usize::MAX],
                false => [usize::MAX, limit],
            };
            let near = Cut { stream: near, rest: near_limit };
            let far = Cut { stream: far, rest: far_limit };
            let (ours, theirs) = (Indices::new(), Indices::new());
            let local = side(2, &ours);
            let (client, server) = tokio::join!(
                connect(near, &hosts.a, &name, &local, deadline()),
                serve(far, [Arc::clone(&hosts.b)], side(2, &theirs))
            );
            client_done += usize::from(client.is_ok());
            server_done += usize::from(server.is_ok());
            if client.is_ok() {
                assert!(server.is_ok(), "ready was sent");
            }
            drop((client, server));
            assert_eq!((ours.outstanding(), theirs.outstanding()), (0, 0));
        }
    }
    assert!(client_done > 100 && server_done >= client_done);
    assert!(server_done < 600, "most handshakes were cut");
}
