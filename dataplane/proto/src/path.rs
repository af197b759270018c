//! Which datagrams the path to a peer carries: packetization layer path MTU discovery (RFC 8899).
//!
//! Sizes are UDP payloads in bytes. A path is taken to carry what both ends take, as nearly every
//! one does, and is asked for it as soon as something long is sent. ICMP is never believed.
//!
//! ```text
//!          something long is sent                 answered
//!   Idle ─────────────────────────▶ Confirming ──────────────▶ Idle
//!    ▲                                  │ no answer but to BASE_LEN: that is used at once
//!    │ all is known                     ▼
//!    └────────────────────────────── Searching: halves what lies between the longest that was
//!      again after RAISE_EVERY                  answered and the shortest that was not
//! ```
//! Where nothing at all is answered, nothing is learnt: the peer may be away.

use std::time::{Duration, Instant};

/// What every path carries (`BASE_PLPMTU`; RFC 8899, 5.1.2).
pub(crate) const BASE_LEN: u16 = 1_200;
/// What a path without jumbo frames carries over IPv4: tried before anything else in between.
const USUAL_LEN: u16 = 1_472;
/// Probes of one size that get no answer before it is taken for too long. More than the three of
/// RFC 8899, 5.1.2: with a fifth of all datagrams lost, three would fail every 20 s.
const PROBES_MAX: u8 = 10;
/// Between two of them.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// How long the answer to the last one may take (`PROBE_TIMER`; RFC 8899, 5.1.1: at least 1 s).
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How often at most the length in use is asked for while anything longer than [`BASE_LEN`] is sent: a
/// path that shrinks swallows it in silence (RFC 8899, 4.3).
const CONFIRM_EVERY: Duration = Duration::from_millis(500);
/// When what was too long is tried again (`PMTU_RAISE_TIMER`; RFC 8899, 5.1.1).
const RAISE_EVERY: Duration = Duration::from_secs(600);
/// When a search goes on that nobody answered.
const RESUME_AFTER: Duration = Duration::from_secs(10);
/// A search ends when fewer bytes than this are in question.
const PRECISION: u16 = 8;

/// What the path to a peer carries, as far as is known.
#[derive(Debug)]
pub(crate) struct PathMtu {
    /// What both ends take.
    limit: u16,
    /// In use.
    current: u16,
    state: State,
    /// When something longer than [`BASE_LEN`] was first sent since the last answer.
    used: Option<Instant>,
    /// When what is in use was last asked for to the end.
    confirmed: Option<Instant>,
    /// When something longer is to be tried.
    raise_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing is asked.
    Idle,
    /// Whether the length in use arrives.
    Confirming(Probe),
    /// Whether a longer one arrives; that of `lost` does not.
    Searching { probe: Probe, lost: u16 },
}

/// A length that is asked for.
#[derive(Debug, Clone, Copy)]
struct Probe {
    len: u16,
    /// How many were sent.
    sent: u8,
    /// One of [`BASE_LEN`] goes with the last of them.
    owes_base: bool,
    /// One of those was answered.
    base_arrives: bool,
    /// When the next is to be sent, or the length to be given up.
    due: Instant,
}

impl Probe {
    const fn new(len: u16, now: Instant) -> Self {
        Self { len, sent: 0, owes_base: false, base_arrives: false, due: now }
    }

    /// The length of the next datagram to be sent, if it is time for one.
    fn poll(&mut self, now: Instant) -> Option<u16> {
        if std::mem::take(&mut self.owes_base) {
            return Some(BASE_LEN);
        }
        if now < self.due || self.is_over() {
            return None;
        }
        // Nearly always the first is answered, and tells everything.
        self.owes_base = self.sent > 0;
        self.sent += 1;
        self.due = now + if self.is_over() { ANSWER_MAX } else { PROBE_PAUSE };
        Some(self.len)
    }

    /// All were sent.
    const fn is_over(&self) -> bool {
        self.sent >= PROBES_MAX
    }
}

impl Default for PathMtu {
    fn default() -> Self {
        Self::new(BASE_LEN)
    }
}

impl PathMtu {
    /// A path whose ends take datagrams of `limit` bytes; nothing is asked up to [`BASE_LEN`].
    pub(crate) fn new(limit: u16) -> Self {
        let state = State::Idle;
        Self { limit, current: limit, state, used: None, confirmed: None, raise_at: None }
    }

    /// Says what both ends take. If that is new, all is forgotten.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        if limit != self.limit {
            *self = Self::new(limit);
        }
    }

    /// The peer is somewhere else: all is forgotten.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.limit);
    }

    /// The longest datagram to send, bytes.
    #[inline]
    pub(crate) fn current(&self) -> u16 {
        self.current
    }

    /// A datagram of so many bytes is sent. Gives whether [`PathMtu::poll_timeout`] may have changed.
    #[inline]
    pub(crate) fn handle_use(&mut self, now: Instant, len: usize) -> bool {
        let is_news = len > usize::from(BASE_LEN) && self.used.is_none();
        if is_news {
            self.used = Some(now);
        }
        is_news
    }

    /// When [`PathMtu::poll_probe`] wants to be called at the latest, besides every second or so.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Confirming(probe) | State::Searching { probe, .. } => Some(probe.due),
            State::Idle => self.used.filter(|_| self.confirmed.is_none()),
        }
    }

    /// When an idle path is to be asked; `None`: not before something is sent.
    fn idle_until(&self) -> Option<Instant> {
        let confirm = self.used.map(|used| match self.confirmed {
            Some(at) => used.max(at + CONFIRM_EVERY),
            None => used,
        });
        confirm.into_iter().chain(self.raise_at).min()
    }

    /// The length of a probe to be sent now, until there is none. What is in use may have changed
    /// then.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<u16> {
        loop {
            match &mut self.state {
                State::Idle => {
                    if self.idle_until().is_none_or(|at| now < at) {
                        return None;
                    }
                    self.ask(now);
                }
                State::Confirming(probe) | State::Searching { probe, .. } => {
                    let polled = probe.poll(now);
                    if polled.is_some() || now < probe.due {
                        return polled;
                    }
                    self.give_up(now);
                }
            }
        }
    }

    /// A probe of so many bytes has arrived. Gives whether what is in use changed.
    pub(crate) fn handle_answer(&mut self, now: Instant, len: u16) -> bool {
        match &mut self.state {
            State::Confirming(probe) if probe.len == len => {
                self.rest(now);
                false
            }
            State::Searching { probe, lost } if probe.len == len => {
                let lost = *lost;
                self.current = len;
                self.search(now, lost);
                true
            }
            State::Confirming(probe) | State::Searching { probe, .. } => {
                probe.base_arrives |= len == BASE_LEN;
                false
            }
            State::Idle => false,
        }
    }

    fn ask(&mut self, now: Instant) {
        self.state = if self.raise_at.is_some_and(|at| now >= at) {
            let lost = self.limit.saturating_add(1);
            State::Searching { probe: Probe::new(self.limit, now), lost }
        } else {
            State::Confirming(Probe::new(self.current, now))
        };
    }

    /// A length was asked for often enough.
    fn give_up(&mut self, now: Instant) {
        match self.state {
            State::Confirming(probe) if probe.base_arrives => {
                self.current = BASE_LEN;
                self.search(now, probe.len);
            }
            State::Searching { probe, .. } if probe.base_arrives => self.search(now, probe.len),
            State::Searching { .. } => {
                self.rest(now);
                self.raise_at = Some(now + RESUME_AFTER);
            }
            State::Confirming(_) | State::Idle => self.rest(now),
        }
    }

    /// Asks for the next length between what is in use and `lost`, if there is one worth it.
    fn search(&mut self, now: Instant, lost: u16) {
        if self.current >= self.limit || lost <= self.current.saturating_add(PRECISION) {
            self.rest(now);
            self.raise_at = (self.current < self.limit).then_some(now + RAISE_EVERY);
            return;
        }
        let is_between = self.current < USUAL_LEN && lost > USUAL_LEN + PRECISION;
        let len = if is_between { USUAL_LEN } else { self.current + (lost - self.current) / 2 };
        self.state = State::Searching { probe: Probe::new(len, now), lost };
    }

    /// Asks nothing until there is cause.
    fn rest(&mut self, now: Instant) {
        self.used = None;
        self.confirmed = Some(now);
        self.state = State::Idle;
    }
}

#[cfg(test)]
mod tests;
