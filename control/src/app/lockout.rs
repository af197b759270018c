//! How often a password may be wrong.
//!
//! ```text
//!   from where the account has begun sessions   10 in 15 min from each of at most 8 sources
//!   from everywhere else together               10 in 15 min
//! ```
//!
//! So who guesses elsewhere does not keep somebody out from where they sign in, and all who guess at one account have 90
//! guesses in 15 minutes in each process; 10 unless they are where its person is.

use std::{collections::HashMap, time::Duration};

use weft_model::UnixMs;

use super::sources::SOURCES_MAX;
use crate::crowd::Source;

/// Wrong passwords that are counted together, after which none is looked at for a while.
pub(super) const FAILURES_MAX: u32 = 10;
/// Wrong passwords for one account from wherever that are looked at (NIST SP 800-63B section 3.2.2).
const ACCOUNT_FAILURES_MAX: usize = 100;
/// How long none is looked at, and how long failures are remembered.
pub(super) const LASTS: Duration = Duration::from_secs(15 * 60);
/// Most counts that are remembered; what failed longest ago is forgotten first.
const LEN_MAX: usize = 16_384;

const _: () = assert!(FAILURES_MAX as usize * (SOURCES_MAX + 1) <= ACCOUNT_FAILURES_MAX);

/// With what a proof is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    /// The hash of the address, whether anybody has it or not.
    pub(super) address: String,
    /// From where, if its person has begun sessions there.
    pub(super) source: Option<Source>,
    /// How often the account was unlocked.
    pub(super) unlocks: u64,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: UnixMs,
    unlocks: u64,
}

impl Failures {
    /// Whether they count on.
    fn last_until(&self, unlocks: u64, now: UnixMs) -> bool {
        self.unlocks == unlocks && now < self.last.after(LASTS)
    }
}

/// Failures. In memory: a restart forgets them, and each process has its own.
#[derive(Debug, Default)]
pub(super) struct Lockout {
    failures: HashMap<(String, Option<Source>), Failures>,
}

impl Lockout {
    /// Whether passwords are not looked at now.
    pub(super) fn is_locked(&self, counted: &Counted, now: UnixMs) -> bool {
        self.failures.get(&counted.key()).is_some_and(|failures| {
            failures.count >= FAILURES_MAX && failures.last_until(counted.unlocks, now)
        })
    }

    /// A password was wrong.
    pub(super) fn fail(&mut self, counted: &Counted, now: UnixMs) {
        let key = counted.key();
        if self.failures.len() >= LEN_MAX && !self.failures.contains_key(&key) {
            self.failures.retain(|_, failures| now < failures.last.after(LASTS));
            if self.failures.len() >= LEN_MAX {
                // One that is locked stays so, as long as there are others.
                let oldest = self
                    .failures
                    .iter()
                    .min_by_key(|(_, failures)| (failures.count >= FAILURES_MAX, failures.last));
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    self.failures.remove(&oldest);
                }
            }
        }
        let before = self.failures.get(&key);
        let before = before.filter(|failures| failures.last_until(counted.unlocks, now));
        let count = before.map_or(0, |failures| failures.count) + 1;
        self.failures.insert(key, Failures { count, last: now, unlocks: counted.unlocks });
    }

    /// A password was right.
    pub(super) fn succeed(&mut self, counted: &Counted) {
        self.failures.remove(&counted.key());
    }
}

impl Counted {
    fn key(&self) -> (String, Option<Source>) {
        (self.address.clone(), self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// From where nobody is known.
    fn of(address: &str) -> Counted {
        Counted { address: address.to_owned(), source: None, unlocks: 0 }
    }

    /// From one of the places where its person is known.
    fn at(n: u8) -> Counted {
        Counted { source: Some(IpAddr::from([192, 0, 2, n]).into()), ..of("a") }
    }

    fn fail_often(lockout: &mut Lockout, counted: &Counted, now: UnixMs) {
        for _ in 0..FAILURES_MAX {
            assert!(!lockout.is_locked(counted, now));
            lockout.fail(counted, now);
        }
        assert!(lockout.is_locked(counted, now));
    }

    #[test]
    fn ten_wrong_ones_lock_an_address_for_a_quarter_of_an_hour() {
        let mut lockout = Lockout::default();
        let now = UnixMs(1_000_000);
        fail_often(&mut lockout, &of("a"), now);
        assert!(!lockout.is_locked(&of("b"), now));
        assert!(lockout.is_locked(&of("a"), UnixMs(now.after(LASTS).0 - 1)));
        let later = now.after(LASTS);
        assert!(!lockout.is_locked(&of("a"), later));
        lockout.fail(&of("a"), later);
        assert!(!lockout.is_locked(&of("a"), later), "it begins anew");
        for _ in 0..FAILURES_MAX {
            lockout.fail(&of("a"), later);
        }
        lockout.succeed(&of("a"));
        assert!(!lockout.is_locked(&of("a"), later));
    }

    #[test]
    fn where_somebody_is_known_is_counted_apart_and_all_together_is_bounded() {
        let mut lockout = Lockout::default();
        let now = UnixMs(1_000_000);
        let everywhere: Vec<_> = (1..=8)
            .map(at)
            .chain([of("a")])
            .inspect(|at| fail_often(&mut lockout, at, now))
            .collect();
        assert_eq!(everywhere.len() * FAILURES_MAX as usize, 90);
        // Who is right at one place takes nothing back of what was wrong at others.
        lockout.succeed(&at(1));
        assert!(!lockout.is_locked(&at(1), now));
        assert!(everywhere[1..].iter().all(|at| lockout.is_locked(at, now)));
    }

    #[test]
    fn what_was_wrong_before_an_account_was_unlocked_counts_no_more() {
        let mut lockout = Lockout::default();
        let now = UnixMs(1_000_000);
        for before in [of("a"), at(1)] {
            fail_often(&mut lockout, &before, now);
            let after = Counted { unlocks: 1, ..before };
            fail_often(&mut lockout, &after, now);
        }
    }

    #[test]
    fn an_address_that_is_locked_is_not_forgotten_for_others() {
        let mut lockout = Lockout::default();
        fail_often(&mut lockout, &of("a"), UnixMs(0));
        for n in 0..2 * LEN_MAX as u64 {
            lockout.fail(&of(&n.to_string()), UnixMs(1 + n / 100));
        }
        assert!(lockout.is_locked(&of("a"), UnixMs(1_000)));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut lockout = Lockout::default();
        for n in 0..LEN_MAX as u64 + 10 {
            lockout.fail(&of(&n.to_string()), UnixMs(n));
        }
        assert_eq!(lockout.failures.len(), LEN_MAX);
        assert!(!lockout.failures.contains_key(&of("0").key()));
    }
}
