use std::{net::IpAddr, sync::Weak, task::Waker};

use http_body::Body as _;
use tokio::task::yield_now;

use super::*;

/// Ends after one piece.
struct One(Option<Bytes>);

impl http_body::Body for One {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Memory that says when nobody has it any more.
struct Memory(Arc<Vec<u8>>);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

const A: [u8; 4] = [192, 0, 2, 1];
const B: [u8; 4] = [192, 0, 2, 2];

/// So many places, of which nobody has more than `own_max`.
fn unread(len_max: usize, own_max: usize) -> Unread {
    Unread { places: Crowd::new(len_max), own_max }
}

/// An answer for an address; whether its memory is kept.
fn told(unread: &Unread, to: [u8; 4], len: usize) -> (Told<One>, Weak<Vec<u8>>) {
    let memory = Arc::new((0..=u8::MAX).cycle().take(len).collect::<Vec<_>>());
    let kept = Arc::downgrade(&memory);
    let body = One(Some(Bytes::from_owner(Memory(memory))));
    let whose = Whose::Source(IpAddr::from(to).into());
    (Told { body, whose, unread: unread.clone(), long: None }, kept)
}

fn next(told: &mut Told<One>) -> Option<Result<Bytes, Status>> {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(told).poll_frame(&mut context) {
        Poll::Ready(frame) => frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())),
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

#[tokio::test]
async fn what_is_long_goes_whole_in_short_pieces() {
    let unread = unread(8, 4);
    for len in [0, 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 2 * PLACE_BYTES + 7] {
        let (mut told, kept) = told(&unread, A, len);
        let mut all = Vec::new();
        while let Some(piece) = next(&mut told) {
            let piece = piece.unwrap();
            assert!(piece.len() <= SHORT_BYTES_MAX);
            all.extend(piece);
        }
        assert!(all.iter().zip((0..=u8::MAX).cycle()).all(|(told, made)| *told == made));
        assert_eq!((all.len(), kept.strong_count()), (len, 0));
        assert!(told.long.is_none());
    }
}

#[tokio::test]
async fn of_answers_that_are_not_read_whoever_has_the_most_loses_its_oldest() {
    let unread = unread(4, 4);
    let (mut good, _) = told(&unread, B, PLACE_BYTES);
    next(&mut good).unwrap().unwrap();
    let mut flood: Vec<_> = (0..4).map(|_| told(&unread, A, PLACE_BYTES)).collect();
    for (one, _) in &mut flood {
        next(one).unwrap().unwrap();
    }
    yield_now().await;
    // What was kept for it is gone, although nobody asks for it.
    let kept: Vec<_> = flood.iter().map(|(_, kept)| kept.strong_count()).collect();
    assert_eq!(kept, [0, 1, 1, 1]);
    let lost = next(&mut flood[0].0).unwrap().unwrap_err();
    assert_eq!(lost.code(), tonic::Code::ResourceExhausted);
    assert!(next(&mut flood[1].0).unwrap().is_ok() && next(&mut good).unwrap().is_ok());
}

#[tokio::test]
async fn nobody_has_more_than_their_share() {
    let unread = unread(100, 4);
    // Each has two places.
    let mut flood: Vec<_> = (0..5).map(|_| told(&unread, A, 2 * PLACE_BYTES)).collect();
    for (one, _) in &mut flood {
        next(one).unwrap().unwrap();
    }
    yield_now().await;
    let kept: Vec<_> = flood.iter().map(|(_, kept)| kept.strong_count()).collect();
    assert_eq!(kept, [0, 0, 0, 1, 1]);
    // What is short has no place, and needs none.
    let (mut short, _) = told(&unread, A, SHORT_BYTES_MAX);
    assert_eq!(next(&mut short).unwrap().unwrap().len(), SHORT_BYTES_MAX);
    assert!(next(&mut flood[3].0).unwrap().is_ok());
    // Places of what is given up by who asked are free again.
    drop(flood);
    let (mut last, kept) = told(&unread, A, 4 * PLACE_BYTES);
    next(&mut last).unwrap().unwrap();
    yield_now().await;
    assert_eq!(kept.strong_count(), 1);
}
