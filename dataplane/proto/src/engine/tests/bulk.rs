//! Superpackets: what goes in comes out, and loss takes exactly what was lost.

use proptest::prelude::*;

use super::*;

const SIZE: u16 = 100;

/// What must come out when only `arrived` chunks of a superpacket arrive, in this order: each
/// series of consecutive chunks is one packet.
fn expected(whole: &Packet, size: u16, arrived: &[usize]) -> Vec<Vec<u8>> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for chunk in arrived {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == *chunk => *count += 1,
            _ => runs.push((*chunk, 1)),
        }
    }
    let part = |(first, count)| whole.part(size, first, count).offloaded(size);
    runs.into_iter().map(part).collect()
}

fn only(slot: AttachmentSlot, packets: Vec<Vec<u8>>) -> Vec<(AttachmentSlot, Vec<u8>)> {
    packets.into_iter().map(|p| (slot, p)).collect()
}

#[test]
fn superpackets_arrive_byte_for_byte_both_ways() {
    let mut pair = Pair::new();
    for version in [4, 6] {
        for make in [tcp_packet, udp_packet] {
            for payload in [101, 200, 201, 4321, 6400] {
                let there = make(forth(version), payload).superpacket(SIZE);
                pair.a.send(WEB, &there);
                assert_eq!(pair.a.io.datagrams.len(), payload.div_ceil(100));
                assert_eq!(pair.a_to_b(), [(DB, there)]);
                let here = make(back(version), payload).superpacket(SIZE);
                pair.b.send(DB, &here);
                assert_eq!(pair.b_to_a(), [(WEB, here)]);
            }
        }
    }
    assert_eq!(pair.a.drops_of_all_kinds() + pair.b.drops_of_all_kinds(), 0);
}

#[test]
fn packets_of_every_kind_arrive_byte_for_byte() {
    let mut pair = Pair::new();
    for version in [4, 6] {
        for transport in
            [Transport::Udp, Transport::Echo, Transport::Other(50), Transport::Other(132)]
        {
            for payload in [1, 56, 1300] {
                let packet = Packet::new(forth(version), transport, bytes(payload));
                pair.a.send(WEB, &packet.complete());
                assert_eq!(pair.a_to_b(), [(DB, packet.complete())]);
            }
        }
        let syn = tcp_packet(forth(version), 0).unfinished();
        pair.a.send(WEB, &syn);
        assert_eq!(pair.a_to_b(), [(DB, syn)]);
    }
    let no_checksum = udp_packet(forth(4), 10).bytes(weft_sim::packet::Sum::Zero);
    let no_checksum = [&[0; 10][..], &no_checksum].concat();
    pair.a.send(WEB, &no_checksum);
    assert_eq!(pair.a_to_b(), [(DB, no_checksum)]);
}

#[test]
fn chunks_have_one_length_and_one_header() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &tcp_packet(forth(4), 250).superpacket(SIZE));
    let sent = pair.a.take_sent();
    let lengths: Vec<_> = sent.iter().map(|d| d.bytes.len()).collect();
    // 16 header, 100 payload, 52 IP and TCP, 12 metadata, 16 tag.
    assert_eq!(lengths, [196, 196, 146]);
    for (i, datagram) in sent.iter().enumerate() {
        assert_eq!(header(datagram).counter.0, i as u64);
        assert_eq!(header(datagram).index, index(1, SESSION));
        assert_eq!(datagram.way, Way::direct(endpoint(1, 0)));
    }
}

#[test]
fn more_than_64_segments_become_several_superpackets() {
    for version in [4, 6] {
        for make in [tcp_packet, udp_packet] {
            for segments in [64, 65, 66, 127, 128] {
                let mut pair = Pair::new();
                let whole = make(forth(version), (segments - 1) * 100 + 30);
                pair.a.send(WEB, &whole.superpacket(SIZE));
                assert_eq!(pair.a.io.datagrams.len(), segments);
                let mut parts = vec![whole.part(SIZE, 0, 64).offloaded(SIZE)];
                if segments > 64 {
                    parts.push(whole.part(SIZE, 64, 64).offloaded(SIZE));
                }
                // A single UDP packet waits for more of its flow until the drain ends.
                assert_eq!(pair.a_to_b(), only(DB, parts), "{segments} segments");
            }
        }
    }
    let mut pair = Pair::new();
    let too_many = tcp_packet(forth(4), 128 * 100 + 1);
    pair.a.send(WEB, &too_many.superpacket(SIZE));
    assert!(pair.a.io.datagrams.is_empty());
    assert_eq!(pair.a.drops(DropReason::Segments), 1);
}

#[test]
fn the_largest_superpacket_fits() {
    let mut pair = Pair::new();
    let whole = tcp_packet(forth(4), 60_448).superpacket(1350);
    pair.a.send(WEB, &whole);
    assert_eq!(pair.a_to_b(), [(DB, whole)]);
    let largest = tcp_packet(forth(4), 65_535 - 52).superpacket(1372);
    pair.a.send(WEB, &largest);
    assert_eq!(pair.a_to_b(), [(DB, largest)]);
}

#[test]
fn what_the_path_cannot_carry_is_dropped() {
    let mut pair = Pair::new();
    // 1472 − 44 bytes of overhead are left for a packet.
    pair.a.send(WEB, &udp_packet(forth(4), 1400).complete());
    pair.a.send(WEB, &udp_packet(forth(4), 1401).complete());
    pair.a.send(WEB, &tcp_packet(forth(4), 5000).superpacket(1376));
    pair.a.send(WEB, &udp_packet(forth(4), 5000).superpacket(1400));
    pair.a.send(WEB, &udp_packet(forth(4), 5000).superpacket(1401));
    assert_eq!(pair.a.io.datagrams.len(), 1 + 4 + 4);
    assert_eq!(pair.a.drops(DropReason::TooBig), 2);
}

#[test]
fn a_run_never_outlives_the_drain() {
    let mut pair = Pair::new();
    let whole = tcp_packet(forth(4), 300);
    pair.a.send(WEB, &whole.superpacket(SIZE));
    let sent = pair.a.take_sent();
    pair.b.receive(&sent[..1]);
    assert_eq!(pair.b.take_delivered(), only(DB, expected(&whole, SIZE, &[0])));
    pair.b.receive(&sent[1..]);
    assert_eq!(pair.b.take_delivered(), only(DB, expected(&whole, SIZE, &[1, 2])));
}

#[test]
fn a_complete_superpacket_does_not_wait_for_the_drain() {
    let mut pair = Pair::new();
    let whole = tcp_packet(forth(4), 300).superpacket(SIZE);
    pair.a.send(WEB, &whole);
    for d in pair.a.take_sent() {
        let now = pair.b.now;
        pair.b.engine.handle_datagrams(
            now,
            UNDERLAY,
            d.ecn,
            d.bytes.len(),
            &d.bytes,
            &mut pair.b.io,
        );
    }
    assert_eq!(pair.b.take_delivered(), [(DB, whole)]);
}

/// The end of one superpacket behind the start of another: the two have different lengths, so
/// nothing of the one may be reckoned with the numbers of the other.
#[test]
fn the_rest_of_a_longer_superpacket_follows_the_start_of_a_shorter() {
    let mut pair = Pair::new();
    let short = tcp_packet(forth(4), 250);
    let long = tcp_packet(forth(4), 6400);
    pair.a.send(WEB, &short.superpacket(SIZE));
    pair.a.send(WEB, &long.superpacket(SIZE));
    let sent = pair.a.take_sent();
    pair.b.receive([&sent[0], &sent[3 + 63]]);
    let mut want = expected(&short, SIZE, &[0]);
    want.extend(expected(&long, SIZE, &[63]));
    assert_eq!(pair.b.take_delivered(), only(DB, want));
}

#[test]
fn a_large_datagram_behind_a_long_run_finds_room() {
    let mut pair = Pair::without_sessions();
    for (i, side) in [&mut pair.a, &mut pair.b].into_iter().enumerate() {
        let mut new = session(side.now, i, SESSION, LINK, Limits::default());
        new.datagram_max = 65_507;
        side.engine.install_session(side.now, new);
        side.engine.activate(side.now, SESSION, &mut side.io);
    }
    let first = tcp_packet(forth(4), 65_000);
    let second = udp_packet(forth(4), 65_400);
    pair.a.send(WEB, &first.superpacket(32_500));
    pair.a.send(WEB, &second.complete());
    let third = tcp_packet(forth(4), 60_001);
    pair.a.send(WEB, &third.superpacket(60_000));
    assert_eq!(
        pair.a_to_b(),
        [(DB, first.superpacket(32_500)), (DB, second.complete()), (DB, third.superpacket(60_000)),]
    );
}

#[test]
fn every_subset_of_eight_chunks() {
    for make in [tcp_packet, udp_packet] {
        for version in [4, 6] {
            let whole = make(forth(version), 760);
            let mut pair = Pair::new();
            for subset in 1u32..256 {
                let arrived: Vec<usize> = (0..8).filter(|i| subset & 1 << i != 0).collect();
                pair.a.send(WEB, &whole.superpacket(SIZE));
                let sent = pair.a.take_sent();
                pair.b.receive(arrived.iter().map(|i| &sent[*i]));
                let want = only(DB, expected(&whole, SIZE, &arrived));
                assert_eq!(pair.b.take_delivered(), want, "chunks {arrived:?}");
            }
            assert_eq!(pair.b.drops_of_all_kinds(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any chunks of several superpackets in any order, any of them more than once: every series
    /// that arrives in order is one packet, nothing arrives twice.
    #[test]
    fn any_order_any_loss_any_repetition(
        payloads in proptest::collection::vec(101usize..3000, 1..4),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..6), 1..60),
        size in 40u16..300, udp: bool, six: bool,
    ) {
        let mut pair = Pair::new();
        let make = if udp { udp_packet } else { tcp_packet };
        let mut all = Vec::new();
        for (i, payload) in (0u16..).zip(payloads) {
            let payload = payload.max(usize::from(size) + 1).min(usize::from(size) * 64);
            let mut whole = make(forth(if six { 6 } else { 4 }), payload);
            whole.flow.ports.0 += i;
            pair.a.send(WEB, &whole.superpacket(size));
            let sent = pair.a.take_sent();
            all.extend(sent.into_iter().enumerate().map(|(chunk, d)| (whole.clone(), chunk, d)));
        }
        // Series of neighbours from anywhere.
        let order: Vec<usize> = picks
            .iter()
            .flat_map(|(at, n)| { let at = at.index(all.len()); at..(at + n).min(all.len()) })
            .collect();
        let mut seen = std::collections::HashSet::new();
        let mut want: Vec<(usize, Packet, Vec<usize>)> = Vec::new();
        for at in &order {
            let (whole, chunk, _) = &all[*at];
            if !seen.insert(*at) {
                continue;
            }
            match want.last_mut() {
                // The next chunk of the same superpacket, and the run not yet complete.
                Some((last, of, chunks)) if *last + 1 == *at && of == whole => {
                    chunks.push(*chunk);
                    *last = *at;
                }
                _ => want.push((*at, whole.clone(), vec![*chunk])),
            }
        }
        let want: Vec<_> = want
            .iter()
            .flat_map(|(_, whole, chunks)| expected(whole, size, chunks))
            .collect();
        pair.b.receive(order.iter().map(|at| &all[*at].2));
        prop_assert_eq!(pair.b.take_delivered(), only(DB, want));
        prop_assert_eq!(pair.b.drops(DropReason::Replay), (order.len() - seen.len()) as u64);
    }
}
