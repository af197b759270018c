//! Which codes of a second factor are taken, and each of them once.
//!
//! ```text
//!   steps of 30 s   … 7  8  9  10  11 …      now is in 9: codes of 8, 9 and 10 are good,
//!                        └──┴───┘            of those after the newest that was taken
//! ```
//!
//! Nothing here sees a seed: whoever asks says which step's code was shown.

use std::time::Duration;

use crate::record::{SecondFactor, UnixMs};

/// How long a code is shown (RFC 6238 section 5.2).
pub const STEP: Duration = Duration::from_secs(30);
/// Steps before and after the present one whose codes are good, for clocks that differ (RFC 6238 section 5.2).
pub const STEPS_AROUND: u64 = 1;

/// What somebody shows.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// Digits; those of the steps for which the function says so.
    Code(&'a dyn Fn(u64) -> bool),
    /// The hash of a recovery code.
    Recovery(&'a str),
}

/// The step of a moment.
#[must_use]
pub fn step_of(now: UnixMs) -> u64 {
    now.0 / u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX)
}

/// The second factor after what is shown was taken; nothing when it is not good, or was taken before.
#[must_use]
pub fn take(factor: &SecondFactor, shown: Shown<'_>, now: UnixMs) -> Option<SecondFactor> {
    match shown {
        Shown::Code(is_of) => {
            let present = step_of(now);
            let good = present.saturating_sub(STEPS_AROUND)..=present + STEPS_AROUND;
            // All of them are looked at: how long it takes says nothing.
            let matching: Vec<u64> = good.filter(|step| is_of(*step)).collect();
            let step = matching.into_iter().find(|step| *step > factor.last_step)?;
            Some(SecondFactor { last_step: step, ..factor.clone() })
        }
        Shown::Recovery(hash) => {
            let left: Vec<String> =
                factor.recovery.iter().filter(|known| *known != hash).cloned().collect();
            let is_known = left.len() < factor.recovery.len();
            is_known.then(|| SecondFactor { recovery: left, ..factor.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use weft_store::{Condition, Transaction};

    use super::*;
    use crate::{
        id::UserId,
        placement::tests::Plain,
        record::{Decoded, Record},
    };

    fn factor(recovery: &[&str]) -> SecondFactor {
        SecondFactor {
            user: UserId::from_random(&[1; 10]),
            sealed_seed: String::new(),
            confirmed: true,
            last_step: 0,
            recovery: recovery.iter().map(|code| (*code).to_owned()).collect(),
            created: UnixMs(0),
        }
    }

    fn at(step: u64) -> UnixMs {
        UnixMs(step * 30_000 + 29_999)
    }

    #[test]
    fn codes_of_one_step_around_are_good_and_each_once() {
        let before = factor(&[]);
        for (shown, good) in [(98, false), (99, true), (100, true), (101, true), (102, false)] {
            let taken = take(&before, Shown::Code(&|step| step == shown), at(100));
            assert_eq!(taken.is_some(), good, "{shown}");
        }
        let after = take(&before, Shown::Code(&|step| step == 100), at(100)).unwrap();
        assert_eq!(after.last_step, 100);
        assert!(take(&after, Shown::Code(&|step| step == 100), at(100)).is_none());
        assert!(take(&after, Shown::Code(&|step| step == 99), at(100)).is_none(), "nor an earlier");
        assert!(take(&after, Shown::Code(&|step| step == 101), at(100)).is_some());
        // Two steps that happen to have the same code.
        let same = Shown::Code(&|step| step == 100 || step == 101);
        assert_eq!(take(&after, same, at(100)).unwrap().last_step, 101);
        assert!(take(&before, Shown::Code(&|_| false), at(0)).is_none());
    }

    #[test]
    fn a_recovery_code_is_good_once() {
        let before = factor(&["a", "b"]);
        let after = take(&before, Shown::Recovery("a"), at(1)).unwrap();
        assert_eq!(after.recovery, ["b"]);
        assert!(take(&after, Shown::Recovery("a"), at(1)).is_none());
        assert!(take(&after, Shown::Recovery("c"), at(1)).is_none());
    }

    proptest! {
        /// Several take codes, each from what it read some time ago, at times that differ. No code is taken twice.
        #[test]
        fn whoever_takes_a_code_it_is_taken_once(
            tries in prop::collection::vec((0..3usize, any::<bool>(), 98..103u64, 98..103u64), 0..60)
        ) {
            let mut store = Plain::default();
            store.put(&factor(&[]));
            let path = factor(&[]).path();
            let mut seen: Vec<Plain> = (0..3).map(|_| store.clone()).collect();
            let mut taken = BTreeSet::new();
            for (by, looks, shown, now) in tries {
                if looks {
                    seen[by] = store.clone();
                }
                let found: Decoded<SecondFactor> = seen[by].get(&path).unwrap();
                let after = take(&found.record, Shown::Code(&|step| step == shown), at(now));
                let Some(after) = after else { continue };
                let key = after.key().unwrap();
                let mut transaction = Transaction::new().put(key.clone(), after.encode().unwrap());
                transaction.conditions.push(Condition::At(key, found.modified));
                if store.commit(&transaction) {
                    prop_assert!(taken.insert(shown), "{shown} was taken before");
                }
            }
        }
    }
}
