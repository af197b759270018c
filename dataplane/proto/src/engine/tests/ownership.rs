//! Who may send what to whom: source and destination, both ways, and environments apart.

use super::*;

/// Replaces B's routes of environment 0.
fn route(side: &mut Side, routes: &[(&str, Target)]) {
    let table = routes.iter().map(|(a, t)| (addr(a), *t)).collect();
    side.engine.set_routes(ENV, Arc::new(table));
}

#[test]
fn a_container_sends_from_its_own_addresses_only() {
    let mut pair = Pair::new();
    for source in ["10.0.0.3", "10.0.0.9", "10.0.0.1", "127.0.0.1", "0.0.0.0"] {
        pair.a.send(WEB, &udp_packet(flow(source, "10.0.0.9"), 10).unfinished());
        pair.a.send(WEB, &tcp_packet(flow(source, "10.0.0.9"), 300).superpacket(100));
        pair.a.send(WEB, &udp_packet(flow(source, "10.0.0.3"), 10).unfinished());
    }
    for source in ["fd00::3", "fd00::9", "fe80::1", "::", "::ffff:10.0.0.2"] {
        pair.a.send(WEB, &udp_packet(flow(source, "fd00::9"), 10).unfinished());
    }
    assert!(pair.a.io.datagrams.is_empty() && pair.a.io.delivered.is_empty());
    assert_eq!(pair.a.drops(DropReason::Source), 5 * 3 + 5);
    assert_eq!(pair.a.attachments[0].sent_packets.get(), 0);
}

#[test]
fn a_peer_sends_from_addresses_that_live_there_only() {
    let mut pair = Pair::new();
    // A believes it owns 10.0.0.2 and may use it; B no longer does.
    let local = [("10.0.0.9", Target::Local(DB)), ("fd00::9", Target::Local(DB))];
    route(&mut pair.b, &local);
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    pair.a.send(WEB, &udp_packet(forth(6), 10).complete());
    pair.a.send(WEB, &tcp_packet(forth(4), 300).superpacket(100));
    assert_eq!(pair.a_to_b(), []);
    // Each chunk is judged when no run is open.
    assert_eq!(pair.b.drops(DropReason::Source), 2 + 3);
    // A source that is attached here is not the peer's either.
    let mut both = local.to_vec();
    both.push(("10.0.0.2", Target::Local(IDLE)));
    route(&mut pair.b, &both);
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    assert_eq!(pair.a_to_b(), []);
    // Nor is one that lives at another peer.
    both[2].1 = Target::Remote(LinkSlot(1));
    route(&mut pair.b, &both);
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    assert_eq!(pair.a_to_b(), []);
    assert_eq!(pair.b.drops(DropReason::Source), 7);
    both[2].1 = Target::Remote(LINK);
    route(&mut pair.b, &both);
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    assert_eq!(pair.a_to_b().len(), 1);
}

#[test]
fn a_peer_reaches_what_is_attached_here_and_no_other_peer() {
    let mut pair = Pair::new();
    let packet = udp_packet(forth(4), 10).unfinished();
    let owner = ("10.0.0.2", Target::Remote(LINK));
    for there in [
        vec![],
        vec![("10.0.0.9", Target::Remote(LINK))],
        vec![("10.0.0.9", Target::Remote(LinkSlot(1)))],
        vec![("10.0.0.9", Target::Local(AttachmentSlot(77)))],
        // A route into another environment is a mistake that must not pay.
        vec![("10.0.0.9", Target::Local(OTHER))],
    ] {
        route(&mut pair.b, &[vec![owner], there].concat());
        pair.a.send(WEB, &packet);
        assert_eq!(pair.a_to_b(), []);
    }
    assert_eq!(pair.b.drops(DropReason::Destination), 5);
    assert!(pair.b.io.datagrams.is_empty(), "nothing is answered or forwarded");
}

#[test]
fn a_route_into_another_environment_is_no_route() {
    let mut pair = Pair::new();
    route(&mut pair.a, &[("10.0.0.9", Target::Local(OTHER))]);
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    assert!(pair.a.io.delivered.is_empty() && pair.a.io.datagrams.is_empty());
    assert_eq!(pair.a.drops(DropReason::NoRoute), 1);
}

#[test]
fn environments_with_the_same_addresses_never_meet() {
    let mut pair = Pair::new();
    for version in [4, 6] {
        let zero = tcp_packet(forth(version), 350).superpacket(100);
        let mut one = tcp_packet(forth(version), 350);
        one.payload.fill(1);
        let one = one.superpacket(100);
        pair.a.send(WEB, &zero);
        pair.a.send(OTHER, &one);
        // Interleaved, as two lanes arrive.
        let mut sent = pair.a.take_sent();
        sent.sort_by_key(|d| header(d).counter);
        pair.b.receive(&sent);
        let delivered = pair.b.take_delivered();
        for (slot, data) in &delivered {
            assert_eq!(*slot == OTHER, data[80..].iter().all(|b| *b == 1));
        }
        let total: usize = delivered.iter().map(|(_, d)| d.len()).sum();
        assert!(total > 2 * 350);
        pair.a.send(WEB, &zero);
        pair.a.send(OTHER, &one);
        assert_eq!(pair.a_to_b(), [(DB, zero), (OTHER, one)]);
    }
    assert_eq!(pair.b.drops_of_all_kinds(), 0);
}

/// The other environment's index on a datagram of this one: another key, so nothing opens.
#[test]
fn an_index_of_another_environment_opens_nothing() {
    let mut pair = Pair::new();
    let mut sent = Vec::new();
    for _ in 0..100 {
        pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
        sent.extend(pair.a.take_sent());
    }
    for datagram in &mut sent {
        datagram.bytes[4..8].copy_from_slice(&index(1, OTHER_SESSION).0.to_be_bytes());
    }
    pair.b.receive(&sent);
    assert_eq!(pair.b.take_delivered(), []);
    let other = &pair.b.counters[1];
    assert_eq!(other.drops[DropReason::Authentication as usize].get(), 100);
}

#[test]
fn a_datagram_reflected_to_its_sender_opens_nothing() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    let sent = pair.a.take_sent();
    pair.a.receive(&sent);
    let mut to_own_index = sent.clone();
    to_own_index[0].bytes[4..8].copy_from_slice(&index(0, SESSION).0.to_be_bytes());
    pair.a.receive(&to_own_index);
    assert_eq!(pair.a.take_delivered(), []);
    assert_eq!(pair.a.unattributed(DropReason::UnknownSession), 1);
    assert_eq!(pair.a.drops(DropReason::Authentication), 1);
}

#[test]
fn groups_and_broadcast_go_nowhere() {
    let mut pair = Pair::new();
    for (source, destination) in [
        ("10.0.0.2", "224.0.0.1"),
        ("10.0.0.2", "255.255.255.255"),
        ("10.0.0.2", "0.0.0.0"),
        ("fd00::2", "ff02::1"),
        ("fd00::2", "::"),
    ] {
        pair.a.send(WEB, &udp_packet(flow(source, destination), 10).unfinished());
    }
    assert!(pair.a.io.datagrams.is_empty() && pair.a.io.delivered.is_empty());
    assert_eq!(pair.a.drops(DropReason::Group), 5);
}

#[test]
fn what_is_removed_is_gone() {
    let mut pair = Pair::new();
    let packet = udp_packet(forth(4), 10).unfinished();
    pair.a.send(WEB, &packet);
    pair.b.engine.remove_attachment(DB);
    assert_eq!(pair.a_to_b(), []);
    assert_eq!(pair.b.drops(DropReason::Destination), 1);
    pair.a.engine.remove_attachment(WEB);
    pair.a.send(WEB, &packet);
    assert!(pair.a.io.datagrams.is_empty());
    let mut pair = Pair::new();
    pair.a.engine.remove_environment(ENV);
    pair.a.send(WEB, &packet);
    pair.a.send(OTHER, &packet);
    assert_eq!(pair.a_to_b(), [(OTHER, packet)]);
}

/// A slot that is used again belongs to somebody else: nothing of its former owner is his.
#[test]
fn nothing_is_left_in_a_slot_for_its_next_owner() {
    let newcomer = || NewAttachment {
        environment: OTHER_ENV,
        addresses: vec![addr("10.0.0.2")],
        uso: true,
        share: Share::default(),
        counters: Arc::default(),
    };
    // A packet that waits for a session of environment 0 …
    let mut pair = Pair::without_sessions();
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    // … while its attachment goes and another environment's takes the slot.
    pair.a.engine.remove_attachment(WEB);
    pair.a.engine.add_attachment(WEB, newcomer());
    for (link, id) in [(LINK, SESSION), (LinkSlot(1), OTHER_SESSION)] {
        pair.install(id, link, Limits::default());
        pair.a.engine.activate(pair.a.now, id, &mut pair.a.io);
    }
    assert_eq!(pair.a_to_b(), []);

    // A run that is open when its attachment goes.
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
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
    pair.b.engine.remove_attachment(DB);
    pair.b.engine.add_attachment(DB, newcomer());
    pair.b.engine.finish_receive(&mut pair.b.io);
    assert_eq!(pair.b.take_delivered(), []);
}
