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

/// All indices are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {INDICES_MAX} receiver indices are in use or were until 180 s ago")]
pub struct IndicesExhausted;

/// The indices of this host, unique over all environments and workers.
#[derive(Debug, Default)]
pub struct IndexTable {
    taken: FxHashSet<ReceiverIndex>,
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
            self.taken.remove(&index);
        }
        if self.taken.len() >= INDICES_MAX {
            return Err(IndicesExhausted);
        }
        loop {
            let index = ReceiverIndex::new(worker, random());
            if self.taken.insert(index) {
                return Ok(index);
            }
        }
    }

    /// Gives an index back; it is used again after 180 s at the earliest.
    pub fn release(&mut self, now: Instant, index: ReceiverIndex) {
        if self.taken.contains(&index) {
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
}
