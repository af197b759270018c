//! Rates against a plain count, and the promise about stalled connections.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn small() -> Limits {
    Limits { half_open_max: 4, sources_max: 3, ..Limits::default() }
}

fn v4(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

fn after(begun: Instant, ms: u64) -> Instant {
    begun + Duration::from_millis(ms)
}

#[test]
fn a_source_has_a_burst_and_then_its_rate() {
    let begun = Instant::now();
    let mut admission = Admission::new(Limits::default());
    let mut admitted_at = |ms| {
        let admitted = admission.begin(v4(1), after(begun, ms));
        if let Ok(a) = admitted {
            admission.end(a.ticket);
        }
        admitted.is_ok()
    };
    assert_eq!((0..9).filter(|_| admitted_at(0)).count(), 5, "burst");
    assert_eq!((0..1000).filter(|ms| admitted_at(*ms)).count(), 19);
    assert_eq!((0..9).filter(|_| admitted_at(5000)).count(), 5, "burst again");
}

#[test]
fn ipv6_counts_by_64_bits_and_mapped_ipv4_as_ipv4() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default());
    let mut begin = |address: &str| admission.begin(address.parse().unwrap(), now);
    for last in 0..5 {
        assert!(begin(&format!("2001:db8::{last}")).is_ok());
    }
    assert_eq!(begin("2001:db8::ffff:0:0:1"), Err(Refusal::Rate));
    assert!(begin("2001:db8:0:1::1").is_ok());
    for _ in 0..5 {
        assert!(begin("192.0.2.1").is_ok());
    }
    assert_eq!(begin("::ffff:192.0.2.1"), Err(Refusal::Rate));
}

#[test]
fn a_known_source_has_the_higher_rate_for_an_hour() {
    let begun = Instant::now();
    let mut admission = Admission::new(Limits::default());
    admission.authenticated(v4(1), begun);
    let mut burst_at = |now| {
        let mut count = 0;
        while let Ok(admitted) = admission.begin(v4(1), now) {
            admission.end(admitted.ticket);
            count += 1;
        }
        count
    };
    let hour = Duration::from_secs(3600);
    assert_eq!(burst_at(begun), 125);
    assert_eq!(burst_at(begun + hour), 125);
    assert_eq!(burst_at(begun + hour + Duration::from_secs(1)), 5);
}

#[test]
fn stalled_connections_do_not_keep_a_good_peer_out() {
    let begun = Instant::now();
    let mut admission = Admission::new(Limits::default());
    let mut open = HashSet::new();
    // 5,000 connections from 1,000 sources within a second, none of which goes on.
    for n in 0..5000u32 {
        let now = begun + Duration::from_micros(u64::from(n) * 200);
        if let Ok(admitted) = admission.begin(v4(n % 1000), now) {
            open.insert(admitted.ticket);
            if let Some(evicted) = admitted.evicted {
                assert!(open.remove(&evicted), "only what is open is evicted");
            }
        }
    }
    assert_eq!(open.len(), 256);
    let good = admission.begin(v4(5_000_000), after(begun, 1000)).unwrap();
    // It keeps its place while fewer than all places are taken after it.
    for n in 0..255u32 {
        let later = admission.begin(v4(6_000_000 + n), after(begun, 1001));
        assert_ne!(later.unwrap().evicted, Some(good.ticket));
    }
    admission.end(good.ticket);
    // Once it is known, nothing evicts it.
    admission.authenticated(v4(5_000_000), after(begun, 1002));
    let again = admission.begin(v4(5_000_000), after(begun, 1003)).unwrap();
    for n in 0..5000u32 {
        let stalled = admission.begin(v4(7_000_000 + n), after(begun, 1004));
        assert_ne!(stalled.ok().and_then(|s| s.evicted), Some(again.ticket));
    }
    assert!(admission.begin(v4(5_000_000), after(begun, 1005)).is_ok());
}

#[test]
fn known_sources_share_the_places_evenly() {
    let now = Instant::now();
    let mut admission = Admission::new(small());
    for source in 1..4 {
        admission.authenticated(v4(source), now);
    }
    let mut begin = |source| admission.begin(v4(source), now);
    let first: Vec<Ticket> = (0..4).map(|_| begin(1).unwrap().ticket).collect();
    assert_eq!(begin(1), Err(Refusal::HalfOpen), "its own are not silent for long");
    assert_eq!(begin(9), Err(Refusal::HalfOpen), "a stranger takes no place of a known source");
    assert_eq!(begin(2).unwrap().evicted, Some(first[0]));
    assert_eq!(begin(2).unwrap().evicted, Some(first[1]));
    assert_eq!(begin(2), Err(Refusal::HalfOpen), "two each");
    assert_eq!(begin(3).unwrap().evicted, Some(first[2]));
    assert_eq!(begin(3), Err(Refusal::HalfOpen), "two, one, one");
}

#[test]
fn a_source_takes_places_of_its_own_only_from_the_silent() {
    let begun = Instant::now();
    let mut admission = Admission::new(small());
    admission.authenticated(v4(1), begun);
    let own: Vec<Ticket> = (0..4).map(|_| admission.begin(v4(1), begun).unwrap().ticket).collect();
    for spoke in [own[0], own[2], own[3]] {
        assert!(admission.answer(spoke, begun));
    }
    assert_eq!(admission.begin(v4(1), after(begun, 999)), Err(Refusal::HalfOpen));
    assert_eq!(admission.begin(v4(1), after(begun, 1_000)).unwrap().evicted, Some(own[1]));
    assert_eq!(admission.begin(v4(1), after(begun, 1_999)), Err(Refusal::HalfOpen));
}

/// A host restarts with hundreds of environments, and whoever answers it is slow: every handshake takes
/// seconds, and whoever is refused or made to give way calls again.
#[test]
fn many_handshakes_of_one_host_all_get_done() {
    let begun = Instant::now();
    let mut admission = Admission::new(Limits::default());
    admission.expect(v4(1));
    let mut waiting = 1_000_u32;
    let mut running: Vec<(Ticket, u64)> = Vec::new();
    for second in 0..100 {
        let now = after(begun, second * 1_000);
        for _ in 0..waiting.min(100) {
            let Ok(admitted) = admission.begin(v4(1), now) else { continue };
            waiting -= 1;
            assert!(admission.answer(admitted.ticket, now));
            running.push((admitted.ticket, second));
            assert_eq!(admitted.evicted, None, "nobody who speaks gives way to its own source");
        }
        running.retain(|(ticket, since)| {
            let done = second - since >= 5;
            if done {
                admission.end(*ticket);
            }
            !done
        });
    }
    assert_eq!((waiting, running.len()), (0, 0));
}

/// Containers at a peer's address hold every place they can get and let each speak a byte a second.
#[test]
fn whoever_stalls_at_a_known_address_keeps_no_peer_out() {
    let begun = Instant::now();
    let mut admission = Admission::new(Limits::default());
    admission.expect(v4(1));
    admission.expect(v4(2));
    for ms in 0..20_000 {
        let now = after(begun, ms);
        let _ = admission.begin(v4(1), now);
        if ms % 100 == 0 && ms > 1_000 {
            let peer = admission.begin(v4(2), now).expect("another address finds a place");
            assert!(admission.answer(peer.ticket, now));
            for later in 1..50 {
                let stalled = admission.begin(v4(1), after(now, later));
                assert_ne!(stalled.ok().and_then(|s| s.evicted), Some(peer.ticket));
            }
            admission.end(peer.ticket);
        }
    }
}

#[test]
fn a_full_table_leaves_a_common_rate_and_empties_itself() {
    let begun = Instant::now();
    let mut admission = Admission::new(small());
    for n in 0..3 {
        assert!(admission.begin(v4(n), begun).is_ok());
    }
    let newcomers = (100..1000).filter(|n| admission.begin(v4(*n), begun).is_ok());
    assert_eq!(newcomers.count(), 50, "the overflow's burst");
    assert_eq!(admission.unknown.len(), 3);
    // The three are idle after 50 ms and make room.
    assert!(admission.begin(v4(2000), after(begun, 60)).is_ok());
    assert_eq!(admission.unknown.len(), 1);
    for n in 0..9 {
        admission.authenticated(v4(n), after(begun, 100 + u64::from(n)));
    }
    assert_eq!(admission.known.len(), 3, "the oldest are forgotten");
    assert!(admission.known.contains_key(&Source::of(v4(8))));
}

#[test]
fn strangers_together_cause_a_bounded_number_of_answers() {
    let begun = Instant::now();
    let mut admission = Admission::new(Limits::default());
    let mut answered_at = |ms: u64, source: u32| {
        let now = after(begun, ms);
        let admitted = admission.begin(v4(source), now).unwrap();
        let answered = admission.answer(admitted.ticket, now);
        admission.end(admitted.ticket);
        answered
    };
    assert_eq!((0..1_000).filter(|n| answered_at(0, *n)).count(), 125, "burst");
    // 1,000 sources, ten times a second each.
    let later = (0..10_000u32).filter(|n| answered_at(u64::from(n / 10), n % 1_000));
    assert_eq!(later.count(), 499, "in a second");
}

#[test]
fn where_a_peer_is_expected_strangers_keep_nobody_waiting() {
    let begun = Instant::now();
    let mut admission = Admission::new(Limits::default());
    let peers: [IpAddr; 3] = [v4(1), v4(1), "2001:db8::1".parse().unwrap()];
    for peer in peers {
        admission.expect(peer);
    }
    let answered = (100..1_000).filter(|n| {
        let stranger = admission.begin(v4(*n), begun).unwrap();
        admission.answer(stranger.ticket, begun)
    });
    assert_eq!(answered.count(), 125);
    let day = |days| begun + Duration::from_secs(86_400) * days;
    for now in [begun, day(1)] {
        for address in [v4(1), "2001:db8::2".parse().unwrap()] {
            let peer = admission.begin(address, now).unwrap();
            assert!(admission.answer(peer.ticket, now));
            // Whoever comes later takes no place of it.
            for n in 0..1_000 {
                let stalled = admission.begin(v4(1_000 + n), now);
                assert_ne!(stalled.ok().and_then(|s| s.evicted), Some(peer.ticket));
            }
            admission.end(peer.ticket);
        }
    }
    // With the last of them it is nobody any more.
    let tries = |admission: &mut Admission, now| {
        (0..200).filter(|_| admission.begin(v4(1), now).is_ok()).count()
    };
    admission.expect_no_longer(v4(1));
    assert_eq!(tries(&mut admission, day(2)), 125);
    admission.expect_no_longer(v4(1));
    admission.expect_no_longer(v4(1));
    assert_eq!(tries(&mut admission, day(3)), 5);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u16),
    Begin(u8),
    End(prop::sample::Index),
    Speak(prop::sample::Index),
    Authenticated(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u16..400).prop_map(Step::Wait),
        8 => (0u8..6).prop_map(Step::Begin),
        3 => any::<prop::sample::Index>().prop_map(Step::End),
        2 => any::<prop::sample::Index>().prop_map(Step::Speak),
        1 => (0u8..6).prop_map(Step::Authenticated),
    ];
    prop::collection::vec(step, 0..300)
}

#[derive(Debug, Clone, Copy)]
struct Open {
    ticket: Ticket,
    known: Option<u8>,
    since: Instant,
    spoke: bool,
}

/// The rule as the module's text says it; `open` is full and in order.
fn gives_way(open: &[Open], newcomer: Option<u8>, now: Instant) -> Option<usize> {
    let oldest = |of: &dyn Fn(&Open) -> bool| open.iter().position(of);
    if let Some(stranger) = oldest(&|o| o.known.is_none()) {
        return Some(stranger);
    }
    let newcomer = newcomer?;
    let held = |source| open.iter().filter(|o| o.known == Some(source)).count();
    let largest = (0..6).map(held).max().unwrap_or_default();
    if largest >= held(newcomer) + 2 {
        return oldest(&|o| o.known.is_some_and(|source| held(source) == largest));
    }
    let silent = |o: &Open| !o.spoke && now - o.since >= Duration::from_secs(1);
    oldest(&|o| o.known == Some(newcomer) && silent(o))
}

proptest! {
    /// The plain model: a list of open tickets, and for every source a list of its admissions.
    #[test]
    fn behaves_like_a_plain_model(steps in steps()) {
        let limits = small();
        let mut admission = Admission::new(limits);
        let mut now = Instant::now();
        let mut open: Vec<Open> = Vec::new();
        let mut known: HashSet<u8> = HashSet::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms.into()),
                Step::End(index) if !open.is_empty() => {
                    let Open { ticket, .. } = open.remove(index.index(open.len()));
                    admission.end(ticket);
                    admission.end(ticket);
                }
                Step::End(_) => {}
                Step::Speak(index) if !open.is_empty() => {
                    let at = index.index(open.len());
                    open[at].spoke = true;
                    admission.answer(open[at].ticket, now);
                }
                Step::Speak(_) => {}
                Step::Authenticated(source) => {
                    // At most as many as the table holds, so that none is forgotten.
                    if known.len() < limits.sources_max || known.contains(&source) {
                        known.insert(source);
                        admission.authenticated(v4(source.into()), now);
                    }
                }
                Step::Begin(source) => {
                    let newcomer = known.contains(&source).then_some(source);
                    let gives_way = gives_way(&open, newcomer, now);
                    match admission.begin(v4(source.into()), now) {
                        Ok(admitted) => {
                            if open.len() == limits.half_open_max {
                                prop_assert!(gives_way.is_some());
                                let evicted = gives_way.map(|at| open.remove(at).ticket);
                                prop_assert_eq!(admitted.evicted, evicted);
                            } else {
                                prop_assert_eq!(admitted.evicted, None);
                            }
                            let ticket = admitted.ticket;
                            open.push(Open { ticket, known: newcomer, since: now, spoke: false });
                        }
                        Err(Refusal::HalfOpen) => {
                            prop_assert_eq!(open.len(), limits.half_open_max);
                            prop_assert_eq!(gives_way, None);
                        }
                        Err(Refusal::Rate) => {}
                    }
                }
            }
            prop_assert_eq!(admission.half_open(), open.len());
            prop_assert!(admission.half_open() <= limits.half_open_max);
            prop_assert!(admission.unknown.len() <= limits.sources_max);
            prop_assert!(admission.known.len() <= limits.sources_max);
        }
    }

    /// In every window of time there are at most burst + rate × window admissions, and one that
    /// keeps below the rate is never refused.
    #[test]
    fn the_rate_holds_in_every_window(
        per_second in 1u32..600,
        burst in 1u32..150,
        gaps in prop::collection::vec(0u64..200_000, 1..200),
    ) {
        let rate = Rate { per_second, burst };
        let begun = Instant::now();
        let mut bucket = Bucket::new(begun);
        let mut now = begun;
        let mut admitted = Vec::new();
        for gap in gaps {
            now += Duration::from_micros(gap);
            if bucket.take(rate, now) {
                admitted.push(now);
            }
        }
        for (i, from) in admitted.iter().enumerate() {
            for (j, to) in admitted.iter().enumerate().skip(i) {
                let most = f64::from(burst) + (*to - *from).as_secs_f64() * f64::from(per_second);
                prop_assert!((j - i + 1) as f64 <= most + 1e-6);
            }
        }
        let interval = Duration::from_secs(1) / per_second + Duration::from_nanos(1);
        let mut patient = Bucket::new(begun);
        for n in 0..50 {
            prop_assert!(patient.take(rate, begun + interval * n));
        }
    }
}
