//! Watches: from memory while they keep up, from the file while they are behind.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;

use super::{
    Shared, closed,
    record::{COLUMNS, Record},
    schema::{change_id, number},
};
use crate::{
    entry::Revision,
    error::WatchError,
    feed::Next,
    watch::{Batch, Watch},
};

/// One reading of history ends with the batch that takes it to so many bytes or rows that it looked at.
const READ_BYTES_MAX: usize = 1 << 20;
const READ_ROWS_MAX: usize = 4096;

pub(super) struct SqliteWatch {
    shared: Arc<Shared>,
    prefix: String,
    after: Revision,
    /// What was read ahead, later than `after`.
    read: VecDeque<Batch>,
    /// Whether the store is known to have been at `after`.
    is_past: bool,
}

/// What history has after a revision.
enum History {
    /// Begin after this.
    Compacted(Revision),
    /// These, and nothing else up to the revision.
    Batches(VecDeque<Batch>, Revision),
}

impl SqliteWatch {
    pub(super) fn new(shared: Arc<Shared>, prefix: &str, after: Revision) -> Self {
        Self { shared, prefix: prefix.to_owned(), after, read: VecDeque::new(), is_past: false }
    }
}

impl SqliteWatch {
    /// Readers may see a revision a moment before the feed does, so the file decides.
    async fn check_past(&mut self) -> Result<(), WatchError> {
        if self.after > self.shared.feed.newest() {
            let newest = self.shared.readers.read(|c| number(c, "revision")).await?;
            if self.after.0 > newest {
                return Err(WatchError::Compacted { oldest: Revision(newest) });
            }
        }
        self.is_past = true;
        Ok(())
    }
}

#[async_trait]
impl Watch for SqliteWatch {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            if let Some(batch) = self.read.pop_front() {
                self.after = self.after.max(batch.revision);
                return Ok(batch);
            }
            if !self.is_past {
                self.check_past().await?;
            }
            let mut news = self.shared.feed.subscribe();
            match self.shared.feed.next(&self.prefix, self.after) {
                Next::Batch(batch) => {
                    self.after = batch.revision;
                    return Ok(batch);
                }
                Next::Nothing(up_to) => self.after = up_to,
                Next::Before(_) => {
                    let (prefix, after) = (self.prefix.clone(), self.after);
                    let read = move |connection: &Connection| history(connection, &prefix, after);
                    match self.shared.readers.read(read).await? {
                        History::Compacted(oldest) => return Err(WatchError::Compacted { oldest }),
                        History::Batches(batches, up_to) => {
                            (self.read, self.after) = (batches, up_to);
                        }
                    }
                    continue;
                }
            }
            if self.shared.readers.is_closed() {
                return Err(closed().into());
            }
            if self.after >= self.shared.feed.newest() {
                // The sender is in the feed that this watch holds.
                let _ = news.changed().await;
            }
        }
    }
}

fn history(connection: &Connection, prefix: &str, after: Revision) -> rusqlite::Result<History> {
    let compacted = Revision(number(connection, "compacted")?);
    if after < compacted {
        return Ok(History::Compacted(compacted));
    }
    let mut batches: VecDeque<Batch> = VecDeque::new();
    let (mut up_to, mut bytes, mut rows_seen) = (after, 0, 0);
    let changes = format!("SELECT {COLUMNS} FROM change WHERE id >= ?1 ORDER BY id");
    let mut statement = connection.prepare_cached(&changes)?;
    let mut rows = statement.query([change_id(Revision(after.0 + 1), 0)])?;
    while let Some(row) = rows.next()? {
        let record = Record::read(row)?;
        let revision = record.revision();
        if revision > up_to {
            if bytes >= READ_BYTES_MAX || rows_seen >= READ_ROWS_MAX {
                return Ok(History::Batches(batches, up_to));
            }
            up_to = revision;
        }
        rows_seen += 1;
        if !record.key.has_prefix(prefix) {
            continue;
        }
        bytes += record.value.as_ref().map_or(0, Bytes::len);
        let change = record.change();
        match batches.back_mut() {
            Some(batch) if batch.revision == revision => batch.changes.push(change),
            _ => batches.push_back(Batch { revision, changes: vec![change] }),
        }
    }
    Ok(History::Batches(batches, Revision(number(connection, "revision")?).max(up_to)))
}
