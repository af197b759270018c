//! A copy of everything under a prefix in memory, kept up to date.

mod fold;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use tokio::{sync::watch, task::AbortHandle, time::sleep};

pub use self::fold::Fold;
use crate::{
    entry::{Entry, Revision},
    error::{StoreError, WatchError},
    key::{Key, KeyRange},
    limits::LIST_LEN_MAX,
    store::Store,
    watch::{Batch, Watch},
};

/// How long a mirror waits after the first failure, and at most after many.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// How good a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Changes up to this revision are in it.
    pub revision: Revision,
    /// Whether it has ever been whole. It is not less whole later, only older.
    pub whole: bool,
    /// Why it does not hear of changes now.
    pub trouble: Option<String>,
}

/// A copy of everything under a prefix; see the module's text. It lags behind the store by as long as a change
/// takes to come: decide by it what to try, and let conditions of a transaction decide what happens.
///
/// Dropping it ends its task.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    copy: RwLock<Fold>,
    standing: watch::Sender<Standing>,
}

impl Mirror {
    /// Begins to copy. To be called inside a tokio runtime.
    #[must_use]
    pub fn follow(store: Arc<dyn Store>, prefix: &str) -> Self {
        let standing = Standing { revision: Revision(0), whole: false, trouble: None };
        let shared = Arc::new(Shared {
            copy: RwLock::new(Fold::new()),
            standing: watch::Sender::new(standing),
        });
        let follower = Follower { store, prefix: prefix.to_owned(), shared: Arc::clone(&shared) };
        let task = tokio::spawn(follower.run()).abort_handle();
        Self { shared, task }
    }

    /// What is at `key`, as far as is known.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Entry> {
        self.shared.copy().entries().get(key).cloned()
    }

    /// What begins with `prefix` and comes after `after`, at most `len_max` entries.
    #[must_use]
    pub fn list(&self, prefix: &str, after: Option<&Key>, len_max: usize) -> Vec<Entry> {
        let Some(range) = KeyRange::new(prefix, after) else { return Vec::new() };
        let copy = self.shared.copy();
        let found = copy.entries().range::<str, _>(range.bounds());
        found.take(len_max).map(|(_, entry)| entry.clone()).collect()
    }

    /// How good the copy is, now and whenever that changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Waits until the copy has been whole.
    pub async fn whole(&self) {
        self.until(|standing| standing.whole).await;
    }

    /// Waits until the copy is whole and has the change that was made at `revision` under its prefix.
    pub async fn reached(&self, revision: Revision) {
        self.until(|standing| standing.whole && standing.revision >= revision).await;
    }

    async fn until(&self, is_met: impl FnMut(&Standing) -> bool) {
        // The sender is in this mirror.
        let _ = self.standing().wait_for(is_met).await;
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn copy(&self) -> RwLockReadGuard<'_, Fold> {
        self.copy.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, fold: Fold) {
        *self.copy.write().unwrap_or_else(PoisonError::into_inner) = fold;
    }

    fn handle_batch(&self, batch: Batch) {
        self.copy.write().unwrap_or_else(PoisonError::into_inner).handle_batch(batch);
    }

    fn tell(&self, trouble: Option<String>) {
        let (revision, is_whole) = {
            let copy = self.copy();
            (copy.revision(), copy.is_whole())
        };
        self.standing.send_if_modified(|standing| {
            let whole = standing.whole || is_whole;
            let now = Standing { revision, whole, trouble };
            let changed = *standing != now;
            *standing = now;
            changed
        });
    }
}

/// The task of a mirror.
struct Follower {
    store: Arc<dyn Store>,
    prefix: String,
    shared: Arc<Shared>,
}

impl Follower {
    async fn run(self) {
        let mut pause = RETRY_MIN;
        loop {
            let ended = match self.fill().await {
                Ok(watch) => {
                    pause = RETRY_MIN;
                    self.keep_up(watch).await
                }
                Err(ended) => ended,
            };
            self.shared.tell(Some(ended.to_string()));
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Copies everything anew beside what there is. Readers see the old copy until the new one is whole.
    async fn fill(&self) -> Result<Box<dyn Watch>, WatchError> {
        let mut fold = Fold::new();
        let first = self.store.list(&self.prefix, None, LIST_LEN_MAX).await?;
        let mut watch = self.store.watch(&self.prefix, first.revision).await?;
        fold.handle_page(first);
        while !fold.is_whole() {
            let Some(after) = fold.poll_page() else {
                fold.handle_batch(watch.next().await?);
                continue;
            };
            let page = self.store.list(&self.prefix, Some(&after), LIST_LEN_MAX);
            tokio::pin!(page);
            let page = loop {
                tokio::select! {
                    page = &mut page => break page?,
                    batch = watch.next() => fold.handle_batch(batch?),
                }
            };
            fold.handle_page(page);
        }
        self.shared.replace(fold);
        Ok(watch)
    }

    /// Takes over changes until history does not reach back to the last of them.
    async fn keep_up(&self, mut watch: Box<dyn Watch>) -> WatchError {
        let mut pause = RETRY_MIN;
        loop {
            self.shared.tell(None);
            let trouble = match watch.next().await {
                Ok(batch) => {
                    self.shared.handle_batch(batch);
                    pause = RETRY_MIN;
                    continue;
                }
                Err(WatchError::Store(trouble)) => trouble,
                Err(compacted) => return compacted,
            };
            watch = self.resume(trouble, &mut pause).await;
        }
    }

    /// The watch again, after the last change that it told.
    async fn resume(&self, mut trouble: StoreError, pause: &mut Duration) -> Box<dyn Watch> {
        loop {
            self.shared.tell(Some(trouble.to_string()));
            sleep(*pause).await;
            *pause = (*pause * 2).min(RETRY_MAX);
            let after = self.shared.copy().revision();
            match self.store.watch(&self.prefix, after).await {
                Ok(watch) => return watch,
                Err(again) => trouble = again,
            }
        }
    }
}

#[cfg(test)]
mod tests;
