use super::*;

fn actions(fallback: &mut Fallback) -> Vec<Action> {
    std::iter::from_fn(|| fallback.poll_action()).collect()
}

/// One that sends by stream, opened by this host with two workers.
fn streaming(now: Instant) -> Fallback {
    let mut fallback = Fallback::new(2);
    fallback.handle_blocked(now);
    fallback.handle_opened(now, 0, Opener::Us);
    fallback.handle_opened(now, 1, Opener::Us);
    fallback.handle_opening_over(now, true);
    assert_eq!(actions(&mut fallback), [Action::Open(2), Action::Switch, Action::Probe]);
    assert!(fallback.is_streaming());
    fallback
}

#[test]
fn datagrams_go_by_stream_when_every_worker_has_one() {
    let now = Instant::now();
    let mut fallback = Fallback::new(2);
    fallback.handle_lanes(4);
    fallback.handle_blocked(now);
    fallback.handle_blocked(now);
    assert_eq!(actions(&mut fallback), [Action::Open(4)], "the peer has four lanes");
    for number in [3, 2, 0] {
        fallback.handle_opened(now, number, Opener::Us);
        assert!(!fallback.is_streaming());
    }
    fallback.handle_opened(now, 1, Opener::Peer);
    assert!(fallback.is_streaming());
    assert_eq!(actions(&mut fallback), [Action::Switch, Action::Probe]);
}

#[test]
fn streams_that_the_peer_opened_serve_as_well() {
    let now = Instant::now();
    let mut fallback = Fallback::new(1);
    fallback.handle_opened(now, 0, Opener::Peer);
    assert_eq!(actions(&mut fallback), [Action::Switch, Action::Probe]);
    fallback.handle_udp_works(now);
    assert_eq!(actions(&mut fallback), [Action::Switch]);
    assert!(!fallback.is_streaming());
    assert_eq!(fallback.poll_timeout(), None, "who opened them closes them");
    // Blocked again: they are there.
    fallback.handle_blocked(now);
    assert_eq!(actions(&mut fallback), [Action::Switch, Action::Probe]);
}

#[test]
fn udp_is_tried_ever_more_rarely_and_used_when_it_works() {
    let mut now = Instant::now();
    let mut fallback = streaming(now);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let at = fallback.poll_timeout().unwrap();
        assert_eq!(at, now + Duration::from_secs(seconds));
        fallback.handle_timeout(at - Duration::from_millis(1));
        assert_eq!(actions(&mut fallback), []);
        fallback.handle_timeout(at);
        assert_eq!(actions(&mut fallback), [Action::Probe]);
        now = at;
    }
    fallback.handle_udp_works(now);
    assert_eq!(actions(&mut fallback), [Action::Switch]);
    // Not for long: then it is not tried at once as often again.
    let again = now + LINGER / 2;
    fallback.handle_blocked(again);
    assert_eq!(actions(&mut fallback), [Action::Switch, Action::Probe], "streams are kept");
    assert_eq!(fallback.poll_timeout(), Some(again + PROBE_MAX));
    // For long.
    fallback.handle_udp_works(again);
    actions(&mut fallback);
    assert_eq!(fallback.poll_timeout(), Some(again + LINGER));
    fallback.handle_timeout(again + LINGER);
    assert_eq!(actions(&mut fallback), [Action::Close]);
    assert_eq!(fallback.poll_timeout(), None);
    let mut fallback = streaming(now);
    fallback.handle_timeout(now + PROBE_MIN);
    fallback.handle_udp_works(now + PROBE_MIN);
    actions(&mut fallback);
    let later = now + PROBE_MIN + LINGER;
    fallback.handle_blocked(later);
    assert_eq!(fallback.poll_timeout(), Some(later + PROBE_MIN));
}

#[test]
fn what_comes_by_udp_is_a_reason_to_try_it() {
    let now = Instant::now();
    let mut fallback = streaming(now);
    fallback.handle_heard(now);
    assert_eq!(actions(&mut fallback), [], "it was tried just now");
    fallback.handle_heard(now + HEARD_EVERY);
    assert_eq!(actions(&mut fallback), [Action::Probe]);
    let mut fallback = Fallback::new(1);
    fallback.handle_heard(now);
    assert_eq!(actions(&mut fallback), []);
}

#[test]
fn streams_that_are_lost_are_opened_again() {
    let now = Instant::now();
    let mut fallback = streaming(now);
    fallback.handle_lost(now, 1, Opener::Us);
    assert_eq!(actions(&mut fallback), [Action::Switch, Action::Close, Action::Open(2)]);
    assert!(!fallback.is_streaming());
    // The other one is ours to close, and says so.
    fallback.handle_lost(now, 0, Opener::Us);
    assert_eq!(actions(&mut fallback), []);
    // The peer's are the peer's.
    let mut fallback = Fallback::new(1);
    fallback.handle_opened(now, 0, Opener::Peer);
    actions(&mut fallback);
    fallback.handle_lost(now, 0, Opener::Peer);
    assert_eq!(actions(&mut fallback), [Action::Switch]);
    // One of two is enough.
    fallback.handle_opened(now, 0, Opener::Peer);
    fallback.handle_opened(now, 0, Opener::Us);
    actions(&mut fallback);
    fallback.handle_lost(now, 0, Opener::Peer);
    assert!(fallback.is_streaming());
}

#[test]
fn where_tcp_does_not_get_through_either_it_is_tried_ever_more_rarely() {
    let mut now = Instant::now();
    let mut fallback = Fallback::new(2);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        fallback.handle_blocked(now);
        assert_eq!(actions(&mut fallback), [Action::Open(2)]);
        fallback.handle_opened(now, 0, Opener::Us);
        fallback.handle_opening_over(now, false);
        assert_eq!(actions(&mut fallback), [Action::Close], "half a set is of no use");
        let pause = Duration::from_secs(seconds);
        fallback.handle_blocked(now + pause - Duration::from_millis(1));
        assert_eq!(actions(&mut fallback), []);
        now += pause;
    }
}

#[test]
fn streams_that_carry_nothing_are_replaced() {
    let now = Instant::now();
    let mut fallback = streaming(now);
    fallback.handle_blocked(now);
    assert_eq!(actions(&mut fallback), [Action::Close, Action::Switch, Action::Open(2)]);
}
