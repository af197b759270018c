//! How often somebody may do something: many times at once, and evenly from then on.
//!
//! Of each it is remembered until when it pays for what it has done (the virtual scheduling of ITU-T I.371): one number
//! for each that has done something lately.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// Most that are remembered at once.
const LEN_MAX: usize = 65_536;
/// How long whoever comes waits when so many are remembered.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// So often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many at once, of who has done nothing lately.
    pub burst: u32,
    /// One more each time that this has passed.
    pub interval: Duration,
}

/// What everybody has done lately.
#[derive(Debug)]
pub struct Rates<W> {
    /// Until when each pays.
    paid: HashMap<W, Duration>,
}

impl<W> Default for Rates<W> {
    fn default() -> Self {
        Self { paid: HashMap::new() }
    }
}

impl<W: Eq + Hash> Rates<W> {
    /// Does one thing on everybody's account here, or nothing on anybody's. `now` is the time on a clock that only goes
    /// on.
    ///
    /// # Errors
    /// How long it is until it can be done.
    pub fn take(
        &mut self,
        accounts: impl IntoIterator<Item = (W, Rate)>,
        now: Duration,
    ) -> Result<(), Duration> {
        if self.paid.len() >= LEN_MAX {
            self.paid.retain(|_, paid| *paid > now);
        }
        let mut wait = Duration::ZERO;
        let mut after = Vec::new();
        for (who, rate) in accounts {
            let owes = self.paid.get(&who).map_or(Duration::ZERO, |paid| paid.saturating_sub(now));
            let owes = owes + rate.interval;
            wait = wait.max(owes.saturating_sub(rate.interval * rate.burst));
            if !self.paid.contains_key(&who) && self.paid.len() + after.len() >= LEN_MAX {
                wait = wait.max(FULL_PAUSE);
            }
            after.push((who, now + owes));
        }
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.paid.extend(after);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 10, interval: Duration::from_secs(2) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn many_at_once_and_evenly_from_then_on() {
        let mut rates = Rates::default();
        for _ in 0..10 {
            assert_eq!(rates.take([("a", RATE)], seconds(100)), Ok(()));
        }
        assert_eq!(rates.take([("a", RATE)], seconds(100)), Err(seconds(2)));
        assert_eq!(rates.take([("a", RATE)], seconds(101)), Err(seconds(1)));
        let taken = (100..300).filter(|now| rates.take([("a", RATE)], seconds(*now)).is_ok());
        assert_eq!(taken.count(), 99);
        assert_eq!(rates.take([("b", RATE)], seconds(100)), Ok(()), "others have their own");
        // Who has done nothing for long enough has all of it again.
        for _ in 0..10 {
            assert_eq!(rates.take([("a", RATE)], seconds(1_000)), Ok(()));
        }
        assert_eq!(rates.take([("a", RATE)], seconds(1_000)), Err(seconds(2)));
    }

    #[test]
    fn what_one_account_refuses_is_on_no_other() {
        let mut rates = Rates::default();
        let narrow = Rate { burst: 1, ..RATE };
        let mut take = |now| rates.take([("all", RATE), ("one", narrow)], seconds(now));
        assert_eq!(take(0), Ok(()));
        for _ in 0..20 {
            assert_eq!(take(0), Err(seconds(2)));
        }
        for _ in 0..9 {
            assert_eq!(rates.take([("all", RATE)], seconds(0)), Ok(()));
        }
        assert_eq!(rates.take([("all", RATE)], seconds(0)), Err(seconds(2)));
    }

    #[test]
    fn so_many_are_remembered_and_who_pays_nothing_any_more_makes_room() {
        let mut rates = Rates::default();
        for who in 0..LEN_MAX {
            assert_eq!(rates.take([(who, RATE)], seconds(0)), Ok(()));
        }
        assert_eq!(rates.take([(LEN_MAX, RATE)], seconds(1)), Err(FULL_PAUSE));
        assert_eq!(rates.take([(0, RATE)], seconds(1)), Ok(()), "who is remembered goes on");
        assert_eq!(rates.take([(LEN_MAX, RATE)], seconds(2)), Ok(()));
        assert_eq!(rates.paid.len(), 2);
    }
}
