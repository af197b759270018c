//! A token bucket.

use std::time::{Duration, Instant};

/// Allows `burst` events at once and one more in each `interval`.
#[derive(Debug, Clone)]
pub struct Bucket {
    burst: u32,
    interval: Duration,
    tokens: u32,
    refilled: Option<Instant>,
}

impl Bucket {
    /// A full bucket. `interval` must not be zero.
    #[must_use]
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, tokens: burst, refilled: None }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let refilled = *self.refilled.get_or_insert(now);
        let elapsed = now.saturating_duration_since(refilled);
        let earned = elapsed.as_nanos() / self.interval.as_nanos().max(1);
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            // What is left of an interval counts towards the next token.
            self.refilled = if self.tokens == self.burst {
                Some(now)
            } else {
                Some(refilled + self.interval * earned)
            };
        }
        let has_token = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5, Duration::from_millis(100));
        let taken = |bucket: &mut Bucket, at: u64| {
            (0..50).filter(|_| bucket.take(start + Duration::from_millis(at))).count()
        };
        assert_eq!(taken(&mut bucket, 0), 5);
        assert_eq!(taken(&mut bucket, 99), 0);
        assert_eq!(taken(&mut bucket, 250), 2);
        assert_eq!(taken(&mut bucket, 300), 1);
        assert_eq!(taken(&mut bucket, 10_000), 5);
    }
}
