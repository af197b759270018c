//! What is being done and about how long the rest will take, on standard error.

use std::time::{Duration, Instant};

/// Planned time against the time that it really takes.
#[derive(Debug)]
pub(crate) struct Progress {
    left: Duration,
    done: Duration,
    took: Duration,
    current: (Duration, Instant),
}

impl Progress {
    /// For work that is planned to take so long.
    pub(crate) fn new(planned: Duration) -> Self {
        let (done, took) = (Duration::ZERO, Duration::ZERO);
        Self { left: planned, done, took, current: (Duration::ZERO, Instant::now()) }
    }

    /// Says what comes next and how long everything from here will take.
    pub(crate) fn begin(&mut self, what: &str, planned: Duration) {
        let left = remaining(self.left, self.done, self.took).as_secs();
        eprintln!("[about {:2}:{:02} left] {what}", left / 60, left % 60);
        self.current = (planned, Instant::now());
    }

    /// Ends what was begun last.
    pub(crate) fn end(&mut self) {
        let (planned, start) = self.current;
        self.left = self.left.saturating_sub(planned);
        self.done += planned;
        self.took += start.elapsed();
    }
}

/// What is left, longer by as much as what is done took longer than planned.
fn remaining(left: Duration, done: Duration, took: Duration) -> Duration {
    if done.is_zero() {
        return left;
    }
    left.mul_f64(took.as_secs_f64() / done.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_as_slow_as_what_is_done() {
        let seconds = Duration::from_secs;
        assert_eq!(remaining(seconds(60), seconds(10), seconds(20)), seconds(120));
        assert_eq!(remaining(seconds(60), Duration::ZERO, Duration::ZERO), seconds(60));
    }
}
