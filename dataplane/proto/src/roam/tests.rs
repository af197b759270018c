use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const HOME: &str = "192.0.2.2:5820";

/// Numbers that are not equal.
fn numbers(first: u64) -> [u64; 2] {
    [2 * first - 1, 2 * first]
}

fn roaming(workers: usize) -> Roaming {
    Roaming::new(at(HOME), &[], workers)
}

#[test]
fn a_peer_at_home_is_not_asked() {
    let mut peer = roaming(2);
    let now = Instant::now();
    // It sends from ports of its own.
    assert_eq!(peer.handle_seen(now, 1, at("192.0.2.2:5822"), true, numbers(1)), []);
    assert_eq!(peer.moved_to(), None);
}

#[test]
fn a_peer_is_followed_when_it_answers_and_not_before() {
    let mut peer = roaming(2);
    let now = Instant::now();
    let asked = peer.handle_seen(now, 1, at("198.51.100.7:5822"), true, numbers(1));
    let there = Way::direct(at("198.51.100.7:5820"));
    assert_eq!(asked, [Challenge { worker: 1, way: there, number: 1 }]);
    assert_eq!(peer.moved_to(), None);
    assert_eq!(peer.handle_answer(now, 99), Answer::Unknown, "another number");
    assert_eq!(peer.handle_answer(now, 1), Answer::Moved);
    assert_eq!(peer.ways(), [there; 2]);
    assert_eq!(peer.listens_at(), there.to);
    assert_eq!(peer.handle_answer(now, 1), Answer::Unknown, "each number once");
    // And back home.
    let asked = peer.handle_seen(now, 0, at("192.0.2.2:5821"), true, numbers(2));
    assert_eq!(peer.handle_answer(now, asked[0].number), Answer::Moved);
    assert_eq!(peer.moved_to(), None);
}

#[test]
fn an_answer_that_comes_too_late_moves_nothing() {
    let mut peer = roaming(1);
    let now = Instant::now();
    peer.handle_seen(now, 0, at("198.51.100.7:5822"), true, numbers(1));
    assert_eq!(peer.handle_answer(now + ANSWER_MAX, 1), Answer::Unknown);
    assert_eq!(peer.moved_to(), None);
}

#[test]
fn behind_address_translation_the_port_is_that_of_the_lane() {
    let mut peer = roaming(2);
    let now = Instant::now();
    let (first, second) = (at("203.0.113.9:40001"), at("203.0.113.9:40002"));
    assert_eq!(peer.handle_seen(now, 0, first, true, numbers(11)).len(), 1, "where it may listen");
    let later = now + DIRECT_ALONE;
    let asked = peer.handle_seen(later, 0, first, true, numbers(12));
    let behind = Way { to: first, via: Via::Listen };
    assert_eq!(asked[1].way, behind);
    assert_eq!(peer.handle_answer(later, asked[1].number), Answer::Moved);
    assert_eq!(peer.ways(), [behind, Way::direct(at(HOME))], "the other lane has its own port");
    assert_eq!(peer.listens_at(), at(HOME));
    assert_eq!(peer.handle_seen(later, 0, first, true, numbers(13)), []);
    let asked = peer.handle_seen(later, 1, second, true, numbers(14));
    assert_eq!(peer.handle_answer(later, asked[1].number), Answer::Moved);
    assert_eq!(peer.ways(), [behind, Way { to: second, via: Via::Listen }]);
    // The translation forgets, and gives another port.
    let third = at("203.0.113.9:50000");
    let asked = peer.handle_seen(later, 0, third, true, numbers(15));
    assert_eq!(peer.handle_answer(later, asked[1].number), Answer::Moved);
    assert_eq!(peer.ways()[0].to, third);
}

#[test]
fn workers_send_to_the_port_that_the_right_one_reads() {
    let (now, later) = (Instant::now(), Instant::now() + DIRECT_ALONE);
    // The peer has two lanes, this host five workers.
    let mut peer = roaming(5);
    peer.handle_lanes(2);
    let from = at("203.0.113.9:40001");
    peer.handle_seen(now, 1, from, true, numbers(1));
    let asked = peer.handle_seen(later, 1, from, true, numbers(2));
    assert_eq!(peer.handle_answer(later, asked[1].number), Answer::Moved);
    let behind: Vec<_> = peer.ways().iter().map(|way| way.via == Via::Listen).collect();
    assert_eq!(behind, [false, true, false, true, false]);
    // Another lane of the peer, of which there are more than workers here, says where it is and no more.
    let mut peer = roaming(1);
    peer.handle_lanes(4);
    peer.handle_seen(now, 0, from, false, numbers(1));
    let asked = peer.handle_seen(later, 0, from, false, numbers(2));
    assert_eq!(asked.len(), 1, "where it may listen");
}

#[test]
fn where_it_listens_is_the_better_way() {
    let mut peer = roaming(1);
    let now = Instant::now();
    let from = at("198.51.100.7:5822");
    peer.handle_seen(now, 0, from, true, numbers(16));
    let later = now + DIRECT_ALONE;
    let asked = peer.handle_seen(later, 0, from, true, numbers(17));
    let [direct, behind] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(peer.handle_answer(later, direct.number), Answer::Moved);
    assert_ne!(peer.handle_answer(later, behind.number), Answer::Moved);
    assert_eq!(peer.ways(), [direct.way]);
}

#[test]
fn numbers_that_are_out_are_bounded() {
    let mut peer = roaming(1);
    let now = Instant::now();
    let mut asked = 0;
    for port in 1..1_000 {
        let from = SocketAddr::new([198, 51, 100, 7].into(), port);
        asked += peer.handle_seen(now, 0, from, true, numbers(port.into())).len();
    }
    assert_eq!(asked, TRIALS_MAX);
    assert_eq!(
        peer.handle_seen(now + ANSWER_MAX, 0, at("198.51.100.7:1"), true, numbers(1)).len(),
        2
    );
}

#[test]
fn a_configured_or_called_address_counts_at_once() {
    let mut peer = roaming(2);
    let now = Instant::now();
    let asked = peer.handle_seen(now, 0, at("198.51.100.7:5822"), true, numbers(1));
    peer.handle_answer(now, asked[0].number);
    assert!(peer.moved_to().is_some());
    peer.handle_called(at(HOME));
    assert_eq!(peer.moved_to(), None);
    peer.handle_configured(at("192.0.2.9:5820"), &[]);
    assert_eq!(peer.ways(), [Way::direct(at("192.0.2.9:5820")); 2]);
}

/// Numbers from there on.
fn counting(mut from: u64) -> impl FnMut() -> Option<u64> {
    move || {
        from += 1;
        Some(from)
    }
}

const SECOND: &str = "198.51.100.2:5820";
const THIRD: &str = "203.0.113.2:7000";

#[test]
fn a_silent_peer_is_asked_everywhere_and_the_best_place_that_answers_counts() {
    let mut peer = Roaming::new(at(HOME), &[at(SECOND), at(THIRD)], 2);
    let now = Instant::now();
    assert_eq!(peer.look(now, false, counting(0)), []);
    let asked = peer.look(now, true, counting(0));
    let places: Vec<_> = asked.iter().map(|challenge| challenge.way).collect();
    assert_eq!(places, [Way::direct(at(SECOND)), Way::direct(at(THIRD))]);
    assert_eq!(peer.handle_answer(now, asked[1].number), Answer::Moved);
    assert_eq!(peer.ways(), [Way::direct(at(THIRD)); 2]);
    assert_eq!(peer.handle_answer(now, asked[0].number), Answer::Moved, "a better one");
    assert_eq!(peer.ways(), [Way::direct(at(SECOND)); 2]);
    assert_eq!(peer.moved_to(), Some(at(SECOND)));
    // The other order.
    let asked = peer.look(now, true, counting(10));
    assert_eq!(asked[0].way, Way::direct(at(HOME)));
    assert_eq!(peer.handle_answer(now, asked[0].number), Answer::Moved);
    assert_eq!(peer.handle_answer(now, asked[1].number), Answer::Unknown);
    assert_eq!(peer.moved_to(), None);
}

#[test]
fn a_better_place_is_tried_now_and_then() {
    let mut peer = Roaming::new(at(HOME), &[at(SECOND), at(THIRD)], 1);
    let now = Instant::now();
    let asked = peer.look(now, true, counting(0));
    peer.handle_answer(now, asked[1].number);
    assert_eq!(peer.look(now, false, counting(10)), []);
    let later = now + BETTER_EVERY;
    let asked = peer.look(later, false, counting(10));
    let places: Vec<_> = asked.iter().map(|challenge| challenge.way.to).collect();
    assert_eq!(places, [at(HOME), at(SECOND)]);
    assert_eq!(peer.look(later, false, counting(20)), []);
    assert_eq!(peer.handle_answer(later, asked[0].number), Answer::Moved);
    assert_eq!(peer.look(later + BETTER_EVERY, false, counting(20)), [], "it is at the best");
}

#[test]
fn a_place_that_answers_is_not_left_for_a_worse_one() {
    let second = at("198.51.100.2:5820");
    let mut peer = Roaming::new(at(HOME), &[second], 1);
    let now = Instant::now();
    let seen = |peer: &mut Roaming, now, number| {
        let from = at("198.51.100.2:5821");
        let asked = peer.handle_seen(now, 0, from, true, numbers(number));
        asked.into_iter().map(|challenge| (challenge.way.to, challenge.number)).collect::<Vec<_>>()
    };
    assert_eq!(seen(&mut peer, now, 1), [(second, 1)], "nothing is known of the best place yet");
    let asked = peer.probe(now, 99).unwrap();
    assert_eq!(peer.handle_answer(now, asked.number), Answer::Same);
    // It is asked whether it still answers there; it does.
    assert_eq!(seen(&mut peer, now, 2), [(at(HOME), 3)]);
    assert_eq!(seen(&mut peer, now, 3), []);
    assert_eq!(peer.handle_answer(now, 3), Answer::Same);
    // And then it does not.
    assert_eq!(seen(&mut peer, now, 4), [(at(HOME), 7)]);
    let early = now + DOUBT_MAX - Duration::from_millis(1);
    assert_eq!(seen(&mut peer, early, 5), []);
    assert_eq!(seen(&mut peer, now + DOUBT_MAX, 6)[0], (second, 11));
    assert_eq!(peer.handle_answer(now + DOUBT_MAX, 11), Answer::Moved);
    // From an address that is no place of its own it may have moved.
    let elsewhere = at("203.0.113.9:5821");
    assert!(!peer.handle_seen(now, 0, elsewhere, true, numbers(7)).is_empty());
}

/// Two hosts that both use their second network find the first good again at the same moment, while what the other has
/// sent over the second is still on its way.
#[test]
fn two_hosts_that_change_networks_at_once_come_to_rest() {
    let now = Instant::now();
    let places = |host: u8| [1, 2].map(|net| at(&format!("192.0.{net}.{host}:5820")));
    let mut hosts = [2, 1].map(|peer| {
        let [first, second] = places(peer);
        let mut roaming = Roaming::new(first, &[second], 1);
        roaming.handle_called(second);
        roaming
    });
    // Which network a host sends over, and from where it is seen there.
    let source = |host: usize, roaming: &Roaming| {
        let [first, second] = places(if host == 0 { 1 } else { 2 });
        let is_first = roaming.ways()[0].to.ip() == places(if host == 0 { 2 } else { 1 })[0].ip();
        if is_first { first } else { second }
    };
    let mut number = 100;
    let mut next = || {
        number += 1;
        Some(number)
    };
    let mut out: [Vec<u64>; 2] = [0, 1].map(|host| {
        let asked: Vec<Challenge> = hosts[host].look(now, false, &mut next);
        asked.into_iter().map(|challenge| challenge.number).collect()
    });
    let mut sent = [source(0, &hosts[0]), source(1, &hosts[1])];
    let mut moves = 0;
    for _ in 0..20 {
        let arriving = std::mem::replace(&mut sent, [source(0, &hosts[0]), source(1, &hosts[1])]);
        for host in 0..2 {
            for number in std::mem::take(&mut out[host]) {
                moves += u32::from(hosts[host].handle_answer(now, number) == Answer::Moved);
            }
            let numbers = [next().unwrap(), next().unwrap()];
            let asked = hosts[host].handle_seen(now, 0, arriving[1 - host], true, numbers);
            out[host] = asked.into_iter().map(|challenge| challenge.number).collect();
        }
    }
    assert_eq!(moves, 2, "each once");
}

#[test]
fn a_peer_is_called_where_it_is_and_then_everywhere() {
    let mut peer = Roaming::new(at(HOME), &[at(SECOND)], 1);
    let calls = |peer: &Roaming| [0, 1, 2, 3].map(|failures| peer.calls_at(failures));
    assert_eq!(calls(&peer), [at(HOME), at(SECOND), at(HOME), at(SECOND)]);
    peer.handle_called(at(SECOND));
    assert_eq!(calls(&peer), [at(SECOND), at(HOME), at(SECOND), at(HOME)]);
}

#[test]
fn a_place_with_a_port_of_its_own_is_known_by_its_address() {
    let mut peer = Roaming::new(at(HOME), &[at(THIRD)], 1);
    let asked = peer.handle_seen(Instant::now(), 0, at("203.0.113.2:7003"), true, numbers(1));
    assert_eq!(asked[0].way, Way::direct(at(THIRD)));
}

#[test]
fn whether_udp_reaches_a_peer_can_be_asked() {
    let mut peer = roaming(2);
    let now = Instant::now();
    let asked = peer.probe(now, 7).unwrap();
    assert_eq!(asked.way, Way::direct(at(HOME)));
    assert_eq!(peer.handle_answer(now, 7), Answer::Same);
}
