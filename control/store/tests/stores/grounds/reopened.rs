//! A file that is opened anew for every watch, so that nothing is told from memory.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;
use weft_store::{
    CommitError, Entry, Key, LeaseId, Page, Revision, Sqlite, SqliteOptions, Store, StoreError,
    Transaction, Watch,
};

use crate::Ground;

pub(crate) struct Reopened {
    directory: TempDir,
    made: AtomicUsize,
}

impl Ground for Reopened {
    const CASES: u32 = 24;

    fn prepare() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), made: 0.into() }
    }

    async fn store(&self) -> Arc<dyn Store> {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("{n}.db"));
        Arc::new(Opened { store: RwLock::new(open(&path)), path })
    }
}

#[derive(Debug)]
struct Opened {
    store: RwLock<Option<Arc<Sqlite>>>,
    path: PathBuf,
}

fn open(path: &std::path::Path) -> Option<Arc<Sqlite>> {
    Some(Arc::new(Sqlite::open(path, SqliteOptions::default()).unwrap()))
}

impl Opened {
    fn store(&self) -> Arc<Sqlite> {
        Arc::clone(self.store.read().unwrap_or_else(PoisonError::into_inner).as_ref().unwrap())
    }
}

#[async_trait]
impl Store for Opened {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store().get(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        self.store().list(prefix, after, len_max).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        self.store().commit(transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        {
            let mut store = self.store.write().unwrap();
            drop(store.take());
            *store = open(&self.path);
        }
        self.store().watch(prefix, after).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store().grant_lease(ttl).await
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store().renew_lease(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store().revoke_lease(lease).await
    }
}
