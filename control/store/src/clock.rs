//! What time it is for leases.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// A clock that never goes back: the machine's, or one that a test moves.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Machine { start: Instant },
    Manual(Arc<watch::Sender<Duration>>),
}

impl Clock {
    /// The machine's monotonic clock. It follows tokio's where a test has paused that.
    #[must_use]
    pub fn machine() -> Self {
        Self(Source::Machine { start: Instant::now() })
    }

    /// A clock that stands still until [`Clock::advance`].
    #[must_use]
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(Duration::ZERO))))
    }

    /// Moves a manual clock and all of its clones. The machine's goes on by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.send_modify(|now| *now += by);
        }
    }

    /// How long ago the clock was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.0 {
            Source::Machine { start } => start.elapsed(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Waits until the clock shows `at`.
    pub async fn reached(&self, at: Duration) {
        match &self.0 {
            Source::Machine { start } => sleep_until(*start + at).await,
            Source::Manual(now) => {
                // The sender is in this clock, so waiting does not fail.
                let _ = now.subscribe().wait_for(|now| *now >= at).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_moves_with_its_clones_only_when_told() {
        let clock = Clock::manual();
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.reached(Duration::from_secs(2)).await }
        });
        clock.advance(Duration::from_millis(1_999));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance(Duration::from_millis(1));
        waiting.await.unwrap();
        assert_eq!(clock.now(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_machine_s_clock_goes_on() {
        let clock = Clock::machine();
        clock.advance(Duration::from_secs(100));
        clock.reached(Duration::from_secs(2)).await;
        assert!(clock.now() >= Duration::from_secs(2) && clock.now() < Duration::from_secs(3));
    }
}
