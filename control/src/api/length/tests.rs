use std::{collections::VecDeque, net::IpAddr, task::Waker};

use http_body::Body as _;

use super::*;

/// Comes in these parts, and does not end.
struct Parts(VecDeque<Bytes>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.pop_front().map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
    }
}

/// From an address, with a head that says so many bytes, of which so many come.
fn asked(long: &Long, from: [u8; 4], says: u32, comes: usize) -> Asked<Parts> {
    let mut bytes = vec![0];
    bytes.extend(says.to_be_bytes());
    bytes.extend(vec![7; comes]);
    let parts = bytes.chunks(3).map(Bytes::copy_from_slice).collect();
    Asked::new(Parts(parts), Whose::Source(IpAddr::from(from).into()), long.clone())
}

/// Reads as much as is there; whether it goes on.
fn goes_on(asked: &mut Asked<Parts>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut *asked).poll_frame(&mut context) {
            Poll::Pending => return true,
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(status))) => {
                assert_eq!(status.code(), tonic::Code::ResourceExhausted);
                return false;
            }
            Poll::Ready(None) => panic!("it does not end"),
        }
    }
}

const A: [u8; 4] = [192, 0, 2, 1];
const B: [u8; 4] = [192, 0, 2, 2];

#[test]
fn of_long_requests_whoever_has_the_most_loses_its_oldest() {
    let long = Long(Crowd::new(3));
    let mut good = asked(&long, B, 5_000, 0);
    assert!(goes_on(&mut good));
    let mut flood: Vec<_> = (0..5).map(|_| asked(&long, A, 1 << 20, 0)).collect();
    for one in &mut flood {
        assert!(goes_on(one));
    }
    let go_on: Vec<_> = flood.iter_mut().map(goes_on).collect();
    // They say what they are going to be: memory is taken then.
    assert_eq!(go_on, [false, false, false, true, true]);
    assert!(goes_on(&mut good));
    // Another one's place is free as soon as it is not read any more.
    drop(flood);
    let more: Vec<_> = (0..2).map(|_| asked(&long, A, 5_000, 0)).collect();
    assert!(more.into_iter().all(|mut one| goes_on(&mut one)) && goes_on(&mut good));
}

#[test]
fn short_requests_need_no_place_and_who_says_short_and_goes_on_needs_one() {
    let long = Long(Crowd::new(1));
    let mut good = asked(&long, B, 5_000, 100);
    assert!(goes_on(&mut good));
    let len = u32::try_from(SHORT_BYTES_MAX).unwrap();
    let mut short: Vec<_> = (0..100).map(|_| asked(&long, A, len, SHORT_BYTES_MAX)).collect();
    assert!(short.iter_mut().all(goes_on) && goes_on(&mut good));
    let mut liar = asked(&long, A, 1, SHORT_BYTES_MAX + 1);
    assert!(goes_on(&mut liar));
    assert!(!goes_on(&mut good), "the place is the newer one's");
}
