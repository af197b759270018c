//! A path that is slower than the containers.

use super::*;

fn numbered(port: u16, number: u8) -> Vec<u8> {
    let mut flow = forth(4);
    flow.ports.0 = port;
    let mut packet = udp_packet(flow, 100);
    packet.payload[0] = number;
    packet.complete()
}

#[test]
fn packets_wait_for_room_and_go_in_the_order_of_their_flow() {
    let mut pair = Pair::new();
    pair.a.tick(Duration::ZERO);
    pair.a.io.is_congested = true;
    let packets: Vec<_> = (0..20).map(|number| numbered(1, number)).collect();
    for packet in &packets[..10] {
        pair.a.send(WEB, packet);
    }
    assert!(pair.a.io.datagrams.is_empty());
    let wake = pair.a.engine.poll_timeout().unwrap();
    assert!(wake > pair.a.now && wake <= pair.a.now + Duration::from_millis(1));
    // There is room again, but who comes now does not pass who has waited.
    pair.a.io.is_congested = false;
    for packet in &packets[10..] {
        pair.a.send(WEB, packet);
    }
    assert!(pair.a.io.datagrams.is_empty());
    pair.a.tick(Duration::ZERO);
    let want: Vec<_> = packets.iter().map(|packet| (DB, packet.clone())).collect();
    assert_eq!(pair.a_to_b(), want);
    assert_eq!(pair.a.attachments[0].sent_packets.get(), 20, "each is counted once");
    pair.a.send(WEB, &packets[0]);
    assert_eq!(pair.a.io.datagrams.len(), 1, "nothing waits when there is room");
}

#[test]
fn a_flow_that_asks_for_little_goes_first() {
    let mut pair = Pair::new();
    pair.a.io.is_congested = true;
    for _ in 0..10 {
        pair.a.send(WEB, &tcp_packet(forth(4), 50_000).superpacket(1_000));
    }
    let little = numbered(7, 1);
    pair.a.send(WEB, &little);
    pair.a.io.is_congested = false;
    pair.a.tick(Duration::ZERO);
    let place = pair.a_to_b().iter().position(|(_, packet)| *packet == little);
    assert_eq!(place, Some(1), "behind what a new flow may send");
}

#[test]
fn what_goes_nowhere_else_does_not_wait() {
    let mut pair = Pair::new();
    pair.a.io.is_congested = true;
    let mut neighbour = forth(4);
    neighbour.destination = addr("10.0.0.3");
    pair.a.send(WEB, &udp_packet(neighbour, 100).complete());
    assert_eq!(pair.a.take_delivered().len(), 1);
}

#[test]
fn the_flow_that_asks_for_most_loses_and_the_loss_is_counted() {
    let mut pair = Pair::new();
    pair.a.io.is_congested = true;
    pair.a.send(WEB, &numbered(7, 1));
    for _ in 0..100 {
        pair.a.send(WEB, &tcp_packet(forth(4), 60_000).superpacket(1_000));
    }
    let lost = pair.a.drops(DropReason::Congestion);
    // 4 MiB hold 69 of them.
    assert!((30..=32).contains(&lost), "{lost}");
    pair.a.io.is_congested = false;
    pair.a.tick(Duration::ZERO);
    let arrived = pair.a_to_b();
    assert_eq!(arrived.len() as u64, 101 - lost);
    assert!(arrived.contains(&(DB, numbered(7, 1))));
}

#[test]
fn packets_of_an_attachment_that_is_gone_are_gone() {
    let mut pair = Pair::new();
    pair.a.io.is_congested = true;
    pair.a.send(WEB, &numbered(1, 1));
    pair.a.engine.remove_attachment(WEB);
    assert_eq!(pair.a.drops(DropReason::Congestion), 1);
    pair.a.io.is_congested = false;
    pair.a.tick(Duration::from_secs(1));
    assert!(pair.a.io.datagrams.is_empty());
    let next = pair.a.engine.poll_timeout();
    assert!(next.is_none_or(|at| at > pair.a.now), "nobody looks for room that nobody needs");
}
