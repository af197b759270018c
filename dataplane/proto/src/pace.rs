//! Shares of a path that is too slow for all: weights, and limits that hold whatever is free.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::sync::{AtomicU64, Ordering};

/// What an environment or an attachment may send to other hosts.
#[derive(Debug, Clone, Default)]
pub struct Share {
    /// How much compared with its siblings, while there is not enough for all.
    pub weight: Weight,
    /// How much at most; the same for all workers. No limit without.
    pub pace: Option<Arc<Pace>>,
}

/// A share among siblings, 1 to 10,000, as of Linux's `cpu.weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(u16);

impl Weight {
    /// The largest.
    pub const MAX: u16 = 10_000;
    /// That of whoever has not been given another.
    pub const DEFAULT: Self = Self(100);

    /// A weight of 1 to [`Weight::MAX`]; what is outside becomes the nearer of them.
    #[must_use]
    pub const fn new(weight: u16) -> Self {
        Self(match weight {
            0 => 1,
            1..=Self::MAX => weight,
            _ => Self::MAX,
        })
    }

    /// What a quantum that is meant for the default is for this weight, bytes.
    pub(crate) const fn of(self, quantum: i64) -> i64 {
        quantum * self.0 as i64 / Self::DEFAULT.0 as i64
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A limit on a rate, kept by all workers together: the generic cell rate algorithm of ITU-T I.371,
/// in bytes. Every packet moves the time at which the next one would be due; one may go while that
/// time is less than [`Pace::BURST`] ahead.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    bits_per_second: u64,
    /// When the next byte is due, nanoseconds after `start`.
    due: AtomicU64,
}

impl Pace {
    /// How far it may run ahead of its rate: a superpacket is 5 ms at 100 Mbit/s.
    pub const BURST: Duration = Duration::from_millis(5);

    /// A limit of so many bits per second, of inner packets with their headers. `now` is when it
    /// begins; no rate is taken for one bit per second.
    #[must_use]
    pub fn new(now: Instant, bits_per_second: u64) -> Self {
        Self { start: now, bits_per_second: bits_per_second.max(1), due: AtomicU64::new(0) }
    }

    fn nanos(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Until when whoever wants to send must wait; `None` when it may send now.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Instant> {
        let ahead = self.due.load(Ordering::Relaxed).saturating_sub(self.nanos(now));
        let excess = Duration::from_nanos(ahead).checked_sub(Self::BURST)?;
        (!excess.is_zero()).then(|| now + excess)
    }

    /// Accounts for a packet that is sent.
    pub fn charge(&self, now: Instant, bytes: usize) {
        let now = self.nanos(now);
        let bits = (bytes as u64).saturating_mul(8);
        let nanos = u128::from(bits) * 1_000_000_000 / u128::from(self.bits_per_second);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        // Every worker adds to what the others have added. The closure never declines.
        let _ = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            Some(due.max(now).saturating_add(nanos))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_bounds() {
        assert_eq!(Weight::new(0), Weight::new(1));
        assert_eq!(Weight::new(u16::MAX), Weight::new(10_000));
        assert_eq!(Weight::default(), Weight::new(100));
        assert_eq!(Weight::new(250).of(16_000), 40_000);
        assert_eq!(Weight::new(1).of(16_000), 160);
    }

    #[test]
    fn a_pace_holds_its_rate_and_a_burst() {
        let start = Instant::now();
        let pace = Pace::new(start, 8_000_000);
        let mut now = start;
        let mut sent = 0_u64;
        let mut at_once = None;
        while now < start + Duration::from_secs(10) {
            if let Some(until) = pace.wait(now) {
                at_once.get_or_insert(sent);
                assert!(until > now && until <= now + Duration::from_millis(2));
                now = until;
            }
            pace.charge(now, 1_000);
            sent += 1_000;
        }
        // 1 MB/s, and 5 ms of it at once with the packet that goes beyond.
        assert_eq!(at_once, Some(6_000));
        assert!((10_000_000..=10_006_000).contains(&sent), "{sent}");
    }

    #[test]
    fn silence_earns_no_more_than_the_burst() {
        let start = Instant::now();
        let pace = Pace::new(start, 8_000_000);
        let now = start + Duration::from_secs(3_600);
        let burst = std::iter::repeat_with(|| pace.charge(now, 1_000));
        assert_eq!(burst.take_while(|()| pace.wait(now).is_none()).count(), 5);
    }

    #[test]
    fn workers_share_one_pace() {
        let start = Instant::now();
        let pace = Pace::new(start, 8_000_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| pace.charge(start, 1_000)));
            }
        });
        // 4 MB at 1 MB/s.
        let until = pace.wait(start).unwrap();
        assert_eq!(until, start + Duration::from_secs(4) - Pace::BURST);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let start = Instant::now();
        for rate in [0, 1, u64::MAX] {
            let pace = Pace::new(start, rate);
            for _ in 0..3 {
                pace.charge(start + Duration::from_secs(1 << 34), usize::MAX);
            }
            let _ = pace.wait(start);
        }
    }
}
