//! A live copy of the store, in the form in which it is asked for.
//!
//! ```text
//!   Store ── list, watch ──▶ driver ──▶ State { entries, projection, ledgers, index }
//!                                         │ told: which hosts and environments have news
//!                                         ▼
//!                                       listeners
//! ```
//!
//! It may be behind. Whoever decides from it says in the transaction what the decision rests on; whoever has committed
//! something waits until it is here ([`View::reached`]), so that a caller sees what it has done, but not for ever: what
//! cannot be read stops the copy, and then it says so ([`View::trouble`]).

mod listeners;
mod pace;
mod state;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use weft_model::{
    Decoded, Record, RecordError,
    format::{self, FormatError},
    record::SealedSecret,
};
use weft_store::{
    Batch, Change, Entry, Fold, LIST_LEN_MAX, Page, Revision, Store, StoreError, WatchError,
};
use weft_types::{EnvironmentId, HostId};

pub use self::state::State;
use self::{listeners::Listeners, pace::Pace};

/// How long somebody waits until a change is here. A copy that takes longer is in trouble.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// How long the first copy may take.
const READY_MAX: Duration = Duration::from_secs(300);

/// What was asked for is not here, and nobody knows when it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process does not see what was changed last")]
pub struct Behind;

/// There is no copy to begin with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store is not served: {0}")]
pub struct NotReady(String);

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
    /// Since when nothing is heard of the store; `None` while it is.
    cut_off: watch::Sender<Option<Instant>>,
    /// Why what is here does not become newer.
    trouble: watch::Sender<Option<String>>,
    /// The store is of a later release by now.
    outgrown: watch::Sender<Option<FormatError>>,
    /// Who listens for news of a host.
    hosts: Listeners<HostId>,
    /// Who listens for news of an environment.
    environments: Listeners<EnvironmentId>,
}

impl View {
    /// Begins to copy.
    #[must_use]
    pub fn follow(store: Arc<dyn Store>) -> Self {
        let shared = Arc::new(Shared {
            state: RwLock::default(),
            revision: watch::Sender::new(Revision(0)),
            cut_off: watch::Sender::default(),
            trouble: watch::Sender::default(),
            outgrown: watch::Sender::default(),
            hosts: Listeners::default(),
            environments: Listeners::default(),
        });
        let task = tokio::spawn(drive(store, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Reads; nobody may wait for anything meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.state())
    }

    /// Waits until what was committed at `revision` is here, [`BEHIND_MAX`] at most, and no longer than until it is known
    /// that it will not be.
    ///
    /// # Errors
    /// [`Behind`].
    pub async fn reached(&self, revision: Revision) -> Result<(), Behind> {
        let (mut at, mut trouble) = (self.shared.revision.subscribe(), self.trouble());
        // The senders are in this view.
        let here = async { drop(at.wait_for(|at| *at >= revision).await) };
        let stuck = async { drop(trouble.wait_for(Option::is_some).await) };
        let wait = async {
            tokio::select! {
                biased;
                () = here => Ok(()),
                () = stuck => Err(Behind),
            }
        };
        timeout(BEHIND_MAX, wait).await.unwrap_or_else(|_| {
            self.shared.has_trouble(format!("the store tells nothing of revision {}", revision.0));
            Err(Behind)
        })
    }

    /// Why what is here does not become newer, as long as it does not.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.subscribe()
    }

    /// For how long nothing has been heard of the store, if nothing is.
    #[must_use]
    pub fn cut_off(&self) -> Option<Duration> {
        self.shared.cut_off.borrow().map(|since| since.elapsed())
    }

    /// Waits until the store is of a later release than this program, which has nothing to do with it from then on.
    pub async fn outgrown(&self) -> FormatError {
        let mut outgrown = self.shared.outgrown.subscribe();
        loop {
            if let Some(error) = outgrown.borrow_and_update().clone() {
                return error;
            }
            // The sender is in this view.
            let _ = outgrown.changed().await;
        }
    }

    /// The newest revision that is here, and whenever there is another.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.shared.revision.subscribe()
    }

    /// Waits until the first copy is whole, [`READY_MAX`] at most.
    ///
    /// # Errors
    /// [`NotReady`] names what cannot be read.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let (mut at, mut trouble) = (self.changes(), self.trouble());
        let whole = async { drop(at.wait_for(|at| *at > Revision(0)).await) };
        let stuck = async {
            let why = trouble.wait_for(Option::is_some).await;
            why.ok().and_then(|why| why.clone()).unwrap_or_default()
        };
        let wait = async {
            tokio::select! {
                () = whole => Ok(()),
                why = stuck => Err(NotReady(why)),
            }
        };
        let late = |_| Err(NotReady(format!("it is not copied within {} s", READY_MAX.as_secs())));
        timeout(READY_MAX, wait).await.unwrap_or_else(late)
    }

    /// Tells whenever a host has news from now on.
    #[must_use]
    pub fn news(&self, host: &HostId) -> watch::Receiver<Revision> {
        self.shared.hosts.listen(host)
    }

    /// Tells whenever something of an environment may be different from now on, as hosts and who watches its services see
    /// it. What is done in others wakes nobody.
    #[must_use]
    pub fn news_of(&self, environment: &EnvironmentId) -> watch::Receiver<Revision> {
        self.shared.environments.listen(environment)
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
        self.goes_on(revision);
        self.hosts.tell_all(revision);
        self.environments.tell_all(revision);
    }

    fn apply(&self, batch: Batch) -> Result<(), RecordError> {
        let revision = batch.revision;
        let told = self.state.write().unwrap_or_else(PoisonError::into_inner).apply(batch)?;
        self.goes_on(revision);
        self.hosts.tell(&told.hosts, revision);
        self.environments.tell(&told.environments, revision);
        Ok(())
    }

    fn goes_on(&self, revision: Revision) {
        self.revision.send_replace(revision);
        self.cut_off.send_if_modified(|since| since.take().is_some());
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
    }

    /// Whether there was none before.
    fn has_trouble(&self, why: String) -> bool {
        self.trouble.send_if_modified(|trouble| {
            let is_first = trouble.is_none();
            *trouble = Some(why);
            is_first
        })
    }
}

async fn drive(store: Arc<dyn Store>, shared: Arc<Shared>) {
    let mut pace = Pace::default();
    loop {
        let error = match follow(&*store, &shared).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        shared.cut_off.send_if_modified(|since| {
            *since = since.or_else(|| Some(Instant::now()));
            true
        });
        let is_first = match error.lasts() {
            // Whatever a later release writes is not for this one.
            Some(why) => shared.has_trouble(why),
            None => false,
        };
        let (why, lasts) = (error.to_string(), error.lasts().is_some());
        let (pause, is_told) = pace.handle_failure(Instant::now(), lasts, is_first);
        if is_told {
            tracing::warn!(why, "the live copy of the store begins anew");
        }
        if let FollowError::Format(error) = error {
            shared.outgrown.send_replace(Some(error));
            return;
        }
        sleep(pause).await;
    }
}

/// Why a copy ended. What is told of it is nothing of what is stored.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("{}", unreadable(.0))]
    Record(#[from] RecordError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl FollowError {
    /// Why, when it is not over by itself.
    fn lasts(&self) -> Option<String> {
        match self {
            Self::Record(_)
            | Self::Format(_)
            | Self::Store(StoreError::Corrupt(_))
            | Self::Watch(WatchError::Store(StoreError::Corrupt(_))) => Some(self.to_string()),
            Self::Store(_) | Self::Watch(_) => None,
        }
    }
}

fn unreadable(error: &RecordError) -> String {
    match error.place() {
        Some(key) => format!(
            "{key} cannot be read: it is damaged, or written by a later release than {}",
            env!("CARGO_PKG_VERSION")
        ),
        None => error.to_string(),
    }
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
    // Before anything that a later release may have written.
    for entry in fold.entries().values() {
        format::check(entry)?;
    }
    shared.replace(State::of(fold)?);
    loop {
        let batch = batch_without_values(watch.next().await?);
        for change in &batch.changes {
            if let Change::Put(entry) = change {
                format::check(entry)?;
            }
        }
        shared.apply(batch)?;
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
