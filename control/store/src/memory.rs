//! A store in memory: exact, without durability, for tests and simulations.

mod faults;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

pub use self::faults::Fault;
use self::{faults::Faults, state::State};
use crate::{
    clock::Clock,
    entry::{Entry, Page, Revision},
    error::{CommitError, StoreError, WatchError},
    feed::{Feed, Kept, Next},
    key::Key,
    limits::HISTORY_REVISIONS_MIN,
    store::{LeaseId, Store, check_ttl},
    transaction::Transaction,
    watch::{Batch, Watch},
};

/// A store that is gone with the process. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    feed: Feed,
    state: Mutex<State>,
    faults: Mutex<Faults>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Clock::machine())
    }
}

impl Memory {
    /// An empty store whose leases end by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let kept = Kept { revisions: HISTORY_REVISIONS_MIN, bytes: usize::MAX };
        let feed = Feed::new(Revision(0), kept);
        let (state, faults) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { clock, feed, state, faults }) }
    }

    /// The `n`-th commit from now on, 1 for the next, ends in `fault`.
    pub fn fail_commit(&self, n: usize, fault: Fault) {
        self.shared.faults().fail_commit(n, fault);
    }

    /// From now on nothing is answered and watches end, or all is well again.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.shared.faults().set_unavailable(unavailable);
        self.shared.feed.wake();
    }

    /// Every watch that there is ends, as when the server is another one.
    pub fn break_watches(&self) {
        self.shared.faults().break_watches();
        self.shared.feed.wake();
    }

    /// Forgets history up to `revision`, the newest if that is earlier.
    pub fn compact(&self, revision: Revision) {
        let state = self.shared.state();
        self.shared.feed.forget(revision.min(state.revision()));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of now: what leases held that are over is gone.
    fn current(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        self.faults().check()?;
        let mut state = self.state();
        let ended = state.expire(self.clock.now());
        if !ended.is_empty() {
            // Under the lock, so that batches come in their order.
            self.feed.publish(ended);
        }
        Ok(state)
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.shared.current()?.get(key).cloned())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        Ok(self.shared.current()?.list(prefix, after, len_max))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        transaction.check()?;
        let fault = self.shared.faults().next_commit();
        if let Some(refused) = fault.as_ref().and_then(Fault::refusal) {
            return Err(refused);
        }
        let mut state = self.shared.current()?;
        let batch = state.commit(transaction)?;
        let revision = state.revision();
        if let Some(batch) = batch {
            self.shared.feed.publish([batch]);
        }
        match fault {
            Some(_) => Err(CommitError::Unknown("an injected fault".to_owned())),
            None => Ok(revision),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let generation = self.shared.faults().check()?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(MemoryWatch { shared, prefix: prefix.to_owned(), after, generation }))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        check_ttl(ttl)?;
        let lease = self.shared.current()?.grant(ttl, self.shared.clock.now());
        // Watches wait for the first lease to end.
        self.shared.feed.wake();
        Ok(lease)
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.current()?.renew(lease, self.shared.clock.now())
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut state = self.shared.current()?;
        if let Some(batch) = state.revoke(lease)? {
            self.shared.feed.publish([batch]);
        }
        Ok(())
    }
}

struct MemoryWatch {
    shared: Arc<Shared>,
    prefix: String,
    after: Revision,
    generation: u64,
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            let mut news = self.shared.feed.subscribe();
            if self.shared.faults().check()? != self.generation {
                return Err(StoreError::Unavailable("an injected fault".to_owned()).into());
            }
            let lease_ends = self.shared.current()?.next_end();
            let newest = self.shared.feed.newest();
            if self.after > newest {
                return Err(WatchError::Compacted { oldest: newest });
            }
            match self.shared.feed.next(&self.prefix, self.after) {
                Next::Batch(batch) => {
                    self.after = batch.revision;
                    return Ok(batch);
                }
                Next::Before(oldest) => return Err(WatchError::Compacted { oldest }),
                Next::Nothing(up_to) => self.after = up_to,
            }
            if self.after < self.shared.feed.newest() {
                continue;
            }
            let lease_end = async {
                match lease_ends {
                    Some(end) => self.shared.clock.reached(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = news.changed() => {}
                () = lease_end => {}
            }
        }
    }
}
