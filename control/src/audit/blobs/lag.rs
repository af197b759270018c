//! Whether somebody has to be told that segments wait to be shipped.

use std::time::Duration;

/// Segments that have ended may wait so long before it is said, and said again each time.
pub const LAG_MAX: Duration = Duration::from_secs(3_600);

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// Segments have been waiting for so long.
    Behind(Duration),
    /// Nothing waits any more.
    CaughtUp,
}

/// Since when segments wait.
#[derive(Debug, Default)]
pub(super) struct Lag {
    since: Option<Duration>,
    said: Option<Duration>,
}

impl Lag {
    /// Whether it was said that something waits.
    pub(super) fn is_said(&self) -> bool {
        self.said.is_some()
    }

    /// Something waits, or nothing does, at this time of an even clock.
    pub(super) fn see(&mut self, waits: bool, now: Duration) -> Option<Say> {
        if !waits {
            self.since = None;
            return self.said.take().map(|_| Say::CaughtUp);
        }
        let since = *self.since.get_or_insert(now);
        let due = self.said.unwrap_or(since) + LAG_MAX;
        if now < due {
            return None;
        }
        self.said = Some(now);
        Some(Say::Behind(now.saturating_sub(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_named_once_an_hour_and_when_it_is_over() {
        let mut lag = Lag::default();
        let mut see = |waits, minutes: u64| lag.see(waits, Duration::from_secs(minutes * 60));
        let behind = |hours: u64| Some(Say::Behind(LAG_MAX * u32::try_from(hours).unwrap()));
        assert_eq!([see(false, 0), see(true, 10), see(true, 69)], [None, None, None]);
        assert_eq!([see(true, 70), see(true, 71), see(true, 129)], [behind(1), None, None]);
        assert_eq!([see(true, 130), see(false, 131)], [behind(2), Some(Say::CaughtUp)]);
        // What waits then has an hour again, and a short wait is not worth a word.
        assert_eq!([see(false, 132), see(true, 140), see(false, 199)], [None, None, None]);
        assert_eq!([see(true, 200), see(true, 259), see(true, 260)], [None, None, behind(1)]);
    }
}
