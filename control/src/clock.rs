//! What time it is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use weft_model::UnixMs;

/// The wall clock, and one that goes on evenly whatever is done to that: the machine's, or those that a test moves. Clones
/// show the same time.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Machine { start: Instant },
    Manual(Arc<Manual>),
}

/// What a test says, milliseconds.
struct Manual {
    /// Since 1970.
    wall: AtomicU64,
    /// Since the clock was made.
    passed: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self(Source::Machine { start: Instant::now() })
    }
}

impl Clock {
    /// A clock that stands still at `now` until it is moved.
    #[must_use]
    pub fn manual(now: UnixMs) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            wall: AtomicU64::new(now.0),
            passed: AtomicU64::new(0),
        })))
    }

    /// Moves a manual clock and its clones; the machine's goes on by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            manual.wall.fetch_add(by, Ordering::Relaxed);
            manual.passed.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Sets the wall clock of a manual clock and its clones, as somebody may set a machine's: no time goes by.
    pub fn set(&self, now: UnixMs) {
        if let Source::Manual(manual) = &self.0 {
            manual.wall.store(now.0, Ordering::Relaxed);
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        if let Source::Manual(manual) = &self.0 {
            return UnixMs(manual.wall.load(Ordering::Relaxed));
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long ago the clock was made; nobody sets this.
    #[must_use]
    pub fn passed(&self) -> Duration {
        match &self.0 {
            Source::Machine { start } => start.elapsed(),
            Source::Manual(manual) => Duration::from_millis(manual.passed.load(Ordering::Relaxed)),
        }
    }

    /// The time now, for certificates.
    #[must_use]
    pub fn system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.now().0)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now().0)
    }
}
