//! Judging packets by a policy of the greatest size: of a flow that is known, and of new ones.

use std::{hint::black_box, net::IpAddr, time::Instant};

use criterion::{Criterion, Throughput};
use weft_benches::policy::{ADDRESSES, address, largest};
use weft_proto::policy::{Guard, Seen};
use weft_sim::packet::{Flow, Packet, Transport};
use weft_types::WorkerId;
use weft_wire::Inner;

use crate::cpu::CpuTime;

/// Packets in one measurement.
const PACKETS: usize = 1_000;
/// Pairs of addresses that talk; a number that shares no factor with that of the addresses.
const PAIRS: usize = 65_521;

/// UDP packets between many pairs, to a port that the last rule allows.
fn packets() -> Vec<Seen> {
    let one = |n: usize| {
        let (source, destination): (IpAddr, IpAddr) =
            (address(n % ADDRESSES), address((n * 7 + 1) % ADDRESSES));
        let ports = (u16::try_from(n % 60_000).unwrap_or(0), 443);
        let flow = Flow { source, destination, ports };
        let bytes = Packet::new(flow, Transport::Udp, vec![0; 64]).complete();
        let packet = &bytes[weft_sim::packet::VIRTIO_LEN..];
        Seen::of(&Inner::parse(packet).expect("a packet"), packet)
    };
    (0..PAIRS).map(one).collect()
}

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("policy");
    let rules = largest();
    group.bench_function("compile", |bencher| bencher.iter(|| black_box(&rules).compile()));
    group.throughput(Throughput::Elements(PACKETS as u64));
    let packets = packets();
    let now = Instant::now();
    let worker = WorkerId::new(0).expect("a worker");
    let guard = || Guard::new(now, rules.compile().expect("rules"), 1, 7);
    // As few as a cache holds, and more than the table does.
    for (name, flows) in [("known flow", PACKETS), ("one of many flows", PAIRS / 4)] {
        let guard = guard();
        let mut flows = packets[..flows].iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for packet in flows.by_ref().take(PACKETS) {
                    let _ = black_box(guard.judge(now, worker, black_box(packet)));
                }
            });
        });
    }
    let policy = rules.compile().expect("rules");
    let mut flows = packets.iter().cycle();
    group.bench_function("new flow, rules alone", |bencher| {
        bencher.iter(|| {
            for packet in flows.by_ref().take(PACKETS) {
                black_box(policy.decide(black_box(packet.tuple())));
            }
        });
    });
    group.finish();
}
