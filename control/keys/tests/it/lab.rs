//! A key file and a store.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use weft_keys::{KeyFile, Keyring, KeyringError, MasterKeyId, Owner};
use weft_types::EnvironmentId;

use crate::memory::Memory;

pub(crate) const NOW: SystemTime = SystemTime::UNIX_EPOCH;

pub(crate) struct Lab {
    _folder: tempfile::TempDir,
    path: PathBuf,
    pub(crate) first: MasterKeyId,
    pub(crate) store: Memory,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let first = KeyFile::init(&path, NOW).unwrap();
        Self { _folder: folder, path, first, store: Memory::default() }
    }

    pub(crate) fn key_file(&self) -> &Path {
        &self.path
    }

    /// A process of its own.
    pub(crate) async fn try_open(&self) -> Result<Arc<Keyring>, KeyringError> {
        let kms = Arc::new(KeyFile::open(&self.path).unwrap());
        Keyring::open(Arc::new(self.store.clone()), kms).await.map(Arc::new)
    }

    pub(crate) async fn open(&self) -> Arc<Keyring> {
        self.try_open().await.unwrap()
    }
}

pub(crate) fn environment(name: &str) -> Owner {
    Owner::Environment(EnvironmentId::new(name).unwrap())
}
