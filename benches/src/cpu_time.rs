//! Time that this thread was running, in place of time that went by: what others do on the machine
//! counts only where they share its caches.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time of this thread so far.
///
/// # Panics
/// Where threads have no such clock, which is not on Linux.
#[must_use]
pub fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock").into()
}

/// Runs `work` and gives the CPU time that it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = used();
    let output = work();
    (output, used().saturating_sub(begun))
}
