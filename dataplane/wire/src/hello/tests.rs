//! Round trips, every refusal, and every cut of every frame.

use proptest::prelude::*;
use weft_types::{LANES_MAX, ReceiverIndex, WorkerId};

use super::*;

fn hello() -> Hello {
    Hello {
        lanes: 2,
        uso: true,
        datagram_max: 1472,
        instance: *b"0123456789abcdef",
        generation: 0x0001_0203,
        no_aes: false,
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

fn indices(count: u32) -> Vec<ReceiverIndex> {
    (0..count)
        .map(|i| ReceiverIndex::new(WorkerId::new(i as usize % 64).unwrap(), 0x00a0_0000 + i))
        .collect()
}

#[test]
fn frames_have_these_bytes() {
    let mut expected = vec![1, 1, 0, 24, 2, 1, 0x05, 0xc0];
    expected.extend_from_slice(b"0123456789abcdef\x00\x01\x02\x03");
    assert_eq!(encoded(&Frame::Hello(hello())), expected);
    assert_eq!(
        encoded(&Frame::Indices(vec![ReceiverIndex(0x0012_3456), ReceiverIndex(0x3fff_ffff)])),
        [2, 1, 0, 9, 2, 0x00, 0x12, 0x34, 0x56, 0x3f, 0xff, 0xff, 0xff]
    );
    assert_eq!(encoded(&Frame::Ready), [3, 1, 0, 0]);
    assert_eq!(encoded(&Frame::Stream(5)), [4, 1, 0, 1, 5]);
}

#[test]
fn a_frame_cut_at_any_byte_waits_for_more() {
    for frame in
        [Frame::Hello(hello()), Frame::Indices(indices(64)), Frame::Ready, Frame::Stream(63)]
    {
        let bytes = encoded(&frame);
        for cut in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..cut]), Ok(None), "{frame:?} at {cut}");
        }
        assert_eq!(Frame::decode(&bytes), Ok(Some((frame, bytes.len()))));
    }
}

#[test]
fn what_follows_a_frame_is_left_alone() {
    let mut bytes = encoded(&Frame::Ready);
    bytes.extend(encoded(&Frame::Hello(hello())));
    let (frame, used) = Frame::decode(&bytes).unwrap().unwrap();
    assert_eq!((frame, used), (Frame::Ready, 4));
    assert!(Frame::decode(&bytes[used..]).unwrap().is_some());
}

#[test]
fn unknown_types_and_versions_are_refused_at_the_header() {
    for kind in [0, 5, 255] {
        assert_eq!(Frame::decode(&[kind, 1, 0, 0]), Err(FrameError::Type(kind)));
    }
    for version in [0, 2, 255] {
        assert_eq!(Frame::decode(&[3, version, 0, 0]), Err(FrameError::Version(version)));
    }
}

#[test]
fn wrong_lengths_are_refused_at_the_header() {
    for (kind, length) in [
        (1, 0u16),
        (1, 23),
        (1, 25),
        (2, 0),
        (2, 1),
        (2, 4),
        (2, 6),
        (2, 261),
        (2, 1025),
        (3, 1),
        (3, 65535),
        (4, 0),
        (4, 2),
    ] {
        let [high, low] = length.to_be_bytes();
        let refused = Frame::decode(&[kind, 1, high, low]);
        assert!(
            matches!(refused, Err(FrameError::Length { .. })),
            "type {kind} with {length} bytes: {refused:?}"
        );
    }
}

#[test]
fn values_out_of_range_are_refused_both_ways() {
    let lanes = |lanes| Hello { lanes, ..hello() };
    for n in [0, LANES_MAX + 1, 255] {
        let mut out = vec![9];
        assert_eq!(Frame::Hello(lanes(n)).encode(&mut out), Err(FrameError::Lanes(n)));
        assert_eq!(out, [9], "nothing is appended");
        let mut bytes = encoded(&Frame::Hello(hello()));
        bytes[4] = n;
        assert_eq!(Frame::decode(&bytes), Err(FrameError::Lanes(n)));
    }
    for n in [LANES_MAX, 255] {
        assert_eq!(Frame::Stream(n).encode(&mut Vec::new()), Err(FrameError::Stream(n)));
        assert_eq!(Frame::decode(&[4, 1, 0, 1, n]), Err(FrameError::Stream(n)));
    }
    let mut bytes = encoded(&Frame::Hello(hello()));
    bytes[6..8].copy_from_slice(&1231u16.to_be_bytes());
    assert_eq!(Frame::decode(&bytes), Err(FrameError::DatagramMax(1231)));

    let mut bytes = encoded(&Frame::Indices(indices(2)));
    bytes[4] = 3;
    assert_eq!(Frame::decode(&bytes), Err(FrameError::Count { count: 3, found: 9 }));
    let twice = vec![ReceiverIndex(7), ReceiverIndex(7)];
    assert_eq!(
        Frame::Indices(twice).encode(&mut Vec::new()),
        Err(FrameError::Repeated(ReceiverIndex(7)))
    );
    let no_worker = ReceiverIndex(0x4000_0000);
    assert_eq!(
        Frame::Indices(vec![no_worker]).encode(&mut Vec::new()),
        Err(FrameError::Worker(no_worker))
    );
    for count in [0, 65] {
        assert!(Frame::Indices(indices(count)).encode(&mut Vec::new()).is_err());
    }
}

#[test]
fn unknown_flags_are_ignored() {
    let mut bytes = encoded(&Frame::Hello(hello()));
    bytes[5] = 0xfc;
    let expected = Hello { uso: false, ..hello() };
    assert_eq!(Frame::decode(&bytes), Ok(Some((Frame::Hello(expected), 28))));
}

fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (1..=LANES_MAX, any::<bool>(), 1232u16.., any::<[u8; 16]>(), any::<u32>()).prop_map(
            |(lanes, uso, datagram_max, instance, generation)| Frame::Hello(Hello {
                lanes,
                uso,
                datagram_max,
                instance,
                generation,
                no_aes: generation & 1 == 1,
            })
        ),
        proptest::collection::btree_set((0usize..64, 0u32..1 << 24), 1..=64).prop_map(|set| {
            let index =
                |(worker, random)| ReceiverIndex::new(WorkerId::new(worker).unwrap(), random);
            Frame::Indices(set.into_iter().map(index).collect())
        }),
        Just(Frame::Ready),
        (0..LANES_MAX).prop_map(Frame::Stream),
    ]
}

proptest! {
    #[test]
    fn frames_round_trip(frame in any_frame(), after in proptest::collection::vec(any::<u8>(), 0..8)) {
        let mut bytes = encoded(&frame);
        let length = bytes.len();
        bytes.extend(after);
        prop_assert_eq!(Frame::decode(&bytes), Ok(Some((frame, length))));
    }

    #[test]
    fn any_bytes_are_refused_wait_or_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some((frame, length))) = Frame::decode(&bytes) {
            let again = encoded(&frame);
            prop_assert_eq!(again.len(), length);
            prop_assert_eq!(Frame::decode(&again), Ok(Some((frame, length))));
        }
    }

    #[test]
    fn a_changed_byte_never_panics(frame in any_frame(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encoded(&frame);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = Frame::decode(&bytes);
    }

    #[test]
    fn nothing_longer_than_the_limit_is_waited_for(head in any::<[u8; 4]>()) {
        let mut bytes = head.to_vec();
        bytes.resize(HEADER_LEN + BODY_LEN_MAX, 0);
        prop_assert_ne!(Frame::decode(&bytes), Ok(None));
    }
}
