//! Small UDP packets of one flow travel as single datagrams and reach the interface in one write.

use proptest::prelude::*;
use weft_sim::packet::{forget_meaningless_id, kernel_output};

use super::*;

/// The packets that a kernel makes of what was delivered, identification of unfragmentable UDP
/// aside.
fn in_the_end(delivered: &[(AttachmentSlot, Vec<u8>)]) -> Vec<Vec<u8>> {
    delivered.iter().flat_map(|(_, data)| plain(data)).collect()
}

fn plain(data: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = kernel_output(data);
    for packet in &mut packets {
        forget_meaningless_id(packet);
    }
    packets
}

fn numbered(version: u8, number: u8, len: usize) -> Packet {
    let mut packet = udp_packet(forth(version), len);
    packet.payload[0] = number;
    packet.id = u16::from(number) * 7;
    packet
}

#[test]
fn packets_of_one_flow_become_one_write() {
    for version in [4, 6] {
        let mut pair = Pair::new();
        let packets: Vec<_> = (0..10).map(|i| numbered(version, i, 64)).collect();
        for packet in &packets {
            pair.a.send(WEB, &packet.unfinished());
        }
        assert_eq!(pair.a.io.datagrams.len(), 10, "each is a datagram of its own");
        let delivered = pair.a_to_b();
        assert_eq!(delivered.len(), 1);
        let want: Vec<_> = packets.iter().flat_map(|p| plain(&p.unfinished())).collect();
        assert_eq!(in_the_end(&delivered), want);
        assert_eq!(pair.b.attachments[0].received_packets.get(), 10);
    }
}

#[test]
fn a_shorter_packet_ends_the_write_and_a_longer_begins_another() {
    let mut pair = Pair::new();
    for len in [64, 64, 10, 10, 11, 5] {
        pair.a.send(WEB, &numbered(4, 1, len).unfinished());
    }
    let lengths: Vec<_> =
        pair.a_to_b().iter().map(|(_, d)| d.len() - weft_wire::VIRTIO_HEADER_LEN - 28).collect();
    assert_eq!(lengths, [64 + 64 + 10, 10, 11 + 5]);
}

#[test]
fn a_write_takes_64_packets() {
    let mut pair = Pair::new();
    for i in 0..150 {
        pair.a.send(WEB, &numbered(4, i, 8).unfinished());
    }
    let counts: Vec<_> = pair.a_to_b().iter().map(|(_, d)| kernel_output(d).len()).collect();
    assert_eq!(counts, [64, 64, 22]);
}

#[test]
fn a_write_stays_below_the_largest_packet() {
    let mut pair = Pair::new();
    for i in 0..100 {
        pair.a.send(WEB, &numbered(6, i, 1372).unfinished());
    }
    let delivered = pair.a_to_b();
    assert!(delivered.iter().all(|(_, d)| d.len() <= 60_000 + 48 + 10));
    assert_eq!(in_the_end(&delivered).len(), 100);
}

/// What keeps a packet out of another's write.
#[test]
fn nothing_but_length_and_identification_may_differ() {
    type Change = fn(&mut Packet);
    let changes: [Change; 5] = [
        |p| p.flow.ports.0 += 1,
        |p| p.flow.ports.1 += 1,
        |p| p.flow.destination = addr("10.0.0.8"),
        |p| p.ecn = 2,
        |p| p.dont_fragment = false,
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut pair = Pair::new();
        let mut other = numbered(4, 2, 64);
        change(&mut other);
        let packets = [numbered(4, 1, 64), other, numbered(4, 3, 64)];
        for packet in &packets {
            pair.a.send(WEB, &packet.unfinished());
        }
        let delivered: Vec<_> = pair.a_to_b().into_iter().map(|(_, data)| data).collect();
        let want: Vec<_> = packets.iter().map(Packet::unfinished).collect();
        assert_eq!(delivered, want, "change {i}");
    }
}

#[test]
fn time_to_live_and_flow_label_are_part_of_the_flow() {
    // Class, time to live; flow label, hop limit.
    for (version, at, bit) in [(4, 10 + 1, 0x10), (4, 10 + 8, 1), (6, 10 + 3, 1), (6, 10 + 7, 1)] {
        let mut pair = Pair::new();
        let mut other = numbered(version, 2, 64).unfinished();
        other[at] ^= bit;
        pair.a.send(WEB, &numbered(version, 1, 64).unfinished());
        pair.a.send(WEB, &other);
        assert_eq!(pair.a_to_b().len(), 2, "byte {at} of version {version}");
    }
}

#[test]
fn outer_marks_that_differ_keep_packets_apart() {
    let mut pair = Pair::new();
    let mut packet = numbered(4, 1, 64);
    packet.ecn = 2;
    for _ in 0..3 {
        pair.a.send(WEB, &packet.unfinished());
    }
    let mut sent = pair.a.take_sent();
    sent[1].ecn = Ecn::Ce;
    pair.b.receive(&sent);
    let marks: Vec<_> = pair.b.take_delivered().iter().map(|(_, d)| d[11] & 3).collect();
    assert_eq!(marks, [2, 3, 2]);
}

#[test]
fn packets_of_two_sessions_keep_apart() {
    let mut pair = Pair::new();
    pair.install(SessionId(3), LINK, Limits::default());
    pair.a.send(WEB, &numbered(4, 1, 64).unfinished());
    pair.a.engine.activate(pair.a.now, SessionId(3), &mut pair.a.io);
    pair.a.send(WEB, &numbered(4, 2, 64).unfinished());
    assert_eq!(pair.a_to_b().len(), 2);
}

/// Who continues a write is not judged anew, so it must be the same two ends.
#[test]
fn packets_of_other_addresses_keep_apart() {
    for (version, app, idle) in [(4, "10.0.0.3", "10.0.0.8"), (6, "fd00::3", "fd00::8")] {
        let mut pair = Pair::new();
        let first = numbered(version, 1, 64);
        let (mut from_app, mut to_idle) = (first.clone(), first.clone());
        from_app.flow.source = addr(app);
        to_idle.flow.destination = addr(idle);
        for (from, packet) in [(WEB, &first), (APP, &from_app), (WEB, &first), (WEB, &to_idle)] {
            pair.a.send(from, &packet.unfinished());
        }
        let want = [(DB, &first), (DB, &from_app), (DB, &first), (IDLE, &to_idle)];
        assert_eq!(pair.a_to_b(), want.map(|(to, packet)| (to, packet.unfinished())));
    }
}

#[test]
fn tcp_and_fragmentable_packets_and_such_with_options_travel_alone() {
    let mut fragmentable = numbered(4, 1, 64);
    fragmentable.dont_fragment = false;
    let mut with_options = numbered(4, 1, 64).unfinished();
    with_options[6..8].copy_from_slice(&24u16.to_ne_bytes());
    with_options[10] = 0x46;
    with_options[13] += 4;
    with_options.splice(30..30, [1; 4]);
    let tcp = tcp_packet(forth(4), 64).unfinished();
    for packet in [fragmentable.unfinished(), with_options, tcp] {
        let mut pair = Pair::new();
        pair.a.send(WEB, &packet);
        pair.a.send(WEB, &packet);
        assert_eq!(pair.a_to_b(), [(DB, packet.clone()), (DB, packet)]);
    }
}

#[test]
fn packets_without_a_checksum_to_make_travel_alone() {
    let mut pair = Pair::new();
    for i in 0..3 {
        pair.a.send(WEB, &numbered(4, i, 64).complete());
    }
    assert_eq!(pair.a_to_b().len(), 3);
}

#[test]
fn an_interface_without_uso_gets_single_packets() {
    let mut pair = Pair::new();
    let mut to_idle = forth(4);
    to_idle.destination = addr("10.0.0.8");
    let mut whole = udp_packet(to_idle, 450);
    whole.ecn = 2;
    pair.a.send(WEB, &whole.superpacket(100));
    for _ in 0..2 {
        pair.a.send(WEB, &udp_packet(to_idle, 30).unfinished());
    }
    let mut sent = pair.a.take_sent();
    for datagram in &mut sent[..5] {
        datagram.ecn = Ecn::Ce;
    }
    pair.b.receive(&sent);
    let mut want: Vec<_> = (0..5).map(|i| whole.part(100, i, 1)).collect();
    for packet in &mut want {
        packet.ecn = 3;
    }
    want.extend([udp_packet(to_idle, 30), udp_packet(to_idle, 30)]);
    let want: Vec<_> = want.iter().map(|p| (IDLE, p.unfinished())).collect();
    assert_eq!(pair.b.take_delivered(), want);
    assert_eq!(pair.b.attachments[1].received_packets.get(), 7);
    // TCP superpackets every interface takes.
    let tcp = tcp_packet(to_idle, 450).superpacket(100);
    pair.a.send(WEB, &tcp);
    assert_eq!(pair.a_to_b(), [(IDLE, tcp)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Flows of all kinds, interleaved: each flow's packets come out unchanged and in order.
    #[test]
    fn what_goes_in_comes_out_in_order(
        picks in proptest::collection::vec((0u16..4, 0usize..5, 0u8..3), 1..200),
    ) {
        let mut pair = Pair::new();
        let mut want = std::collections::HashMap::<_, Vec<_>>::new();
        for (number, (port, len, kind)) in (0u16..).zip(picks) {
            let mut flow = forth(if port < 2 { 4 } else { 6 });
            flow.ports.0 = port;
            let mut payload = bytes([2, 64, 64, 64, 300][len]);
            payload[..2].copy_from_slice(&number.to_be_bytes());
            let mut packet = Packet::new(flow, Transport::Udp, payload);
            packet.id = number;
            let data = match kind {
                0 => packet.complete(),
                1 => packet.offloaded(100),
                _ => packet.unfinished(),
            };
            pair.a.send(WEB, &data);
            want.entry(port).or_default().extend(plain(&data));
        }
        let mut got = std::collections::HashMap::<_, Vec<_>>::new();
        for packet in in_the_end(&pair.a_to_b()) {
            let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
            let port = u16::from_be_bytes([packet[at], packet[at + 1]]);
            got.entry(port).or_default().push(packet);
        }
        prop_assert_eq!(got, want);
    }
}
