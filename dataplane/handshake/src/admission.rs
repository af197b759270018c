//! Who may begin a handshake, decided before any signature work. Sans-IO: addresses and the time
//! come in, decisions go out.
//!
//! ```text
//!  connection ─▶ rate of its source ─▶ room among the half-open? ─▶ Ticket ─▶ TLS ─▶ end(ticket)
//!                │                      │ full: one of them gives way and is to be aborted; the oldest
//!                │                      │  1. of unknown sources
//!                │                      │  2. of the known source that has most, 2 more than the newcomer's
//!                │                      │  3. of the newcomer's source that said nothing for a second
//!                ▼                      ▼
//!              Refusal::Rate          Refusal::HalfOpen (there is none of these)
//!
//!  ClientHello ─▶ is the source known, or below the rate of all others together? ─▶ key agreement, signature
//! ```
//!
//! A source is an IPv4 address or the first 64 bits of an IPv6 address. It is *known* where a peer is
//! expected, and for an hour after a session of it was authenticated. Then it has a far higher rate, is
//! never made to give way to an unknown one and always answered. So connections that stall, however many,
//! cost each other their place but not a good peer, and the work that strangers can cause has a bound.
//!
//! That an address is known says little of who calls from there: containers of a peer's host may share it
//! by address translation. What they open costs them places, or peers at that address at worst; one that
//! has fewer always finds room. A handshake of a known source that has begun to speak gives way to such a
//! one only, so that a host that calls for hundreds of environments at once gets on however slow it is.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

mod places;

use self::places::Places;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times per second in the long run, at least 1.
    pub per_second: u32,
    /// Times at once after a pause, at least 1.
    pub burst: u32,
}

/// Every bound of [`Admission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a source that is not known.
    pub unknown: Rate,
    /// For a source with an authenticated session within [`Limits::known_for`].
    pub known: Rate,
    /// For all unknown sources together that find no room in the table.
    pub overflow: Rate,
    /// For first messages of all unknown sources together that are answered.
    pub answers: Rate,
    /// How long a source stays known.
    pub known_for: Duration,
    /// Most handshakes that are under way at once.
    pub half_open_max: usize,
    /// Most unknown sources that are remembered, and as many known ones.
    pub sources_max: usize,
}

impl Default for Limits {
    /// The table takes at most 2 × 4,096 × about 50 B = 400 KiB; 256 half-open handshakes take as
    /// many file descriptors and about 20 KiB each while they are inside TLS. An answer takes a key
    /// agreement and a signature, some 0.2 ms: 500 of them a tenth of a core.
    fn default() -> Self {
        Self {
            unknown: Rate { per_second: 20, burst: 5 },
            known: Rate { per_second: 500, burst: 125 },
            overflow: Rate { per_second: 200, burst: 50 },
            answers: Rate { per_second: 500, burst: 125 },
            known_for: Duration::from_secs(60 * 60),
            half_open_max: 256,
            sources_max: 4096,
        }
    }
}

/// A handshake that is under way. Tickets are ordered by when they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Leave to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// To be given back with [`Admission::end`].
    pub ticket: Ticket,
    /// A handshake that has to be aborted, because this one takes its place.
    pub evicted: Option<Ticket>,
}

/// Why a connection is closed before its first byte is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its source came too often.
    #[error("too many handshakes from this source")]
    Rate,
    /// Too many are under way, and none of them is to give way.
    #[error("too many handshakes at once")]
    HalfOpen,
}

impl Refusal {
    /// A word for a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Rate => "admission_rate",
            Self::HalfOpen => "admission_half_open",
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                Self(IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))))
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// When the next one is due at the long-run rate (the generic cell rate algorithm): one may be
/// early by as much as the burst allows.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    due: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { due: now }
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let tolerance = interval * rate.burst.saturating_sub(1);
        if self.due > now + tolerance {
            return false;
        }
        self.due = self.due.max(now) + interval;
        true
    }

    /// Whether it is as good as new, so that forgetting it changes nothing.
    fn is_idle(&self, now: Instant) -> bool {
        self.due <= now
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    bucket: Bucket,
    authenticated: Instant,
}

/// The state of all sources and of all handshakes under way; see the module's text.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    unknown: HashMap<Source, Bucket>,
    known: HashMap<Source, Known>,
    overflow: Option<Bucket>,
    answers: Option<Bucket>,
    /// Where peers are to be found, and how many.
    expected: HashMap<Source, usize>,
    /// When it is worth looking for idle buckets again.
    next_sweep: Option<Instant>,
    half_open: Places,
}

/// A full table is searched for idle buckets at most this often: 4,096 entries take about 10 µs.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

impl Admission {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            unknown: HashMap::new(),
            known: HashMap::new(),
            overflow: None,
            answers: None,
            expected: HashMap::new(),
            next_sweep: None,
            half_open: Places::new(limits.half_open_max),
        }
    }

    /// A connection from `address` was accepted.
    ///
    /// # Errors
    /// [`Refusal`]: close it without a word.
    pub fn begin(&mut self, address: IpAddr, now: Instant) -> Result<Admitted, Refusal> {
        let source = Source::of(address);
        let known = self.take_token(source, now)?;
        let (ticket, evicted) = self.half_open.take(known.then_some(source), now)?;
        Ok(Admitted { ticket, evicted })
    }

    /// The first message of an admitted connection is there: whether it is worth the work of an answer.
    pub fn answer(&mut self, ticket: Ticket, now: Instant) -> bool {
        if self.half_open.spoke(ticket) {
            return true;
        }
        self.answers.get_or_insert(Bucket::new(now)).take(self.limits.answers, now)
    }

    /// One more peer is to be found at `address`: it is as good as known.
    pub fn expect(&mut self, address: IpAddr) {
        *self.expected.entry(Source::of(address)).or_default() += 1;
    }

    /// One peer less is to be found there.
    pub fn expect_no_longer(&mut self, address: IpAddr) {
        let source = Source::of(address);
        if let Some(peers) = self.expected.get_mut(&source) {
            *peers -= 1;
            if *peers == 0 {
                self.expected.remove(&source);
            }
        }
    }

    /// A handshake is over, whatever came of it. Harmless for one that was evicted.
    pub fn end(&mut self, ticket: Ticket) {
        self.half_open.release(ticket);
    }

    /// A session with a peer at `address` was authenticated, by a handshake or by its datagrams.
    pub fn authenticated(&mut self, address: IpAddr, now: Instant) {
        let source = Source::of(address);
        match self.known.get_mut(&source) {
            Some(known) => known.authenticated = now,
            None => self.know(source, now),
        }
    }

    fn know(&mut self, source: Source, now: Instant) {
        if self.known.len() >= self.limits.sources_max {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.authenticated);
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                self.known.remove(&oldest);
            }
        }
        self.unknown.remove(&source);
        self.known.insert(source, Known { bucket: Bucket::new(now), authenticated: now });
    }

    /// Handshakes that are under way.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Counts against the source's rate; returns whether the source is known.
    fn take_token(&mut self, source: Source, now: Instant) -> Result<bool, Refusal> {
        let known_for = self.limits.known_for;
        let is_expected = self.expected.contains_key(&source);
        if is_expected && !self.known.contains_key(&source) {
            self.know(source, now);
        }
        if let Some(known) = self.known.get_mut(&source) {
            let age = now.saturating_duration_since(known.authenticated);
            if is_expected || age <= known_for {
                let taken = known.bucket.take(self.limits.known, now);
                return if taken { Ok(true) } else { Err(Refusal::Rate) };
            }
            self.known.remove(&source);
        }
        let (bucket, rate) = self.unknown_bucket(source, now);
        if bucket.take(rate, now) { Ok(false) } else { Err(Refusal::Rate) }
    }

    /// The bucket of an unknown source, with its rate; the common one when the table is full.
    fn unknown_bucket(&mut self, source: Source, now: Instant) -> (&mut Bucket, Rate) {
        let full = self.unknown.len() >= self.limits.sources_max;
        if full && !self.unknown.contains_key(&source) {
            self.sweep(now);
            if self.unknown.len() >= self.limits.sources_max {
                let overflow = self.overflow.get_or_insert(Bucket::new(now));
                return (overflow, self.limits.overflow);
            }
        }
        let bucket = self.unknown.entry(source).or_insert(Bucket::new(now));
        (bucket, self.limits.unknown)
    }

    fn sweep(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|due| due <= now) {
            self.unknown.retain(|_, bucket| !bucket.is_idle(now));
            self.next_sweep = Some(now + SWEEP_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests;
