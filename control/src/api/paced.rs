//! Answers that are handed to HTTP/2 piece by piece: the next one when the one before is written to its connection.
//!
//! Left to itself, HTTP/2 takes 400 KiB of every answer whose reader lets it and then reads nothing. Of a stream that is
//! made as it is read, one piece waits there, whatever its reader says that it would take.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

/// A service whose answers are handed on piece by piece.
#[derive(Debug, Clone)]
pub(super) struct Paced<S>(pub(super) S);

impl<S: NamedService> NamedService for Paced<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, Q> Service<Q> for Paced<S>
where
    S: Service<Q, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(Pieces::of(body)))) })
    }
}

/// An answer of which one piece is on its way at a time.
struct Pieces {
    body: Body,
    /// Ends when the piece before is written, or given up.
    written: Option<oneshot::Receiver<()>>,
}

/// A piece on its way.
struct Piece {
    bytes: Bytes,
    /// Dropped with it.
    _written: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Pieces {
    fn of(body: Body) -> Self {
        Self { body, written: None }
    }

    fn hand_on(&mut self, bytes: Bytes) -> Bytes {
        let (writing, written) = oneshot::channel();
        self.written = Some(written);
        Bytes::from_owner(Piece { bytes, _written: writing })
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(written) = &mut self.written {
            if Pin::new(written).poll(context).is_pending() {
                return Poll::Pending;
            }
            self.written = None;
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map_ok(|frame| frame.map_data(|bytes| self.hand_on(bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body::Body as _;

    use super::*;

    /// Three pieces.
    struct Three(u8);

    impl http_body::Body for Three {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0 += 1;
            let piece = Bytes::from(vec![self.0; 4]);
            Poll::Ready((self.0 <= 3).then_some(Ok(Frame::data(piece))))
        }
    }

    #[test]
    fn one_piece_is_on_its_way_and_the_next_is_made_when_it_is_written() {
        let mut pieces = Pieces::of(Body::new(Three(0)));
        let context = &mut Context::from_waker(Waker::noop());
        let mut next = || match Pin::new(&mut pieces).poll_frame(context) {
            Poll::Ready(frame) => Some(frame.map(|frame| frame.unwrap().into_data().unwrap())),
            Poll::Pending => None,
        };
        for n in 1..=3 {
            let piece = next().unwrap().unwrap();
            assert_eq!(piece, [n; 4].as_slice());
            assert_eq!(next(), None, "nothing is made while a piece waits");
            // Half of it is written.
            let rest = piece.slice(2..);
            drop(piece);
            assert_eq!(next(), None);
            drop(rest);
        }
        assert_eq!(next(), Some(None));
    }
}
