//! Where a peer is: follows it to another address, after asking there.
//!
//! ```text
//!            authenticated datagram from elsewhere       answered
//!  Direct ─────────────────────────────────────▶ trial ───────────▶ Direct, or Behind
//!    ▲                                             │ not answered
//!    └─────────────────────────────────────────────┘
//! ```
//! *Direct*: datagrams go to the port on which the peer listens. *Behind*: there is address translation
//! on the way, and nothing gets through but answers: what each worker sends goes from the port on which
//! this host listens to the port from which a lane of the peer came to that worker.
//!
//! A datagram from another address proves nothing but that somebody has it: whoever sees the network can
//! send a copy from anywhere. So nothing moves before a random number, sealed and sent there, has come
//! back sealed. Sans-IO: `handle_*` takes what happened and gives what to do.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::way::{Via, Way};

/// How often at most a worker says that a peer's datagrams come from elsewhere. While it is not followed
/// there, the pause doubles.
pub const SEEN_EVERY: Duration = Duration::from_millis(50);
pub(crate) const SEEN_PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a number may take to come back.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Numbers that may be out at a time.
const TRIALS_MAX: usize = 32;
/// How often a better place is tried while a peer is reached at another.
const BETTER_EVERY: Duration = Duration::from_secs(10);
/// A peer that does not answer where it should listen is asked for so long there alone.
const DIRECT_ALONE: Duration = Duration::from_millis(100);

/// A number to be sent to a place, sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// Which worker sends it.
    pub worker: usize,
    /// Where to.
    pub way: Way,
    /// The number.
    pub number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    challenge: Challenge,
    sent: Instant,
}

/// The place of one peer.
#[derive(Debug)]
pub struct Roaming {
    /// Where the configuration says that it listens.
    endpoint: SocketAddr,
    /// Where it listens as well, best first.
    alternatives: Vec<SocketAddr>,
    /// When better places were last tried.
    tried_better: Option<Instant>,
    /// What each worker uses.
    ways: Vec<Way>,
    /// On how many lanes the peer sends. It reads what goes to the port of one with the worker of that
    /// number, which is the one for every worker here of the same number, modulo the lanes.
    lanes: usize,
    trials: Vec<Trial>,
    /// Since when a peer is asked at this address without an answer.
    asked: Option<(IpAddr, Instant)>,
}

impl Roaming {
    /// A peer that listens at `endpoint`, and at `alternatives` as well, best first, for this host with so
    /// many workers, at least one.
    #[must_use]
    pub fn new(endpoint: SocketAddr, alternatives: &[SocketAddr], workers: usize) -> Self {
        Self {
            endpoint,
            alternatives: alternatives.to_vec(),
            tried_better: None,
            ways: vec![Way::direct(endpoint); workers.max(1)],
            lanes: usize::MAX,
            trials: Vec::new(),
            asked: None,
        }
    }

    /// All places where it listens, best first.
    fn places(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::once(self.endpoint).chain(self.alternatives.iter().copied())
    }

    /// What each worker uses.
    #[must_use]
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// Where the peer listens, as far as is known: for handshakes.
    #[must_use]
    pub fn listens_at(&self) -> SocketAddr {
        let way = self.ways[0];
        if way.via == Via::Lane { way.to } else { self.endpoint }
    }

    /// Where to call it after so many failures in a row: where it is, and then everywhere in turn.
    #[must_use]
    pub fn calls_at(&self, failures: u32) -> SocketAddr {
        let here = self.listens_at();
        let others = self.places().filter(|place| *place != here);
        let all: Vec<_> = std::iter::once(here).chain(others).collect();
        all[failures as usize % all.len()]
    }

    /// Where the peer is, if that is not where the configuration says.
    #[must_use]
    pub fn moved_to(&self) -> Option<SocketAddr> {
        let home = Way::direct(self.endpoint);
        self.ways.iter().find(|way| **way != home).map(|way| way.to)
    }

    /// The configuration says that it listens elsewhere.
    pub fn handle_configured(&mut self, endpoint: SocketAddr, alternatives: &[SocketAddr]) {
        *self = Self { lanes: self.lanes, ..Self::new(endpoint, alternatives, self.ways.len()) };
    }

    /// Looks whether the peer is to be asked at other places: at all of them while it does not answer, and
    /// at better ones now and then. `number` gives numbers that nobody may guess, while there are any.
    pub fn look(
        &mut self,
        now: Instant,
        is_silent: bool,
        mut number: impl FnMut() -> Option<u64>,
    ) -> Vec<Challenge> {
        let here = self.ways[0];
        let at = self.places().position(|place| Way::direct(place) == here);
        let places: Vec<_> = match at {
            _ if is_silent => self.places().collect(),
            Some(at) if self.tried_better.is_none_or(|last| now >= last + BETTER_EVERY) => {
                self.places().take(at).collect()
            }
            _ => return Vec::new(),
        };
        self.tried_better = Some(now);
        let ways = places.into_iter().map(Way::direct).filter(|way| *way != here);
        let challenges =
            ways.filter_map(|way| Some(Challenge { worker: 0, way, number: number()? }));
        let challenges: Vec<_> = challenges.collect();
        challenges.into_iter().filter(|challenge| self.begin(now, *challenge)).collect()
    }

    /// Asks the peer where it is thought to be.
    pub fn probe(&mut self, now: Instant, number: u64) -> Option<Challenge> {
        let challenge = Challenge { worker: 0, way: self.ways[0], number };
        self.begin(now, challenge).then_some(challenge)
    }

    /// Whether one more number may be out.
    fn begin(&mut self, now: Instant, challenge: Challenge) -> bool {
        self.trials.retain(|trial| now < trial.sent + ANSWER_MAX);
        let is_room = self.trials.len() < TRIALS_MAX;
        if is_room {
            self.trials.push(Trial { challenge, sent: now });
        }
        is_room
    }

    /// On how many lanes the peer sends, as it said in the handshake.
    pub fn handle_lanes(&mut self, lanes: u8) {
        self.lanes = usize::from(lanes).max(1);
    }

    /// A handshake that this host began ended well: the peer is where it was called.
    pub fn handle_called(&mut self, at: SocketAddr) {
        if self.listens_at() != at || self.ways[0].via == Via::Listen {
            self.ways.fill(Way::direct(at));
            self.trials.clear();
        }
    }

    /// An authenticated datagram came to a worker from elsewhere; `is_home` if on the lane whose worker
    /// this one sends to, which is the first of those that come to it. Nobody else may know or guess the
    /// numbers, nor one from the other.
    pub fn handle_seen(
        &mut self,
        now: Instant,
        worker: usize,
        from: SocketAddr,
        is_home: bool,
        numbers: [u64; 2],
    ) -> Vec<Challenge> {
        let Some(way) = self.ways.get(worker) else { return Vec::new() };
        if way.leads_to(&from, is_home) {
            return Vec::new();
        }
        let since = match self.asked {
            Some((ip, since)) if ip == from.ip() => since,
            _ => self.asked.insert((from.ip(), now)).1,
        };
        let direct = Way::direct(self.listening_on(from.ip()));
        let behind = Way { to: from, via: Via::Listen };
        let is_known = self.ways.iter().any(|way| way.via == Via::Listen);
        let is_behind = is_home && (is_known || now >= since + DIRECT_ALONE);
        let mut challenges = Vec::new();
        for ((way, is_due), number) in
            [(direct, true), (behind, is_behind)].into_iter().zip(numbers)
        {
            let challenge = Challenge { worker, way, number };
            if is_due && self.begin(now, challenge) {
                challenges.push(challenge);
            }
        }
        challenges
    }

    /// Of several places that answer, the best counts.
    fn forget_worse(&mut self, than: Way) {
        let places: Vec<_> = self.places().map(Way::direct).collect();
        let rank = |way: Way| places.iter().position(|place| *place == way);
        if let Some(than) = rank(than) {
            self.trials.retain(|trial| rank(trial.challenge.way).is_some_and(|rank| rank < than));
        }
    }

    /// Where a peer listens that has this address.
    fn listening_on(&self, ip: IpAddr) -> SocketAddr {
        let known = self.places().find(|place| place.ip() == ip);
        known.unwrap_or(SocketAddr::new(ip, self.endpoint.port()))
    }

    /// A number came back.
    pub fn handle_answer(&mut self, now: Instant, number: u64) -> Answer {
        let found = self.trials.iter().position(|trial| trial.challenge.number == number);
        let Some(Trial { challenge, sent }) = found.map(|i| self.trials.swap_remove(i)) else {
            return Answer::Unknown;
        };
        if now >= sent + ANSWER_MAX {
            return Answer::Unknown;
        }
        self.asked = None;
        let before = self.ways.clone();
        let Challenge { worker, way, .. } = challenge;
        let direct = self.listening_on(way.to.ip());
        match way.via {
            Via::Lane | Via::Stream(_) => {
                self.ways.fill(way);
                self.forget_worse(way);
            }
            // Where it listens is the better way.
            Via::Listen if self.ways[worker].via == Via::Lane && self.ways[worker].to == direct => {
            }
            Via::Listen => {
                let same = |w: usize| w % self.lanes == worker;
                for (_, other) in self.ways.iter_mut().enumerate().filter(|(w, _)| same(*w)) {
                    *other = way;
                }
            }
        }
        if self.ways == before { Answer::Same } else { Answer::Moved }
    }
}

/// What a number says that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: it was not asked for, or came too late.
    Unknown,
    /// UDP reaches the peer.
    Same,
    /// UDP reaches it elsewhere: workers are to use other ways from now on.
    Moved,
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            peer.handle_seen(now, 0, first, true, numbers(11)).len(),
            1,
            "where it may listen"
        );
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
}
