//! One row of the table `change`, with a checksum: SQLite has none, and what a disk has changed must not pass
//! for what was written.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use rusqlite::Row;

use super::{error::not_as_written, schema::revision_of};
use crate::{
    entry::{Entry, Revision},
    key::Key,
    store::LeaseId,
    watch::Change,
};

/// What [`Record::read`] reads, in its order.
pub(super) const COLUMNS: &str =
    "change.id, change.key, change.value, change.created, change.lease, change.sum";

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: i64,
    pub(super) key: Key,
    /// None when it was deleted.
    pub(super) value: Option<Bytes>,
    pub(super) created: Revision,
    pub(super) lease: Option<LeaseId>,
}

impl Record {
    /// The record of a row of [`COLUMNS`], if it is as it was written.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text: String = row.get(1)?;
        let record = Self {
            id: row.get(0)?,
            key: Key::new(&text).map_err(|_| not_as_written(1, "a key that no store writes"))?,
            value: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
            created: Revision(row.get(3)?),
            lease: row.get::<_, Option<u64>>(4)?.map(LeaseId),
        };
        if record.sum() == row.get::<_, i64>(5)? {
            Ok(record)
        } else {
            Err(not_as_written(5, "a checksum that does not fit"))
        }
    }

    /// 64 bits of SHA-256 over everything in it.
    pub(super) fn sum(&self) -> i64 {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.id.to_be_bytes());
        digest.update(&self.created.0.to_be_bytes());
        digest.update(&self.lease.map_or(0, |lease| lease.0).to_be_bytes());
        digest.update(&[u8::from(self.value.is_some()), u8::from(self.lease.is_some())]);
        digest.update(&(self.key.as_str().len() as u64).to_be_bytes());
        digest.update(self.key.as_str().as_bytes());
        digest.update(self.value.as_deref().unwrap_or_default());
        let mut first = [0; 8];
        first.copy_from_slice(&digest.finish().as_ref()[..8]);
        i64::from_be_bytes(first)
    }

    pub(super) fn revision(&self) -> Revision {
        revision_of(self.id)
    }

    /// What is there since then.
    pub(super) fn entry(self) -> Option<Entry> {
        let modified = self.revision();
        let Self { key, value, created, lease, .. } = self;
        Some(Entry { key, value: value?, modified, created, lease })
    }

    pub(super) fn change(self) -> Change {
        let key = self.key.clone();
        self.entry().map_or(Change::Deleted(key), Change::Put)
    }
}
