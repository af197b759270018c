//! What a worker does that has nothing to do: sleep, or look again at once.
//!
//! Sleeping is cheap for the worker and dear for the packet that ends it: whoever sends it wakes
//! another core, which takes longer than sealing a superpacket does, much longer in a virtual
//! machine. With `latency = "low"` a worker looks instead, for as long as answers usually take and
//! pauses between two packets of one conversation last. Between two looks it yields its core to
//! whoever else wants it.
//!
//! ```text
//!  normal:  work ─▶ sleep ─▶ work
//!  low:     work ─▶ look ─▶ look ─▶ … ─▶ work         after LOOK_MAX without work: sleep
//! ```

use std::time::{Duration, Instant};

use weft_config::Latency;

/// How long a worker looks before it sleeps all the same.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// What to do when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Look once and come back.
    Look,
    /// Sleep until there is something, or until the engine's timeout.
    Sleep,
}

/// How a worker waits.
#[derive(Debug)]
pub(super) struct Pace {
    latency: Latency,
    /// When there was something to do; `None` before the first time.
    worked: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(latency: Latency) -> Self {
        Self { latency, worked: None }
    }

    /// How to wait now.
    pub(super) fn wait(&self, now: Instant) -> Wait {
        let idle = self.worked.map(|at| now.saturating_duration_since(at));
        match (self.latency, idle) {
            (Latency::Low, Some(idle)) if idle < LOOK_MAX => Wait::Look,
            (Latency::Low | Latency::Normal, _) => Wait::Sleep,
        }
    }

    /// There was something to do.
    pub(super) fn worked(&mut self, now: Instant) {
        self.worked = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_low_latency_a_worker_looks_for_a_while() {
        let start = Instant::now();
        let mut pace = Pace::new(Latency::Low);
        assert_eq!(pace.wait(start), Wait::Sleep, "an idle host costs nothing");
        pace.worked(start);
        assert_eq!(pace.wait(start), Wait::Look);
        assert_eq!(pace.wait(start + LOOK_MAX / 2), Wait::Look);
        assert_eq!(pace.wait(start + LOOK_MAX), Wait::Sleep);
        pace.worked(start + LOOK_MAX);
        assert_eq!(pace.wait(start + LOOK_MAX), Wait::Look);
    }

    #[test]
    fn otherwise_it_sleeps_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(Latency::Normal);
        pace.worked(start);
        assert_eq!(pace.wait(start), Wait::Sleep);
    }
}
