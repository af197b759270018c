//! Giving out slots of the workers' tables.

use std::collections::BTreeSet;

/// Slots of one kind: always the lowest free one, so that tables stay dense.
#[derive(Debug, Default)]
pub(super) struct SlotPool {
    free: BTreeSet<u32>,
    next: u32,
}

impl SlotPool {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            let slot = self.next;
            self.next += 1;
            slot
        })
    }

    /// Takes a slot back. All workers must have forgotten it.
    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.insert(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_next() {
        let mut pool = SlotPool::default();
        assert_eq!([pool.take(), pool.take(), pool.take()], [0, 1, 2]);
        pool.give_back(1);
        pool.give_back(0);
        assert_eq!([pool.take(), pool.take(), pool.take()], [0, 1, 3]);
    }
}
