use std::{sync::Arc, time::Duration};

use weft_wire::VIRTIO_HEADER_LEN;

use super::*;
use crate::pace::{Pace, Weight};

const ACME: EnvironmentSlot = EnvironmentSlot(0);
const ZETA: EnvironmentSlot = EnvironmentSlot(1);
const A: AttachmentSlot = AttachmentSlot(0);
const B: AttachmentSlot = AttachmentSlot(1);

/// One who sends, and what it may.
#[derive(Clone, Default)]
struct Sender {
    environment: Share,
    attachment: Share,
}

fn weight(weight: u16) -> Share {
    Share { weight: Weight::new(weight), pace: None }
}

struct Bench {
    backlog: Backlog,
    now: Instant,
    dropped: Vec<AttachmentSlot>,
}

impl Bench {
    fn new() -> Self {
        Self { backlog: Backlog::default(), now: Instant::now(), dropped: Vec::new() }
    }

    fn push(
        &mut self,
        sender: &Sender,
        (environment, from): (EnvironmentSlot, AttachmentSlot),
        flow: u8,
        numbers: std::ops::Range<u16>,
        len: usize,
    ) {
        for number in numbers {
            let mut packet = vec![0; len];
            packet[0] = flow;
            packet[1..3].copy_from_slice(&number.to_be_bytes());
            let place = Place {
                environment,
                environment_share: &sender.environment,
                from,
                attachment_share: &sender.attachment,
                flow: flow.into(),
            };
            self.backlog.push(&place, &packet, |from| self.dropped.push(from));
        }
    }

    fn fill(&mut self, flow: u8, count: u16, len: usize) {
        self.push(&Sender::default(), (ACME, A), flow, 0..count, len);
        assert!(self.dropped.is_empty());
    }

    fn pop(&mut self) -> Option<Waiting> {
        match self.backlog.pop(self.now) {
            Next::Packet(waiting) => Some(waiting),
            Next::Nothing => None,
            Next::Wait(until) => panic!("waits for {:?}", until - self.now),
        }
    }

    fn next(&mut self) -> Option<(u8, u16)> {
        let packet = self.pop()?.packet;
        Some((packet[0], u16::from_be_bytes([packet[1], packet[2]])))
    }
}

#[test]
fn who_asks_for_little_does_not_wait_for_who_asks_for_much() {
    let mut bench = Bench::new();
    bench.fill(1, 20, 60_000);
    bench.fill(2, 20, 60_000);
    // Both have used up what a new flow may send.
    assert_eq!(bench.next(), Some((1, 0)));
    assert_eq!(bench.next(), Some((2, 0)));
    bench.fill(3, 2, 100);
    assert_eq!(bench.next(), Some((3, 0)));
    assert_eq!(bench.next(), Some((3, 1)));
}

#[test]
fn flows_have_equal_shares_and_keep_their_order() {
    let mut bench = Bench::new();
    bench.fill(1, 20, 60_000);
    bench.fill(2, 1_000, 1_400);
    let mut bytes = [0, 0];
    let mut expected = [0, 0];
    for _ in 0..500 {
        let (flow, number) = bench.next().unwrap();
        let at = usize::from(flow - 1);
        assert_eq!(number, expected[at]);
        expected[at] += 1;
        bytes[at] += [60_000, 1_400][at];
    }
    let [large, small]: [i32; 2] = bytes;
    assert!((large - small).abs() < 80_000, "{bytes:?}");
}

#[test]
fn a_flow_that_sends_little_by_little_is_no_new_one_each_time() {
    let mut bench = Bench::new();
    bench.fill(1, 50, 60_000);
    let (mut little, mut large) = (0_u16, 0);
    while large < 50 && little < 1_000 {
        bench.push(&Sender::default(), (ACME, A), 2, little..little + 1, 16_000);
        match bench.next().unwrap() {
            (2, _) => little += 1,
            _ => large += 1,
        }
    }
    // As many bytes as 50 packets of the other.
    assert!((150..230).contains(&little), "{little}");
}

#[test]
fn the_longest_loses_its_oldest() {
    let mut bench = Bench::new();
    bench.fill(2, 5, 1_000);
    bench.push(&Sender::default(), (ACME, B), 1, 0..100, 60_000);
    assert!(bench.backlog.environments.bytes() <= 4 << 20);
    let dropped = bench.dropped.len();
    assert!(bench.dropped.iter().all(|from| *from == B));
    assert_eq!(dropped, 100 - ((4 << 20) - 5_000) / 60_000);
    let kept: Vec<_> = std::iter::from_fn(|| bench.next()).collect();
    assert_eq!(kept.iter().filter(|(flow, _)| *flow == 2).count(), 5);
    let oldest = kept.iter().find(|(flow, _)| *flow == 1).unwrap();
    assert_eq!(usize::from(oldest.1), dropped);
    assert!(bench.backlog.is_empty());
}

#[test]
fn what_is_forgotten_is_gone() {
    let mut bench = Bench::new();
    bench.fill(1, 3, 100);
    bench.push(&Sender::default(), (ACME, B), 2, 7..8, 50);
    bench.push(&Sender::default(), (ZETA, AttachmentSlot(2)), 3, 8..9, 50);
    assert!(bench.backlog.has(ACME, A));
    assert_eq!(bench.backlog.forget(ACME, A), 3);
    assert!(!bench.backlog.has(ACME, A) && bench.backlog.has_environment(ACME));
    assert_eq!(bench.backlog.forget_environment(ZETA), 1);
    assert!(!bench.backlog.has_environment(ZETA));
    assert_eq!(bench.pop().map(|waiting| waiting.from), Some(B));
    assert!(bench.pop().is_none() && bench.backlog.is_empty());
    bench.fill(1, 1, 100);
    assert_eq!(bench.next(), Some((1, 0)));
}

/// How many bytes each of the flows 1 and 2 sends of the first megabyte and a half.
fn shares_of(bench: &mut Bench) -> (f64, f64) {
    let mut bytes = [0.0; 3];
    while bytes.iter().sum::<f64>() < 1.5e6 {
        let packet = bench.pop().unwrap().packet;
        bytes[usize::from(packet[0])] += packet.len() as f64;
    }
    (bytes[1], bytes[2])
}

#[test]
fn environments_have_shares_by_weight_however_many_containers_and_flows_they_have() {
    for (one, other) in [(100, 100), (300, 100), (1, 4)] {
        let mut bench = Bench::new();
        let acme = Sender { environment: weight(one), attachment: Share::default() };
        let zeta = Sender { environment: weight(other), attachment: Share::default() };
        for container in 0..20 {
            // All flows of an environment are marked alike here.
            bench.push(&acme, (ACME, AttachmentSlot(container)), 1, 0..60, 1_400);
        }
        bench.push(&zeta, (ZETA, AttachmentSlot(100)), 2, 0..1_500, 1_400);
        let (acme, zeta) = shares_of(&mut bench);
        let wanted = f64::from(one) / f64::from(other);
        assert!((acme / zeta / wanted - 1.0).abs() < 0.06, "{wanted}: {acme} {zeta}");
    }
}

#[test]
fn attachments_have_shares_by_weight_and_large_packets_bring_no_more() {
    let mut bench = Bench::new();
    let heavy = Sender { environment: Share::default(), attachment: weight(200) };
    bench.push(&heavy, (ACME, A), 1, 0..1_400, 1_400);
    bench.push(&Sender::default(), (ACME, B), 2, 0..33, 60_000);
    let (heavy, light) = shares_of(&mut bench);
    assert!((1.6..2.5).contains(&(heavy / light)), "{heavy} {light}");
}

#[test]
fn a_tenant_that_floods_loses_its_own_packets_only() {
    let mut bench = Bench::new();
    bench.push(&Sender::default(), (ZETA, B), 2, 0..20, 1_400);
    for container in 10..50 {
        for flow in 0..=255 {
            bench.push(&Sender::default(), (ACME, AttachmentSlot(container)), flow, 0..2, 1_400);
        }
    }
    assert!(bench.dropped.len() > 10_000);
    assert!(!bench.dropped.contains(&B));
}

#[test]
fn of_two_that_flood_the_lighter_loses_more() {
    let mut bench = Bench::new();
    let heavy = Sender { environment: weight(300), attachment: Share::default() };
    for round in 0..200 {
        bench.push(&heavy, (ACME, A), 1, round..round + 1, 60_000);
        bench.push(&Sender::default(), (ZETA, B), 2, round..round + 1, 60_000);
    }
    let (heavy, light): (Vec<_>, Vec<_>) =
        std::iter::from_fn(|| bench.next()).partition(|(flow, _)| *flow == 1);
    let ratio = heavy.len() as f64 / light.len() as f64;
    assert!((2.5..3.6).contains(&ratio), "{} and {}", heavy.len(), light.len());
}

#[test]
fn a_limit_holds_whatever_is_free_and_holds_up_nobody_else() {
    let mut bench = Bench::new();
    let pace = Some(Arc::new(Pace::new(bench.now, 8_000_000)));
    let limited = Sender {
        environment: Share { weight: Weight::default(), pace },
        attachment: Share::default(),
    };
    bench.push(&limited, (ACME, A), 1, 0..1_000, VIRTIO_HEADER_LEN + 1_000);
    bench.push(&Sender::default(), (ZETA, B), 2, 0..1_000, VIRTIO_HEADER_LEN + 1_000);
    let start = bench.now;
    let (mut limited, mut other) = (0_u32, 0_u32);
    let last = loop {
        match bench.backlog.pop(bench.now) {
            Next::Packet(waiting) if waiting.from == A => limited += 1,
            Next::Packet(_) => other += 1,
            Next::Wait(until) => {
                assert_eq!(other, 1_000, "the other went at once");
                bench.now = until;
            }
            Next::Nothing => break bench.now,
        }
    };
    assert_eq!(limited, 1_000);
    // 1,000 packets of 1,000 bytes at 1 MB/s, less the burst.
    let took = last - start;
    assert!(took >= Duration::from_millis(990) && took <= Duration::from_millis(1_000), "{took:?}");
}

#[test]
fn a_limit_of_an_attachment_is_no_limit_of_its_neighbours() {
    let mut bench = Bench::new();
    let pace = Some(Arc::new(Pace::new(bench.now, 8_000)));
    let limited = Sender {
        environment: Share::default(),
        attachment: Share { weight: Weight::default(), pace },
    };
    bench.push(&limited, (ACME, A), 1, 0..10, VIRTIO_HEADER_LEN + 1_000);
    bench.push(&Sender::default(), (ACME, B), 2, 0..10, VIRTIO_HEADER_LEN + 1_000);
    let mut arrived = Vec::new();
    while let Next::Packet(waiting) = bench.backlog.pop(bench.now) {
        arrived.push(waiting.from);
    }
    assert_eq!(arrived.iter().filter(|from| **from == A).count(), 1);
    assert_eq!(arrived.iter().filter(|from| **from == B).count(), 10);
}

#[test]
fn a_new_share_holds_for_what_waits() {
    let mut bench = Bench::new();
    bench.push(&Sender::default(), (ACME, A), 1, 0..700, 1_400);
    bench.push(&Sender::default(), (ZETA, B), 2, 0..1_400, 1_400);
    bench.backlog.set_environment_share(ZETA, &weight(400));
    let (one, other) = shares_of(&mut bench);
    assert!((3.5..4.5).contains(&(other / one)), "{one} {other}");
}
