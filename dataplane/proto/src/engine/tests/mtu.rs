//! What the path between two hosts carries, asked for by probes.

use weft_wire::{Control, Kind};

use super::*;

/// Longer than what every path carries.
const LONG: usize = 1_300;

/// Lets all that A sends, and B's answers, arrive if they are no longer than `carried`, for so long.
/// Gives the lengths of A's probes.
fn pass(pair: &mut Pair, time: Duration, carried: usize) -> Vec<usize> {
    const STEP: Duration = Duration::from_millis(10);
    let mut probes = Vec::new();
    let end = pair.a.now + time;
    while pair.a.now < end {
        pair.a.tick(Duration::ZERO);
        let sent = pair.a.take_sent();
        let is_probe = |sent: &&Sent| header(sent).kind == Kind::Control;
        probes.extend(sent.iter().filter(is_probe).map(|sent| sent.bytes.len()));
        pair.b.receive(sent.iter().filter(|sent| sent.bytes.len() <= carried));
        let answers = pair.b.take_sent();
        pair.a.receive(&answers);
        pair.advance(STEP);
    }
    probes
}

#[test]
fn a_probe_is_as_long_as_what_it_asks_for_and_its_answer_is_short() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), LONG).complete());
    pair.a.take_sent();
    pair.a.tick(Duration::ZERO);
    let probe = pair.a.take_sent();
    assert_eq!(probe.len(), 1);
    assert_eq!((header(&probe[0]).kind, probe[0].bytes.len()), (Kind::Control, 1_472));
    pair.b.receive(&probe);
    let answer = pair.b.take_sent();
    assert_eq!((answer.len(), answer[0].bytes.len()), (1, 44));
    assert_eq!(pair.b.take_delivered(), []);
    pair.a.receive(&answer);
    assert!(pass(&mut pair, Duration::from_secs(5), 1_472).is_empty(), "nothing more is sent");
}

#[test]
fn nothing_is_asked_while_nothing_long_is_sent() {
    let mut pair = Pair::new();
    for _ in 0..5 {
        pair.a.send(WEB, &udp_packet(forth(4), 1_000).complete());
        assert!(pass(&mut pair, Duration::from_secs(2), 0).is_empty());
    }
}

#[test]
fn what_the_path_swallows_is_no_longer_sent_and_the_container_is_told() {
    let mut pair = Pair::new();
    let packet = udp_packet(forth(4), LONG).complete();
    pair.a.send(WEB, &packet);
    let probes = pass(&mut pair, Duration::from_secs(30), 1_332);
    assert!(probes.iter().all(|len| (1_200..=1_472).contains(len)), "{probes:?}");
    let found = pair.a.links[0].datagram_max.get();
    assert!((1_325..=1_332).contains(&found), "{found}");
    pair.a.take_delivered();
    pair.a.send(WEB, &packet);
    assert!(pair.a.take_sent().is_empty());
    assert_eq!(pair.a.drops(DropReason::TooBig), 1);
    let told = pair.a.take_delivered();
    let inner = weft_wire::Inner::parse(&told[0].1[10..]).unwrap();
    let icmp = &told[0].1[10 + usize::from(inner.transport)..];
    // 44 bytes are the tunnel's own.
    assert_eq!(icmp[6..8], u16::try_from(found - 44).unwrap().to_be_bytes());
    // Another path is another matter.
    pair.a.engine.set_way(pair.a.now, LINK, Way::direct(endpoint(9, 0)));
    pair.a.send(WEB, &packet);
    assert_eq!(pair.a.take_sent().len(), 1);
}

#[test]
fn a_session_takes_over_what_is_known_of_the_path() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), LONG).complete());
    pass(&mut pair, Duration::from_secs(30), 1_332);
    let found = pair.a.links[0].datagram_max.get();
    let next = SessionId(3);
    pair.install(next, LINK, Limits::default());
    pair.a.engine.activate(pair.a.now, next, &mut pair.a.io);
    assert_eq!(pair.a.links[0].datagram_max.get(), found);
}

#[test]
fn an_answer_counts_on_the_session_in_use_only() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), LONG).complete());
    pair.a.take_sent();
    let now = pair.b.now;
    for made_up in [0, 1_200, 1_400, u16::MAX] {
        pair.b.engine.send_control(now, SESSION, Control::Arrived(made_up), &mut pair.b.io);
    }
    let made_up = pair.b.take_sent();
    pair.a.receive(&made_up);
    assert_eq!(pair.a.links[0].datagram_max.get(), 1_472);
}
