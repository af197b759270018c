//! The stores that there are.

use std::sync::Arc;

#[cfg(feature = "sqlite")]
pub(crate) use reopened::Reopened;
use weft_store::{Memory, Store};

use crate::Ground;

#[cfg(feature = "sqlite")]
mod reopened;

pub(crate) struct InMemory;

impl Ground for InMemory {
    const CASES: u32 = 256;

    fn prepare() -> Self {
        Self
    }

    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(Memory::default())
    }
}

#[cfg(feature = "sqlite")]
pub(crate) struct OnDisk {
    directory: tempfile::TempDir,
    made: std::sync::atomic::AtomicUsize,
}

#[cfg(feature = "sqlite")]
impl Ground for OnDisk {
    const CASES: u32 = 64;

    fn prepare() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), made: 0.into() }
    }

    async fn store(&self) -> Arc<dyn Store> {
        let n = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.directory.path().join(format!("{n}.db"));
        Arc::new(weft_store::Sqlite::open(&path, weft_store::SqliteOptions::default()).unwrap())
    }
}

#[cfg(feature = "etcd")]
pub(crate) struct Server {
    servers: crate::servers::Servers,
    made: std::sync::atomic::AtomicUsize,
}

#[cfg(feature = "etcd")]
impl Ground for Server {
    const CASES: u32 = 48;

    fn prepare() -> Self {
        Self { servers: crate::servers::Servers::start(1), made: 0.into() }
    }

    /// In a place of its own in the one server.
    async fn store(&self) -> Arc<dyn Store> {
        let n = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options = self.servers.options(&format!("test-{n}/"));
        self.servers.ready().await;
        Arc::new(weft_store::Etcd::new(&options).unwrap())
    }
}
