//! Another master key for everything that is wrapped, step by step.
//!
//! ```text
//!   list ──▶ add ──▶ (the file to every process's machine) ──▶ rotate ──▶ list ──▶ remove the old one
//! ```
//!
//! After every step, and after every write of one, the keyring opens with the key file as it is then: `rotate` may be
//! stopped anywhere and begun again, and `remove` takes no key that still wraps something.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use weft_keys::{Census, KeyFile, Keyring, Kms, MasterKeyId, Rewrapped};
use weft_store::Store;

use crate::{clock::Clock, config::Config, init};

/// The master keys of a keyring, and what each of them wraps.
#[derive(Debug)]
pub struct MasterKeys {
    file: Arc<KeyFile>,
    keyring: Keyring,
}

/// One master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: MasterKeyId,
    /// Whether it wraps what is wrapped from now on.
    pub is_newest: bool,
    /// How many keys it wraps.
    pub wraps: u64,
}

/// Makes one more master key, which wraps from now on. Returns its id.
///
/// # Errors
/// What is wrong with the file.
pub fn add(file: &Path) -> anyhow::Result<MasterKeyId> {
    KeyFile::add(file, Clock::default().system_time()).context("add a master key")
}

impl MasterKeys {
    /// Opens the keyring that the configuration names.
    ///
    /// # Errors
    /// What cannot be opened, and why: with SQLite, also that a server runs.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let store = init::open_keyring_store(config).await.context(
            "a keyring in SQLite belongs to one process: stop the server for this, or wait for the other command",
        )?;
        Self::over(store, &config.master_key).await
    }

    /// Over a store that is open.
    ///
    /// # Errors
    /// When a master key that is needed is not in the file.
    pub async fn over(store: Arc<dyn Store>, file: &Path) -> anyhow::Result<Self> {
        let file = Arc::new(KeyFile::open(file).context("the master key")?);
        let kms = Arc::clone(&file) as Arc<dyn Kms>;
        let keyring = Keyring::open(store, kms).await.context("the keyring")?;
        Ok(Self { file, keyring })
    }

    /// All master keys, the newest last.
    ///
    /// # Errors
    /// What cannot be read.
    pub async fn list(&self) -> anyhow::Result<Vec<Listed>> {
        let Census { current, wrapped, .. } = self.keyring.census().await?;
        let held = self.file.held().await?;
        let listed = held.into_iter().map(|id| Listed {
            is_newest: id == current,
            wraps: wrapped.get(&id).copied().unwrap_or_default(),
            id,
        });
        Ok(listed.collect())
    }

    /// Wraps everything with the newest master key.
    ///
    /// # Errors
    /// When there is no other than the one that wraps everything. Whatever else fails, what was done stays, and the next
    /// call does the rest.
    pub async fn rotate(&self) -> anyhow::Result<Rewrapped> {
        if let [only] = &self.list().await?[..] {
            bail!(
                "there is one master key, {}, which wraps everything: expected another one in the file after it; make it \
                 with weft-control master-key add",
                only.id
            );
        }
        Ok(self.keyring.rewrap().await?)
    }

    /// Takes a master key that wraps nothing any more out of the file, or says that it could be.
    ///
    /// # Errors
    /// When it wraps something, is the newest, or is not there.
    pub async fn remove(&self, file: &Path, id: &MasterKeyId, dry_run: bool) -> anyhow::Result<()> {
        let listed = self.list().await?;
        let Some(found) = listed.iter().find(|key| key.id == *id) else {
            let held: Vec<&str> = listed.iter().map(|key| key.id.as_str()).collect();
            bail!("there is no master key {id}; expected one of {}", held.join(", "));
        };
        if found.wraps > 0 {
            bail!(
                "master key {id} wraps {} keys still; weft-control master-key rotate",
                found.wraps
            );
        }
        if found.is_newest {
            bail!("master key {id} is the newest, which wraps; expected an older one");
        }
        if !dry_run {
            KeyFile::remove(file, id)?;
        }
        Ok(())
    }
}
