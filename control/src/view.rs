//! A live copy of the store, in the form in which it is asked for.
//!
//! ```text
//!   Store ── list, watch ──▶ driver ──▶ State { entries, projection, ledgers, index }
//!                                         │ told: which hosts have news
//!                                         ▼
//!                                       watchers
//! ```
//!
//! It may be behind. Whoever decides from it says in the transaction what the decision rests on; whoever has committed
//! something waits until it is here ([`View::reached`]), so that a caller sees what it has done.

mod state;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use tokio::{sync::watch, task::AbortHandle, time::sleep};
use weft_model::{Decoded, Record, RecordError, record::SealedSecret};
use weft_store::{
    Batch, Change, Entry, Fold, LIST_LEN_MAX, Page, Revision, Store, StoreError, WatchError,
};
use weft_types::HostId;

pub use self::state::State;

/// Between two tries to copy the store anew.
const RETRY: Duration = Duration::from_millis(500);

/// A live copy; see the module's text. Dropping it ends its task.
#[derive(Debug)]
pub struct View {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// The newest revision that is here; 0 before the first copy is whole.
    revision: watch::Sender<Revision>,
    /// Who listens for news of a host; the value is the revision of the last.
    watchers: RwLock<HashMap<HostId, watch::Sender<Revision>>>,
}

impl View {
    /// Begins to copy.
    #[must_use]
    pub fn follow(store: Arc<dyn Store>) -> Self {
        let shared = Arc::new(Shared {
            state: RwLock::default(),
            revision: watch::Sender::new(Revision(0)),
            watchers: RwLock::default(),
        });
        let task = tokio::spawn(drive(store, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Reads; nobody may wait for anything meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.state())
    }

    /// Waits until what was committed at `revision` is here.
    pub async fn reached(&self, revision: Revision) {
        // The sender is in this view.
        let _ = self.shared.revision.subscribe().wait_for(|at| *at >= revision).await;
    }

    /// The newest revision that is here, and whenever there is another.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.shared.revision.subscribe()
    }

    /// Waits until the first copy is whole.
    pub async fn ready(&self) {
        self.reached(Revision(1)).await;
    }

    /// Tells whenever a host has news from now on.
    #[must_use]
    pub fn news(&self, host: &HostId) -> watch::Receiver<Revision> {
        let mut watchers = self.shared.watchers.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more to those without receivers.
        watchers.retain(|_, news| news.receiver_count() > 0);
        watchers.entry(host.clone()).or_default().subscribe()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, state: State) {
        let revision = state.revision();
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.revision.send_replace(revision);
        let watchers = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
        for news in watchers.values() {
            news.send_replace(revision);
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), RecordError> {
        let revision = batch.revision;
        let told = self.state.write().unwrap_or_else(PoisonError::into_inner).apply(batch)?;
        self.revision.send_replace(revision);
        let watchers = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
        for news in told.iter().filter_map(|host| watchers.get(host)) {
            news.send_replace(revision);
        }
        Ok(())
    }
}

async fn drive(store: Arc<dyn Store>, shared: Arc<Shared>) {
    loop {
        match follow(&*store, &shared).await {
            Ok(never) => match never {},
            Err(error) => tracing::warn!(%error, "the live copy of the store begins anew"),
        }
        sleep(RETRY).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Copies the store, then follows it until that fails. What is here stays as it is meanwhile.
async fn follow(
    store: &dyn Store,
    shared: &Shared,
) -> Result<std::convert::Infallible, FollowError> {
    let mut fold = Fold::new();
    let first = store.list("", None, LIST_LEN_MAX).await?;
    let mut watch = store.watch("", first.revision).await?;
    fold.handle_page(page_without_values(first));
    while let Some(after) = fold.poll_page() {
        let page = store.list("", Some(&after), LIST_LEN_MAX).await?;
        fold.handle_page(page_without_values(page));
    }
    while !fold.is_whole() {
        fold.handle_batch(batch_without_values(watch.next().await?));
    }
    shared.replace(State::of(fold)?);
    loop {
        let batch = watch.next().await?;
        shared.apply(batch_without_values(batch))?;
    }
}

/// Values of secrets are asked for one by one, in the store itself. Here, all of all environments' would take gigabytes;
/// that they are there is kept.
fn without_value(entry: &mut Entry) {
    if entry.key.has_prefix(&SealedSecret::prefix("")) {
        // Taken, not cleared: what is cleared keeps its memory.
        drop(std::mem::take(&mut entry.value));
    }
}

fn page_without_values(mut page: Page) -> Page {
    page.entries.iter_mut().for_each(without_value);
    page
}

fn batch_without_values(mut batch: Batch) -> Batch {
    for change in &mut batch.changes {
        if let Change::Put(entry) = change {
            without_value(entry);
        }
    }
    batch
}

/// An entry that was read from the store itself.
pub(crate) fn decode<R: Record>(entry: Option<Entry>) -> Result<Option<Decoded<R>>, RecordError> {
    entry.as_ref().map(R::decode).transpose()
}
