//! The file: settings, tables, versions.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    PAGE_BYTES, SqliteOptions,
    error::{OpenError, store_error},
};
use crate::{
    entry::Revision,
    error::StoreError,
    new_file::{beside, sync_directory},
    store::LeaseId,
};

/// In the header of every file, so that another program's is not taken for a store: "Weft".
pub(super) const APPLICATION_ID: u32 = 0x5765_6674;

/// Step `n` makes schema `n + 1` from schema `n`. Steps are only added.
const MIGRATIONS: &[&str] = &[
    // `change.id` is the revision and the place in it, see `change_id`; `value` is null for what was deleted.
    // `entry.change` says where the current value is.
    "CREATE TABLE state (
         name TEXT PRIMARY KEY,
         value INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     INSERT INTO state VALUES ('revision', 0), ('compacted', 0), ('lease', 0);
     CREATE TABLE change (
         id INTEGER PRIMARY KEY,
         key TEXT NOT NULL,
         value BLOB,
         created INTEGER NOT NULL,
         lease INTEGER,
         sum INTEGER NOT NULL
     ) STRICT;
     CREATE TABLE entry (
         key TEXT PRIMARY KEY,
         change INTEGER NOT NULL,
         created INTEGER NOT NULL,
         lease INTEGER
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX entry_lease ON entry (lease) WHERE lease IS NOT NULL;
     CREATE TABLE lease (
         id INTEGER PRIMARY KEY,
         ttl_ms INTEGER NOT NULL
     ) STRICT;",
];

/// The newest schema that is known.
pub(super) fn newest() -> u32 {
    count(MIGRATIONS)
}

fn count(steps: &[&str]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX)
}

/// Bits of a change's id that say which of its revision's changes it is. 43 bits are left for revisions.
const PLACE_BITS: u32 = 20;
/// Most changes of one revision; only a lease with so many keys has them.
pub(super) const CHANGES_MAX: usize = 1 << PLACE_BITS;

/// How long SQLite itself waits for another of our connections.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// See [`SqliteOptions::log_pages`].
const LOG_PAGES_DEFAULT: u32 = 4096;
/// What the log's file keeps of its size when a burst is over.
const LOG_BYTES_KEPT: u64 = 32 << 20;
/// Statements that a connection keeps prepared.
const STATEMENTS_MAX: usize = 32;

/// The id of a revision's change.
pub(super) fn change_id(revision: Revision, place: usize) -> i64 {
    ((revision.0 as i64) << PLACE_BITS) + place as i64
}

/// The revision of a change.
pub(super) fn revision_of(id: i64) -> Revision {
    Revision((id >> PLACE_BITS) as u64)
}

/// What the writer begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stored {
    pub(super) revision: Revision,
    /// Watches begin after this.
    pub(super) compacted: Revision,
    pub(super) last_lease: u64,
    pub(super) leases: Vec<(LeaseId, Duration)>,
}

/// Opens or makes the file for writing. The caller holds its lock.
pub(super) fn open(path: &Path, options: SqliteOptions) -> Result<(Connection, Stored), OpenError> {
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    let is_new = make_file(path).map_err(io_error)?;
    let opened = connect(path, options).and_then(|mut connection| {
        check_owner(path, &connection)?;
        migrate(path, &mut connection, MIGRATIONS)?;
        Ok(connection)
    });
    let connection = opened.map_err(|failed| failed.named(path))?;
    if is_new {
        sync_directory(path).map_err(io_error)?;
    }
    let stored = check(&connection)
        .and_then(|()| stored(&connection).map_err(|e| store_error(&e)))
        .map_err(|source| OpenError::Store { path: path.to_owned(), source })?;
    Ok((connection, stored))
}

/// Opens what is a store already, again.
pub(super) fn reopen(path: &Path, options: SqliteOptions) -> rusqlite::Result<Connection> {
    connect(path, options).map_err(|failed| match failed {
        Failed::Sqlite(error) => error,
        Failed::Open(_) => rusqlite::Error::InvalidQuery,
    })
}

/// Opens the file for reading, and only that.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// An error that may name the file already.
pub(super) enum Failed {
    Sqlite(rusqlite::Error),
    Open(OpenError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl Failed {
    pub(super) fn named(self, path: &Path) -> OpenError {
        match self {
            Self::Open(error) => error,
            Self::Sqlite(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) =>
            {
                OpenError::NotAStore { path: path.to_owned(), what: error.to_string() }
            }
            Self::Sqlite(error) => {
                OpenError::Store { path: path.to_owned(), source: store_error(&error) }
            }
        }
    }
}

/// Makes the file for its owner only; SQLite gives its other files the same mode. Says whether it is new.
fn make_file(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
                match fs::set_permissions(&file, Permissions::from_mode(0o600)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

fn connect(path: &Path, options: SqliteOptions) -> Result<Connection, Failed> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let what = format!("it has journal mode {mode}; expected wal, so a local file system");
        return Err(OpenError::NotAStore { path: path.to_owned(), what }.into());
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    let log_pages = if options.log_pages == 0 { LOG_PAGES_DEFAULT } else { options.log_pages };
    connection.pragma_update(None, "wal_autocheckpoint", log_pages)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    connection.pragma_update(None, "secure_delete", options.erase)?;
    if options.erase {
        // Copies of pages go nowhere but into the file and its log.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // A commit whose log was not emptied any more, because the power was lost.
        empty_log(&connection)?;
    }
    if options.pages_max != 0 {
        connection.pragma_update(None, "max_page_count", options.pages_max)?;
    }
    Ok(connection)
}

/// Copies the whole log into the file and cuts it to nothing. What was in the log but not committed is gone
/// for good then.
pub(super) fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(code, None));
    }
    Ok(())
}

/// Whether the file is a store's, or empty.
fn check_owner(path: &Path, connection: &Connection) -> Result<(), Failed> {
    let application: u32 = pragma(connection, "application_id")?;
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == APPLICATION_ID || (application == 0 && tables == 0) {
        return Ok(());
    }
    let what = "it is another program's database".to_owned();
    Err(OpenError::NotAStore { path: path.to_owned(), what }.into())
}

/// Brings the schema up to date, all of it or nothing.
fn migrate(path: &Path, connection: &mut Connection, steps: &[&str]) -> Result<(), Failed> {
    let found: u32 = pragma(connection, "user_version")?;
    let known = count(steps);
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known }.into());
    }
    if found == known {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for step in &steps[found as usize..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

/// Whether SQLite finds the file in order.
pub(super) fn check(connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|e| store_error(&e))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Corrupt(found)) }
}

pub(super) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// A number of the table `state`.
pub(super) fn number(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM state WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
}

pub(super) fn stored(connection: &Connection) -> rusqlite::Result<Stored> {
    let leases = connection
        .prepare("SELECT id, ttl_ms FROM lease")?
        .query_map([], |row| Ok((LeaseId(row.get(0)?), Duration::from_millis(row.get(1)?))))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Stored {
        revision: Revision(number(connection, "revision")?),
        compacted: Revision(number(connection, "compacted")?),
        last_lease: number(connection, "lease")?,
        leases,
    })
}

#[cfg(test)]
mod tests;
