use super::*;

const HOUR: Duration = Duration::from_secs(3600);
// As the protocol has them, whatever the code says.
const RETIRE: Duration = Duration::from_secs(10);
const PROVE_MAX: Duration = Duration::from_secs(30);
const SECOND_DELAY: Duration = Duration::from_secs(60);
const SESSION_AGE_MAX: Duration = Duration::from_secs(7200);
const SESSIONS_MAX: usize = 8;
const DISTRUST_MAX: Duration = Duration::from_secs(20);

fn host(name: &str) -> HostId {
    HostId::new(name).unwrap()
}

fn smaller() -> Peer {
    Peer::new(&host("a"), &host("b"), HOUR)
}

fn greater() -> Peer {
    Peer::new(&host("b"), &host("a"), HOUR)
}

fn session(id: u64, role: Role, generation: u32, now: Instant) -> Established {
    let expires = now + SESSION_AGE_MAX;
    Established { id: SessionId(id), role, peer_instance: [0; 16], generation, expires }
}

fn actions(peer: &mut Peer) -> Vec<Action> {
    std::iter::from_fn(|| peer.poll_action()).collect()
}

fn up(peer: &mut Peer, now: Instant, id: u64, role: Role, generation: u32) {
    peer.handle_established(now, session(id, role, generation, now));
    peer.handle_alive(now, SessionId(id));
}

#[test]
fn a_session_carries_data_only_when_proven() {
    let now = Instant::now();
    let mut peer = smaller();
    peer.handle_need();
    peer.handle_need();
    assert_eq!(actions(&mut peer), [Action::Handshake]);
    peer.handle_established(now, session(1, Role::Client, 1, now));
    assert_eq!(actions(&mut peer), []);
    peer.handle_alive(now, SessionId(1));
    peer.handle_alive(now, SessionId(1));
    assert_eq!(actions(&mut peer), [Action::Activate(SessionId(1))]);
}

#[test]
fn a_session_that_is_never_proven_is_given_up() {
    let now = Instant::now();
    let mut peer = smaller();
    peer.handle_established(now, session(1, Role::Server, 1, now));
    assert_eq!(peer.poll_timeout(), Some(now + PROVE_MAX));
    peer.handle_timeout(now + PROVE_MAX);
    // Whoever made it tries again.
    assert_eq!(actions(&mut peer), [Action::Remove { id: SessionId(1), say_so: true }]);
}

#[test]
fn a_handshake_whose_session_is_never_proven_counts_as_failed_and_is_tried_again() {
    let now = Instant::now();
    let mut peer = smaller();
    peer.handle_need();
    assert_eq!(actions(&mut peer), [Action::Handshake]);
    peer.handle_established(now, session(1, Role::Client, 1, now));
    peer.handle_timeout(now + LATE_AFTER);
    assert_eq!(actions(&mut peer), [Action::Late]);
    peer.handle_timeout(now + PROVE_MAX);
    let removal = Action::Remove { id: SessionId(1), say_so: true };
    assert_eq!(actions(&mut peer), [Action::Unproven, removal, Action::Handshake]);
    assert_eq!(peer.state(), State::Handshaking);
}

#[test]
fn a_session_without_a_datagram_is_late_once_and_only_at_its_client() {
    let now = Instant::now();
    let mut peer = smaller();
    peer.handle_established(now, session(1, Role::Client, 1, now));
    assert_eq!(peer.poll_timeout(), Some(now + LATE_AFTER));
    for _ in 0..2 {
        peer.handle_timeout(now + LATE_AFTER);
    }
    assert_eq!(actions(&mut peer), [Action::Late]);
    // A server may not send before it has heard, and cannot tell.
    peer.handle_established(now, session(2, Role::Server, 2, now));
    peer.handle_timeout(now + LATE_AFTER);
    assert_eq!(actions(&mut peer), []);
    // One that has had a datagram is not late.
    peer.handle_established(now, session(3, Role::Client, 3, now));
    peer.handle_alive(now, SessionId(3));
    actions(&mut peer);
    peer.handle_timeout(now + LATE_AFTER);
    assert_eq!(actions(&mut peer), []);
}

/// Both hosts see the same two simultaneous handshakes, in any order, and pick the same.
#[test]
fn simultaneous_handshakes_end_in_one_session() {
    let now = Instant::now();
    for order in [[1, 2], [2, 1]] {
        for (mut peer, own) in [(smaller(), 1), (greater(), 2)] {
            for id in order {
                let role = if id == own { Role::Client } else { Role::Server };
                up(&mut peer, now, id, role, 1);
            }
            assert!(matches!(peer.state(), State::Active { id: SessionId(1), .. }));
            peer.handle_timeout(now + RETIRE);
            assert_eq!(peer.sessions().collect::<Vec<_>>(), [SessionId(1)]);
        }
    }
}

#[test]
fn a_later_handshake_replaces_whoever_began_it() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Client, 1);
    let generation = peer.next_generation();
    up(&mut peer, now, 2, Role::Server, generation);
    assert!(matches!(peer.state(), State::Active { id: SessionId(2), .. }));
    assert_eq!(peer.next_generation(), 3);
}

#[test]
fn a_restarted_peer_s_session_wins_at_once_and_the_old_is_gone() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Client, 9);
    let new = Established { peer_instance: [1; 16], ..session(2, Role::Server, 1, now) };
    peer.handle_established(now, new);
    peer.handle_alive(now, SessionId(2));
    peer.handle_timeout(now);
    assert_eq!(peer.sessions().collect::<Vec<_>>(), [SessionId(2)]);
}

#[test]
fn regular_handshakes_are_the_smaller_host_s_first() {
    let now = Instant::now();
    for (mut peer, at) in [(smaller(), now + HOUR), (greater(), now + HOUR + SECOND_DELAY)] {
        up(&mut peer, now, 1, Role::Client, 1);
        actions(&mut peer);
        assert_eq!(peer.poll_timeout(), Some(at));
        peer.handle_timeout(at - Duration::from_nanos(1));
        assert_eq!(actions(&mut peer), []);
        peer.handle_timeout(at);
        assert_eq!(actions(&mut peer), [Action::Handshake]);
        // The old session carries data until the new one is proven, then ten seconds more.
        up(&mut peer, at, 2, Role::Client, 2);
        assert_eq!(actions(&mut peer), [Action::Activate(SessionId(2))]);
        peer.handle_timeout(at + RETIRE - Duration::from_nanos(1));
        assert_eq!(actions(&mut peer), []);
        peer.handle_timeout(at + RETIRE);
        assert_eq!(actions(&mut peer), [Action::Remove { id: SessionId(1), say_so: false }]);
    }
}

#[test]
fn failures_back_off_to_a_minute_and_success_forgets_them() {
    let mut now = Instant::now();
    let mut peer = smaller();
    peer.handle_need();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        actions(&mut peer);
        peer.handle_failed(now, u32::MAX / 2);
        peer.handle_need();
        assert_eq!(actions(&mut peer), [], "a need does not shorten the pause");
        let until = peer.poll_timeout().unwrap();
        pauses.push((until - now).as_secs_f64().round());
        now = until;
        peer.handle_timeout(now);
        assert_eq!(peer.state(), State::Handshaking);
    }
    assert_eq!(pauses, [1., 2., 4., 8., 16., 32., 60., 60., 60., 60.]);
    up(&mut peer, now, 1, Role::Client, 1);
    peer.handle_closed(now, SessionId(1));
    peer.handle_need();
    peer.handle_failed(now, u32::MAX / 2);
    assert!(peer.poll_timeout().unwrap() - now < Duration::from_millis(1100));
}

#[test]
fn an_old_session_ends_even_without_another() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Client, 1);
    peer.handle_timeout(now + HOUR);
    peer.handle_failed(now + HOUR, 0);
    actions(&mut peer);
    peer.handle_timeout(now + SESSION_AGE_MAX);
    let done = actions(&mut peer);
    assert!(done.contains(&Action::Remove { id: SessionId(1), say_so: true }));
    assert!(done.contains(&Action::Handshake));
    assert_eq!(peer.state(), State::Handshaking);
}

#[test]
fn keys_that_run_out_bring_a_handshake_once() {
    let now = Instant::now();
    let mut peer = greater();
    up(&mut peer, now, 1, Role::Server, 1);
    actions(&mut peer);
    peer.handle_rekey_soon(SessionId(7));
    peer.handle_rekey_soon(SessionId(1));
    peer.handle_rekey_soon(SessionId(1));
    assert_eq!(actions(&mut peer), [Action::Handshake]);
}

#[test]
fn what_is_not_trusted_any_more_ends_soon_and_another_one_is_made_before() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Client, 1);
    actions(&mut peer);
    peer.handle_distrust(now);
    assert_eq!(actions(&mut peer), [Action::Handshake]);
    assert_eq!(peer.poll_timeout(), Some(now + DISTRUST_MAX));
    // Who is known by something else takes its place at once; nobody is left without.
    let soon = now + Duration::from_secs(1);
    up(&mut peer, soon, 2, Role::Client, 2);
    assert_eq!(actions(&mut peer), [Action::Activate(SessionId(2))]);
    peer.handle_timeout(soon + RETIRE);
    assert_eq!(actions(&mut peer), [Action::Remove { id: SessionId(1), say_so: false }]);
    assert_eq!(peer.poll_timeout(), Some(soon + HOUR));

    // Who is not is gone, and does not stay while handshakes fail.
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Server, 1);
    peer.handle_distrust(now);
    peer.handle_failed(now, 0);
    actions(&mut peer);
    peer.handle_timeout(now + DISTRUST_MAX);
    let actions = actions(&mut peer);
    assert!(actions.contains(&Action::Remove { id: SessionId(1), say_so: true }), "{actions:?}");
    assert_eq!(peer.sessions().count(), 0);
}

#[test]
fn sessions_are_bounded() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 0, Role::Client, 1);
    for id in 1..50 {
        peer.handle_established(now, session(id, Role::Server, 1, now));
        assert!(peer.sessions().count() <= SESSIONS_MAX);
    }
    assert!(peer.sessions().any(|s| s == SessionId(0)), "the active one stays");
}

#[test]
fn close_ends_the_session_that_it_names_and_no_other() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Client, 1);
    up(&mut peer, now, 2, Role::Client, 2);
    actions(&mut peer);
    peer.handle_closed(now, SessionId(7));
    assert_eq!(actions(&mut peer), []);
    peer.handle_closed(now, SessionId(2));
    let removed = Action::Remove { id: SessionId(2), say_so: false };
    assert_eq!(actions(&mut peer), [removed, Action::Activate(SessionId(1))]);
}

#[test]
fn jitter_is_half_a_pause_and_never_beyond_a_minute() {
    let now = Instant::now();
    let pause = |failures: usize, random: u32| {
        let mut peer = smaller();
        for _ in 0..failures {
            peer.handle_failed(now, random);
        }
        (peer.poll_timeout().unwrap() - now).as_millis()
    };
    assert_eq!((pause(1, 0), pause(1, u32::MAX)), (750, 1250));
    assert_eq!((pause(9, 0), pause(9, u32::MAX)), (45_000, 60_000));
}

#[test]
fn a_closed_peer_is_told() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Client, 1);
    actions(&mut peer);
    peer.close();
    assert_eq!(actions(&mut peer), [Action::Remove { id: SessionId(1), say_so: true }]);
    assert_eq!(peer.state(), State::Idle);
}

#[test]
fn a_failure_is_forgotten_when_the_peer_made_a_session_meanwhile() {
    let now = Instant::now();
    for overtaken_while_running in [true, false] {
        let mut peer = smaller();
        peer.handle_need();
        if overtaken_while_running {
            up(&mut peer, now, 1, Role::Server, 1);
            peer.handle_failed(now, 0);
        } else {
            peer.handle_failed(now, 0);
            up(&mut peer, now, 1, Role::Server, 1);
        }
        actions(&mut peer);
        assert_eq!(peer.poll_timeout(), Some(now + HOUR));
    }
}

#[test]
fn a_session_that_waits_for_its_first_datagram_is_not_overtaken_by_another() {
    let now = Instant::now();
    let mut peer = smaller();
    up(&mut peer, now, 1, Role::Client, 1);
    let due = now + HOUR;
    peer.handle_timeout(due);
    actions(&mut peer);
    peer.handle_established(due, session(2, Role::Client, 2, due));
    peer.handle_timeout(due);
    peer.handle_rekey_soon(SessionId(1));
    assert_eq!(actions(&mut peer), []);
    peer.handle_timeout(due + LATE_AFTER);
    assert_eq!(actions(&mut peer), [Action::Late]);
    assert_eq!(peer.poll_timeout(), Some(due + PROVE_MAX));
    // It never gets one: it is given up, and the next handshake begins.
    peer.handle_timeout(due + PROVE_MAX);
    let given_up = Action::Remove { id: SessionId(2), say_so: true };
    assert_eq!(actions(&mut peer), [Action::Unproven, given_up, Action::Handshake]);
}

#[test]
fn silence_asks_for_a_handshake_and_ends_nothing() {
    let now = Instant::now();
    let mut peer = greater();
    peer.handle_silence(now);
    assert_eq!(actions(&mut peer), [], "without a session nobody is silent");
    up(&mut peer, now, 1, Role::Client, 1);
    actions(&mut peer);
    peer.handle_silence(now);
    peer.handle_silence(now);
    assert_eq!(actions(&mut peer), [Action::Handshake]);
    assert!(matches!(peer.state(), State::Active { id: SessionId(1), .. }));
    // However often it has failed, it is tried again soon while the silence lasts.
    let mut at = now;
    for _ in 0..10 {
        peer.handle_failed(at, u32::MAX);
        peer.handle_silence(at);
        at += Duration::from_secs(2);
        peer.handle_timeout(at);
        assert_eq!(actions(&mut peer), [Action::Handshake]);
    }
    // A session that waits for its first datagram is given the time.
    peer.handle_established(at, session(2, Role::Server, 2, at));
    peer.handle_failed(at, 0);
    peer.handle_silence(at);
    assert_eq!(actions(&mut peer), []);
    // But not for ever: what the peer called with may not come through, as behind address translation.
    peer.handle_silence(at + Duration::from_secs(2));
    assert_eq!(actions(&mut peer), [Action::Handshake]);
}
