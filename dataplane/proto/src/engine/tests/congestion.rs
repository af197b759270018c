//! A path that is slower than the containers.

use super::*;
use crate::{Pace, Weight};
use weft_wire::VIRTIO_HEADER_LEN;

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

/// A limit of 8 Mbit/s that begins now.
fn slow(host: &Side) -> Share {
    Share { weight: Weight::default(), pace: Some(Arc::new(Pace::new(host.now, 8_000_000))) }
}

/// Sends 20 packets of 1,000 bytes from each of `senders` and says how many left at once.
fn send_twenty(pair: &mut Pair, senders: &[AttachmentSlot]) -> usize {
    for number in 0..20 {
        for sender in senders {
            let mut flow = forth(4);
            if *sender == APP {
                (flow.source, flow.destination) = (addr("10.0.0.3"), addr("10.0.0.9"));
            }
            let mut packet = udp_packet(flow, 1_000 - 28);
            packet.payload[0] = number;
            pair.a.send(*sender, &packet.complete());
        }
    }
    pair.a.io.datagrams.len()
}

/// Lets time pass until nothing waits any more, and says how long that took.
fn wait_for_all(pair: &mut Pair, count: usize) -> Duration {
    let start = pair.a.now;
    while pair.a.io.datagrams.len() < count {
        let at = pair.a.engine.poll_timeout().unwrap();
        assert!(at < start + Duration::from_secs(1), "something is forgotten");
        let step = at.saturating_duration_since(pair.a.now);
        pair.a.tick(step);
    }
    pair.a.now - start
}

#[test]
fn an_environment_sends_no_more_than_it_may_and_nothing_is_lost() {
    let mut pair = Pair::new();
    pair.a.tick(Duration::ZERO);
    let share = slow(&pair.a);
    pair.a.engine.set_environment_share(ENV, share);
    // 5 ms of 1 MB/s at once, with the packet that goes beyond.
    assert_eq!(send_twenty(&mut pair, &[WEB]), 6);
    let took = wait_for_all(&mut pair, 20);
    assert!((13..=15).contains(&took.as_millis()), "{took:?}");
    let numbers: Vec<_> =
        pair.a_to_b().iter().map(|(_, packet)| packet[VIRTIO_HEADER_LEN + 28]).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<u8>>());
    assert_eq!(pair.a.attachments[0].sent_packets.get(), 20, "each is counted once");
}

#[test]
fn containers_of_one_environment_share_its_limit() {
    let mut pair = Pair::new();
    pair.a.tick(Duration::ZERO);
    let share = slow(&pair.a);
    pair.a.engine.set_environment_share(ENV, share);
    assert_eq!(send_twenty(&mut pair, &[WEB, APP]), 6);
    let took = wait_for_all(&mut pair, 40);
    assert!((33..=35).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn a_limit_of_an_attachment_is_its_own() {
    let mut pair = Pair::new();
    pair.a.tick(Duration::ZERO);
    let share = slow(&pair.a);
    pair.a.engine.set_attachment_share(WEB, share);
    assert_eq!(send_twenty(&mut pair, &[WEB, APP]), 26);
    wait_for_all(&mut pair, 40);
    pair.a.engine.set_attachment_share(WEB, Share::default());
    assert_eq!(send_twenty(&mut pair, &[WEB]), 60, "a limit that is lifted is none");
}

#[test]
fn what_stays_on_this_host_has_no_limit() {
    let mut pair = Pair::new();
    let share = slow(&pair.a);
    pair.a.engine.set_environment_share(ENV, share);
    let mut neighbour = forth(4);
    neighbour.destination = addr("10.0.0.3");
    for _ in 0..20 {
        pair.a.send(WEB, &udp_packet(neighbour, 1_000).complete());
    }
    assert_eq!(pair.a.take_delivered().len(), 20);
}

#[test]
fn of_environments_that_ask_for_all_each_gets_its_weight() {
    let mut pair = Pair::new();
    pair.a.tick(Duration::ZERO);
    let heavy = Share { weight: Weight::new(300), pace: None };
    pair.a.engine.set_environment_share(OTHER_ENV, heavy);
    pair.a.io.is_congested = true;
    let packet = tcp_packet(forth(4), 20_000).superpacket(1_000);
    for _ in 0..80 {
        pair.a.send(WEB, &packet);
        pair.a.send(OTHER, &packet);
    }
    pair.a.io.room = Some(800);
    pair.a.io.is_congested = false;
    pair.a.tick(Duration::ZERO);
    let sent = |link: usize| pair.a.links[link].sent_datagrams.get();
    let ratio = sent(1) as f64 / sent(0) as f64;
    assert!((2.4..3.6).contains(&ratio), "{} and {}", sent(0), sent(1));
}
