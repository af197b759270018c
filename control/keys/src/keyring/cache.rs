//! Keys that are in memory. Pure: the time comes in.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{owner::Owner, owner_key::Slot};

/// Most keys that are kept in memory: as many environments as an installation is made for. Each takes some
/// 300 bytes.
pub const CACHE_LEN_MAX: usize = 1_024;
/// A key is used so long without asking the store whether it still is.
pub const CACHE_FRESH_MAX: Duration = Duration::from_millis(500);
/// A key that nobody asked for so long is forgotten.
const CACHE_IDLE_MAX: Duration = Duration::from_secs(60);

/// A key, when the store was last asked about it, and when it was last asked for.
#[derive(Debug)]
struct Kept {
    slot: Arc<Slot>,
    checked: Instant,
    used: Instant,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Cache {
    kept: HashMap<Owner, Kept>,
    /// All that were given away and may live, so that they can be withdrawn.
    given: HashMap<Owner, Weak<Slot>>,
    /// How often something was withdrawn: what was read before that is not put in any more.
    generation: u64,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { kept: HashMap::new(), given: HashMap::new(), generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The key, if the store was asked about it not long ago.
    pub(super) fn fresh(&mut self, owner: &Owner, now: Instant) -> Option<Arc<Slot>> {
        let kept = self.kept.get_mut(owner)?;
        kept.used = now;
        let fresh = now.saturating_duration_since(kept.checked) < CACHE_FRESH_MAX;
        fresh.then(|| Arc::clone(&kept.slot))
    }

    /// The key, as long as anybody has it.
    pub(super) fn held(&self, owner: &Owner) -> Option<Arc<Slot>> {
        self.given.get(owner)?.upgrade().filter(|slot| !slot.is_withdrawn())
    }

    /// Keeps a key that the store was asked about at `asked`. Returns the one to use, or `None` when something
    /// was withdrawn since `generation`: then the store is to be asked again.
    pub(super) fn insert(
        &mut self,
        generation: u64,
        owner: &Owner,
        slot: Arc<Slot>,
        asked: Instant,
    ) -> Option<Arc<Slot>> {
        if generation != self.generation {
            return None;
        }
        // There is one place for each key, whoever was first.
        let slot = self.held(owner).unwrap_or(slot);
        if !self.kept.contains_key(owner) && self.kept.len() >= CACHE_LEN_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(owner, _)| owner.clone()) {
                self.kept.remove(&oldest);
            }
        }
        if self.given.len() >= 2 * CACHE_LEN_MAX {
            self.given.retain(|_, slot| slot.strong_count() > 0);
        }
        self.given.insert(owner.clone(), Arc::downgrade(&slot));
        let kept = Kept { slot: Arc::clone(&slot), checked: asked, used: asked };
        self.kept.insert(owner.clone(), kept);
        Some(slot)
    }

    /// Wipes a key, also where it was given to.
    pub(super) fn withdraw(&mut self, owner: &Owner) {
        self.generation += 1;
        self.kept.remove(owner);
        if let Some(slot) = self.given.remove(owner).and_then(|slot| slot.upgrade()) {
            slot.withdraw();
        }
    }

    /// Wipes all keys.
    pub(super) fn withdraw_all(&mut self) {
        self.generation += 1;
        self.kept.clear();
        for slot in self.given.drain().filter_map(|(_, slot)| slot.upgrade()) {
            slot.withdraw();
        }
    }

    /// Forgets keys that nobody asks for.
    pub(super) fn forget_idle(&mut self, now: Instant) {
        self.kept.retain(|_, kept| now.saturating_duration_since(kept.used) < CACHE_IDLE_MAX);
        self.given.retain(|_, slot| slot.strong_count() > 0);
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot(..)")
    }
}

#[cfg(test)]
mod tests {
    use weft_types::EnvironmentId;

    use super::*;
    use crate::secret::KeyBytes;

    fn owner(i: usize) -> Owner {
        Owner::Environment(EnvironmentId::new(&format!("e{i}")).unwrap())
    }

    fn slot(i: usize) -> Arc<Slot> {
        Arc::new(Slot::new(owner(i), KeyBytes::random()))
    }

    #[test]
    fn a_key_is_used_for_half_a_second_and_forgotten_after_a_minute() {
        let (mut cache, now) = (Cache::new(), Instant::now());
        cache.insert(0, &owner(0), slot(0), now).unwrap();
        assert!(cache.fresh(&owner(0), now + CACHE_FRESH_MAX / 2).is_some());
        assert!(cache.fresh(&owner(0), now + CACHE_FRESH_MAX).is_none());
        assert!(cache.held(&owner(0)).is_some());
        cache.forget_idle(now + CACHE_FRESH_MAX + CACHE_IDLE_MAX / 2);
        assert_eq!(cache.len(), 1);
        cache.forget_idle(now + CACHE_FRESH_MAX + CACHE_IDLE_MAX);
        assert!(cache.len() == 0 && cache.held(&owner(0)).is_none() && cache.given.is_empty());
    }

    #[test]
    fn it_holds_no_more_than_it_may_and_withdraws_what_it_gave_away_too() {
        let (mut cache, now) = (Cache::new(), Instant::now());
        let kept: Vec<_> = (0..CACHE_LEN_MAX + 10)
            .map(|i| {
                let at = now + Duration::from_millis(i as u64);
                cache.insert(0, &owner(i), slot(i), at).unwrap()
            })
            .collect();
        assert_eq!(cache.len(), CACHE_LEN_MAX);
        assert!(cache.fresh(&owner(9), now).is_none(), "the oldest gave way");
        cache.withdraw(&owner(0));
        assert!(kept[0].is_withdrawn() && !kept[1].is_withdrawn());
        cache.withdraw_all();
        assert!(kept.iter().all(|slot| slot.is_withdrawn()));
        for i in 0..5 * CACHE_LEN_MAX {
            cache.insert(2, &owner(i), slot(i), now).unwrap();
        }
        assert!(cache.given.len() <= 2 * CACHE_LEN_MAX);
    }

    #[test]
    fn what_was_read_before_a_withdrawal_is_not_kept() {
        let (mut cache, now) = (Cache::new(), Instant::now());
        let generation = cache.generation();
        cache.withdraw(&owner(0));
        assert!(cache.insert(generation, &owner(0), slot(0), now).is_none());
        let first = cache.insert(1, &owner(0), slot(0), now).unwrap();
        let second = cache.insert(1, &owner(0), slot(0), now).unwrap();
        assert!(Arc::ptr_eq(&first, &second), "one place for each key");
    }
}
