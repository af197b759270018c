//! The time by which certificates are judged: the wall clock's, but never earlier than what is known.
//!
//! Whoever can set a host's clock back, over NTP for example, could have expired certificates accepted
//! again. What the environment's authority has signed proves that its day has come: a certificate that was
//! valid once was made not before the time that it says. From then on the monotonic clock counts. Each
//! environment has its own knowledge, so that no authority can lead another environment astray.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// What is known of the time in one environment. Outlives renewals of its certificates.
#[derive(Debug, Default)]
pub struct TrustedTime(Mutex<Option<Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    time: SystemTime,
    at: Instant,
}

impl Known {
    fn now(self) -> SystemTime {
        self.time + self.at.elapsed()
    }
}

impl TrustedTime {
    /// With a time that was known before, for example to an earlier process.
    #[must_use]
    pub fn since(time: SystemTime) -> Self {
        Self(Mutex::new(Some(Known { time, at: Instant::now() })))
    }

    /// The wall clock's time, or what is known if that is later.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = SystemTime::now();
        known.map_or(wall, |known| known.now().max(wall))
    }

    /// What is known, as of now; nothing of the wall clock.
    #[must_use]
    pub fn known(&self) -> Option<SystemTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(Known::now)
    }

    /// The authority has signed that this time has come. Gives whether that was not known.
    pub fn learn(&self, time: SystemTime) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = known.is_none_or(|known| known.now() < time);
        if is_news {
            *known = Some(Known { time, at: Instant::now() });
        }
        is_news
    }
}

impl TimeProvider for TrustedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.now()))
    }
}

pub(crate) fn unix(time: SystemTime) -> UnixTime {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixTime::since_unix_epoch(since_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn time_goes_back_behind_nothing_that_is_known() {
        let wall = SystemTime::now();
        let time = TrustedTime::default();
        assert!(time.now() >= wall && time.now() < wall + DAY);
        // As if the wall clock had been set back by ten years.
        assert!(time.learn(wall + 3650 * DAY));
        assert!(time.now() >= wall + 3650 * DAY);
        assert!(!time.learn(wall), "old knowledge");
        assert!(time.now() >= wall + 3650 * DAY && time.now() < wall + 3651 * DAY);
        assert!(TrustedTime::since(wall + DAY).now() >= wall + DAY);
        assert!(TrustedTime::since(wall - DAY).now() >= wall);
    }
}
