//! How often a password may be wrong.

use std::{collections::HashMap, time::Duration};

use weft_model::UnixMs;

/// Wrong passwords for one address after which none is looked at for a while (NIST SP 800-63B section 3.2.2 allows
/// 100).
pub(super) const FAILURES_MAX: u32 = 10;
/// How long none is looked at, and how long failures are remembered.
pub(super) const LASTS: Duration = Duration::from_secs(15 * 60);
/// Most addresses that are remembered; the one that failed longest ago is forgotten first.
const LEN_MAX: usize = 16_384;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: UnixMs,
}

/// Failures by the hash of the address, whether anybody has it or not. In memory: a restart forgets them.
#[derive(Debug, Default)]
pub(super) struct Lockout {
    failures: HashMap<String, Failures>,
}

impl Lockout {
    /// Whether passwords for this address are not looked at now.
    pub(super) fn is_locked(&self, address: &str, now: UnixMs) -> bool {
        self.failures.get(address).is_some_and(|failures| {
            failures.count >= FAILURES_MAX && now < failures.last.after(LASTS)
        })
    }

    /// A password was wrong.
    pub(super) fn fail(&mut self, address: &str, now: UnixMs) {
        if self.failures.len() >= LEN_MAX && !self.failures.contains_key(address) {
            self.failures.retain(|_, failures| now < failures.last.after(LASTS));
            if self.failures.len() >= LEN_MAX {
                // One that is locked stays so, as long as there are others.
                let oldest = self
                    .failures
                    .iter()
                    .min_by_key(|(_, failures)| (failures.count >= FAILURES_MAX, failures.last));
                if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
                    self.failures.remove(&oldest);
                }
            }
        }
        let failures =
            self.failures.entry(address.to_owned()).or_insert(Failures { count: 0, last: now });
        if now >= failures.last.after(LASTS) {
            failures.count = 0;
        }
        *failures = Failures { count: failures.count + 1, last: now };
    }

    /// A password was right.
    pub(super) fn succeed(&mut self, address: &str) {
        self.failures.remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_ones_lock_an_address_for_a_quarter_of_an_hour() {
        let mut lockout = Lockout::default();
        let now = UnixMs(1_000_000);
        for _ in 0..FAILURES_MAX {
            assert!(!lockout.is_locked("a", now));
            lockout.fail("a", now);
        }
        assert!(lockout.is_locked("a", now) && !lockout.is_locked("b", now));
        assert!(lockout.is_locked("a", UnixMs(now.after(LASTS).0 - 1)));
        let later = now.after(LASTS);
        assert!(!lockout.is_locked("a", later));
        lockout.fail("a", later);
        assert!(!lockout.is_locked("a", later), "it begins anew");
        for _ in 0..FAILURES_MAX {
            lockout.fail("a", later);
        }
        lockout.succeed("a");
        assert!(!lockout.is_locked("a", later));
    }

    #[test]
    fn an_address_that_is_locked_is_not_forgotten_for_others() {
        let mut lockout = Lockout::default();
        for _ in 0..FAILURES_MAX {
            lockout.fail("a", UnixMs(0));
        }
        for n in 0..2 * LEN_MAX as u64 {
            lockout.fail(&n.to_string(), UnixMs(1 + n / 100));
        }
        assert!(lockout.is_locked("a", UnixMs(1_000)));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut lockout = Lockout::default();
        for n in 0..LEN_MAX as u64 + 10 {
            lockout.fail(&n.to_string(), UnixMs(n));
        }
        assert_eq!(lockout.failures.len(), LEN_MAX);
        assert!(!lockout.failures.contains_key("0"));
    }
}
