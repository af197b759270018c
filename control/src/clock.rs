//! What time it is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use weft_model::UnixMs;

/// The wall clock: the machine's, or one that a test moves. Clones show the same time.
#[derive(Clone, Default)]
pub struct Clock {
    /// Milliseconds since 1970, if a test says so.
    set: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// A clock that stands still at `now` until it is moved.
    #[must_use]
    pub fn manual(now: UnixMs) -> Self {
        Self { set: Some(Arc::new(AtomicU64::new(now.0))) }
    }

    /// Moves a manual clock and its clones; the machine's goes on by itself.
    pub fn advance(&self, by: Duration) {
        if let Some(set) = &self.set {
            set.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        if let Some(set) = &self.set {
            return UnixMs(set.load(Ordering::Relaxed));
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
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
