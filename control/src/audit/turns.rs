//! Whose turn it is to read the audit: who asks a lot waits for itself, not others for it.
//!
//! ```text
//!   organisation ─▶ one turn of its own ─▶ 2 for all organisations ─┐
//!   operators ──────────────────────────▶ 1 for them ───────────────┼─▶ the disk
//!   verifying ──────────────────────────▶ 1 ────────────────────────┘
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weft_model::OrganisationId;

use crate::error::AppError;

/// Readers of organisations at once, one of each: a page reads up to 60 MB of a disk that the writer needs.
pub const ORGANISATIONS_READERS_MAX: usize = 2;
/// Readers of operators at once, and as many that verify.
pub const OPERATORS_READERS_MAX: usize = 1;
/// Readers of one organisation at once.
const ORGANISATION_READERS_MAX: usize = 1;

/// Who reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// Whoever may read the audit of an organisation, or of an environment of it.
    Organisation(OrganisationId),
    /// Operators.
    Operators,
    /// Operators who verify: that takes long.
    Verifying,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _shared: OwnedSemaphorePermit,
}

/// All turns.
#[derive(Debug)]
pub(super) struct Turns {
    organisations: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    verifying: Arc<Semaphore>,
    /// Of organisations that read or wait.
    each: Mutex<HashMap<OrganisationId, Weak<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        Self {
            organisations: turns(ORGANISATIONS_READERS_MAX),
            operators: turns(OPERATORS_READERS_MAX),
            verifying: turns(OPERATORS_READERS_MAX),
            each: Mutex::default(),
        }
    }
}

impl Turns {
    /// Waits for a turn.
    pub(super) async fn take(&self, party: &Party) -> Result<Turn, AppError> {
        let (own, shared) = match party {
            Party::Organisation(id) => (Some(self.of(id)), &self.organisations),
            Party::Operators => (None, &self.operators),
            Party::Verifying => (None, &self.verifying),
        };
        // First its own: of one organisation one waits among all.
        let own = match own {
            Some(own) => Some(own.acquire_owned().await.map_err(AppError::internal)?),
            None => None,
        };
        let shared = Arc::clone(shared).acquire_owned().await.map_err(AppError::internal)?;
        Ok(Turn { _own: own, _shared: shared })
    }

    fn of(&self, id: &OrganisationId) -> Arc<Semaphore> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = each.get(id).and_then(Weak::upgrade) {
            return found;
        }
        each.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(ORGANISATION_READERS_MAX));
        each.insert(id.clone(), Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    fn organisation(letter: &str) -> Party {
        Party::Organisation(format!("org-{}", letter.repeat(16)).parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_a_lot_waits_for_itself() {
        let turns = Arc::new(Turns::default());
        let (acme, others) = (organisation("a"), ["b", "c", "d"].map(organisation));
        let reading = turns.take(&acme).await.unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..64 {
            let (turns, acme) = (Arc::clone(&turns), acme.clone());
            waiting.spawn(async move { turns.take(&acme).await.unwrap() });
        }
        tokio::task::yield_now().await;
        let soon = Duration::from_secs(1);
        let taken = async |party: &Party| timeout(soon, turns.take(party)).await.ok();
        // Others have turns, one after the other, and operators always.
        for other in &others {
            assert!(taken(other).await.is_some());
        }
        let busy = taken(&others[0]).await.unwrap();
        assert!(taken(&others[1]).await.is_none(), "there are two");
        let (list, verify) = (taken(&Party::Operators).await, taken(&Party::Verifying).await);
        assert!(list.is_some() && verify.is_some());
        assert!(waiting.try_join_next().is_none());
        // When the one ends, one of all that waited is next, and who is behind it comes after it.
        drop(reading);
        let second = waiting.join_next().await.unwrap().unwrap();
        let patient = {
            let (turns, other) = (Arc::clone(&turns), others[2].clone());
            tokio::spawn(async move { turns.take(&other).await.unwrap() })
        };
        tokio::task::yield_now().await;
        drop(second);
        timeout(soon, patient).await.unwrap().unwrap();
        drop(busy);
        waiting.abort_all();
        while waiting.join_next().await.is_some() {}
        assert!(taken(&organisation("e")).await.is_some());
        assert_eq!(turns.each.lock().unwrap().len(), 1, "who is gone is forgotten");
    }
}
