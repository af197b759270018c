//! How much is held of answers that are not read: an answer is made as a whole before anything of it is sent, and who asks
//! decides how fast it goes.
//!
//! ```text
//!   up to 4 KiB           as many as there are calls
//!   longer                256 MiB at once, by whose they are: whoever has the most loses its oldest; nobody has more
//!                         than 16 MiB
//!   made as it is read    a part of each at a time: not counted here
//! ```

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;
use tonic::{
    Response, Status,
    body::Body,
    codegen::{BoxFuture, Bytes, Service, http},
    server::NamedService,
};
use weft_control_api::MESSAGE_BYTES_MAX;

use super::{Peer, Whose};
use crate::crowd::{Crowd, Ousted, Place};

/// Longest answer of which there are as many as there are calls, and longest piece of a longer one that is handed on,
/// bytes: nearly all are shorter.
const SHORT_BYTES_MAX: usize = 4 << 10;
/// What one place is for, bytes: a longer answer has several.
const PLACE_BYTES: usize = 64 << 10;
/// Places at once: 256 MiB.
const PLACES_MAX: usize = 4_096;
/// The same of one host, part of the platform or source: 16 MiB, four of the longest answers.
const OWN_PLACES_MAX: usize = 256;
/// What comes before a message (gRPC over HTTP/2, Length-Prefixed-Message).
const HEAD_LEN: usize = 5;

// An answer does not push itself out.
const _: () = assert!((MESSAGE_BYTES_MAX + HEAD_LEN).div_ceil(PLACE_BYTES) <= OWN_PLACES_MAX);

/// Says of an answer that it is made as it is read.
#[derive(Debug, Clone, Copy)]
struct MadeAsRead;

/// Says it.
pub(super) fn made_as_read<T>(mut answer: Response<T>) -> Response<T> {
    answer.extensions_mut().insert(MadeAsRead);
    answer
}

/// Places for answers that are not read yet.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    places: Crowd<Whose>,
    own_max: usize,
}

impl Default for Unread {
    fn default() -> Self {
        Self { places: Crowd::new(PLACES_MAX), own_max: OWN_PLACES_MAX }
    }
}

/// A service whose long answers have places as long as they are read.
#[derive(Debug, Clone)]
pub(super) struct Answering<S> {
    inner: S,
    unread: Unread,
}

impl<S> Answering<S> {
    pub(super) fn new(inner: S, unread: &Unread) -> Self {
        Self { inner, unread: unread.clone() }
    }
}

impl<S: NamedService> NamedService for Answering<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Answering<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let whose = request.extensions().get::<Peer>().map(Peer::whose);
        let (answer, unread) = (self.inner.call(request), self.unread.clone());
        Box::pin(async move {
            let answer = answer.await?;
            let is_counted = answer.extensions().get::<MadeAsRead>().is_none();
            // Who calls otherwise than through the door is in this process.
            let Some(whose) = whose.filter(|_| is_counted) else { return Ok(answer) };
            Ok(answer.map(|body| Body::new(Told { body, whose, unread, long: None })))
        })
    }
}

/// What is told, as it goes.
#[derive(Debug)]
struct Told<B> {
    body: B,
    whose: Whose,
    unread: Unread,
    /// What is to be handed on before anything else.
    long: Option<Long>,
}

/// What is long, and its places. It is here and nowhere else until it is handed on: whoever is not reading asks for
/// nothing, so that nobody would notice there that the places are lost.
#[derive(Debug)]
struct Long {
    /// `None` when they are.
    rest: Arc<Mutex<Option<Bytes>>>,
    _places: Vec<Place<Whose>>,
    giving_up: AbortHandle,
}

impl Drop for Long {
    fn drop(&mut self) {
        self.giving_up.abort();
        // The task may be dropped later.
        *lock(&self.rest) = None;
    }
}

fn lock(rest: &Mutex<Option<Bytes>>) -> MutexGuard<'_, Option<Bytes>> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends when one of them is another's.
async fn any(mut ousted: Vec<Ousted>) {
    poll_fn(|context| {
        let mut ends = ousted.iter_mut().map(|place| Pin::new(place).poll(context));
        if ends.any(|end| end.is_ready()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Long {
    fn new(bytes: Bytes, whose: &Whose, unread: &Unread) -> Self {
        let places = 0..bytes.len().div_ceil(PLACE_BYTES);
        let places = places.map(|_| unread.places.enter_own(whose.clone(), unread.own_max));
        let (places, ousted): (Vec<_>, Vec<_>) = places.unzip();
        let rest = Arc::new(Mutex::new(Some(bytes)));
        let given_up = Arc::clone(&rest);
        let giving_up = tokio::spawn(async move {
            any(ousted).await;
            *lock(&given_up) = None;
        });
        Self { rest, _places: places, giving_up: giving_up.abort_handle() }
    }

    /// The next piece, and whether it is the last one; `None` when the places are lost. It is a copy, so that the whole is
    /// not kept for it.
    fn next(&self) -> Option<(Bytes, bool)> {
        let mut rest = lock(&self.rest);
        let bytes = rest.as_mut()?;
        let piece = Bytes::copy_from_slice(&bytes[..bytes.len().min(SHORT_BYTES_MAX)]);
        bytes.advance(piece.len());
        Some((piece, bytes.is_empty()))
    }
}

impl<B> Told<B> {
    /// A piece of what is long.
    fn hand_on(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let next = self.long.as_ref()?.next();
        if next.as_ref().is_none_or(|(_, is_last)| *is_last) {
            self.long = None;
        }
        let why = "answers are not read, and others need their place: come again";
        let piece = next.ok_or_else(|| Status::resource_exhausted(why));
        Some(piece.map(|(piece, _)| Frame::data(piece)))
    }
}

impl<B: http_body::Body<Data = Bytes, Error = Status> + Unpin> http_body::Body for Told<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.hand_on() {
            return Poll::Ready(Some(piece));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let frame = match frame.transpose()?.map(Frame::into_data) {
            None => return Poll::Ready(None),
            Some(Err(frame)) => frame,
            Some(Ok(bytes)) if bytes.len() <= SHORT_BYTES_MAX => Frame::data(bytes),
            Some(Ok(bytes)) => {
                self.long = Some(Long::new(bytes, &self.whose, &self.unread));
                return Poll::Ready(self.hand_on());
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.long.is_none() && self.body.is_end_stream()
    }

    /// Not that of the rest of the body: a piece of it may be here.
    fn size_hint(&self) -> SizeHint {
        match self.long {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
