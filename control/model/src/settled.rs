//! By which time something may be destroyed for good.
//!
//! ```text
//!   wall clock ─────────────────────────────▶ ┌───────────┐
//!   a clock that goes on evenly ────────────▶ │ Timekeeper│ ─▶ Time { settled, doubt }
//!   time/v1 in the store: agreed, a minute old▶└───────────┘
//! ```
//!
//! A wall clock that is wrong for an hour is put right again; a key that it has destroyed is not. So nothing goes by a wall
//! clock that is further ahead than an hour of what was agreed on and has gone by since: time goes on from there, by the clock
//! that nobody sets, and what is not due by that stays. When the wall clock has gone on evenly for a day it is believed, or
//! when an operator says so ([`crate::record::Settled`] is written anew). A clock that is behind destroys nothing early.
//!
//! ```text
//!   wall      ·   ·   ·   ·   ────────────── jump ─▶ ·   ·   ·   ·  (a day, evenly)  ·   · ▶ believed
//!   settled   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·  ╱
//! ```

use std::time::Duration;

use crate::record::UnixMs;

/// A wall clock may be so much ahead of what has gone by, and as much more with every so much that goes by.
pub const AHEAD_MAX: Duration = Duration::from_secs(3_600);
/// A wall clock that is further ahead is believed when it has gone on evenly for so long.
pub const STEADY: Duration = Duration::from_secs(24 * 3_600);
/// By how much it may differ in that time and has gone on evenly: NTP sets a clock right by 43 s in a day at most, slewing
/// (500 ppm, RFC 5905 section 11.3).
pub const UNEVEN_MAX: Duration = Duration::from_secs(60);
/// How often what is agreed on is written.
pub const AGREE_INTERVAL: Duration = Duration::from_secs(60);

/// What time it is for what is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// What was due at this time may go. Never later than the wall clock.
    pub settled: UnixMs,
    /// What others may believe, and a process that begins anew: what was settled before it was a jump at most.
    pub agreed: UnixMs,
    /// The wall clock is not believed.
    pub doubt: Option<Doubt>,
}

/// A wall clock that is too far ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// By so much.
    pub ahead: Duration,
    /// It is believed when it has gone on evenly for so long from now on.
    pub left: Duration,
}

/// What the two clocks of a machine showed at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    passed: Duration,
    wall: UnixMs,
}

impl Moment {
    /// What the wall clock shows at `passed` if it goes on evenly.
    fn at(&self, passed: Duration) -> UnixMs {
        self.wall.after(passed.saturating_sub(self.passed))
    }
}

/// Compares the clocks of this process; see the module's text.
#[derive(Debug, Default)]
pub struct Timekeeper {
    /// What was believed. It moves at the start and once in [`AHEAD_MAX`], so that many small jumps are not more than one.
    base: Option<Moment>,
    /// Since when a wall clock that is not believed goes on evenly.
    steady: Option<Moment>,
}

impl Timekeeper {
    /// Compares them now: `passed` is a time since some start that goes on evenly, `agreed` what the store has. Without that,
    /// in a store in which nothing was ever agreed on, the wall clock is believed at first.
    pub fn look(&mut self, passed: Duration, wall: UnixMs, agreed: Option<UnixMs>) -> Time {
        let own = self.base.map(|base| base.at(passed));
        let known = own.max(agreed).unwrap_or(wall);
        if own.is_none_or(|own| known > own) {
            self.base = Some(Moment { passed, wall: known });
        }
        if wall <= known.after(AHEAD_MAX) {
            self.steady = None;
            let is_due = |base: Moment| passed.saturating_sub(base.passed) >= AHEAD_MAX;
            if wall > known && (own.is_none() || self.base.is_some_and(is_due)) {
                self.base = Some(Moment { passed, wall });
            }
            let agreed = self.base.map_or(wall, |base| base.at(passed));
            return Time { settled: wall, agreed, doubt: None };
        }
        let since = match self.steady {
            Some(since) if differ(since.at(passed), wall) <= UNEVEN_MAX => since,
            _ => Moment { passed, wall },
        };
        let left = STEADY.saturating_sub(passed.saturating_sub(since.passed));
        if left.is_zero() {
            (self.base, self.steady) = (Some(Moment { passed, wall }), None);
            return Time { settled: wall, agreed: wall, doubt: None };
        }
        self.steady = Some(since);
        let doubt = Some(Doubt { ahead: differ(known, wall), left });
        Time { settled: known, agreed: known, doubt }
    }
}

fn differ(one: UnixMs, other: UnixMs) -> Duration {
    Duration::from_millis(one.0.abs_diff(other.0))
}

#[cfg(test)]
mod tests;
