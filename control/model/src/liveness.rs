//! Which hosts are heard of, and which are not any more.
//!
//! ```text
//!   host ──report, every 10 s──▶ process a: Heartbeats ──▶ one Heartbeat record a host, every 30 s at most ─┐
//!   host ──report──────────────▶ process b: Heartbeats ──▶ …                                               ─┤
//!                                                                                                           ▼
//!                                   whoever does background work: Watchman ──▶ Lost   when no record is new for 90 s
//! ```
//!
//! Clocks of machines differ and jump, so nobody compares what two of them showed: a [`Watchman`] sees whether a record
//! is another one than before, and counts the time by itself, on a clock that goes on evenly. What it did not see for
//! itself says nothing: after a start or a pause of its own every host has all of its time again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use weft_store::Revision;
use weft_types::HostId;

use crate::record::Heartbeat;

/// How soon a host is expected to say something again.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// A host's record is written anew when it is older. With 1,000 hosts that is some ten small transactions in 30 s.
pub const HEARTBEAT_GRAIN: Duration = Duration::from_secs(30);
/// How often records are written that are due, many in one transaction.
pub const KEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked which hosts are heard of.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time between two looks in which whoever looks has missed nothing.
pub const LOOK_GAP_MAX: Duration = Duration::from_secs(30);
/// A host that was not heard of for so long is lost. A host whose process stops is heard by another one before: its
/// record may be 50 s old by then ([`HEARTBEAT_GRAIN`], [`REPORT_INTERVAL`], [`KEEP_INTERVAL`]), it notices in 20 s, pauses
/// for 1 s, connects in 8 s, and is written down [`KEEP_INTERVAL`] later: 89 s.
pub const LOST_AFTER: Duration = Duration::from_secs(90);

// A host that reports as it should is never lost, also when a look is late.
const _: () = assert!(
    HEARTBEAT_GRAIN.as_secs()
        + REPORT_INTERVAL.as_secs()
        + KEEP_INTERVAL.as_secs()
        + LOOK_GAP_MAX.as_secs()
        <= LOST_AFTER.as_secs()
);

/// What one process hears of hosts: as many as have called it.
#[derive(Debug, Default)]
pub struct Heartbeats {
    heard: HashMap<HostId, Heard>,
}

#[derive(Debug)]
struct Heard {
    last: Heartbeat,
    is_kept: bool,
    /// The record that was there when it was heard: another one was written since, by a process that has heard it too.
    over: Option<Revision>,
    /// When a record of it was last written; not before the first.
    kept: Option<Duration>,
}

impl Heartbeats {
    /// A host has said something, while `record` was its record as far as is known.
    pub fn handle_report(&mut self, heartbeat: Heartbeat, record: Option<Revision>) {
        let before = self.heard.get(&heartbeat.host);
        let kept = before.and_then(|heard| heard.kept);
        // What is known of a record may be late.
        let over = before.and_then(|heard| heard.over).max(record);
        let host = heartbeat.host.clone();
        self.heard.insert(host, Heard { last: heartbeat, is_kept: false, over, kept });
    }

    /// What a host said last.
    #[must_use]
    pub fn last(&self, host: &HostId) -> Option<&Heartbeat> {
        self.heard.get(host).map(|heard| &heard.last)
    }

    /// What is to be written at `now`, a time since some start, each in the place of this record and of no other.
    #[must_use]
    pub fn due(&self, now: Duration) -> Vec<(Heartbeat, Option<Revision>)> {
        let is_due = |heard: &&Heard| {
            let is_old = |kept: Duration| now.saturating_sub(kept) >= HEARTBEAT_GRAIN;
            !heard.is_kept && heard.kept.is_none_or(is_old)
        };
        self.heard.values().filter(is_due).map(|heard| (heard.last.clone(), heard.over)).collect()
    }

    /// This was written, at one revision.
    pub fn handle_kept<'a>(
        &mut self,
        kept: impl IntoIterator<Item = &'a Heartbeat>,
        revision: Revision,
        now: Duration,
    ) {
        for heartbeat in kept {
            if let Some(heard) = self.heard.get_mut(&heartbeat.host) {
                heard.kept = Some(now);
                heard.over = Some(revision);
                heard.is_kept = heard.last == *heartbeat;
            }
        }
    }

    /// This was not written: another process has heard the host since, and `record` is what it has left. What the host
    /// says next comes in the place of that.
    pub fn handle_overtaken(&mut self, heartbeat: &Heartbeat, record: Option<Revision>) {
        if let Some(heard) = self.heard.get_mut(&heartbeat.host) {
            heard.over = record;
            heard.is_kept = heard.last == *heartbeat;
        }
    }

    /// Forgets all but these hosts.
    pub fn retain(&mut self, is_there: impl Fn(&HostId) -> bool) {
        self.heard.retain(|host, _| is_there(host));
    }
}

/// Sees for how long hosts have not been heard of.
#[derive(Debug, Default)]
pub struct Watchman {
    /// When it looked last.
    looked: Option<Duration>,
    seen: BTreeMap<HostId, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Which record it was; none when there was none.
    sign: Option<Revision>,
    /// When it was seen first.
    at: Duration,
}

impl Watchman {
    /// Looks at `now`, a time since some start that goes on evenly, at all hosts with when their records were written.
    /// Returns those that are to be given up for lost, unless they have another record by now.
    pub fn look(
        &mut self,
        now: Duration,
        hosts: impl IntoIterator<Item = (HostId, Option<Revision>)>,
    ) -> Vec<(HostId, Option<Revision>)> {
        let missed = |looked: Duration| now.saturating_sub(looked) > LOOK_GAP_MAX;
        if self.looked.is_none_or(missed) {
            self.forget();
        }
        self.looked = Some(now);
        let before = std::mem::take(&mut self.seen);
        let mut lost = Vec::new();
        for (host, sign) in hosts {
            let at = match before.get(&host) {
                Some(seen) if seen.sign == sign => seen.at,
                _ => now,
            };
            if now.saturating_sub(at) >= LOST_AFTER {
                lost.push((host.clone(), sign));
            }
            self.seen.insert(host, Seen { sign, at });
        }
        lost
    }

    /// Something was in the way of hearing: every host has all of its time again.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
