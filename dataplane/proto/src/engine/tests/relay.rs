//! From one attachment to another on the same host.

use super::*;

fn between(version: u8) -> Flow {
    match version {
        4 => flow("10.0.0.2", "10.0.0.3"),
        _ => flow("fd00::2", "fd00::3"),
    }
}

#[test]
fn superpackets_are_relayed_as_they_are_and_never_sealed() {
    let mut pair = Pair::new();
    for version in [4, 6] {
        for packet in [
            tcp_packet(between(version), 60_000).superpacket(1348),
            tcp_packet(between(version), 300).superpacket(100),
            udp_packet(between(version), 12_800).superpacket(100),
            udp_packet(between(version), 20).unfinished(),
            Packet::new(between(version), Transport::Echo, bytes(56)).complete(),
        ] {
            pair.a.send(WEB, &packet);
            assert_eq!(pair.a.take_delivered(), [(APP, packet)]);
        }
    }
    assert!(pair.a.io.datagrams.is_empty());
    assert_eq!(pair.a.drops_of_all_kinds(), 0);
}

#[test]
fn relaying_needs_no_session() {
    let mut pair = Pair::without_sessions();
    let packet = tcp_packet(between(4), 300).superpacket(100);
    pair.a.send(WEB, &packet);
    assert_eq!(pair.a.take_delivered(), [(APP, packet)]);
    assert_eq!(pair.a.events(), []);
}

#[test]
fn the_header_length_is_computed_not_believed() {
    let mut pair = Pair::new();
    let honest = tcp_packet(between(4), 300).superpacket(100);
    let mut false_len = honest.clone();
    false_len[2..4].copy_from_slice(&999u16.to_ne_bytes());
    pair.a.send(WEB, &false_len);
    assert_eq!(pair.a.take_delivered(), [(APP, honest)]);
}

#[test]
fn a_checksum_elsewhere_is_made_here_and_not_by_the_next_kernel() {
    let mut pair = Pair::new();
    let mut packet = udp_packet(between(4), 60).unfinished();
    // Start at byte 28, the UDP payload, and store at byte 34: a VXLAN's inner packet.
    packet[6..8].copy_from_slice(&28u16.to_ne_bytes());
    packet[8..10].copy_from_slice(&6u16.to_ne_bytes());
    let want = weft_sim::packet::kernel_output(&packet).remove(0);
    pair.a.send(WEB, &packet);
    assert_eq!(pair.a.take_delivered(), [(APP, [&[0; 10][..], &want].concat())]);
}

#[test]
fn relayed_packets_are_counted_where_they_go() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &tcp_packet(between(4), 300).superpacket(100));
    assert_eq!(pair.a.counters[0].relayed_packets.get(), 3);
    assert_eq!(pair.a.counters[0].relayed_bytes.get(), 352);
    assert_eq!(pair.a.attachments[0].sent_packets.get(), 3);
    assert_eq!(pair.a.attachments[1].received_packets.get(), 3);
    assert_eq!(pair.a.attachments[1].received_bytes.get(), 352);
    pair.a.io.is_full = true;
    pair.a.send(WEB, &udp_packet(between(4), 10).unfinished());
    assert_eq!(pair.a.drops(DropReason::Undeliverable), 1);
    assert_eq!(pair.a.attachments[1].received_packets.get(), 3);
    assert_eq!(pair.a.counters[0].relayed_packets.get(), 3, "what was dropped is not relayed");
}

#[test]
fn an_interface_without_uso_gets_single_packets_from_its_neighbour() {
    let mut pair = Pair::new();
    let mut here = back(4);
    here.destination = addr("10.0.0.8");
    let whole = udp_packet(here, 350);
    pair.b.send(DB, &whole.superpacket(100));
    let want: Vec<_> = (0..4).map(|i| (IDLE, whole.part(100, i, 1).unfinished())).collect();
    assert_eq!(pair.b.take_delivered(), want);
}
