//! All of a store in one file, and back into another one, of whatever kind.
//!
//! Revisions stay behind: they belong to a store. Keys with a lease stay behind too, because they end with it.

mod format;

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

pub use self::format::{FormatError, decode, encode, seal};
use crate::{
    entry::{Entry, Revision},
    error::{CommitError, StoreError, WatchError},
    key::Key,
    limits::{LIST_LEN_MAX, OPERATIONS_MAX, TRANSACTION_BYTES_MAX},
    mirror::Fold,
    new_file::NewFile,
    store::Store,
    transaction::Transaction,
};

/// Longest file that is read, bytes: it is in memory while it is checked.
pub const EXPORT_BYTES_MAX: u64 = 1 << 30;
/// Here while a store is being filled.
const MARKER: &str = "weft-store/importing";
/// Written and removed at the end of an export, to know when all changes before it have been told.
const BARRIER: &str = "weft-store/exporting";
/// How often a step of an import is tried whose answer was lost. It may be repeated.
const TRIES: usize = 5;

/// Why nothing was exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The operating system refuses; also when a file is there already.
    #[error("{path}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what was exported.
    #[error("{path}: {source}", path = .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What it is instead.
        #[source]
        source: FormatError,
    },
    /// There is something in the store already.
    #[error("the store has {key} already; expected an empty one")]
    NotEmpty {
        /// The first key.
        key: Key,
    },
    /// Another import is at work, or somebody else writes.
    #[error("somebody else has changed {key} during the import")]
    Disturbed {
        /// What has changed.
        key: Key,
    },
    /// The store refuses. What was imported until then is removed, or the next import does so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// History is shorter than an export takes.
    #[error("the store changes faster than it is read")]
    TooBusy,
}

/// Writes what is in the store at one moment to a new file, for its owner only. Says how many entries it has.
///
/// # Errors
/// [`ExportError`]; there is no file then.
pub async fn export(store: &dyn Store, to: &Path) -> Result<usize, ExportError> {
    let entries = snapshot(store).await?;
    let io_error = |source| ExportError::Io { path: to.to_owned(), source };
    let (new, file) = NewFile::create(to).map_err(io_error)?;
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(file);
        let (mut encoder, head) = format::Encoder::begin();
        file.write_all(&head)?;
        for entry in &entries {
            file.write_all(&encoder.entry(&entry.key, &entry.value))?;
        }
        file.write_all(&encoder.end())?;
        file.into_inner()?.sync_all()
    };
    write().and_then(|()| new.finish()).map_err(io_error)?;
    Ok(entries.len())
}

/// Fills an empty store from a file. Says how many entries it had. Nobody else is to use the store meanwhile;
/// [`crate::open`] refuses it.
///
/// # Errors
/// [`ExportError`]; the store is empty then, or marked so that only another import takes it.
pub async fn import(store: &dyn Store, from: &Path) -> Result<usize, ExportError> {
    let file = read(from).map_err(|source| ExportError::Io { path: from.to_owned(), source })?;
    let entries =
        decode(&file).map_err(|source| ExportError::Format { path: from.to_owned(), source })?;
    let marker = begin(store).await?;
    match fill(store, &marker, &entries).await {
        Ok(()) => Ok(entries.len()),
        // Whatever is there now is of somebody else.
        Err(error @ ExportError::Disturbed { .. }) => Err(error),
        Err(error) => {
            // Should this fail too, the marker is left.
            let _ = clear(store).await;
            Err(error)
        }
    }
}

/// Whether an import was interrupted there.
pub(crate) async fn is_half_imported(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.get(&key(MARKER)?).await?.is_some())
}

fn key(text: &str) -> Result<Key, StoreError> {
    Key::new(text).map_err(|e| StoreError::Invalid(format!("{text} {e}")))
}

fn read(from: &Path) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    File::open(from)?.take(EXPORT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > EXPORT_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes.into())
}

/// Everything at one moment. When pages are of several, the changes between them are taken from a watch, up to
/// one that is made here after the last page.
async fn snapshot(store: &dyn Store) -> Result<Vec<Entry>, ExportError> {
    let mut fold = Fold::new();
    let first = store.list("", None, LIST_LEN_MAX).await?;
    let (begin, mut is_one_moment) = (first.revision, true);
    fold.handle_page(first);
    while let Some(after) = fold.poll_page() {
        let page = store.list("", Some(&after), LIST_LEN_MAX).await?;
        is_one_moment &= page.revision == begin;
        fold.handle_page(page);
    }
    if !is_one_moment {
        let barrier = barrier(store).await?;
        let mut watch = store.watch("", begin).await?;
        while fold.revision() < barrier {
            match watch.next().await {
                Ok(batch) => fold.handle_batch(batch),
                Err(WatchError::Store(error)) => return Err(error.into()),
                Err(WatchError::Compacted { .. }) => return Err(ExportError::TooBusy),
            }
        }
    }
    let own = [MARKER, BARRIER];
    let kept = |entry: &Entry| entry.lease.is_none() && !own.contains(&entry.key.as_str());
    Ok(fold.entries().values().filter(|entry| kept(entry)).cloned().collect())
}

async fn barrier(store: &dyn Store) -> Result<Revision, ExportError> {
    let at = key(BARRIER)?;
    let made = repeat(store, Transaction::new().put(at.clone(), "")).await?;
    repeat(store, Transaction::new().delete(at)).await?;
    Ok(made)
}

/// Commits what may be made twice.
async fn repeat(store: &dyn Store, transaction: Transaction) -> Result<Revision, ExportError> {
    let mut lost = String::new();
    for _ in 0..TRIES {
        match store.commit(transaction.clone()).await {
            Ok(revision) => return Ok(revision),
            Err(CommitError::Unknown(text)) => lost = text,
            Err(CommitError::Conflict { key }) => return Err(ExportError::Disturbed { key }),
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(StoreError::Unavailable(lost).into())
}

/// Marks an empty store, or one that an import has left half full and that is emptied first.
async fn begin(store: &dyn Store) -> Result<Entry, ExportError> {
    let at = key(MARKER)?;
    if is_half_imported(store).await? {
        clear(store).await?;
    }
    if let Some(found) = store.list("", None, 1).await?.entries.into_iter().next() {
        return Err(ExportError::NotEmpty { key: found.key });
    }
    repeat(store, Transaction::new().put(at.clone(), "")).await?;
    store.get(&at).await?.ok_or(ExportError::Disturbed { key: at })
}

async fn fill(
    store: &dyn Store,
    marker: &Entry,
    entries: &[(Key, Bytes)],
) -> Result<(), ExportError> {
    let new = || Transaction::new().unchanged(marker);
    let mut transaction = new();
    for (key, value) in entries {
        let bytes = transaction.bytes() + key.as_str().len() + value.len();
        if transaction.writes.len() >= OPERATIONS_MAX || bytes > TRANSACTION_BYTES_MAX {
            repeat(store, std::mem::replace(&mut transaction, new())).await?;
        }
        transaction = transaction.put(key.clone(), value.clone());
    }
    repeat(store, transaction).await?;
    // Not under the condition that it is there: the answer may have been lost.
    repeat(store, Transaction::new().delete(marker.key.clone())).await?;
    Ok(())
}

/// Removes everything, the marker last.
async fn clear(store: &dyn Store) -> Result<(), ExportError> {
    let marker = key(MARKER)?;
    loop {
        let page = store.list("", None, OPERATIONS_MAX + 1).await?;
        let keys = page.entries.into_iter().map(|entry| entry.key).filter(|key| *key != marker);
        let transaction = keys.take(OPERATIONS_MAX).fold(Transaction::new(), Transaction::delete);
        if transaction.writes.is_empty() {
            repeat(store, Transaction::new().delete(marker)).await?;
            return Ok(());
        }
        repeat(store, transaction).await?;
    }
}
