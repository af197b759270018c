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

/// From which port of this host datagrams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The sending worker's own.
    Lane,
    /// That on which this host listens.
    Listen,
}

/// Where datagrams go, and from which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Address and port at the peer, or of the address translation before it.
    pub to: SocketAddr,
    /// The port here.
    pub via: Via,
}

impl Way {
    /// To where a peer listens.
    #[must_use]
    pub const fn direct(to: SocketAddr) -> Self {
        Self { to, via: Via::Lane }
    }

    /// Whether datagrams from there are from where datagrams go. A peer that listens sends from other
    /// ports; behind address translation those count of the lane whose worker this one sends to.
    #[inline]
    #[must_use]
    pub fn leads_to(&self, from: &SocketAddr, is_home: bool) -> bool {
        match self.via {
            Via::Listen if is_home => self.to == *from,
            Via::Lane | Via::Listen => self.to.ip() == from.ip(),
        }
    }
}

/// How often at most a worker says that a peer's datagrams come from elsewhere. While it is not followed
/// there, the pause doubles.
pub const SEEN_EVERY: Duration = Duration::from_millis(50);
pub(crate) const SEEN_PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a number may take to come back.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Numbers that may be out at a time.
const TRIALS_MAX: usize = 16;
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
    configured: SocketAddr,
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
    /// A peer that listens at `configured`, for this host with so many workers, at least one.
    #[must_use]
    pub fn new(configured: SocketAddr, workers: usize) -> Self {
        let ways = vec![Way::direct(configured); workers.max(1)];
        Self { configured, ways, lanes: usize::MAX, trials: Vec::new(), asked: None }
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
        if way.via == Via::Lane { way.to } else { self.configured }
    }

    /// Where the peer is, if that is not where the configuration says.
    #[must_use]
    pub fn moved_to(&self) -> Option<SocketAddr> {
        let home = Way::direct(self.configured);
        self.ways.iter().find(|way| **way != home).map(|way| way.to)
    }

    /// The configuration says that it listens elsewhere.
    pub fn handle_configured(&mut self, configured: SocketAddr) {
        *self = Self { lanes: self.lanes, ..Self::new(configured, self.ways.len()) };
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
        self.trials.retain(|trial| now < trial.sent + ANSWER_MAX);
        let since = match self.asked {
            Some((ip, since)) if ip == from.ip() => since,
            _ => self.asked.insert((from.ip(), now)).1,
        };
        let direct = Way::direct(SocketAddr::new(from.ip(), self.configured.port()));
        let behind = Way { to: from, via: Via::Listen };
        let is_known = self.ways.iter().any(|way| way.via == Via::Listen);
        let is_behind = is_home && (is_known || now >= since + DIRECT_ALONE);
        let mut challenges = Vec::new();
        for ((way, is_due), number) in
            [(direct, true), (behind, is_behind)].into_iter().zip(numbers)
        {
            if is_due && self.trials.len() < TRIALS_MAX {
                let challenge = Challenge { worker, way, number };
                self.trials.push(Trial { challenge, sent: now });
                challenges.push(challenge);
            }
        }
        challenges
    }

    /// A number came back. Gives whether workers are to use other ways from now on.
    pub fn handle_answer(&mut self, now: Instant, number: u64) -> bool {
        let found = self.trials.iter().position(|trial| trial.challenge.number == number);
        let Some(Trial { challenge, sent }) = found.map(|i| self.trials.swap_remove(i)) else {
            return false;
        };
        if now >= sent + ANSWER_MAX {
            return false;
        }
        self.asked = None;
        let before = self.ways.clone();
        let Challenge { worker, way, .. } = challenge;
        let direct = SocketAddr::new(way.to.ip(), self.configured.port());
        match way.via {
            Via::Lane => self.ways.fill(way),
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
        self.ways != before
    }
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
        Roaming::new(at(HOME), workers)
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
        assert!(!peer.handle_answer(now, 99), "another number");
        assert!(peer.handle_answer(now, 1));
        assert_eq!(peer.ways(), [there; 2]);
        assert_eq!(peer.listens_at(), there.to);
        assert!(!peer.handle_answer(now, 1), "each number once");
        // And back home.
        let asked = peer.handle_seen(now, 0, at("192.0.2.2:5821"), true, numbers(2));
        assert!(peer.handle_answer(now, asked[0].number));
        assert_eq!(peer.moved_to(), None);
    }

    #[test]
    fn an_answer_that_comes_too_late_moves_nothing() {
        let mut peer = roaming(1);
        let now = Instant::now();
        peer.handle_seen(now, 0, at("198.51.100.7:5822"), true, numbers(1));
        assert!(!peer.handle_answer(now + ANSWER_MAX, 1));
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
        assert!(peer.handle_answer(later, asked[1].number));
        assert_eq!(peer.ways(), [behind, Way::direct(at(HOME))], "the other lane has its own port");
        assert_eq!(peer.listens_at(), at(HOME));
        assert_eq!(peer.handle_seen(later, 0, first, true, numbers(13)), []);
        let asked = peer.handle_seen(later, 1, second, true, numbers(14));
        assert!(peer.handle_answer(later, asked[1].number));
        assert_eq!(peer.ways(), [behind, Way { to: second, via: Via::Listen }]);
        // The translation forgets, and gives another port.
        let third = at("203.0.113.9:50000");
        let asked = peer.handle_seen(later, 0, third, true, numbers(15));
        assert!(peer.handle_answer(later, asked[1].number));
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
        assert!(peer.handle_answer(later, asked[1].number));
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
        assert!(peer.handle_answer(later, direct.number));
        assert!(!peer.handle_answer(later, behind.number));
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
        peer.handle_configured(at("192.0.2.9:5820"));
        assert_eq!(peer.ways(), [Way::direct(at("192.0.2.9:5820")); 2]);
    }
}
