//! Congestion marks end to end (RFC 6040): copied out, joined in, per run.

use super::*;

const BITS: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

#[test]
fn the_inner_mark_is_copied_out() {
    for version in [4, 6] {
        for ecn in BITS {
            let mut pair = Pair::new();
            let mut packet = tcp_packet(forth(version), 300);
            packet.ecn = ecn as u8;
            pair.a.send(WEB, &packet.superpacket(100));
            pair.a.send(WEB, &packet.unfinished());
            let sent = pair.a.take_sent();
            assert_eq!(sent.len(), 4);
            assert!(sent.iter().all(|d| d.ecn == ecn), "{ecn:?}");
        }
    }
}

/// RFC 6040 figure 4, by hand.
fn joined(inner: Ecn, outer: Ecn) -> Option<u8> {
    match (inner as u8, outer as u8) {
        (0, 3) => None,
        (0, _) => Some(0),
        (3, _) | (_, 3) => Some(3),
        (_, 1) => Some(1),
        (inner, _) => Some(inner),
    }
}

#[test]
fn every_pair_of_marks_for_every_kind_of_packet() {
    for version in [4, 6] {
        for inner in BITS {
            for outer in BITS {
                let mut pair = Pair::new();
                let mut tcp = tcp_packet(forth(version), 250);
                let mut udp = udp_packet(forth(version), 60);
                let mut echo = Packet::new(forth(version), Transport::Echo, bytes(30));
                (tcp.ecn, udp.ecn, echo.ecn) = (inner as u8, inner as u8, inner as u8);
                pair.a.send(WEB, &tcp.superpacket(100));
                pair.a.send(WEB, &udp.unfinished());
                pair.a.send(WEB, &echo.complete());
                let mut sent = pair.a.take_sent();
                for datagram in &mut sent {
                    datagram.ecn = outer;
                }
                pair.b.receive(&sent);
                let delivered = pair.b.take_delivered();
                let Some(ecn) = joined(inner, outer) else {
                    assert_eq!(delivered, []);
                    assert_eq!(pair.b.drops(DropReason::Ecn), 3);
                    continue;
                };
                (tcp.ecn, udp.ecn, echo.ecn) = (ecn, ecn, ecn);
                let want = [tcp.superpacket(100), udp.unfinished(), echo.complete()];
                let want = want.map(|data| (DB, data));
                assert_eq!(delivered, want, "version {version}, {inner:?} in {outer:?}");
            }
        }
    }
}

#[test]
fn a_mark_in_the_middle_marks_its_own_segments_only() {
    let mut pair = Pair::new();
    let mut whole = tcp_packet(forth(4), 600);
    whole.ecn = Ecn::Ect0 as u8;
    pair.a.send(WEB, &whole.superpacket(100));
    let mut sent = pair.a.take_sent();
    sent[2].ecn = Ecn::Ce;
    sent[3].ecn = Ecn::Ce;
    pair.b.receive(&sent);
    let mut parts = [whole.part(100, 0, 2), whole.part(100, 2, 2), whole.part(100, 4, 2)];
    parts[1].ecn = Ecn::Ce as u8;
    assert_eq!(pair.b.take_delivered(), parts.map(|p| (DB, p.offloaded(100))));
}

#[test]
fn control_messages_are_not_ect() {
    let mut pair = Pair::without_sessions();
    pair.install(SESSION, LINK, Limits::default());
    pair.a.tick(Duration::ZERO);
    assert_eq!(pair.a.take_sent()[0].ecn, Ecn::NotEct);
}
