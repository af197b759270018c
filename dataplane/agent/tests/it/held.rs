//! The store of a control plane that stands still before each change of a host, until it may make it.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore};
use weft_store::{
    CommitError, Entry, Key, LeaseId, Memory, Page, Revision, Store, StoreError, Transaction, Watch,
};

/// All changes are made, or one for each time that it is told so.
#[derive(Debug)]
pub(crate) struct Held {
    store: Memory,
    may: Semaphore,
    stands_still: Notify,
}

impl Held {
    /// Makes every change.
    pub(crate) fn new() -> Self {
        let (store, stands_still) = (Memory::default(), Notify::new());
        Self { store, may: Semaphore::new(Semaphore::MAX_PERMITS), stands_still }
    }

    /// From now on makes so many changes of hosts, and no other.
    pub(crate) fn allow_only(&self, changes: usize) {
        self.may.forget_permits(Semaphore::MAX_PERMITS);
        self.may.add_permits(changes);
    }

    /// Makes one more.
    pub(crate) fn allow_one(&self) {
        self.may.add_permits(1);
    }

    /// Has this at once, whoever may change what.
    pub(crate) async fn restore(&self, key: Key, value: Vec<u8>) {
        self.store.commit(Transaction::new().put(key, value)).await.unwrap();
    }

    /// Waits until it is to make one that it may not.
    pub(crate) async fn stands_still(&self) {
        self.stands_still.notified().await;
    }
}

#[async_trait]
impl Store for Held {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        self.store.list(prefix, after, len_max).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        if transaction.writes.iter().any(|write| write.key().has_prefix("host/")) {
            let permit = match self.may.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    self.stands_still.notify_one();
                    self.may.acquire().await.unwrap()
                }
            };
            permit.forget();
        }
        self.store.commit(transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.store.watch(prefix, after).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant_lease(ttl).await
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.renew_lease(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke_lease(lease).await
    }
}
