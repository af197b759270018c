//! Forged, damaged and replayed datagrams, and peers that are authentic but lie.

use proptest::prelude::*;
use weft_sim::packet::{Sum, kernel_output};
use weft_wire::{Control, Kind, METADATA_LEN, Metadata, VirtioHeader};

use super::*;

/// One sealed datagram of each kind that A sends.
fn specimens(pair: &mut Pair) -> Vec<Sent> {
    pair.a.send(WEB, &udp_packet(forth(4), 40).unfinished());
    pair.a.send(WEB, &tcp_packet(forth(6), 150).superpacket(100));
    let now = pair.a.now;
    pair.a.engine.send_control(now, SESSION, Control::Close, &mut pair.a.io);
    pair.a.take_sent()
}

#[test]
fn no_flipped_bit_is_accepted() {
    let mut pair = Pair::new();
    let specimens = specimens(&mut pair);
    let mut tries = 0;
    for sent in &specimens {
        for bit in 0..sent.bytes.len() * 8 {
            let mut bad = sent.clone();
            bad.bytes[bit / 8] ^= 1 << (bit % 8);
            pair.b.receive([&bad]);
            tries += 1;
        }
    }
    assert_eq!(pair.b.take_delivered(), []);
    assert_eq!(pair.b.events(), []);
    assert!(pair.b.io.datagrams.is_empty(), "nothing is answered");
    assert_eq!(pair.b.drops_of_all_kinds(), tries, "every one is counted");
    // And nothing was harmed by it.
    pair.b.receive(&specimens);
    assert_eq!(pair.b.take_delivered().len(), 2);
}

#[test]
fn no_other_length_is_accepted() {
    let mut pair = Pair::new();
    for sent in specimens(&mut pair) {
        for len in 1..sent.bytes.len() + 40 {
            if len == sent.bytes.len() {
                continue;
            }
            let mut bad = sent.clone();
            bad.bytes.resize(len, 0);
            pair.b.receive([&bad]);
            // Also with a length field that fits.
            bad.bytes.resize(len.max(4), 0);
            bad.bytes[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            pair.b.receive([&bad]);
        }
    }
    assert_eq!(pair.b.take_delivered(), []);
    assert_eq!(pair.b.events(), []);
}

#[test]
fn nothing_is_accepted_twice() {
    let mut pair = Pair::new();
    let mut sent = specimens(&mut pair);
    for _ in 0..100 {
        pair.a.send(WEB, &tcp_packet(forth(4), 5000).superpacket(100));
    }
    sent.extend(pair.a.take_sent());
    pair.b.receive(&sent);
    pair.b.take_delivered();
    pair.b.events();
    for _ in 0..20 {
        pair.b.receive(&sent);
    }
    assert_eq!(pair.b.take_delivered(), []);
    assert_eq!(pair.b.events(), []);
    assert_eq!(pair.b.drops(DropReason::Replay), 20 * sent.len() as u64);
}

#[test]
fn what_is_older_than_the_window_is_refused() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), 40).unfinished());
    let old = pair.a.take_sent();
    for _ in 0..8192 {
        pair.a.send(WEB, &udp_packet(forth(4), 40).unfinished());
    }
    pair.a_to_b();
    pair.b.receive(&old);
    assert_eq!(pair.b.take_delivered(), []);
    assert_eq!(pair.b.drops(DropReason::Replay), 1);
}

fn merged(sent: &[Sent]) -> Vec<u8> {
    sent.iter().flat_map(|d| d.bytes.clone()).collect()
}

#[test]
fn merged_datagrams_are_split_by_the_kernel_s_word_only() {
    let mut pair = Pair::new();
    for payload in [250, 300] {
        let whole = tcp_packet(forth(4), payload).superpacket(100);
        pair.a.send(WEB, &whole);
        let data = merged(&pair.a.take_sent());
        let now = pair.b.now;
        pair.b.engine.handle_datagrams(now, UNDERLAY, Ecn::NotEct, 196, &data, &mut pair.b.io);
        pair.b.engine.finish_receive(&mut pair.b.io);
        assert_eq!(pair.b.take_delivered(), [(DB, whole)]);
    }
}

#[test]
fn a_false_length_costs_its_own_datagram_only() {
    for lie in [0u16, 44, 195, 197, 392, 0xffff] {
        for victim in 0..6 {
            let mut pair = Pair::new();
            let whole = tcp_packet(forth(4), 600);
            pair.a.send(WEB, &whole.superpacket(100));
            let mut sent = pair.a.take_sent();
            sent[victim].bytes[2..4].copy_from_slice(&lie.to_be_bytes());
            let now = pair.b.now;
            let data = merged(&sent);
            pair.b.engine.handle_datagrams(now, UNDERLAY, Ecn::NotEct, 196, &data, &mut pair.b.io);
            pair.b.engine.finish_receive(&mut pair.b.io);
            let runs = [(0, victim), (victim + 1, 5 - victim)];
            let want: Vec<_> = runs
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(first, count)| (DB, whole.part(100, first, count).offloaded(100)))
                .collect();
            assert_eq!(pair.b.take_delivered(), want, "{lie} in datagram {victim}");
            assert_eq!(pair.b.unattributed(DropReason::Header), 1);
        }
    }
}

#[test]
fn indices_of_other_workers_and_of_nobody_are_dropped() {
    let mut pair = Pair::new();
    let specimen = specimens(&mut pair).remove(0);
    let causes = [
        (0x0100_0010, DropReason::WrongWorker),
        (0x3f00_0010, DropReason::WrongWorker),
        (0x4000_0010, DropReason::WrongWorker),
        (0xff00_0010, DropReason::WrongWorker),
        (0x0000_0000, DropReason::UnknownSession),
        (0x00ff_ffff, DropReason::UnknownSession),
    ];
    for (index, reason) in causes {
        let mut bad = specimen.clone();
        bad.bytes[4..8].copy_from_slice(&u32::to_be_bytes(index));
        let before = pair.b.unattributed(reason);
        pair.b.receive([&bad]);
        assert_eq!(pair.b.unattributed(reason), before + 1, "{index:08x}");
    }
    assert_eq!(pair.b.take_delivered(), []);
}

#[test]
fn what_is_no_datagram_is_counted() {
    let mut pair = Pair::new();
    let now = pair.b.now;
    for bytes in [&[][..], &[0x11], &[0x11; 43], &[0xff; 44], &[0; 2000]] {
        let segment = bytes.len();
        pair.b.engine.handle_datagrams(now, UNDERLAY, Ecn::NotEct, segment, bytes, &mut pair.b.io);
    }
    pair.b.engine.handle_truncated();
    assert_eq!(pair.b.unattributed(DropReason::Header), 5);
    assert_eq!(pair.b.unattributed(DropReason::Truncated), 1);
}

#[test]
fn a_full_interface_is_counted_and_forgotten() {
    let mut pair = Pair::new();
    pair.b.io.is_full = true;
    pair.a.send(WEB, &tcp_packet(forth(4), 300).superpacket(100));
    pair.a.send(WEB, &udp_packet(forth(4), 30).complete());
    assert_eq!(pair.a_to_b(), []);
    assert_eq!(pair.b.drops(DropReason::Undeliverable), 2);
    assert_eq!(pair.b.attachments[0].received_packets.get(), 0);
}

/// A peer with the right keys that seals whatever it likes.
struct Liar {
    lane: SendLane,
    pair: Pair,
}

impl Liar {
    fn new() -> Self {
        let pair = Pair::new();
        let lane = session(pair.a.now, 0, SESSION, LINK, Limits::default()).send;
        Self { lane, pair }
    }

    fn sealed(&mut self, kind: Kind, plain: &[u8]) -> Sent {
        self.lane.prepare(self.pair.a.now, 1).unwrap();
        let mut bytes = vec![0; SendLane::datagram_len(plain.len(), 0)];
        self.lane.seal(kind, plain, &[], &mut bytes);
        Sent { way: Way::direct(endpoint(1, 0)), ecn: Ecn::NotEct, bytes }
    }

    /// What B makes of these plaintexts, sealed one after the other.
    fn say(&mut self, plains: &[Vec<u8>]) -> Vec<(AttachmentSlot, Vec<u8>)> {
        let sealed: Vec<_> = plains.iter().map(|p| self.sealed(Kind::Data, p)).collect();
        self.pair.b.receive(&sealed);
        self.pair.b.take_delivered()
    }
}

fn chunk(payload: &[u8], header: &[u8], metadata: Metadata) -> Vec<u8> {
    [payload, header, &metadata.encode()].concat()
}

/// A TCP superpacket of three chunks, as an honest peer would send it.
fn honest() -> (Packet, Vec<u8>, Metadata) {
    let packet = tcp_packet(forth(4), 250);
    let header = packet.bytes(Sum::Pseudo)[..52].to_vec();
    let virtio = VirtioHeader {
        flags: 1,
        gso_type: 1,
        hdr_len: 52,
        gso_size: 100,
        csum_start: 20,
        csum_offset: 16,
    };
    (packet, header, Metadata { virtio, chunk: 0, count: 3 })
}

#[test]
fn a_liar_who_tells_the_truth_is_heard() {
    let (packet, header, metadata) = honest();
    let plains: Vec<_> = (0..3u8)
        .map(|i| {
            let at = usize::from(i) * 100;
            let payload = &packet.payload[at..(at + 100).min(250)];
            chunk(payload, &header, Metadata { chunk: i, ..metadata })
        })
        .collect();
    assert_eq!(Liar::new().say(&plains), [(DB, packet.superpacket(100))]);
}

#[test]
fn lies_about_chunks_are_dropped() {
    let (packet, header, honest) = honest();
    let payload = &packet.payload[..100];
    let with = |change: &dyn Fn(&mut Metadata)| {
        let mut metadata = honest;
        change(&mut metadata);
        metadata
    };
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("short payload", chunk(&payload[..99], &header, honest)),
        ("long payload", chunk(&packet.payload[..101], &header, honest)),
        ("no payload", chunk(&[], &header, honest)),
        ("chunk beyond count", chunk(payload, &header, with(&|m| m.chunk = 3))),
        ("count 0", chunk(payload, &header, with(&|m| m.count = 0))),
        ("count 65", chunk(payload, &header, with(&|m| m.count = 65))),
        ("count 2", chunk(payload, &header, with(&|m| m.count = 2))),
        ("count 4", chunk(payload, &header, with(&|m| m.count = 4))),
        ("header beyond the body", chunk(payload, &header, with(&|m| m.virtio.hdr_len = 153))),
        ("header of 65,535", chunk(payload, &header, with(&|m| m.virtio.hdr_len = 0xffff))),
        ("no header", chunk(payload, &header, with(&|m| m.virtio.hdr_len = 0))),
        ("header cut", chunk(payload, &header[..51], with(&|m| m.virtio.hdr_len = 51))),
        ("UDP type", chunk(payload, &header, with(&|m| m.virtio.gso_type = 5))),
        ("IPv6 type", chunk(payload, &header, with(&|m| m.virtio.gso_type = 4))),
        ("ECN alone", chunk(payload, &header, with(&|m| m.virtio.gso_type = 0x80))),
        ("checksum on a port", chunk(payload, &header, with(&|m| m.virtio.csum_offset = 2))),
        ("checksum on an address", chunk(payload, &header, with(&|m| m.virtio.csum_start = 0))),
        ("no checksum", chunk(payload, &header, with(&|m| m.virtio.flags = 0))),
        ("segments of 0", chunk(payload, &header, with(&|m| m.virtio.gso_size = 0))),
        ("segments of 65,535", chunk(payload, &header, with(&|m| m.virtio.gso_size = 0xffff))),
        ("fewer than twelve bytes", vec![0; 11]),
        ("nothing", vec![]),
    ];
    for (name, plain) in lies {
        let mut liar = Liar::new();
        let (packet, header, metadata) = self::honest();
        let first = chunk(&packet.payload[..100], &header, metadata);
        // Alone, and in the middle of an honest superpacket.
        assert_eq!(liar.say(std::slice::from_ref(&plain)), [], "{name}");
        let second = chunk(&packet.payload[100..200], &header, Metadata { chunk: 1, ..metadata });
        let delivered = liar.say(&[first, plain, second]);
        assert_eq!(
            delivered,
            [0, 1].map(|i| (DB, packet.part(100, i, 1).unfinished())),
            "{name} between honest chunks"
        );
        assert_eq!(liar.pair.b.drops_of_all_kinds(), 2, "{name}");
    }
}

/// The header that is written is the one that was judged: a later chunk cannot bring another.
#[test]
fn a_changed_header_starts_a_packet_of_its_own_and_is_judged_anew() {
    let (packet, header, metadata) = honest();
    let first = chunk(&packet.payload[..100], &header, metadata);
    for (at, new) in [(15, 3), (19, 8), (23, 99)] {
        let mut other = header.clone();
        other[at] = new;
        let second = chunk(&packet.payload[100..200], &other, Metadata { chunk: 1, ..metadata });
        let delivered = Liar::new().say(&[first.clone(), second]);
        assert_eq!(delivered[0], (DB, packet.part(100, 0, 1).unfinished()));
        let expected = match at {
            // Another source that lives at the peer, another destination that is here, a port.
            15 | 23 => DB,
            _ => IDLE,
        };
        assert_eq!(delivered[1].0, expected);
        assert_eq!(delivered[1].1[10 + at], new);
        assert_eq!(delivered.len(), 2);
    }
    let mut foreign = header.clone();
    foreign[15] = 77;
    let second = chunk(&packet.payload[100..200], &foreign, Metadata { chunk: 1, ..metadata });
    let mut liar = Liar::new();
    assert_eq!(liar.say(&[first, second]).len(), 1);
    assert_eq!(liar.pair.b.drops(DropReason::Source), 1);
}

/// The next chunk of a run, right in everything but its length.
#[test]
fn a_chunk_that_continues_with_another_length_is_judged_by_itself() {
    for (index, len) in [(1u8, 99), (1, 101), (1, 0), (2, 49), (2, 51), (2, 100)] {
        let (packet, header, metadata) = honest();
        let part = |i: u8, len: usize| {
            let at = usize::from(i) * 100;
            let payload = [&packet.payload[at..], &[7; 100]].concat();
            chunk(&payload[..len], &header, Metadata { chunk: i, ..metadata })
        };
        let mut plains: Vec<_> = (0..index).map(|i| part(i, 100)).collect();
        plains.push(part(index, len));
        let mut liar = Liar::new();
        let honest_part = packet.part(100, 0, usize::from(index)).offloaded(100);
        assert_eq!(liar.say(&plains), [(DB, honest_part)], "chunk {index} of {len} bytes");
        assert_eq!(liar.pair.b.drops(DropReason::Length), 1);
    }
}

/// The next chunk of a run, right in everything but one field of its metadata.
#[test]
fn a_chunk_that_continues_with_a_lie_is_judged_by_itself() {
    type Lie = fn(&mut Metadata);
    let lies: [Lie; 7] = [
        |m| m.virtio.flags = 0,
        |m| m.virtio.gso_type = 4,
        |m| m.virtio.gso_size = 99,
        |m| m.virtio.csum_start = 0,
        |m| m.virtio.csum_offset = 2,
        |m| m.count = 2,
        |m| m.count = 4,
    ];
    for (i, lie) in lies.iter().enumerate() {
        let (packet, header, metadata) = honest();
        let first = chunk(&packet.payload[..100], &header, metadata);
        let mut lying = Metadata { chunk: 1, ..metadata };
        lie(&mut lying);
        let second = chunk(&packet.payload[100..200], &header, lying);
        let mut liar = Liar::new();
        let honest_part = packet.part(100, 0, 1).unfinished();
        assert_eq!(liar.say(&[first, second]), [(DB, honest_part)], "lie {i}");
        assert_eq!(liar.pair.b.drops_of_all_kinds(), 1, "lie {i}");
    }
}

#[test]
fn lies_about_whole_packets_are_dropped() {
    let packet = udp_packet(forth(4), 60);
    let plain = VirtioHeader::default();
    let sum = VirtioHeader { flags: 1, csum_start: 20, csum_offset: 6, ..plain };
    let bytes = packet.bytes(Sum::Pseudo);
    let whole = |virtio, count, bytes: &[u8]| {
        [bytes, &Metadata { virtio, chunk: 0, count }.encode()[..]].concat()
    };
    let changed = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        bytes
    };
    let lies = [
        ("two chunks", whole(sum, 2, &bytes)),
        ("header behind", whole(VirtioHeader { hdr_len: 28, ..sum }, 1, &bytes)),
        ("sum on a port", whole(VirtioHeader { csum_offset: 2, ..sum }, 1, &bytes)),
        ("sum in the payload", whole(VirtioHeader { csum_start: 28, ..sum }, 1, &bytes)),
        ("already valid", whole(VirtioHeader { flags: 2, ..plain }, 1, &bytes)),
        ("longer than it says", whole(plain, 1, &[&bytes[..], &[0]].concat())),
        ("shorter than it says", whole(plain, 1, &bytes[..87])),
        ("no IP", whole(plain, 1, &changed(0, 0x55))),
        ("UDP length", whole(sum, 1, &changed(25, 9))),
        ("fragment with a sum to make", whole(sum, 1, &changed(6, 0x20))),
        ("empty", whole(plain, 1, &[])),
    ];
    for (name, plain) in lies {
        let mut liar = Liar::new();
        assert_eq!(liar.say(&[plain]), [], "{name}");
        assert_eq!(liar.pair.b.drops_of_all_kinds(), 1, "{name}");
    }
    assert_eq!(Liar::new().say(&[whole(sum, 1, &bytes)]), [(DB, packet.unfinished())]);
    // UDP options: the UDP length is below the IP payload's.
    assert_eq!(Liar::new().say(&[whole(plain, 1, &changed(25, 40))]).len(), 1);
}

#[test]
fn unknown_control_messages_are_counted() {
    let mut liar = Liar::new();
    let mut close = Control::Close.encode().to_vec();
    close.push(0);
    let plains = [vec![], vec![1], vec![0; 12], vec![9; 12], close];
    for plain in &plains {
        let sealed = liar.sealed(Kind::Control, plain);
        liar.pair.b.receive([&sealed]);
    }
    assert_eq!(liar.pair.b.events(), [Event::Alive(SESSION)]);
    assert!(liar.pair.b.io.datagrams.is_empty());
    // Shorter than metadata is no datagram at all, whatever its kind.
    let counted =
        liar.pair.b.drops(DropReason::Control) + liar.pair.b.unattributed(DropReason::Header);
    assert_eq!(counted, 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever an authentic peer seals: no panic, and what reaches an interface is a packet
    /// between addresses that the routes allow, which a kernel can segment.
    #[test]
    fn what_a_liar_achieves_is_a_valid_packet(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        picks in proptest::collection::vec((0u8..4, 0usize..3), 1..12),
        tails in proptest::collection::vec(proptest::collection::vec(any::<u8>(), METADATA_LEN..120), 0..3),
    ) {
        let (packet, header, metadata) = honest();
        let mut plains = Vec::new();
        for (kind, i) in picks {
            let at = i * 100;
            let payload = &packet.payload[at..(at + 100).min(250)];
            let metadata = Metadata { chunk: u8::try_from(i).unwrap(), ..metadata };
            plains.push(match kind {
                0 => {
                    let mut whole = udp_packet(forth(6), 50).bytes(Sum::Pseudo);
                    let virtio = VirtioHeader { flags: 1, csum_start: 40, csum_offset: 6, ..Default::default() };
                    whole.extend(Metadata { virtio, chunk: 0, count: 1 }.encode());
                    whole
                }
                _ => chunk(payload, &header, metadata),
            });
        }
        plains.extend(tails);
        for (at, value) in changes {
            let plain = at.index(plains.len());
            let plain = &mut plains[plain];
            let at = at.index(plain.len());
            plain[at] = value;
        }
        for (slot, data) in Liar::new().say(&plains) {
            for packet in kernel_output(&data) {
                let inner = weft_wire::Inner::parse(&packet).unwrap();
                prop_assert_eq!(usize::from(inner.length), packet.len());
                prop_assert!(["10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3"].map(addr).contains(&inner.source));
                let own: [&str; 2] = if slot == DB { ["10.0.0.9", "fd00::9"] } else { ["10.0.0.8", "fd00::8"] };
                prop_assert!(own.map(addr).contains(&inner.destination));
            }
        }
    }
}
