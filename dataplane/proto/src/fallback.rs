//! When datagrams go over TCP, because UDP does not get through, and when they no longer do.
//!
//! ```text
//!          UDP is blocked               a stream for every worker
//!  by UDP ───────────────▶ opening ───────────────────────────────▶ by stream
//!    ▲  ▲                     │ failed: later again                   │  │
//!    │  └─────────────────────┘                                       │  │
//!    └────────── a number that went by UDP came back, or streams are lost ◀
//! ```
//! Streams are TCP connections between the two hosts, for one environment, one for each pair of workers. Both
//! hosts send on them from when they are there, whoever opened them, and each goes back when UDP is proven to
//! reach the other: the two directions may differ. Sans-IO: `handle_*` takes what happened,
//! [`Fallback::poll_action`] gives what to do.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use weft_types::LANES_MAX;

/// First pause before UDP is tried again; it doubles up to [`PROBE_MAX`].
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(60);
/// How often at most UDP is tried because something came by it.
const HEARD_EVERY: Duration = Duration::from_secs(1);
/// First pause after streams could not be opened; it doubles up to [`OPEN_MAX`].
const OPEN_MIN: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(60);
/// Streams stay for so long after the last use. UDP that holds for so long is trusted again.
const LINGER: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open so many streams to the peer, numbered from 0.
    Open(u8),
    /// Close those that this host opened.
    Close,
    /// Datagrams go another way from now on: see [`Fallback::is_streaming`].
    Switch,
    /// Ask the peer by UDP whether it arrives.
    Probe,
}

/// Who opened a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opener {
    /// This host.
    Us,
    /// The peer.
    Peer,
}

/// How datagrams go to one peer.
#[derive(Debug)]
pub struct Fallback {
    workers: u8,
    /// On how many lanes the peer sends.
    lanes: u8,
    /// By number, a bit each.
    ours: u64,
    theirs: u64,
    is_streaming: bool,
    is_opening: bool,
    failures: u32,
    /// Not opened again before.
    open_again: Option<Instant>,
    /// When UDP is tried again.
    probe: Option<Instant>,
    pause: Duration,
    last_probe: Option<Instant>,
    /// Since when datagrams go by UDP, after they went by stream.
    by_udp_since: Option<Instant>,
    actions: VecDeque<Action>,
}

impl Fallback {
    /// By UDP, for this host with so many workers, 1 to 64.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let workers = u8::try_from(workers).unwrap_or(LANES_MAX).clamp(1, LANES_MAX);
        Self {
            workers,
            lanes: workers,
            ours: 0,
            theirs: 0,
            is_streaming: false,
            is_opening: false,
            failures: 0,
            open_again: None,
            probe: None,
            pause: PROBE_MIN,
            last_probe: None,
            by_udp_since: None,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether datagrams go by stream.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        self.is_streaming
    }

    /// On how many lanes the peer sends, as it said in the handshake.
    pub fn handle_lanes(&mut self, lanes: u8) {
        self.lanes = lanes.clamp(1, LANES_MAX);
    }

    /// Datagrams come to nothing. If TCP does not reach the peer either, nothing changes.
    pub fn handle_blocked(&mut self, now: Instant) {
        if self.is_opening || self.open_again.is_some_and(|at| now < at) {
            return;
        }
        if self.is_streaming {
            // So the streams are of no use.
            self.close();
            self.ours = 0;
            self.leave(now);
        }
        if self.is_complete() {
            self.enter(now);
        } else {
            self.open();
        }
    }

    fn open(&mut self) {
        self.is_opening = true;
        self.actions.push_back(Action::Open(self.workers.max(self.lanes)));
    }

    fn close(&mut self) {
        if self.ours != 0 {
            self.actions.push_back(Action::Close);
        }
    }

    /// A stream is there and can carry datagrams. A number of 64 and more is none.
    pub fn handle_opened(&mut self, now: Instant, number: u8, by: Opener) {
        *self.of(by) |= 1_u64.checked_shl(number.into()).unwrap_or(0);
        if self.is_complete() && !self.is_streaming {
            self.enter(now);
        }
    }

    /// All of the streams that were to be opened are there, or not all could be.
    pub fn handle_opening_over(&mut self, now: Instant, all: bool) {
        self.is_opening = false;
        if all {
            self.failures = 0;
            return;
        }
        let pause = OPEN_MAX.min(OPEN_MIN.saturating_mul(1 << self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        self.open_again = Some(now + pause);
        if !self.is_complete() {
            self.close();
            self.ours = 0;
        }
    }

    /// A stream has ended.
    pub fn handle_lost(&mut self, now: Instant, number: u8, by: Opener) {
        *self.of(by) &= !1_u64.checked_shl(number.into()).unwrap_or(0);
        if !self.is_streaming || self.is_complete() {
            return;
        }
        self.leave(now);
        // The peer opens its own again.
        if by == Opener::Us && !self.is_opening && self.open_again.is_none_or(|at| now >= at) {
            self.close();
            self.ours = 0;
            self.open_again = Some(now + OPEN_MIN);
            self.open();
        }
    }

    /// UDP reaches the peer: it has said so.
    pub fn handle_udp_works(&mut self, now: Instant) {
        if self.is_streaming {
            self.leave(now);
        }
    }

    /// Something came by UDP while datagrams go by stream: it may work in the other direction, too.
    pub fn handle_heard(&mut self, now: Instant) {
        if self.is_streaming && self.last_probe.is_none_or(|last| now >= last + HEARD_EVERY) {
            self.ask(now);
        }
    }

    /// When [`Fallback::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let close = self.by_udp_since.filter(|_| self.ours != 0).map(|since| since + LINGER);
        self.probe.into_iter().chain(close).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.probe.is_some_and(|at| at <= now) {
            self.ask(now);
        }
        if self.ours != 0 && self.by_udp_since.is_some_and(|since| since + LINGER <= now) {
            self.close();
            self.ours = 0;
        }
    }

    fn of(&mut self, by: Opener) -> &mut u64 {
        match by {
            Opener::Us => &mut self.ours,
            Opener::Peer => &mut self.theirs,
        }
    }

    /// Whether every worker has a stream to send on.
    const fn is_complete(&self) -> bool {
        let all = u64::MAX >> (LANES_MAX - self.workers);
        (self.ours | self.theirs) & all == all
    }

    fn enter(&mut self, now: Instant) {
        // A path that lets UDP through now and then is not tried all the time.
        if self.by_udp_since.is_none_or(|since| since + LINGER <= now) {
            self.pause = PROBE_MIN;
        }
        self.is_streaming = true;
        self.by_udp_since = None;
        self.actions.push_back(Action::Switch);
        // The peer may have opened them for its own direction.
        self.ask(now);
    }

    fn leave(&mut self, now: Instant) {
        self.is_streaming = false;
        self.by_udp_since = Some(now);
        self.probe = None;
        self.actions.push_back(Action::Switch);
    }

    fn ask(&mut self, now: Instant) {
        self.last_probe = Some(now);
        self.probe = Some(now + self.pause);
        self.pause = PROBE_MAX.min(self.pause * 2);
        self.actions.push_back(Action::Probe);
    }
}

#[cfg(test)]
mod tests;
