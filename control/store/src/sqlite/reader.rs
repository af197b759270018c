//! Reading: a few connections, each with a snapshot of its own, for whoever asks.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, OptionalExtension, Row};
use std::sync::Arc;
use tokio::sync::Semaphore;

use super::{
    closed,
    error::{not_as_written, store_error},
    record::{COLUMNS, Record},
    schema::{self, number},
};
use crate::{
    entry::{Entry, Page, Revision},
    error::StoreError,
    key::{Key, KeyRange},
    limits::{LIST_BYTES_MAX, LIST_LEN_MAX},
};

/// Connections, and so reads at once.
const READERS: usize = 4;
/// Reads that wait for one. More are refused.
const WAITING_MAX: usize = 4096;

/// The connections.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    room: Arc<Semaphore>,
    /// Places for those that wait and those that read.
    queue: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
    /// A change may or may not be on the disk: nothing is told before that is known.
    unsure: AtomicBool,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<Connection>,
    closed: bool,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            room: Arc::new(Semaphore::new(READERS)),
            queue: Arc::new(Semaphore::new(READERS + WAITING_MAX)),
            idle: Arc::default(),
            unsure: AtomicBool::new(false),
        }
    }

    /// Refuses reads, or allows them again.
    pub(super) fn set_unsure(&self, unsure: bool) {
        self.unsure.store(unsure, Ordering::SeqCst);
    }

    /// Closes the connections; who reads now closes its own.
    pub(super) fn close(&self) {
        let mut idle = lock(&self.idle);
        idle.closed = true;
        idle.connections.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.idle).closed
    }

    /// Reads with one snapshot, on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Ok(place) = Arc::clone(&self.queue).try_acquire_owned() else {
            return Err(StoreError::Unavailable(format!("{WAITING_MAX} reads wait already")));
        };
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| closed())?;
        if self.unsure.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("a change is not known to be durable".to_owned()));
        }
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        let reading = tokio::task::spawn_blocking(move || {
            // Held until the connection is given back, also when nobody waits for the answer any more.
            let _places = (place, room);
            let connection = take(&idle, &path)?;
            let answer = with_snapshot(&connection, read).map_err(|e| store_error(&e));
            let mut idle = lock(&idle);
            if !idle.closed {
                idle.connections.push(connection);
            }
            answer
        });
        let answer = reading.await.map_err(|e| StoreError::Unavailable(e.to_string()))?;
        if self.unsure.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("a change is not known to be durable".to_owned()));
        }
        answer
    }
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(idle: &Mutex<Idle>, path: &Path) -> Result<Connection, StoreError> {
    {
        let mut idle = lock(idle);
        if idle.closed {
            return Err(closed());
        }
        if let Some(connection) = idle.connections.pop() {
            return Ok(connection);
        }
    }
    schema::open_reader(path).map_err(|e| store_error(&e))
}

fn with_snapshot<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let snapshot = connection.unchecked_transaction()?;
    let answer = read(&snapshot)?;
    snapshot.finish()?;
    Ok(answer)
}

pub(super) fn get(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Entry>> {
    let get = format!(
        "SELECT {COLUMNS} FROM entry JOIN change ON change.id = entry.change WHERE entry.key = ?1"
    );
    let found =
        connection.prepare_cached(&get)?.query_row([key.as_str()], Record::read).optional()?;
    found.map(|record| entry(record, key)).transpose()
}

/// What the row says, if it is of the key whose it is said to be.
fn entry(record: Record, key: &Key) -> rusqlite::Result<Entry> {
    let entry = record.entry().filter(|entry| entry.key == *key);
    entry.ok_or_else(|| not_as_written(1, "another key's value"))
}

pub(super) fn list(
    connection: &Connection,
    prefix: &str,
    after: Option<&Key>,
    len_max: usize,
) -> rusqlite::Result<Page> {
    let revision = Revision(number(connection, "revision")?);
    let mut page = Page { revision, ..Page::default() };
    let Some(range) = KeyRange::new(prefix, after) else { return Ok(page) };
    // The left side of a cross join comes first whatever the planner thinks of the tables: ordered by keys.
    let list = format!(
        "SELECT {COLUMNS}, entry.key FROM entry CROSS JOIN change ON change.id = entry.change
         WHERE entry.key >= ?1 AND entry.key < ?2 ORDER BY entry.key"
    );
    let mut statement = connection.prepare_cached(&list)?;
    let mut rows = statement.query([range.start().as_str(), range.end()])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if page.entries.len() >= len_max.min(LIST_LEN_MAX) || bytes >= LIST_BYTES_MAX {
            page.more = true;
            break;
        }
        let entry = entry(Record::read(row)?, &key(row, 6)?)?;
        bytes += entry.key.as_str().len() + entry.value.len();
        page.entries.push(entry);
    }
    Ok(page)
}

pub(super) fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<Key> {
    let text: String = row.get(column)?;
    Key::new(&text).map_err(|_| not_as_written(column, "a key that no store writes"))
}
