//! What is told of changes.

use async_trait::async_trait;

use crate::{
    entry::{Entry, Revision},
    error::WatchError,
    key::Key,
};

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has this value now.
    Put(Entry),
    /// Nothing is there any more.
    Deleted(Key),
}

impl Change {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Deleted(key) => key,
        }
    }
}

/// Everything that changed at one revision under the watched prefix; never a part of it, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// When.
    pub revision: Revision,
    /// What, in the order of their keys.
    pub changes: Vec<Change>,
}

/// Changes under one prefix, in order, none left out. Dropping it ends it. A reader that is slow costs the
/// store a bounded amount of memory: when history has moved on too far, it is told so.
#[async_trait]
pub trait Watch: Send {
    /// The next batch; waits for it. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// [`WatchError`]; the watch is over.
    async fn next(&mut self) -> Result<Batch, WatchError>;
}
