//! Packets that wait for a session: kept in order, bounded, never sent in the clear.

use super::*;

fn numbered(number: u16) -> Packet {
    let mut packet = udp_packet(forth(4), 20);
    packet.payload[..2].copy_from_slice(&number.to_be_bytes());
    packet
}

fn up(pair: &mut Pair) {
    pair.install(SESSION, LINK, Limits::default());
    pair.a.engine.activate(pair.a.now, SESSION, &mut pair.a.io);
}

#[test]
fn without_a_session_nothing_leaves_and_a_session_is_asked_for() {
    let mut pair = Pair::without_sessions();
    for number in 0..10 {
        pair.a.send(WEB, &numbered(number).complete());
    }
    assert!(pair.a.io.datagrams.is_empty());
    assert_eq!(pair.a.events(), [Event::NeedSession(LINK)]);
    pair.install(SESSION, LINK, Limits::default());
    pair.a.send(WEB, &numbered(10).complete());
    assert!(pair.a.io.datagrams.is_empty(), "installed is not yet active");
}

#[test]
fn packets_that_waited_go_first_and_in_order() {
    let mut pair = Pair::without_sessions();
    let mut want = Vec::new();
    for number in 0..20 {
        let packet = if number % 3 == 0 {
            tcp_packet(forth(4), 200 + usize::from(number)).superpacket(100)
        } else {
            numbered(number).complete()
        };
        pair.a.send(WEB, &packet);
        want.push((DB, packet));
    }
    up(&mut pair);
    let last = numbered(99).complete();
    pair.a.send(WEB, &last);
    want.push((DB, last));
    assert_eq!(pair.a_to_b(), want);
    // What has been sent does not wait any more.
    pair.a.engine.activate(pair.a.now, SESSION, &mut pair.a.io);
    assert!(pair.a.io.datagrams.is_empty());
}

#[test]
fn packets_that_waited_are_counted_once() {
    let mut pair = Pair::without_sessions();
    for number in 0..5 {
        pair.a.send(WEB, &numbered(number).complete());
    }
    up(&mut pair);
    assert_eq!(pair.a.attachments[0].sent_packets.get(), 5);
    assert_eq!(pair.a.attachments[0].sent_bytes.get(), 5 * 48);
}

#[test]
fn few_wait_and_the_first_stay() {
    let mut pair = Pair::without_sessions();
    for number in 0..100 {
        pair.a.send(WEB, &numbered(number).complete());
    }
    assert_eq!(pair.a.drops(DropReason::NoSession), 36);
    up(&mut pair);
    let delivered = pair.a_to_b();
    let want: Vec<_> = (0..64).map(|n| (DB, numbered(n).complete())).collect();
    assert_eq!(delivered, want);
    assert!(pair.a.events().len() < 64, "events are bounded too");
}

#[test]
fn nothing_waits_longer_than_five_seconds() {
    let mut pair = Pair::without_sessions();
    pair.a.send(WEB, &numbered(1).complete());
    pair.advance(Duration::from_secs(3));
    pair.a.send(WEB, &numbered(2).complete());
    pair.advance(Duration::from_secs(3));
    up(&mut pair);
    assert_eq!(pair.a_to_b(), [(DB, numbered(2).complete())]);
    assert_eq!(pair.a.drops(DropReason::NoSession), 1, "what waited too long is counted");
}

#[test]
fn a_need_is_repeated_when_the_first_packets_have_given_up() {
    let mut pair = Pair::without_sessions();
    pair.a.send(WEB, &numbered(1).complete());
    assert_eq!(pair.a.events(), [Event::NeedSession(LINK)]);
    pair.advance(Duration::from_secs(6));
    pair.a.send(WEB, &numbered(2).complete());
    assert_eq!(pair.a.events(), [Event::NeedSession(LINK)]);
    assert_eq!(pair.a.drops(DropReason::NoSession), 1);
}

#[test]
fn a_packet_that_waited_is_judged_again() {
    let mut pair = Pair::without_sessions();
    pair.a.send(WEB, &numbered(1).complete());
    pair.a.engine.set_routes(ENV, Arc::default());
    up(&mut pair);
    assert!(pair.a.io.datagrams.is_empty());
    assert_eq!(pair.a.drops(DropReason::NoRoute), 1);
}

#[test]
fn waiting_links_do_not_disturb_others() {
    let mut pair = Pair::without_sessions();
    up(&mut pair);
    pair.a.send(OTHER, &numbered(1).complete());
    pair.a.send(WEB, &numbered(2).complete());
    assert_eq!(pair.a_to_b(), [(DB, numbered(2).complete())]);
    assert_eq!(pair.a.events(), [Event::NeedSession(LinkSlot(1))]);
}

#[test]
fn a_session_that_is_removed_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let now = pair.a.now;
    pair.a.engine.remove_session(now, SESSION, false, &mut pair.a.io);
    pair.a.send(WEB, &numbered(1).complete());
    assert!(pair.a.io.datagrams.is_empty());
    assert_eq!(pair.a.events(), [Event::NeedSession(LINK)]);
    pair.b.send(DB, &udp_packet(back(4), 10).complete());
    assert_eq!(pair.b_to_a(), []);
    assert_eq!(pair.a.unattributed(DropReason::UnknownSession), 1);
    pair.a.engine.activate(now, SESSION, &mut pair.a.io);
    assert!(pair.a.io.datagrams.is_empty(), "a session that is gone cannot be activated");
}
