//! Packets that the path carries in pieces only.

use weft_sim::packet::{Sum, kernel_output};
use weft_wire::{Kind, Metadata, VIRTIO_HEADER_LEN, VirtioHeader};

use super::*;

/// What the path carries in these tests, bytes of UDP payload.
const CARRIED: usize = 1_200;

/// A pair whose A has found out that the path carries the least.
fn narrow() -> Pair {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), 1_300).complete());
    for _ in 0..3_000 {
        pair.a.tick(Duration::ZERO);
        let sent = pair.a.take_sent();
        pair.b.receive(sent.iter().filter(|sent| sent.bytes.len() <= CARRIED));
        let answers = pair.b.take_sent();
        pair.a.receive(&answers);
        pair.advance(Duration::from_millis(10));
    }
    assert_eq!(pair.a.links[0].datagram_max.get(), CARRIED as u64);
    pair.b.take_delivered();
    pair
}

/// Sends a packet and gives its datagrams, none of which is longer than the path carries.
fn send(pair: &mut Pair, packet: &[u8]) -> Vec<Sent> {
    pair.a.send(WEB, packet);
    let sent = pair.a.take_sent();
    assert!(sent.iter().all(|sent| sent.bytes.len() <= CARRIED));
    sent
}

fn may_fragment(payload: usize) -> Packet {
    let mut packet = udp_packet(forth(4), payload);
    packet.dont_fragment = false;
    packet
}

#[test]
fn what_every_path_carries_arrives_byte_for_byte() {
    let mut pair = narrow();
    // The longest that IPv6 counts on, the shortest that is too long, and one that may be cut.
    let longest = udp_packet(forth(6), 1_280 - 48);
    let shortest = udp_packet(forth(4), CARRIED - 44 - 28 + 1);
    let packets = [
        (longest.complete(), 2),
        (longest.unfinished(), 2),
        (shortest.unfinished(), 2),
        (may_fragment(1_400).complete(), 2),
        (may_fragment(1_156 * 8 - 28 - 32).complete(), 8),
    ];
    for (packet, count) in packets {
        let sent = send(&mut pair, &packet);
        assert_eq!(sent.len(), count);
        assert!(sent[1..count - 1].iter().all(|s| s.bytes.len() == sent[0].bytes.len()));
        pair.b.receive(&sent);
        assert_eq!(pair.b.take_delivered(), [(DB, packet)]);
    }
    assert_eq!(pair.b.drops_of_all_kinds(), 0);
}

#[test]
fn pieces_come_in_any_order_and_other_packets_between_them() {
    let mut pair = narrow();
    let packet = may_fragment(3_000).complete();
    let little = udp_packet(forth(4), 10).complete();
    let between = send(&mut pair, &little);
    let mut sent = send(&mut pair, &packet);
    assert_eq!(sent.len(), 3);
    sent.swap(0, 2);
    pair.b.receive([&sent[0], &between[0], &sent[1], &sent[2]]);
    assert_eq!(pair.b.take_delivered(), [(DB, little), (DB, packet)]);
}

#[test]
fn a_packet_without_all_of_its_pieces_is_given_up_after_a_second() {
    let mut pair = narrow();
    let sent = send(&mut pair, &may_fragment(2_000).complete());
    pair.b.receive(&sent[..1]);
    pair.b.tick(Duration::from_millis(900));
    assert_eq!(pair.b.drops(DropReason::Incomplete), 0);
    pair.b.tick(Duration::from_secs(2));
    assert_eq!(pair.b.drops(DropReason::Incomplete), 1);
    pair.b.receive(&sent[1..]);
    assert_eq!(pair.b.take_delivered(), []);
}

#[test]
fn a_receiver_keeps_no_more_than_four_incomplete_packets() {
    let mut pair = narrow();
    let packets: Vec<_> =
        (0..5).map(|_| send(&mut pair, &may_fragment(2_000).complete())).collect();
    for sent in &packets {
        pair.b.receive(&sent[..1]);
    }
    assert_eq!(pair.b.drops(DropReason::Incomplete), 1);
    for sent in &packets[1..] {
        pair.b.receive(&sent[1..]);
    }
    assert_eq!(pair.b.take_delivered().len(), 4, "all but the oldest");
}

#[test]
fn who_may_not_be_cut_is_told_what_goes() {
    let mut pair = narrow();
    for (packet, mtu) in [
        (udp_packet(forth(4), 1_281 - 28), CARRIED - 44),
        (udp_packet(forth(6), 1_281 - 48), 1_280),
    ] {
        assert!(send(&mut pair, &packet.complete()).is_empty());
        let told = pair.a.take_delivered();
        let inner = weft_wire::Inner::parse(&told[0].1[VIRTIO_HEADER_LEN..]).unwrap();
        let icmp = &told[0].1[VIRTIO_HEADER_LEN + usize::from(inner.transport)..];
        assert_eq!(icmp[6..8], u16::try_from(mtu).unwrap().to_be_bytes());
    }
    assert!(send(&mut pair, &may_fragment(9_217 - 28).complete()).is_empty(), "too many pieces");
    assert_eq!(pair.a.drops(DropReason::TooBig), 3);
}

/// The stream that TCP packets of a superpacket carry.
fn stream(superpackets: &[(AttachmentSlot, Vec<u8>)]) -> Vec<u8> {
    let packets = superpackets.iter().flat_map(|(_, data)| kernel_output(data));
    packets.flat_map(|packet| packet[52..].to_vec()).collect()
}

#[test]
fn tcp_is_cut_anew_and_nobody_has_to_be_told() {
    for payload in [2_000, 20_000, 60_000] {
        let mut pair = narrow();
        let packet = tcp_packet(forth(4), payload);
        let sent = send(&mut pair, &packet.superpacket(1_356));
        assert_eq!(sent.len(), payload.div_ceil(CARRIED - 44 - 52));
        pair.b.receive(&sent);
        let delivered = pair.b.take_delivered();
        assert_eq!(stream(&delivered), packet.payload);
        assert_eq!(pair.a.take_delivered(), []);
    }
}

#[test]
fn datagrams_of_a_udp_superpacket_stay_as_they_are() {
    let mut pair = narrow();
    let packet = udp_packet(forth(6), 5 * (1_280 - 48) - 100);
    let sent = send(&mut pair, &packet.superpacket(1_280 - 48));
    pair.b.receive(&sent);
    let got: Vec<_> =
        pair.b.take_delivered().iter().flat_map(|(_, data)| kernel_output(data)).collect();
    assert_eq!(got, kernel_output(&packet.superpacket(1_280 - 48)));
    // Longer ones may not be cut.
    assert!(send(&mut pair, &packet.superpacket(1_300)).is_empty());
    assert_eq!(pair.a.drops(DropReason::TooBig), 1);
}

#[test]
fn a_mark_on_one_piece_is_a_mark_on_the_packet() {
    let mut pair = narrow();
    let mut packet = may_fragment(1_400);
    packet.ecn = Ecn::Ect0 as u8;
    let mut sent = send(&mut pair, &packet.complete());
    assert!(sent.iter().all(|sent| sent.ecn == Ecn::Ect0));
    sent[1].ecn = Ecn::Ce;
    pair.b.receive(&sent);
    packet.ecn = Ecn::Ce as u8;
    assert_eq!(pair.b.take_delivered(), [(DB, packet.complete())]);
}

type Said<'a> = (Metadata, &'a [u8]);

/// A peer with the right keys that seals whatever pieces it likes.
fn say(pieces: &[Said<'_>]) -> Pair {
    let mut pair = Pair::new();
    let mut lane = session(pair.a.now, 0, SESSION, LINK, Limits::default()).send;
    for (metadata, piece) in pieces {
        lane.prepare(pair.a.now, 1).unwrap();
        let mut bytes = vec![0; SendLane::datagram_len(piece.len(), 12)];
        lane.seal(Kind::Data, piece, &metadata.encode(), &mut bytes);
        pair.b.receive([&Sent { way: Way::direct(endpoint(1, 0)), ecn: Ecn::NotEct, bytes }]);
    }
    pair
}

#[test]
fn lies_about_pieces_are_dropped() {
    let packet = udp_packet(forth(4), 100).bytes(Sum::Full);
    let virtio = VirtioHeader { gso_size: 64, ..VirtioHeader::default() };
    let first = Metadata { virtio, chunk: 0, count: 2 };
    let second = Metadata { chunk: 1, ..first };
    let honest = say(&[(first, &packet[..64]), (second, &packet[64..])]).b.take_delivered();
    assert_eq!(honest, [(DB, udp_packet(forth(4), 100).complete())]);

    let with = |change: fn(&mut Metadata)| {
        let mut changed = second;
        change(&mut changed);
        changed
    };
    let none = &[][..];
    let long = vec![0; 4_700];
    let huge = Metadata { virtio: VirtioHeader { gso_size: 4_700, ..virtio }, ..first };
    let cases: [(&str, Vec<Said<'_>>); 8] = [
        ("a short first piece", vec![(first, &packet[..63]), (second, &packet[63..])]),
        ("a long last piece", vec![(first, &packet[..64]), (second, &packet[60..])]),
        ("an empty last piece", vec![(first, &packet[..64]), (second, none)]),
        (
            "another size",
            vec![(first, &packet[..64]), (with(|m| m.virtio.gso_size = 65), &packet[64..])],
        ),
        ("another count", vec![(first, &packet[..64]), (with(|m| m.count = 3), &packet[64..])]),
        (
            "a header length",
            vec![(first, &packet[..64]), (with(|m| m.virtio.hdr_len = 20), &packet[64..])],
        ),
        (
            "less than the packet says",
            vec![(first, &packet[..64]), (second, &packet[64..packet.len() - 1])],
        ),
        (
            "more than any interface takes",
            vec![(huge, &long), (Metadata { chunk: 1, ..huge }, &long)],
        ),
    ];
    for (what, pieces) in cases {
        let mut pair = say(&pieces);
        assert_eq!(pair.b.take_delivered(), [], "{what}");
        assert!(pair.b.drops_of_all_kinds() > 0, "{what}");
    }
}

#[test]
fn what_pieces_make_is_judged_like_any_packet() {
    let mut foreign = forth(4);
    foreign.source = addr("10.0.0.77");
    let packet = udp_packet(foreign, 100).bytes(Sum::Full);
    let virtio = VirtioHeader { gso_size: 64, ..VirtioHeader::default() };
    let first = Metadata { virtio, chunk: 0, count: 2 };
    let second = Metadata { chunk: 1, ..first };
    let mut pair = say(&[(first, &packet[..64]), (second, &packet[64..])]);
    assert_eq!(pair.b.take_delivered(), []);
    assert_eq!(pair.b.drops(DropReason::Source), 1);
}
