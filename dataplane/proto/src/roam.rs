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
/// How long a peer that sends from a worse place may take to answer where it is.
const DOUBT_MAX: Duration = Duration::from_millis(200);
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
    /// The peer has answered where it is, and is not silent since.
    has_answered: bool,
    /// Since when it is asked again there, because it sends from a worse place.
    doubted: Option<Instant>,
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
            has_answered: false,
            doubted: None,
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
        self.has_answered &= !is_silent;
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
        (self.has_answered, self.doubted) = (true, None);
    }

    /// Whether the peer sends from a place where it listens and that is worse than where it is and answers.
    fn is_worse(&self, worker: usize, from: IpAddr) -> bool {
        let rank = |ip: IpAddr| self.places().position(|place| place.ip() == ip);
        let here = self.ways[worker].to.ip();
        self.has_answered
            && matches!((rank(here), rank(from)), (Some(here), Some(from)) if from > here)
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
        // Two hosts that followed each other to where the other has just left would never rest. So it is first asked where
        // it is, and followed when it does not answer there.
        if self.is_worse(worker, from.ip()) {
            let challenge = Challenge { worker, way: *way, number: numbers[0] };
            match self.doubted {
                None => {
                    self.doubted = Some(now);
                    return if self.begin(now, challenge) { vec![challenge] } else { Vec::new() };
                }
                Some(since) if now < since + DOUBT_MAX => return Vec::new(),
                Some(_) => {}
            }
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
                (self.has_answered, self.doubted) = (true, None);
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
mod tests;
