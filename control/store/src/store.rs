//! The one interface.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{
    entry::{Entry, Page, Revision},
    error::{CommitError, StoreError},
    key::Key,
    limits::{LEASE_TTL_MAX, LEASE_TTL_MIN},
    transaction::Transaction,
    watch::Watch,
};

/// A lease: keys written with it go when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// A transactional key-value store with watches and leases; see the crate's text.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// What is at `key` now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Corrupt`].
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// What begins with `prefix` and comes after the key `after`: at most `len_max` entries, and never more
    /// than [`crate::LIST_LEN_MAX`] or much more than [`crate::LIST_BYTES_MAX`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Corrupt`].
    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError>;

    /// Makes all writes of `transaction` at one new revision, if all of its conditions hold. When this returns,
    /// they outlive a loss of power. Without writes it says whether the conditions hold, and the present
    /// revision; the same goes for writes that change nothing. A condition that fails is told before a lease
    /// that is gone. Whoever drops the future does not know what happened.
    ///
    /// # Errors
    /// [`CommitError`] tells what did not happen from what may have happened.
    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError>;

    /// Every change of what begins with `prefix` after revision `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]. That history does not reach back so far, or that there is no such revision
    /// yet, is the first answer of the watch.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// A new lease that ends `ttl` from now unless it is renewed. A restart of the store may prolong it and
    /// never shortens it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] outside of [`crate::LEASE_TTL_MIN`] to [`crate::LEASE_TTL_MAX`].
    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// The lease ends its time to live from now, not earlier.
    ///
    /// # Errors
    /// [`StoreError::LeaseGone`].
    async fn renew_lease(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease; its keys are gone, each of them once and visible to watches.
    ///
    /// # Errors
    /// [`StoreError::LeaseGone`].
    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError>;
}

/// Whether a lease may have this time to live.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), StoreError> {
    if (LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&ttl) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "a lease of {ttl:?}; expected {LEASE_TTL_MIN:?} to {LEASE_TTL_MAX:?}"
    )))
}
