//! Which receiver indices of this host are in use.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;
use weft_types::{ReceiverIndex, WorkerId};

/// How long an index stays unused after its session: datagrams that are still on their way must
/// not meet another session.
const QUARANTINE: Duration = Duration::from_secs(180);
/// Most indices in use or in quarantine: 4,096 sessions with 64 lanes, or 131,072 with 2. Far
/// below the 2^24 of one worker, so that a random one is free at the first or second try.
const INDICES_MAX: usize = 1 << 18;
/// Random numbers that are tried for one index. At most one of 64 indices of a worker is not free, so
/// that many in vain are a chance of 2^-384: there are no random numbers.
const TRIES_MAX: u32 = 64;

/// All indices are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {INDICES_MAX} receiver indices are in use or were until 180 s ago")]
pub struct IndicesExhausted;

/// The indices of this host, unique over all environments and workers.
#[derive(Debug, Clone, Default)]
pub struct IndexTable {
    /// In use.
    used: FxHashSet<ReceiverIndex>,
    /// In quarantine, and since when in the order of their release.
    resting: FxHashSet<ReceiverIndex>,
    released: VecDeque<(Instant, ReceiverIndex)>,
}

impl IndexTable {
    /// Takes a free index that `worker` receives. `random` gives random bits, as often as asked.
    ///
    /// # Errors
    /// [`IndicesExhausted`].
    pub fn allocate(
        &mut self,
        now: Instant,
        worker: WorkerId,
        mut random: impl FnMut() -> u32,
    ) -> Result<ReceiverIndex, IndicesExhausted> {
        while let Some((at, index)) = self.released.front().copied() {
            if now < at + QUARANTINE {
                break;
            }
            self.released.pop_front();
            self.resting.remove(&index);
        }
        if self.used.len() + self.resting.len() >= INDICES_MAX {
            return Err(IndicesExhausted);
        }
        for _ in 0..TRIES_MAX {
            let index = ReceiverIndex::new(worker, random());
            if !self.resting.contains(&index) && self.used.insert(index) {
                return Ok(index);
            }
        }
        Err(IndicesExhausted)
    }

    /// Gives an index back; it is used again after 180 s at the earliest. One that is not in use stays
    /// as it is.
    pub fn release(&mut self, now: Instant, index: ReceiverIndex) {
        if self.used.remove(&index) {
            self.resting.insert(index);
            self.released.push_back((now, index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_and_not_soon_again() {
        let now = Instant::now();
        let worker = WorkerId::new(1).unwrap();
        let mut table = IndexTable::default();
        let mut numbers = [5, 5, 6, 5, 7, 5].into_iter();
        let mut random = || numbers.next().unwrap();
        let a = table.allocate(now, worker, &mut random).unwrap();
        assert_eq!(a.0, 0x0100_0005);
        assert_eq!(table.allocate(now, worker, &mut random).unwrap().0, 0x0100_0006);
        table.release(now, a);
        let soon = now + Duration::from_secs(179);
        assert_eq!(table.allocate(soon, worker, &mut random).unwrap().0, 0x0100_0007);
        let later = now + Duration::from_secs(180);
        assert_eq!(table.allocate(later, worker, &mut random), Ok(a));
    }

    #[test]
    fn without_random_numbers_there_are_no_indices() {
        let (now, worker) = (Instant::now(), WorkerId::new(0).unwrap());
        let mut table = IndexTable::default();
        assert!(table.allocate(now, worker, || 7).is_ok());
        assert_eq!(table.allocate(now, worker, || 7), Err(IndicesExhausted));
        assert!(table.allocate(now, worker, || 8).is_ok());
    }

    #[test]
    fn so_many_and_no_more_are_in_use_or_rest() {
        let (now, worker) = (Instant::now(), WorkerId::new(0).unwrap());
        let mut table = IndexTable::default();
        let numbers = |number: u32| move || number;
        let max = u32::try_from(INDICES_MAX).unwrap();
        let all: Vec<_> =
            (0..max).map(|n| table.allocate(now, worker, numbers(n)).unwrap()).collect();
        assert_eq!(table.allocate(now, worker, numbers(max)), Err(IndicesExhausted));
        table.release(now, all[0]);
        let soon = now + QUARANTINE - Duration::from_nanos(1);
        assert_eq!(table.allocate(soon, worker, numbers(max)), Err(IndicesExhausted));
        assert!(table.allocate(now + QUARANTINE, worker, numbers(max)).is_ok());
    }

    /// The table as a sentence: an index is free unless it is in use, or was until less than 180 s ago.
    #[derive(Clone, Default)]
    struct Plain {
        seconds: u64,
        used: [bool; 3],
        free_from: [u64; 3],
    }

    /// What is tried: the worker's indices below `numbers`, in turn from any of them on, and times in
    /// seconds that pass.
    #[derive(Clone, Copy)]
    struct Choices<'a> {
        numbers: usize,
        pauses: &'a [u64],
    }

    impl Plain {
        fn allocate(&mut self, first: usize, numbers: usize) -> Option<usize> {
            let mut order = (0..numbers).map(|i| (first + i) % numbers);
            let found = order.find(|n| !self.used[*n] && self.seconds >= self.free_from[*n])?;
            self.used[found] = true;
            Some(found)
        }

        fn release(&mut self, number: usize) {
            if std::mem::take(&mut self.used[number]) {
                self.free_from[number] = self.seconds + 180;
            }
        }
    }

    /// Takes every choice, `steps` after one another.
    fn try_all(start: Instant, table: &IndexTable, plain: &Plain, of: Choices<'_>, steps: u32) {
        if steps == 0 {
            return;
        }
        let worker = WorkerId::new(1).unwrap();
        let now = start + Duration::from_secs(plain.seconds);
        for number in 0..of.numbers {
            let (mut table_then, mut plain_then) = (table.clone(), plain.clone());
            let mut numbers = (number..).map(|n| u32::try_from(n % of.numbers).unwrap());
            let index = table_then.allocate(now, worker, || numbers.next().unwrap());
            let expected = plain_then.allocate(number, of.numbers);
            assert_eq!(index.ok().map(|index| (index.0 & 0x00ff_ffff) as usize), expected);
            try_all(start, &table_then, &plain_then, of, steps - 1);

            let (mut table_then, mut plain_then) = (table.clone(), plain.clone());
            table_then.release(now, ReceiverIndex::new(worker, u32::try_from(number).unwrap()));
            plain_then.release(number);
            try_all(start, &table_then, &plain_then, of, steps - 1);
        }
        for seconds in of.pauses {
            let later = Plain { seconds: plain.seconds + seconds, ..plain.clone() };
            try_all(start, table, &later, of, steps - 1);
        }
    }

    /// Releases of what is free, rests or was released before are among them.
    #[test]
    fn whatever_is_asked_in_whatever_order_it_is_as_the_plain_model_says() {
        let of = |numbers, pauses| Choices { numbers, pauses };
        for (of, steps) in [(of(3, &[90, 179][..]), 6), (of(2, &[90]), 8), (of(1, &[1, 179]), 9)] {
            try_all(Instant::now(), &IndexTable::default(), &Plain::default(), of, steps);
        }
    }
}
