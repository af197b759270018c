//! A table that is indexed by slots which the daemon gives out.

/// Most slots of a kind; the daemon gives out the lowest free one, so the table stays dense.
const SLOTS_MAX: usize = 1 << 20;

/// Values by slot.
pub(super) struct Slots<T>(Vec<Option<T>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, slot: impl Into<usize>, value: T) {
        let slot = slot.into();
        assert!(slot < SLOTS_MAX, "slots are dense");
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(value);
    }

    pub(super) fn remove(&mut self, slot: impl Into<usize>) -> Option<T> {
        self.0.get_mut(slot.into()).and_then(Option::take)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }

    #[inline]
    pub(super) fn get(&self, slot: impl Into<usize>) -> Option<&T> {
        self.0.get(slot.into()).and_then(Option::as_ref)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: impl Into<usize>) -> Option<&mut T> {
        self.0.get_mut(slot.into()).and_then(Option::as_mut)
    }
}
