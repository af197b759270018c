//! How much is held of what is asked, before it is known who asks: a request is read as a whole before it is looked at.
//!
//! ```text
//!   up to 4 KiB     as many as there are calls
//!   longer          256 at once, by whose they are: whoever has the most loses its oldest
//! ```

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service, http::Request},
    server::NamedService,
};

use super::{Peer, Whose};
use crate::crowd::{Crowd, Ousted, Place};

/// Longest request of which there are as many as there are calls, bytes: nearly all are shorter.
const SHORT_BYTES_MAX: usize = 4 << 10;
/// Longer ones at once; with the longest, 1 MiB each.
const LONG_MAX: usize = 256;
/// What comes before a message: whether it is compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
const HEAD_LEN: usize = 5;

/// Places for long requests.
#[derive(Debug, Clone)]
pub(super) struct Long(Crowd<Whose>);

impl Default for Long {
    fn default() -> Self {
        Self(Crowd::new(LONG_MAX))
    }
}

/// A service whose long requests have a place as long as they are read.
#[derive(Debug, Clone)]
pub(super) struct Bounded<S> {
    inner: S,
    long: Long,
}

impl<S> Bounded<S> {
    pub(super) fn new(inner: S, long: &Long) -> Self {
        Self { inner, long: long.clone() }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Bounded<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Who calls otherwise than through the door is in this process.
        let Some(whose) = request.extensions().get::<Peer>().map(Peer::whose) else {
            return self.inner.call(request);
        };
        let long = self.long.clone();
        self.inner.call(request.map(|body| Body::new(Asked::new(body, whose, long))))
    }
}

/// What is asked, as it comes.
#[derive(Debug)]
struct Asked<B> {
    body: B,
    whose: Whose,
    long: Long,
    /// What has come of what comes before the message.
    head: Vec<u8>,
    /// What has come in all.
    bytes: usize,
    /// Once it is long, or says that it is going to be.
    place: Option<(Place<Whose>, Ousted)>,
}

impl<B> Asked<B> {
    fn new(body: B, whose: Whose, long: Long) -> Self {
        Self { body, whose, long, head: Vec::new(), bytes: 0, place: None }
    }

    /// More has come; memory for the message is taken as soon as its head is there.
    fn handle(&mut self, bytes: &[u8]) {
        let head = bytes.len().min(HEAD_LEN - self.head.len());
        self.head.extend(&bytes[..head]);
        self.bytes = self.bytes.saturating_add(bytes.len());
        let announced = match self.head[..] {
            [_, a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
            _ => 0,
        };
        let is_long = self.bytes > SHORT_BYTES_MAX + HEAD_LEN
            || usize::try_from(announced).map_or(true, |len| len > SHORT_BYTES_MAX);
        if is_long && self.place.is_none() {
            self.place = Some(self.long.0.enter(self.whose.clone()));
        }
    }
}

impl<B: http_body::Body<Data = Bytes, Error = Status> + Unpin> http_body::Body for Asked<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let place = self.place.as_mut();
        if place.is_some_and(|(_, ousted)| Pin::new(ousted).poll(context).is_ready()) {
            self.place = None;
            let why = "others send long requests, and you have the most of them: come again";
            return Poll::Ready(Some(Err(Status::resource_exhausted(why))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    self.handle(bytes);
                }
            }
            // All of it is there, or nothing more is coming.
            None | Some(Err(_)) => self.place = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
