//! One peer in one environment, seen from outside the workers: when to handshake, which session
//! carries data, when sessions end.
//!
//! ```text
//!            handle_need, time            handle_established        handle_alive
//!  no session ───────────▶ handshaking ───────────────▶ unproven ──────────────▶ active
//!      ▲                      │ failed                                             │ newer one
//!      └──── waiting ◀────────┘ (doubling, to 60 s)                     retiring ◀─┘ 10 s, gone
//! ```
//! Sans-IO: `handle_*` takes what happened, [`Peer::poll_action`] gives what to do.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use weft_types::HostId;

use crate::{SessionId, keys::Role};

/// How long a replaced session still receives.
const RETIRE: Duration = Duration::from_secs(10);
/// How long a session may stay without an authenticated datagram before it is given up.
const PROVE_MAX: Duration = Duration::from_secs(30);
/// After so long without one, UDP is taken not to get through: five times its confirmation was asked for.
const LATE_AFTER: Duration = Duration::from_millis(500);
/// The host with the greater id leaves the regular handshakes to the other for so long.
const SECOND_DELAY: Duration = Duration::from_secs(60);
/// First pause after a failed handshake; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Longest pause between handshakes while packets go to a peer that does not answer.
const RETRY_SILENT: Duration = Duration::from_secs(2);
/// Most sessions of one peer at a time: an active one, retiring ones, and simultaneous handshakes.
/// The oldest that carries no data goes first.
pub const SESSIONS_MAX: usize = 8;
/// How long sessions go on when something by which peers were known is not trusted any more: time for others to be made,
/// by those who are known by something else.
pub const DISTRUST_MAX: Duration = Duration::from_secs(20);
/// Nothing is sealed so long after a session's handshake.
pub const SESSION_AGE_MAX: Duration = Duration::from_secs(2 * 3600);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Connect to the peer.
    Handshake,
    /// Send on this session from now on.
    Activate(SessionId),
    /// A handshake of this host made a session, TCP gets through, and datagrams do not seem to.
    Late,
    /// Count a handshake of this host as failed: it made a session, and no datagram of the peer came
    /// on it in time. Its removal follows.
    Unproven,
    /// Forget this session; tell the peer if `say_so`.
    Remove {
        /// Which.
        id: SessionId,
        /// Whether the peer is told.
        say_so: bool,
    },
}

/// A session that a handshake made.
#[derive(Debug, Clone, Copy)]
pub struct Established {
    /// Its id here.
    pub id: SessionId,
    /// Which end of the TLS connection this host was.
    pub role: Role,
    /// Random number of the peer's state. Another one than before: the peer has forgotten all
    /// earlier sessions.
    pub peer_instance: [u8; 16],
    /// Counts the handshakes of two hosts: the TLS client sends one more than the greatest it
    /// knows. Simultaneous handshakes have the same.
    pub generation: u32,
    /// Nothing is sealed from then on.
    pub expires: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    id: SessionId,
    role: Role,
    client_is_smaller: bool,
    peer_instance: [u8; 16],
    generation: u32,
    established: Instant,
    expires: Instant,
    is_alive: bool,
    /// When it is said to be late.
    late: Option<Instant>,
    retires: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Idle,
    Running,
    Waiting { until: Instant },
}

/// What the relation with the peer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No session and nothing asks for one.
    Idle,
    /// No session, a handshake runs.
    Handshaking,
    /// No session, the last handshake failed.
    Waiting,
    /// A session carries data.
    Active {
        /// Which.
        id: SessionId,
        /// This host's end of its TLS connection.
        role: Role,
        /// When its handshake ended.
        established: Instant,
    },
}

/// The relation with one peer.
#[derive(Debug)]
pub struct Peer {
    is_smaller: bool,
    rehandshake: Duration,
    sessions: Vec<Known>,
    active: Option<SessionId>,
    handshake: Handshake,
    failures: u32,
    /// A session was made while our own handshake ran or waited.
    was_overtaken: bool,
    generation: u32,
    actions: VecDeque<Action>,
}

impl Peer {
    /// A relation without sessions. `rehandshake` is the time between regular handshakes.
    #[must_use]
    pub fn new(local: &HostId, remote: &HostId, rehandshake: Duration) -> Self {
        Self {
            is_smaller: local < remote,
            rehandshake,
            sessions: Vec::new(),
            active: None,
            handshake: Handshake::Idle,
            failures: 0,
            was_overtaken: false,
            generation: 0,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The generation that a handshake which begins now sends.
    #[must_use]
    pub fn next_generation(&self) -> u32 {
        self.generation.saturating_add(1)
    }

    /// What the relation is doing.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.known(self.active), self.handshake) {
            (Some(s), _) => State::Active { id: s.id, role: s.role, established: s.established },
            (None, Handshake::Idle) => State::Idle,
            (None, Handshake::Running) => State::Handshaking,
            (None, Handshake::Waiting { .. }) => State::Waiting,
        }
    }

    /// All sessions, active or not.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.iter().map(|s| s.id)
    }

    /// A session is wanted: the daemon starts, or packets wait.
    pub fn handle_need(&mut self) {
        if self.active.is_none() && !self.has_unproven() && self.handshake == Handshake::Idle {
            self.begin();
        }
    }

    /// A new session is wanted although there may be one: certificate renewed, keys run out.
    pub fn handle_renew(&mut self) {
        if self.handshake == Handshake::Idle {
            self.begin();
        }
    }

    /// Something by which the peer may have been known is not trusted any more. No session of before goes on for longer
    /// than [`DISTRUST_MAX`], whoever is at its other end, and another one is wanted.
    pub fn handle_distrust(&mut self, now: Instant) {
        for session in &mut self.sessions {
            session.expires = session.expires.min(now + DISTRUST_MAX);
        }
        self.handle_renew();
    }

    /// The peer does not answer on the session that carries data. While that is said again and again
    /// a handshake is tried at least every [`RETRY_SILENT`].
    pub fn handle_silence(&mut self, now: Instant) {
        // One that has waited for its first datagram for long is no use: it may be the peer that called,
        // and address translation that lets nothing in.
        let is_new = |s: &Known| !s.is_alive && now < s.established + RETRY_SILENT;
        if self.active.is_none() || self.sessions.iter().any(is_new) {
            return;
        }
        match self.handshake {
            Handshake::Idle => self.begin(),
            Handshake::Waiting { until } => {
                self.handshake = Handshake::Waiting { until: until.min(now + RETRY_SILENT) };
            }
            Handshake::Running => {}
        }
    }

    /// The keys of a session run out.
    pub fn handle_rekey_soon(&mut self, id: SessionId) {
        if self.active == Some(id) && !self.has_unproven() {
            self.handle_renew();
        }
    }

    /// The handshake that [`Action::Handshake`] asked for failed. `random` makes the jitter.
    ///
    /// It is not tried again when the peer made a session meanwhile.
    pub fn handle_failed(&mut self, now: Instant, random: u32) {
        if std::mem::take(&mut self.was_overtaken) {
            self.handshake = Handshake::Idle;
            return;
        }
        let pause = RETRY_MAX.min(RETRY_MIN.saturating_mul(1 << self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        // Between three quarters and five quarters of the pause, so that hosts do not march.
        let jitter = pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0);
        let until = now + (pause * 3 / 4 + jitter).min(RETRY_MAX);
        self.handshake = Handshake::Waiting { until };
    }

    /// A handshake made a session; the workers have it, and it waits for its first datagram.
    pub fn handle_established(&mut self, now: Instant, new: Established) {
        match (new.role, self.handshake) {
            (Role::Client, _) | (Role::Server, Handshake::Waiting { .. }) => {
                self.handshake = Handshake::Idle;
            }
            (Role::Server, Handshake::Running) => self.was_overtaken = true,
            (Role::Server, Handshake::Idle) => {}
        }
        self.failures = 0;
        self.generation = self.generation.max(new.generation);
        let client_is_smaller = self.is_smaller == (new.role == Role::Client);
        self.sessions.push(Known {
            id: new.id,
            role: new.role,
            client_is_smaller,
            peer_instance: new.peer_instance,
            generation: new.generation,
            established: now,
            expires: new.expires,
            is_alive: false,
            late: (new.role == Role::Client).then_some(now + LATE_AFTER),
            retires: None,
        });
        if self.sessions.len() > SESSIONS_MAX
            && let Some(oldest) = self.sessions.iter().find(|s| Some(s.id) != self.active)
        {
            let id = oldest.id;
            self.remove(id, false);
        }
    }

    /// The first authenticated datagram of a session arrived: it can carry data.
    pub fn handle_alive(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.iter_mut().find(|s| s.id == id) else {
            return;
        };
        session.is_alive = true;
        session.late = None;
        self.choose(now);
    }

    /// The peer has forgotten a session.
    pub fn handle_closed(&mut self, now: Instant, id: SessionId) {
        if self.known(Some(id)).is_some() {
            self.remove(id, false);
            self.choose(now);
            // It will call if it only restarts and knows where to.
            if self.active.is_none() && self.handshake == Handshake::Idle {
                self.handshake = Handshake::Waiting { until: now + RETRY_MIN };
            }
        }
    }

    /// The peer is to be forgotten.
    pub fn close(&mut self) {
        let ids: Vec<_> = self.sessions().collect();
        for id in ids {
            self.remove(id, true);
        }
    }

    /// When [`Peer::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = match self.handshake {
            Handshake::Waiting { until } => Some(until),
            Handshake::Idle => self.regular_handshake(),
            Handshake::Running => None,
        };
        let late = self.sessions.iter().filter_map(|s| s.late);
        self.sessions.iter().map(Self::end_of).chain(waiting).chain(late).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for session in self.sessions.iter_mut().filter(|s| s.late.is_some_and(|at| at <= now)) {
            session.late = None;
            self.actions.push_back(Action::Late);
        }
        let due: Vec<_> =
            self.sessions.iter().filter(|s| Self::end_of(s) <= now).copied().collect();
        let had_active = self.active.is_some();
        let mut was_in_vain = false;
        for session in due {
            if !session.is_alive && session.role == Role::Client {
                was_in_vain = true;
                self.actions.push_back(Action::Unproven);
            }
            self.remove(session.id, session.retires.is_none());
        }
        self.choose(now);
        let is_due = match self.handshake {
            Handshake::Waiting { until } => until <= now,
            Handshake::Idle => self.regular_handshake().is_some_and(|at| at <= now),
            Handshake::Running => false,
        };
        let is_without = self.active.is_none() && (had_active || was_in_vain);
        if is_due || is_without && self.handshake == Handshake::Idle {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.was_overtaken = false;
        self.handshake = Handshake::Running;
        self.actions.push_back(Action::Handshake);
    }

    fn known(&self, id: Option<SessionId>) -> Option<&Known> {
        self.sessions.iter().find(|s| Some(s.id) == id)
    }

    /// When a session is over: replaced and drained, never proven, or too old.
    fn end_of(session: &Known) -> Instant {
        let proven = (!session.is_alive).then_some(session.established + PROVE_MAX);
        [session.retires, proven].into_iter().flatten().fold(session.expires, Instant::min)
    }

    /// Whether a session waits for its first datagram: another handshake would be too early.
    fn has_unproven(&self) -> bool {
        self.sessions.iter().any(|s| !s.is_alive)
    }

    fn regular_handshake(&self) -> Option<Instant> {
        if self.has_unproven() {
            return None;
        }
        let active = self.known(self.active)?;
        let delay = if self.is_smaller { Duration::ZERO } else { SECOND_DELAY };
        Some(active.established + self.rehandshake + delay)
    }

    /// Picks the session that carries data: of those that are proven, the newest; of simultaneous
    /// ones, that whose TLS client has the smaller host id. Both hosts pick alike.
    fn choose(&mut self, now: Instant) {
        let best = self.sessions.iter().filter(|s| s.is_alive).copied().reduce(|a, b| {
            let b_wins = if a.peer_instance == b.peer_instance {
                (b.generation, b.client_is_smaller) >= (a.generation, a.client_is_smaller)
            } else {
                b.established >= a.established
            };
            if b_wins { b } else { a }
        });
        let Some(best) = best else { return };
        if self.active != Some(best.id) {
            self.active = Some(best.id);
            self.actions.push_back(Action::Activate(best.id));
        }
        for session in self.sessions.iter_mut().filter(|s| s.id != best.id && s.is_alive) {
            // What the peer has forgotten cannot be used any more; the rest drains.
            let restarted = session.peer_instance != best.peer_instance;
            let retires = if restarted { now } else { now + RETIRE };
            session.retires = Some(session.retires.map_or(retires, |at| at.min(retires)));
        }
        for session in self.sessions.iter_mut().filter(|s| s.id == best.id) {
            session.retires = None;
        }
    }

    fn remove(&mut self, id: SessionId, say_so: bool) {
        self.sessions.retain(|s| s.id != id);
        if self.active == Some(id) {
            self.active = None;
        }
        self.actions.push_back(Action::Remove { id, say_so });
    }
}

#[cfg(test)]
mod tests;
