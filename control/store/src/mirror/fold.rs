//! Pages of a list and batches of a watch, put together. Sans-IO.
//!
//! ```text
//!   first page, of revision R ──▶ watch after R ──▶ batch … batch …  ─┐ in any order
//!                └──────────────▶ page, of a later revision … page …  ─┴─▶ the store's state
//! ```
//!
//! Pages are of different moments, and what is told of a key may come out of order: the newest wins. What was
//! deleted is remembered until the last page is there, so that a page that was read earlier does not bring it
//! back.

use std::collections::{BTreeMap, HashMap};

use crate::{
    entry::{Entry, Page, Revision},
    key::Key,
    watch::{Batch, Change},
};

/// What is known of everything under one prefix; see the module's text.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    entries: BTreeMap<Key, Entry>,
    deleted: HashMap<Key, Revision>,
    /// All changes up to here are in it, once it is whole.
    revision: Revision,
    /// The last change that a page has told. The watch tells it too.
    newest_listed: Revision,
    listing: Listing,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Listing {
    #[default]
    Nothing,
    /// The next page comes after this key.
    After(Key),
    Done,
}

impl Fold {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next page in the order of the list. The watch begins after the first one's revision.
    pub fn handle_page(&mut self, page: Page) {
        if self.listing == Listing::Nothing {
            // Batches may have come before it.
            self.revision = self.revision.max(page.revision);
        }
        // A page may be empty with more to come; the next one is then asked for after the same key.
        let last = page.entries.last().map(|entry| entry.key.clone());
        self.listing = match (page.more, last) {
            (false, _) => Listing::Done,
            (true, Some(last)) => Listing::After(last),
            (true, None) => std::mem::take(&mut self.listing),
        };
        for entry in page.entries {
            self.newest_listed = self.newest_listed.max(entry.modified);
            self.handle_entry(entry);
        }
        if self.listing == Listing::Done {
            self.deleted = HashMap::new();
        }
    }

    /// Takes the next batch of the watch.
    pub fn handle_batch(&mut self, batch: Batch) {
        for change in batch.changes {
            match change {
                Change::Put(entry) => self.handle_entry(entry),
                Change::Deleted(key) => self.handle_deletion(key, batch.revision),
            }
        }
        self.revision = self.revision.max(batch.revision);
    }

    fn handle_entry(&mut self, entry: Entry) {
        if self.known(&entry.key) < entry.modified {
            self.deleted.remove(&entry.key);
            self.entries.insert(entry.key.clone(), entry);
        }
    }

    fn handle_deletion(&mut self, key: Key, revision: Revision) {
        if self.known(&key) < revision {
            self.entries.remove(&key);
            if self.listing != Listing::Done {
                self.deleted.insert(key, revision);
            }
        }
    }

    /// The last change of the key that is known.
    fn known(&self, key: &Key) -> Revision {
        let entry = self.entries.get(key).map(|entry| entry.modified);
        entry.or_else(|| self.deleted.get(key).copied()).unwrap_or_default()
    }

    /// After which key the next page is to be asked for, once there was a first one; none after the last.
    #[must_use]
    pub fn poll_page(&self) -> Option<Key> {
        match &self.listing {
            Listing::After(key) => Some(key.clone()),
            Listing::Nothing | Listing::Done => None,
        }
    }

    /// Whether the list is at its end and the watch has caught up with what it told.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.listing == Listing::Done && self.revision >= self.newest_listed
    }

    /// All changes up to this revision were taken.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What there is.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Key, Entry> {
        &self.entries
    }
}

#[cfg(test)]
mod tests;
