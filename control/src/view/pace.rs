//! How often the store is copied anew, and how often that is logged.

use std::time::Duration;

use tokio::time::Instant;

/// Between two tries, where what is in the way may be over at once; and the first of those that it takes longer.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest of these: to copy a store is work, for the store as well.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often it is logged.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The last pause for what lasts.
    pause: Duration,
    told: Option<Instant>,
}

impl Pace {
    /// It has failed at `now`. Returns how long to wait, which is ever longer for what lasts unless this `is_first` of it,
    /// and whether it is to be logged.
    pub(super) fn handle_failure(
        &mut self,
        now: Instant,
        lasts: bool,
        is_first: bool,
    ) -> (Duration, bool) {
        let is_due = |told: Instant| now.duration_since(told) >= TOLD_INTERVAL;
        let is_told = is_first || self.told.is_none_or(is_due);
        if is_told {
            self.told = Some(now);
        }
        self.pause = match (lasts, is_first) {
            (true, false) => (self.pause * 2).clamp(RETRY_MIN, RETRY_MAX),
            _ => RETRY_MIN,
        };
        (self.pause, is_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_tried_ever_more_rarely_and_told_once_a_minute() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let (mut pauses, mut told) = (Vec::new(), Vec::new());
        let begin = now;
        for n in 0..12 {
            let (pause, is_told) = pace.handle_failure(now, true, n == 0);
            pauses.push(pause.as_millis());
            if is_told {
                told.push((now - begin).as_secs());
            }
            now += pause;
        }
        let expected = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(pauses[..expected.len()], expected);
        assert_eq!(told, [0, 63, 123, 183, 243, 303]);
        // Something else, and what was there before again, are news.
        assert_eq!(pace.handle_failure(now, false, false).0, RETRY_MIN);
        assert_eq!(pace.handle_failure(now, true, true), (RETRY_MIN, true));
    }
}
