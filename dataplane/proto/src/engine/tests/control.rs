//! Control messages, epochs and the ends of sessions.

use super::*;
use crate::way::Via;
use weft_types::Epoch;
use weft_wire::Control;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn installed() -> Pair {
    let mut pair = Pair::without_sessions();
    pair.install(SESSION, LINK, Limits::default());
    pair
}

#[test]
fn confirm_is_answered_and_then_no_longer_sent() {
    let mut pair = installed();
    pair.a.tick(Duration::ZERO);
    pair.b.tick(Duration::ZERO);
    assert!(pair.b.io.datagrams.is_empty(), "only the TLS client confirms");
    let confirm = pair.a.take_sent();
    assert_eq!(confirm.len(), 1);
    assert_eq!(confirm[0].bytes.len(), 44);
    pair.b.receive(&confirm);
    assert_eq!(pair.b.events(), [Event::Alive(SESSION)]);
    let confirmed = pair.b.take_sent();
    assert_eq!(confirmed.len(), 1);
    pair.a.receive(&confirmed);
    assert_eq!(pair.a.events(), [Event::Alive(SESSION)]);
    for _ in 0..20 {
        pair.a.tick(ms(1000));
        pair.b.tick(ms(1000));
    }
    assert!(pair.a.io.datagrams.is_empty() && pair.b.io.datagrams.is_empty());
    // Neither is said twice.
    pair.a.engine.activate(pair.a.now, SESSION, &mut pair.a.io);
    pair.a.send(WEB, &udp_packet(forth(4), 10).complete());
    pair.a_to_b();
    assert_eq!(pair.b.events(), []);
}

#[test]
fn a_new_way_is_asked_for_a_confirmation_at_once() {
    let mut pair = installed();
    while pair.a.now < pair.b.now + ms(1000) {
        pair.a.tick(ms(10));
    }
    pair.a.take_sent();
    pair.a.tick(Duration::ZERO);
    assert!(pair.a.io.datagrams.is_empty());
    let way = Way { to: endpoint(1, 0), via: Via::Stream(LINK) };
    pair.a.engine.set_way(pair.a.now, LINK, way);
    pair.a.tick(Duration::ZERO);
    let sent = pair.a.take_sent();
    assert_eq!((sent.len(), sent[0].way), (1, way));
}

#[test]
fn confirm_is_repeated_ever_more_slowly() {
    let mut pair = installed();
    let start = pair.a.now;
    let mut times = Vec::new();
    while pair.a.now < start + ms(20_000) {
        pair.a.tick(Duration::ZERO);
        if !pair.a.take_sent().is_empty() {
            times.push((pair.a.now - start).as_millis());
        }
        let next = pair.a.engine.poll_timeout().unwrap();
        assert!(next > pair.a.now, "no busy loop");
        pair.a.now = next;
    }
    assert_eq!(times, [0, 20, 60, 140, 300, 620, 1260, 2540, 5100, 10100, 15100]);
    pair.a.engine.activate(pair.a.now, SESSION, &mut pair.a.io);
    pair.a.tick(ms(20_000));
    assert!(pair.a.io.datagrams.is_empty(), "an active session has been confirmed");
}

#[test]
fn control_does_not_end_a_run() {
    let mut pair = Pair::new();
    let whole = tcp_packet(forth(4), 400).superpacket(100);
    pair.a.send(WEB, &whole);
    let chunks = pair.a.take_sent();
    let now = pair.a.now;
    pair.a.engine.send_control(now, SESSION, Control::Confirm, &mut pair.a.io);
    let control = pair.a.take_sent();
    pair.b.receive(chunks[..2].iter().chain(&control).chain(&chunks[2..]));
    assert_eq!(pair.b.take_delivered(), [(DB, whole)]);
    assert_eq!(pair.b.take_sent().len(), 1);
}

#[test]
fn close_is_told_and_tears_nothing_down_by_itself() {
    let mut pair = Pair::new();
    let now = pair.a.now;
    pair.a.engine.remove_session(now, SESSION, true, &mut pair.a.io);
    pair.a_to_b();
    let events = pair.b.events();
    assert_eq!(events, [Event::Alive(SESSION), Event::Closed(SESSION)]);
    pair.b.send(DB, &udp_packet(back(4), 10).complete());
    assert_eq!(pair.b.io.datagrams.len(), 1, "the daemon decides, not the engine");
}

#[test]
fn a_session_that_is_forgotten_in_silence_says_nothing() {
    let mut pair = Pair::new();
    let now = pair.a.now;
    pair.a.engine.remove_session(now, SESSION, false, &mut pair.a.io);
    pair.a.engine.remove_session(now, SESSION, true, &mut pair.a.io);
    assert!(pair.a.io.datagrams.is_empty());
    assert_eq!(pair.a.engine.session_status(SESSION), None);
}

#[test]
fn an_idle_lane_says_so_once_and_the_old_key_is_wiped() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), 10).complete());
    let late = pair.a.take_sent();
    pair.a.send(WEB, &udp_packet(forth(4), 10).complete());
    assert_eq!(pair.a_to_b().len(), 1);
    pair.advance(Duration::from_secs(119));
    pair.a.tick(Duration::ZERO);
    assert!(pair.a.io.datagrams.is_empty());
    pair.advance(Duration::from_secs(2));
    pair.a.tick(Duration::ZERO);
    assert_eq!(pair.a.io.datagrams.len(), 1);
    assert_eq!(pair.a.engine.session_status(SESSION).unwrap().epoch, Epoch(1));
    pair.a_to_b();
    assert!(pair.b.engine.receivers.values().any(|r| r.lane.holds_previous_key()));
    assert!(pair.b.io.datagrams.is_empty(), "not answered");
    for _ in 0..300 {
        pair.advance(Duration::from_secs(1));
        pair.a.tick(Duration::ZERO);
        pair.b.tick(Duration::ZERO);
    }
    assert!(pair.a.io.datagrams.is_empty() && pair.b.io.datagrams.is_empty());
    let holds = |side: &Side| side.engine.receivers.values().any(|r| r.lane.holds_previous_key());
    assert!(!holds(&pair.b), "time alone wipes a key");
    pair.b.receive(&late);
    assert_eq!(pair.b.take_delivered(), []);
    assert_eq!(pair.b.drops(DropReason::Epoch), 1);
}

#[test]
fn epochs_change_under_load_without_loss() {
    let limits = Limits { epoch_datagrams_max: 100, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    for i in 0..300 {
        let payload = 101 + i * 13 % 4000;
        let packet = tcp_packet(forth(if i % 2 == 0 { 4 } else { 6 }), payload).superpacket(100);
        pair.a.send(WEB, &packet);
        let sent = pair.a.take_sent();
        let epochs: Vec<_> = sent.iter().map(|d| header(d).epoch).collect();
        assert!(epochs.iter().all(|e| *e == epochs[0]), "one epoch for one superpacket");
        pair.b.receive(&sent);
        assert_eq!(pair.b.take_delivered(), [(DB, packet)]);
    }
    assert!(pair.a.engine.session_status(SESSION).unwrap().epoch > Epoch(50));
    assert_eq!(pair.b.drops_of_all_kinds(), 0);
}

#[test]
fn a_session_for_long_datagrams_changes_keys_earlier() {
    for (datagram_max, limit) in [(1_472, 1 << 28), (2_048, 1 << 28), (8_972, 1 << 23)] {
        let mut side = Pair::without_sessions().a;
        let mut new = session(side.now, 0, SESSION, LINK, Limits::default());
        new.datagram_max = datagram_max;
        side.engine.install_session(side.now, new);
        let session = side.engine.sessions.get(&SESSION).unwrap();
        assert_eq!(session.send.limits().epoch_datagrams_max, limit, "{datagram_max}");
    }
}

#[test]
fn an_epoch_never_has_more_datagrams_than_its_limit() {
    let limits = Limits { epoch_datagrams_max: 64, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    let mut seen = [0u32; 256];
    let mut counters = std::collections::HashSet::new();
    for i in 0..150 {
        let payload = 101 + i * 37 % 6299;
        pair.a.send(WEB, &tcp_packet(forth(4), payload).superpacket(100));
        for datagram in pair.a.take_sent() {
            let header = header(&datagram);
            seen[usize::from(header.epoch.0)] += 1;
            assert!(counters.insert(header.counter), "a counter never recurs");
        }
    }
    assert!(seen.iter().all(|n| *n <= 64));
}

#[test]
fn used_up_epochs_ask_for_a_handshake_and_then_refuse() {
    let limits = Limits { epoch_datagrams_max: 1, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    let packet = udp_packet(forth(4), 10).complete();
    for i in 0..300 {
        pair.a.send(WEB, &packet);
        let asked: &[Event] = if i == 192 { &[Event::RekeySoon(SESSION)] } else { &[] };
        assert_eq!(pair.a.events(), asked, "datagram {i}");
    }
    assert_eq!(pair.a.io.datagrams.len(), 256);
    assert_eq!(pair.a.drops(DropReason::KeysUsedUp), 44);
    assert_eq!(pair.a_to_b().len(), 256);
}

#[test]
fn the_integrity_limit_asks_for_a_handshake_and_closes_nothing() {
    let mut pair = Pair::new();
    for receiver in pair.b.engine.receivers.values_mut() {
        let at_limit = receiver.session == SESSION;
        receiver.lane.set_failed_opens(if at_limit { 1 << 36 } else { (1 << 36) - 1 });
    }
    pair.b.tick(Duration::from_secs(2));
    assert_eq!(pair.b.events(), [Event::RekeySoon(SESSION)]);
    pair.a.send(WEB, &udp_packet(forth(4), 10).complete());
    assert_eq!(pair.a_to_b().len(), 1);
}

/// An event may be lost between engine and daemon; its cause repeats it.
#[test]
fn a_handshake_is_asked_for_again_while_it_is_needed() {
    let limits = Limits { epoch_datagrams_max: 1, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    let packet = udp_packet(forth(4), 10).complete();
    for _ in 0..200 {
        pair.a.send(WEB, &packet);
    }
    assert_eq!(pair.a.events(), [Event::RekeySoon(SESSION)]);
    for _ in 0..3 {
        pair.a.tick(Duration::from_secs(2));
        pair.a.send(WEB, &packet);
        pair.a.send(WEB, &packet);
        assert_eq!(pair.a.events(), [Event::RekeySoon(SESSION)]);
    }
}

/// Fail closed: an expired session seals neither data nor control messages.
#[test]
fn an_expired_session_seals_nothing() {
    let mut pair = Pair::new();
    pair.a.send(WEB, &udp_packet(forth(4), 10).complete());
    assert_eq!(pair.a_to_b().len(), 1);
    pair.b.events();
    pair.advance(Duration::from_secs(7200));
    pair.a.send(WEB, &udp_packet(forth(4), 10).complete());
    pair.a.send(WEB, &tcp_packet(forth(4), 3000).superpacket(100));
    pair.a.send(WEB, &udp_packet(forth(6), 12_800).superpacket(100));
    assert_eq!(pair.a.drops(DropReason::KeysUsedUp), 3);
    assert_eq!(pair.a.events(), [Event::RekeySoon(SESSION)]);
    for _ in 0..5 {
        pair.a.tick(Duration::from_secs(1));
    }
    let now = pair.a.now;
    for control in [Control::Confirm, Control::Confirmed, Control::Epoch, Control::Close] {
        pair.a.engine.send_control(now, SESSION, control, &mut pair.a.io);
    }
    pair.a.engine.remove_session(now, SESSION, true, &mut pair.a.io);
    assert!(pair.a.io.datagrams.is_empty());
}

#[test]
fn a_new_session_takes_over_and_the_old_one_still_receives() {
    let mut pair = Pair::new();
    let packets: Vec<_> = (0..6).map(|i| udp_packet(forth(4), 10 + i).complete()).collect();
    pair.a.send(WEB, &packets[0]);
    pair.a.send(WEB, &packets[1]);
    pair.install(SessionId(3), LINK, Limits::default());
    pair.a.send(WEB, &packets[2]);
    pair.a.engine.activate(pair.a.now, SessionId(3), &mut pair.a.io);
    pair.a.send(WEB, &packets[3]);
    let now = pair.a.now;
    pair.a.engine.remove_session(now, SESSION, false, &mut pair.a.io);
    pair.a.send(WEB, &packets[4]);
    let indices: Vec<_> = pair.a.io.datagrams.iter().map(|d| header(d).index).collect();
    let (old, new) = (index(1, SESSION), index(1, SessionId(3)));
    assert_eq!(indices, [old, old, old, new, new]);
    let want: Vec<_> = packets[..5].iter().map(|p| (DB, p.clone())).collect();
    assert_eq!(pair.a_to_b(), want);
    // Removing a session that carries no data leaves the active one alone.
    pair.b.engine.remove_session(now, SESSION, false, &mut pair.b.io);
    pair.a.send(WEB, &packets[5]);
    assert_eq!(pair.a_to_b().len(), 1);
}

#[test]
fn datagrams_follow_the_way_of_their_link() {
    let mut pair = Pair::new();
    let new = Way::direct(SocketAddr::new(addr("2001:db8::7"), 9));
    pair.a.engine.set_way(pair.a.now, LINK, new);
    pair.a.send(WEB, &udp_packet(forth(4), 10).complete());
    assert_eq!(pair.a.take_sent()[0].way, new);
}
