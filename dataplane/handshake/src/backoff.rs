//! When a failed handshake is tried again. Sans-IO: the time and the randomness are passed in.

use std::time::{Duration, Instant};

/// Longest wait after the first failure.
pub const DELAY_MIN: Duration = Duration::from_secs(1);
/// Longest wait after any failure.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

/// The retries towards one peer. Waits double from [`DELAY_MIN`] to [`DELAY_MAX`]; each is
/// shortened by a random part of up to a half, so that peers of a host that was away do not all
/// come back at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
    due: Option<Instant>,
}

impl Backoff {
    /// No failure yet: an attempt is due at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An attempt failed; returns when the next one is due. `random` is any number, uniformly
    /// distributed.
    pub fn handle_failure(&mut self, now: Instant, random: u32) -> Instant {
        // 2^6 s is beyond the maximum already.
        let delay = (DELAY_MIN * (1 << self.failures.min(6))).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        let share = f64::from(random) / f64::from(u32::MAX);
        let due = now + delay.mul_f64(1.0 - share / 2.0);
        self.due = Some(due);
        due
    }

    /// An attempt succeeded: the next failure starts from the beginning.
    pub fn handle_success(&mut self) {
        *self = Self::default();
    }

    /// When the next attempt is due; `None` when it may begin at once.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether an attempt may begin.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_start_over() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        assert!(backoff.is_due(now));
        let delays = [1, 2, 4, 8, 16, 32, 60, 60];
        for seconds in delays {
            let due = backoff.handle_failure(now, 0);
            assert_eq!(due - now, Duration::from_secs(seconds));
            assert!(!backoff.is_due(now) && backoff.is_due(due));
        }
        assert_eq!(backoff.failures(), 8);
        backoff.handle_success();
        assert!(backoff.is_due(now));
        let due = backoff.handle_failure(now, u32::MAX);
        assert_eq!(due - now, Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn every_wait_is_between_half_and_the_whole(random in prop::collection::vec(any::<u32>(), 1..50)) {
            let mut now = Instant::now();
            let mut backoff = Backoff::new();
            let mut whole = DELAY_MIN;
            for random in random {
                let due = backoff.handle_failure(now, random);
                prop_assert!(due - now >= whole / 2 && due - now <= whole);
                prop_assert_eq!(backoff.due(), Some(due));
                whole = (whole * 2).min(DELAY_MAX);
                now = due;
            }
        }
    }
}
