//! Whether datagrams to a peer leave in segmented sends (GSO). A driver or a network card that cuts them wrongly
//! damages them; the peer sees it and says so.
//!
//! ```text
//!          damage                    damage all the same
//!   on ─────────────▶ off, pause ────────────────────────▶ on, and not to blame
//!    ▲                   │ over                                │ later
//!    └───────────────────┴─────────────────────────────────────┘
//! ```
//! Sans-IO: `handle_*` takes what happened and gives what is to be from now on, if that changes.

use std::time::{Duration, Instant};

/// What was on its way when segmentation was switched off may still be damaged.
const SETTLE: Duration = Duration::from_secs(3);
/// First pause before segmentation is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(600);
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Where damage does not end without it, segmentation is not blamed for so long.
const BLAMELESS: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
enum State {
    On,
    Off { since: Instant },
    Blameless { until: Instant },
}

/// Segmented sends to one peer.
#[derive(Debug)]
pub struct Segmentation {
    state: State,
    pause: Duration,
}

impl Default for Segmentation {
    fn default() -> Self {
        Self { state: State::On, pause: PAUSE_MIN }
    }
}

impl Segmentation {
    /// Whether datagrams leave in segmented sends.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !matches!(self.state, State::Off { .. })
    }

    /// The peer says that datagrams are damaged.
    pub fn handle_damage(&mut self, now: Instant) -> Option<bool> {
        match self.state {
            State::Blameless { until } if now < until => None,
            State::On | State::Blameless { .. } => {
                self.state = State::Off { since: now };
                Some(false)
            }
            State::Off { since } if now < since + SETTLE => None,
            State::Off { .. } => {
                self.state = State::Blameless { until: now + BLAMELESS };
                Some(true)
            }
        }
    }

    /// When [`Segmentation::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Off { since } => Some(since + self.pause),
            State::On | State::Blameless { .. } => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<bool> {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return None;
        }
        self.state = State::On;
        self.pause = PAUSE_MAX.min(self.pause * 2);
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_switches_it_off_for_ever_longer() {
        let mut now = Instant::now();
        let mut segmentation = Segmentation::default();
        assert_eq!(segmentation.poll_timeout(), None);
        for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
            assert_eq!(segmentation.handle_damage(now), Some(false));
            assert!(!segmentation.is_on());
            let pause = Duration::from_secs(60 * minutes);
            assert_eq!(segmentation.handle_timeout(now + pause - Duration::from_millis(1)), None);
            now += pause;
            assert_eq!(segmentation.handle_timeout(now), Some(true));
            assert!(segmentation.is_on());
            assert_eq!(segmentation.handle_timeout(now), None);
        }
    }

    #[test]
    fn what_was_on_its_way_is_no_new_damage() {
        let now = Instant::now();
        let mut segmentation = Segmentation::default();
        segmentation.handle_damage(now);
        assert_eq!(segmentation.handle_damage(now + SETTLE - Duration::from_millis(1)), None);
        assert!(!segmentation.is_on());
    }

    #[test]
    fn damage_that_goes_on_without_it_is_not_its_fault() {
        let now = Instant::now();
        let mut segmentation = Segmentation::default();
        segmentation.handle_damage(now);
        let later = now + SETTLE;
        assert_eq!(segmentation.handle_damage(later), Some(true));
        assert!(segmentation.is_on());
        assert_eq!(segmentation.poll_timeout(), None);
        assert_eq!(segmentation.handle_damage(later + BLAMELESS - Duration::from_millis(1)), None);
        assert_eq!(segmentation.handle_damage(later + BLAMELESS), Some(false));
    }
}
