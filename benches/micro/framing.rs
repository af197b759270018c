//! A superpacket of 44 segments through the engines of two hosts, and what sealing and opening its
//! datagrams costs without them. The difference is framing: judge, route, cut, join, count.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput};
use weft_benches::pair::{DATAGRAM_LEN, SEGMENT_LEN, SEGMENTS, Sink, TAIL_LEN, lanes, pair};
use weft_proto::lane::{ReceiveLane, SendLane};
use weft_wire::{HEADER_LEN, Header, Kind};

use crate::cpu::CpuTime;

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Bytes((SEGMENTS * SEGMENT_LEN) as u64));

    let (mut sender, _) = pair();
    let mut wire = Sink::default();
    group.bench_function("cut and seal", |bencher| {
        bencher.iter(|| {
            wire.clear();
            sender.send(black_box(&mut wire));
        });
    });

    let now = Instant::now();
    let (mut lane, _) = lanes(now);
    let payload = vec![5; SEGMENTS * SEGMENT_LEN];
    let mut datagrams = vec![0; SEGMENTS * DATAGRAM_LEN];
    group.bench_function("seal alone", |bencher| {
        bencher.iter(|| seal_all(now, &mut lane, &payload, black_box(&mut datagrams)));
    });

    let (mut sender, mut receiver) = pair();
    let mut interface = Sink::default();
    let mut cut = || {
        let mut wire = Sink::default();
        sender.send(&mut wire);
        wire
    };
    group.bench_function("open and join", |bencher| {
        let join = |wire: &mut Sink| receiver.receive(wire.datagrams(), black_box(&mut interface));
        // One at a time: a batch would no longer be in the cache, where the kernel's copy puts it.
        bencher.iter_batched_ref(&mut cut, join, BatchSize::PerIteration);
    });

    let (mut sender, mut receiver) = lanes(now);
    let mut seal = || {
        let mut datagrams = vec![0; SEGMENTS * DATAGRAM_LEN];
        seal_all(now, &mut sender, &payload, &mut datagrams);
        datagrams
    };
    let mut out = vec![0; SEGMENTS * SEGMENT_LEN + TAIL_LEN];
    group.bench_function("open alone", |bencher| {
        let open = |datagrams: &mut Vec<u8>| open_all(now, &mut receiver, datagrams, &mut out);
        bencher.iter_batched_ref(&mut seal, open, BatchSize::PerIteration);
    });
    group.finish();
}

fn seal_all(now: Instant, lane: &mut SendLane, payload: &[u8], out: &mut [u8]) {
    lane.prepare(now, SEGMENTS as u64).expect("a fresh session");
    for (chunk, datagram) in payload.chunks(SEGMENT_LEN).zip(out.chunks_mut(DATAGRAM_LEN)) {
        lane.seal(Kind::Data, chunk, &[6; TAIL_LEN], datagram);
    }
}

/// Each plaintext over the tail of the one before, as the engine does.
fn open_all(now: Instant, lane: &mut ReceiveLane, datagrams: &[u8], out: &mut [u8]) {
    for (n, datagram) in datagrams.chunks(DATAGRAM_LEN).enumerate() {
        let header = Header::decode(datagram).expect("sealed above");
        let (clear, sealed) = datagram.split_first_chunk::<HEADER_LEN>().expect("longer");
        let out = black_box(&mut out[n * SEGMENT_LEN..]);
        lane.open(now, &header, clear, sealed, out).expect("sealed above");
    }
}
