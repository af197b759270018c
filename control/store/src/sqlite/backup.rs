//! Copies of the file: taken while it is written, checked, and brought back.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    error::{not_as_written, store_error},
    record::{COLUMNS, Record},
    schema::{APPLICATION_ID, number, open_reader, pragma},
};
use crate::{
    entry::Revision,
    error::StoreError,
    new_file::{NewFile, beside},
};

/// A store that is brought back goes on so many revisions later, so that no revision that anybody has seen after
/// the backup is given to another change.
pub const RESTORE_STEP: u64 = 1 << 30;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The operating system refuses; also when something is there already.
    #[error("{path}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a whole store of a version that is known.
    #[error("{path} is not a copy of a store: {what}", path = .path.display())]
    NotACopy {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The store cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Copies the store in the file `store` to a new file `to`, as it is at one moment, while this or another
/// process writes it. The copy is checked before it gets its name; nothing stays of one that fails. Blocks.
/// Says up to which revision it goes.
///
/// # Errors
/// [`BackupError`] names the file.
pub fn backup(store: &Path, to: &Path) -> Result<Revision, BackupError> {
    let io_error = |source| BackupError::Io { path: to.to_owned(), source };
    let store_failed =
        |e: rusqlite::Error| BackupError::Store { path: store.to_owned(), source: store_error(&e) };
    // SQLite would make an empty one.
    File::open(store).map_err(|source| BackupError::Io { path: store.to_owned(), source })?;
    let (copy, _) = NewFile::create(to).map_err(io_error)?;
    let connection = open_reader(store).map_err(store_failed)?;
    check_version(store, &connection)?;
    let partial =
        copy.partial().to_str().ok_or_else(|| io_error(io::ErrorKind::InvalidFilename.into()))?;
    connection.execute("VACUUM INTO ?1", [partial]).map_err(store_failed)?;
    let revision = check(copy.partial())?;
    copy.finish().map_err(io_error)?;
    Ok(revision)
}

/// Makes a store in a new file `to` of the copy in the file `from`. Blocks. Its first revision is
/// [`RESTORE_STEP`] after the copy's last, and watches begin there. Says that revision.
///
/// # Errors
/// [`BackupError`] names the file.
pub fn restore(from: &Path, to: &Path) -> Result<Revision, BackupError> {
    let io_error = |source| BackupError::Io { path: to.to_owned(), source };
    check(from)?;
    // A log of another store that is gone would be taken for this one's.
    let log = beside(to, "-wal");
    if log.symlink_metadata().is_ok() {
        return Err(BackupError::Io { path: log, source: io::ErrorKind::AlreadyExists.into() });
    }
    let (store, mut file) = NewFile::create(to).map_err(io_error)?;
    let mut source =
        File::open(from).map_err(|source| BackupError::Io { path: from.to_owned(), source })?;
    io::copy(&mut source, &mut file).map_err(io_error)?;
    let revision = step(store.partial())
        .map_err(|e| BackupError::Store { path: to.to_owned(), source: store_error(&e) })?;
    check(store.partial())?;
    store.finish().map_err(io_error)?;
    Ok(revision)
}

/// Moves a copy on to revisions that nobody has seen, without history.
fn step(path: &Path) -> rusqlite::Result<Revision> {
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // What is not finished is removed: there is nothing to roll back to, and no second file.
    connection.pragma_update(None, "journal_mode", "OFF")?;
    let transaction = connection.transaction()?;
    transaction.execute(
        "DELETE FROM change WHERE NOT EXISTS
         (SELECT 1 FROM entry WHERE entry.key = change.key AND entry.change = change.id)",
        [],
    )?;
    let revision = number(&transaction, "revision")? + RESTORE_STEP;
    transaction.execute(
        "UPDATE state SET value = ?1 WHERE name IN ('revision', 'compacted')",
        [revision],
    )?;
    transaction.commit()?;
    Ok(Revision(revision))
}

/// Whether the file is a whole store.
fn check(path: &Path) -> Result<Revision, BackupError> {
    let not_a_copy = |what: String| BackupError::NotACopy { path: path.to_owned(), what };
    File::open(path).map_err(|source| BackupError::Io { path: path.to_owned(), source })?;
    // A copy has no log, and none is to be made beside it.
    let name = path.to_str().ok_or_else(|| not_a_copy("its name is not UTF-8".to_owned()))?;
    let escaped = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let read = |e: rusqlite::Error| not_a_copy(e.to_string());
    let connection =
        Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags).map_err(read)?;
    check_version(path, &connection)?;
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(read)?;
    if found != "ok" {
        return Err(not_a_copy(found));
    }
    check_rows(&connection).map_err(read)?;
    number(&connection, "revision").map(Revision).map_err(read)
}

/// Whether every row is as it was written, and every key has its value.
fn check_rows(connection: &Connection) -> rusqlite::Result<()> {
    let mut changes = connection.prepare(&format!("SELECT {COLUMNS} FROM change"))?;
    let mut rows = changes.query([])?;
    while let Some(row) = rows.next()? {
        Record::read(row)?;
    }
    let lost: u64 = connection.query_row(
        "SELECT count(*) FROM entry LEFT JOIN change
         ON change.id = entry.change AND change.key = entry.key AND change.created = entry.created
         AND change.lease IS entry.lease
         WHERE change.value IS NULL",
        [],
        |row| row.get(0),
    )?;
    if lost == 0 { Ok(()) } else { Err(not_as_written(0, "a key that lost its value")) }
}

fn check_version(path: &Path, connection: &Connection) -> Result<(), BackupError> {
    let not_a_copy = |what: String| BackupError::NotACopy { path: path.to_owned(), what };
    let read = |name| pragma(connection, name).map_err(|e| not_a_copy(e.to_string()));
    if read("application_id")? != APPLICATION_ID {
        return Err(not_a_copy("it is not a store's file".to_owned()));
    }
    let (found, known) = (read("user_version")?, super::schema::newest());
    if found > known {
        return Err(not_a_copy(format!("it has schema {found}; this version knows up to {known}")));
    }
    Ok(())
}
