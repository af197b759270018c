//! What goes to an environment's gateway address, and what comes from it.

use weft_sim::packet::{Sum, kernel_output};

use super::*;

/// From `web` on A to its environment's gateway.
fn to_gateway(version: u8) -> Flow {
    let mut flow = forth(version);
    flow.destination = addr(if version == 4 { "10.0.0.1" } else { "fd00::1" });
    flow.ports.1 = 53;
    flow
}

/// An answer of the gateway to whoever has `destination`.
fn answer(destination: &str) -> Vec<u8> {
    let source = if destination.contains(':') { "fd00::1" } else { "10.0.0.1" };
    udp_packet(flow(source, destination), 80).bytes(Sum::Full)
}

fn asked(side: &mut Side) -> Vec<(EnvironmentSlot, Vec<u8>)> {
    std::mem::take(&mut side.io.asked)
}

impl Side {
    fn answer(&mut self, environment: EnvironmentSlot, packet: &[u8]) {
        self.engine.handle_gateway_packet(environment, &mut packet.to_vec(), &mut self.io);
    }
}

#[test]
fn what_is_sent_to_the_gateway_is_handed_out_whole() {
    let mut pair = Pair::new();
    for version in [4, 6] {
        let to = to_gateway(version);
        let odd = |transport| Packet::new(to, transport, bytes(33));
        let tcp = Transport::Tcp { sequence: 1, flags: tcp::ACK, options: 12 };
        for packet in [odd(Transport::Udp), odd(tcp), odd(Transport::Echo)] {
            let whole = packet.bytes(Sum::Full);
            pair.a.send(WEB, &packet.complete());
            if packet.transport != Transport::Echo {
                pair.a.send(WEB, &packet.unfinished());
                assert_eq!(asked(&mut pair.a), [(ENV, whole.clone()), (ENV, whole)]);
            } else {
                assert_eq!(asked(&mut pair.a), [(ENV, whole)]);
            }
        }
    }
    assert!(pair.a.io.datagrams.is_empty() && pair.a.io.delivered.is_empty());
    assert_eq!(pair.a.drops_of_all_kinds(), 0);
    assert_eq!(pair.a.attachments[0].sent_packets.get(), 2 * 5);
}

#[test]
fn a_superpacket_comes_to_the_gateway_in_its_packets() {
    let mut pair = Pair::new();
    for version in [4, 6] {
        for packet in [
            udp_packet(to_gateway(version), 350).superpacket(100),
            tcp_packet(to_gateway(version), 350).superpacket(100),
        ] {
            pair.a.send(WEB, &packet);
            let segments: Vec<_> = kernel_output(&packet).into_iter().map(|p| (ENV, p)).collect();
            assert_eq!(segments.len(), 4);
            assert_eq!(asked(&mut pair.a), segments);
        }
    }
}

#[test]
fn each_environment_has_a_gateway_of_its_own() {
    let mut pair = Pair::new();
    let packet = udp_packet(to_gateway(4), 20);
    pair.a.send(OTHER, &packet.unfinished());
    pair.a.send(WEB, &packet.unfinished());
    let whole = packet.bytes(Sum::Full);
    assert_eq!(asked(&mut pair.a), [(OTHER_ENV, whole.clone()), (ENV, whole)]);
    // Nobody asks under another's address.
    let mut forged = packet;
    forged.flow.source = addr("10.0.0.3");
    pair.a.send(WEB, &forged.unfinished());
    assert_eq!(asked(&mut pair.a), []);
    assert_eq!(pair.a.drops(DropReason::Source), 1);
}

#[test]
fn a_gateway_answers_no_other_host() {
    let mut pair = Pair::new();
    // A believes that the address is a container's on B.
    for version in [4, 6] {
        let to = to_gateway(version);
        let routes = [(to.source, Target::Local(WEB)), (to.destination, Target::Remote(LINK))];
        pair.a.engine.set_routes(ENV, Arc::new(routes.into_iter().collect()));
        pair.a.send(WEB, &udp_packet(to, 20).unfinished());
        pair.a.send(WEB, &udp_packet(to, 350).superpacket(100));
        assert_eq!(pair.a_to_b(), []);
    }
    assert_eq!(asked(&mut pair.b), []);
    assert_eq!(pair.b.drops(DropReason::Destination), 2 * (1 + 4));
    assert!(pair.b.io.datagrams.is_empty());
}

#[test]
fn what_the_gateway_does_not_take_is_counted() {
    let mut pair = Pair::new();
    pair.a.io.asked_max = Some(3);
    pair.a.send(WEB, &udp_packet(to_gateway(4), 500).superpacket(100));
    pair.a.send(WEB, &udp_packet(to_gateway(4), 100).unfinished());
    assert_eq!(asked(&mut pair.a).len(), 3);
    assert_eq!(pair.a.drops(DropReason::GatewayBusy), 3);
    pair.a.io.asked_max = None;
    // The longest packet that is taken, and one byte more.
    let fits = GATEWAY_PACKET_LEN_MAX - 28;
    for len in [fits, fits + 1] {
        pair.a.send(WEB, &udp_packet(to_gateway(4), len).unfinished());
    }
    assert_eq!(asked(&mut pair.a).len(), 1);
    assert_eq!(pair.a.drops(DropReason::TooBig), 1);
    assert_eq!(pair.a.take_delivered(), [], "nobody is told");
}

#[test]
fn a_flood_to_the_gateway_is_cut_off_for_each_attachment() {
    let mut pair = Pair::new();
    let one = udp_packet(to_gateway(4), 30);
    let mut other = one.clone();
    other.flow.source = addr("10.0.0.3");
    let mut taken = |after: Duration, packet: &Packet, from| {
        pair.advance(after);
        for _ in 0..1_000 {
            pair.a.send(from, &packet.unfinished());
        }
        asked(&mut pair.a).len()
    };
    assert_eq!(taken(Duration::ZERO, &one, WEB), 256);
    assert_eq!(taken(Duration::ZERO, &other, APP), 256, "its neighbour has its own");
    assert_eq!(taken(Duration::from_millis(50), &one, WEB), 100);
    // Nothing else of the container is slower for it.
    pair.a.send(WEB, &udp_packet(forth(4), 10).unfinished());
    assert_eq!(pair.a_to_b().len(), 1);
    assert_eq!(pair.a.drops(DropReason::GatewayBusy), 744 + 744 + 900);
}

#[test]
fn without_a_gateway_the_address_is_nobody_s() {
    let mut pair = Pair::new();
    let new = NewEnvironment {
        gateway: None,
        gateway6: Some(addr("fd00::1")),
        share: Share::default(),
        counters: pair.a.counters[0].clone(),
    };
    pair.a.engine.add_environment(ENV, new);
    pair.a.send(WEB, &udp_packet(to_gateway(4), 10).unfinished());
    pair.a.send(WEB, &udp_packet(to_gateway(6), 10).unfinished());
    assert_eq!(asked(&mut pair.a).len(), 1);
    assert_eq!(pair.a.drops(DropReason::NoRoute), 1);
}

#[test]
fn an_answer_comes_to_whom_its_address_belongs() {
    let mut pair = Pair::new();
    for (to, slot) in [("10.0.0.2", WEB), ("fd00::3", APP)] {
        let packet = answer(to);
        pair.a.answer(ENV, &packet);
        assert_eq!(pair.a.take_delivered(), [(slot, [&[0; 10][..], &packet].concat())]);
    }
    pair.a.answer(OTHER_ENV, &answer("10.0.0.2"));
    assert_eq!(pair.a.take_delivered()[0].0, OTHER, "the same address, another environment");
    assert_eq!(pair.a.drops_of_all_kinds(), 0);
    assert_eq!(pair.a.attachments[0].received_packets.get(), 1);
    pair.a.io.is_full = true;
    pair.a.answer(ENV, &answer("10.0.0.2"));
    assert_eq!(pair.a.drops(DropReason::Undeliverable), 1);
}

#[test]
fn an_answer_goes_to_no_foreign_attachment() {
    let mut pair = Pair::new();
    // On the other host, nobody's, and one that only the other environment has.
    for to in ["10.0.0.9", "10.0.0.77", "fd00::9"] {
        pair.a.answer(ENV, &answer(to));
    }
    pair.a.answer(OTHER_ENV, &answer("10.0.0.3"));
    // Routes that are wrong must not pay: into another environment, to one that has another address.
    for slot in [OTHER, APP, AttachmentSlot(77)] {
        let routes = [(addr("10.0.0.2"), Target::Local(slot))];
        pair.a.engine.set_routes(ENV, Arc::new(routes.into_iter().collect()));
        pair.a.answer(ENV, &answer("10.0.0.2"));
    }
    pair.a.answer(EnvironmentSlot(77), &answer("10.0.0.2"));
    assert_eq!(pair.a.take_delivered(), []);
    assert!(pair.a.io.datagrams.is_empty(), "nothing leaves the host");
    let there = &pair.a.counters[1].drops[DropReason::NoRoute as usize];
    assert_eq!((pair.a.drops(DropReason::NoRoute), there.get()), (6, 1));
}

#[test]
fn only_the_gateway_speaks_for_the_gateway() {
    let mut pair = Pair::new();
    pair.a.answer(ENV, &udp_packet(flow("10.0.0.3", "10.0.0.2"), 8).bytes(Sum::Full));
    assert_eq!(pair.a.drops(DropReason::Source), 1);
    let whole = answer("10.0.0.2");
    pair.a.answer(ENV, &whole[..whole.len() - 1]);
    pair.a.answer(ENV, &[]);
    assert_eq!((pair.a.drops(DropReason::Length), pair.a.drops(DropReason::Malformed)), (1, 1));
    assert_eq!(pair.a.take_delivered(), []);
}
