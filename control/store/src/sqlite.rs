//! A store in one file of SQLite, for one management host.
//!
//! ```text
//!   commit ─┐                     ┌─ one SQLite transaction, one sync of the log ─┐
//!   commit ─┼─▶ bounded queue ─▶ writer ─▶ conditions, writes; conditions, writes ┴─▶ feed, answers
//!   lease  ─┘                     ▲ leases that end
//!   get, list, late watches ─▶ one of READERS connections, each with a snapshot of its own
//!   watches ─▶ feed (the newest changes, in memory)
//! ```
//!
//! Transactions that wait while the log is synced are evaluated one after the other and made durable by the
//! next sync together; each is acknowledged after it. The file belongs to one process at a time.
//!
//! Current values and history are in one table that is only appended to; another says where the current
//! value of a key is. So a value is written once, and compaction removes what is neither.

mod backup;
mod error;
mod lock;
mod reader;
mod record;
mod schema;
mod watch;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub use self::{
    backup::{BackupError, RESTORE_STEP, backup, restore},
    error::OpenError,
};
use self::{
    lock::Lock,
    reader::Readers,
    watch::SqliteWatch,
    writer::{Writer, request::Request},
};
use crate::{
    entry::{Entry, Page, Revision},
    error::{CommitError, StoreError},
    feed::{Feed, Kept},
    key::Key,
    limits::{HISTORY_REVISIONS_MIN, TRANSACTION_BYTES_MAX},
    store::{LeaseId, Store, check_ttl},
    transaction::Transaction,
    watch::Watch,
};

/// What requests that wait for the writer may take together, KiB.
const QUEUE_KIB_MAX: usize = 64 << 10;
/// What the newest changes take in memory, at most.
const FEED_KEPT: Kept = Kept { revisions: HISTORY_REVISIONS_MIN, bytes: 16 << 20 };
/// The same where what is overwritten is to vanish.
const FEED_KEPT_ERASING: Kept = Kept { revisions: 64, bytes: 1 << 20 };

/// How the file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SqliteOptions {
    /// What is overwritten or deleted is in none of the store's files any more when the commit returns. There
    /// is no history then: a watch that is behind has to begin anew, and each such commit rewrites the file.
    /// For small stores of keys. File systems and disks may keep copies of their own.
    pub erase: bool,
    /// Most pages of [`PAGE_BYTES`] that the file may have; 0 for as many as the disk has.
    pub pages_max: u32,
    /// The log is copied into the file whenever it has grown by so many pages; 0 for 4,096, which are 16 MiB. A
    /// longer one saves syncs, because pages that change often are copied once.
    pub log_pages: u32,
}

/// Size of a page of the file, bytes.
pub const PAGE_BYTES: u32 = 4096;

/// A store in one file; see the module's text. Dropping it waits until what was asked for is done.
#[derive(Debug)]
pub struct Sqlite {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Given up when all is closed; watches that are still there read nothing any more.
    _lock: Lock,
}

/// What the writer, readers and watches see.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    feed: Feed,
    readers: Readers,
}

/// A request, with its place in the queue.
#[derive(Debug)]
struct Job {
    request: Request,
    room: OwnedSemaphorePermit,
}

impl Sqlite {
    /// Opens the store at `path`, or makes it; its directory must be there. Blocks for as long as checking the
    /// file takes.
    ///
    /// # Errors
    /// [`OpenError`] says whose file it is or what is wrong with it.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let lock = Lock::take(path)?;
        let (connection, state) = schema::open(path, options)?;
        let kept = if options.erase { FEED_KEPT_ERASING } else { FEED_KEPT };
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            feed: Feed::new(state.revision, kept),
            readers: Readers::new(path),
        });
        let (requests, queue) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), connection, state, options);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let room = Arc::new(Semaphore::new(QUEUE_KIB_MAX));
        Ok(Self { shared, requests, room, thread: Mutex::new(Some(thread)), _lock: lock })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Waits for room, asks the writer and waits for its answer.
    async fn ask<T, E: From<StoreError>>(
        &self,
        bytes: usize,
        lost: impl FnOnce() -> E,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> Result<T, E> {
        let kib = u32::try_from(bytes.min(TRANSACTION_BYTES_MAX) / 1024 + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        self.requests.send(Job { request: request(answer), room }).map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The writer ends when it has done everything and nobody is left to ask.
        self.requests = mpsc::channel().0;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(path = %self.shared.path.display(), "the writer of the store has panicked");
        }
        self.shared.readers.close();
        self.shared.feed.wake();
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let key = key.clone();
        self.shared.readers.read(move |connection| reader::get(connection, &key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.shared
            .readers
            .read(move |connection| reader::list(connection, &prefix, after.as_ref(), len_max))
            .await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        transaction.check()?;
        let bytes = transaction.bytes();
        let lost = || CommitError::Unknown("the writer has ended".to_owned());
        self.ask(bytes, lost, |answer| Request::Commit(transaction, answer)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(SqliteWatch::new(Arc::clone(&self.shared), prefix, after)))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        check_ttl(ttl)?;
        self.ask(0, closed, |answer| Request::Grant(ttl, answer)).await
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(0, closed, |answer| Request::Renew(lease, answer)).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(0, closed, |answer| Request::Revoke(lease, answer)).await
    }
}
