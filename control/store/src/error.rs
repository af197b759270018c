//! What can go wrong.

use crate::{entry::Revision, key::Key};

/// Why a store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The caller asked for what no store takes; the text names the bound.
    #[error("{0}")]
    Invalid(String),
    /// There is no such lease, or not any more.
    #[error("the lease is gone")]
    LeaseGone,
    /// The store does not answer now; the same may be asked again later. Nothing was changed.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// There is no room for changes; reading goes on. Nothing was changed.
    #[error("the store is full: {0}")]
    Full(String),
    /// What is stored is not what was written. Nobody can go on from here.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// Why a transaction did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A condition does not hold; nothing was changed.
    #[error("{key} has changed")]
    Conflict {
        /// The key of the first condition that does not hold.
        key: Key,
    },
    /// The answer was lost: all of it happened, nothing did, or all of it happens yet (a member of a cluster that hung
    /// goes on with what it had been sent). Reading says only what is now. What must not happen late or twice has
    /// conditions, so that it cannot when something else was done instead.
    #[error("it is not known whether the change was made: {0}")]
    Unknown(String),
    /// Nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a watch ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// Changes after the revision that was asked for are not known any more, or that revision is of another
    /// store, whose copy this one is: it is in the future. List again.
    #[error("a watch can begin after revision {oldest}, not where it was asked for")]
    Compacted {
        /// A watch may begin after this one.
        oldest: Revision,
    },
    /// See there. The watch can be begun again after the last revision that it told.
    #[error(transparent)]
    Store(#[from] StoreError),
}
