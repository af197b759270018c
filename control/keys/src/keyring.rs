//! One key for each owner, wrapped, in a store of its own.
//!
//! ```text
//!  keyring/v1/owner/environment/acme  ──▶ live: wrapped by which master key, or destroyed: when
//!  keyring/v1/destroyed               ──▶ whose key was last destroyed, and so when (its revision)
//!  keyring/v1/masters                 ──▶ which master keys a rotation has replaced, and by which
//!
//!  get ─▶ in the cache, asked within half a second? ─▶ the store ─▶ unwrap ─▶ cache
//!                                                        ▲ watch: a tombstone empties every process's cache
//! ```
//!
//! Everything in the store is decided by compare-and-swap, so any process may die anywhere: what it was about
//! is done or is not, and asking again goes on.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use weft_store::{CommitError, Entry, Key, Store, StoreError, Transaction};
use zeroize::Zeroizing;

use crate::{
    aead::parts,
    kms::{Kms, KmsError, MasterKeyId, Wrapped},
    owner::Owner,
    owner_key::{OpenError, OwnerKey, Purpose, SealError, Slot},
    secret::KeyBytes,
};

mod cache;
mod follow;
mod masters;
mod record;
mod rotation;

use self::cache::Cache;
pub use self::{
    cache::{CACHE_FRESH_MAX, CACHE_LEN_MAX},
    follow::FOLLOW_INTERVAL,
    masters::{MASTERS_INTERVAL, PROVE_INTERVAL},
    record::Record,
    rotation::{Census, Rewrapped},
};

/// Under which everything of a keyring is in its store.
pub const KEYRING_PREFIX: &str = "keyring/v1/";
const OWNER_PREFIX: &str = "keyring/v1/owner/";
const DESTROYED: &str = "keyring/v1/destroyed";
/// Whoever loses so many times in a row to others is told so; each time, somebody else got on.
const ATTEMPTS_MAX: usize = 16;
const LABEL_OWNER: &[u8] = b"weft v1 owner key";

/// Why a key is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// None was ever made, or the keyring lost it. If something of the owner is sealed, it is lost.
    #[error(
        "there is no key of {0}, and none was destroyed: it was never made, or the keyring is not the one"
    )]
    Unknown(Owner),
    /// It was destroyed on purpose, and everything that it sealed with it.
    #[error("the key of {owner} was destroyed {at} seconds after 1970")]
    Destroyed {
        /// Whose.
        owner: Owner,
        /// When, seconds after 1970.
        at: u64,
    },
    /// What the keyring holds of this owner is not what was written.
    #[error("what the keyring holds at {key} cannot be read: {problem}")]
    Corrupt {
        /// Where.
        key: Key,
        /// What is wrong.
        problem: String,
    },
    /// Others changed the same key all the time.
    #[error("the key of {0} is changed by others all the time; ask again")]
    Contended(Owner),
    /// It would be wrapped by a master key that a rotation has replaced.
    #[error(
        "master key {master} was replaced by {current} and wraps nothing any more: the newest one that is held has to \
         be {current}, or one that was made after it"
    )]
    Retired {
        /// What would wrap.
        master: MasterKeyId,
        /// What wraps.
        current: MasterKeyId,
    },
    /// The master key.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// The keyring's store.
    #[error("the keyring: {0}")]
    Store(#[from] StoreError),
}

/// Why nothing was sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UseError {
    /// There is no key to do it with.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The data or their context are too long.
    #[error(transparent)]
    Seal(SealError),
    /// The data do not open.
    #[error(transparent)]
    Open(OpenError),
}

/// What became of an owner's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerState {
    /// There was never one, as far as this keyring knows.
    Unknown,
    /// It is there.
    Live {
        /// When it was made, seconds after 1970.
        created: u64,
        /// The master key that wraps it.
        master: MasterKeyId,
    },
    /// It is gone for good.
    Destroyed {
        /// When it was made, seconds after 1970.
        created: u64,
        /// When it was destroyed, seconds after 1970.
        destroyed: u64,
    },
}

/// One key for each owner; see the module's text.
#[derive(Debug)]
pub struct Keyring {
    store: Arc<dyn Store>,
    kms: Arc<dyn Kms>,
    cache: Mutex<Cache>,
    trouble: watch::Sender<Option<String>>,
}

impl Keyring {
    /// Opens the keyring in `store`, after making sure that every master key that it needs is there and is the
    /// right one: reads the whole keyring, and unwraps one key for each master key.
    ///
    /// # Errors
    /// [`KmsError::Missing`] names the master key that is needed; [`KeyringError::Retired`] the one that would wrap and
    /// was replaced.
    pub async fn open(store: Arc<dyn Store>, kms: Arc<dyn Kms>) -> Result<Self, KeyringError> {
        let (cache, trouble) = (Mutex::new(Cache::new()), watch::Sender::default());
        let keyring = Self { store, kms, cache, trouble };
        keyring.prove().await?;
        Ok(keyring)
    }

    /// Makes the owner's key, or returns it when it is there: who died in between may ask again.
    ///
    /// # Errors
    /// [`KeyringError::Destroyed`]: an owner never gets a second key. [`KeyringError::Retired`]: another process could
    /// not open it.
    pub async fn create(&self, owner: &Owner, now: SystemTime) -> Result<OwnerKey, KeyringError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.get(owner).await {
                Err(KeyringError::Unknown(_)) => {}
                found => return found,
            }
            let (masters, rests_on_them) = self.masters().await?;
            let wrapped = self.kms.wrap(&KeyBytes::random(), &context(owner)).await?;
            masters.check(&wrapped.master)?;
            let record = Record::Live { created: seconds(now), wrapped };
            let at = key_of(owner);
            let made = rests_on_them.absent(at.clone()).put(at, record.encode());
            settled(self.store.commit(made).await)?;
        }
        Err(KeyringError::Contended(owner.clone()))
    }

    /// The owner's key, as of at most [`CACHE_FRESH_MAX`] ago.
    ///
    /// # Errors
    /// [`KeyringError::Destroyed`] and [`KeyringError::Unknown`] are told apart.
    pub async fn get(&self, owner: &Owner) -> Result<OwnerKey, KeyringError> {
        for _ in 0..ATTEMPTS_MAX {
            let asked = Instant::now();
            let generation = {
                let mut cache = self.cache();
                if let Some(slot) = cache.fresh(owner, asked) {
                    return Ok(OwnerKey(slot));
                }
                cache.generation()
            };
            let wrapped = match self.live(owner).await {
                Err(gone @ (KeyringError::Unknown(_) | KeyringError::Destroyed { .. })) => {
                    self.cache().withdraw(owner);
                    return Err(gone);
                }
                found => found?,
            };
            let held = self.cache().held(owner);
            let slot = match held {
                Some(slot) => slot,
                None => {
                    let key = self.kms.unwrap(&wrapped, &context(owner)).await?;
                    Arc::new(Slot::new(owner.clone(), key))
                }
            };
            if let Some(slot) = self.cache().insert(generation, owner, slot, asked) {
                return Ok(OwnerKey(slot));
            }
        }
        Err(KeyringError::Contended(owner.clone()))
    }

    /// Destroys the owner's key for good. Here it is wiped when this returns, for everybody who holds it; in
    /// every other process within a second ([`Keyring::follow`]). Doing it again changes nothing.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`] when there never was one.
    pub async fn destroy(&self, owner: &Owner, now: SystemTime) -> Result<(), KeyringError> {
        for _ in 0..ATTEMPTS_MAX {
            let (entry, created) = match self.read(owner).await? {
                None => return Err(KeyringError::Unknown(owner.clone())),
                Some((_, Record::Destroyed { .. })) => {
                    self.cache().withdraw(owner);
                    return Ok(());
                }
                Some((entry, Record::Live { created, .. })) => (entry, created),
            };
            let tombstone = Record::Destroyed { created, destroyed: seconds(now) };
            let change = Transaction::new()
                .unchanged(&entry)
                .put(entry.key.clone(), tombstone.encode())
                .put(destroyed_key(), Bytes::from(owner.to_string()));
            settled(self.store.commit(change).await)?;
        }
        Err(KeyringError::Contended(owner.clone()))
    }

    /// Seals with the owner's key; see [`OwnerKey::seal`].
    ///
    /// # Errors
    /// [`UseError`].
    pub async fn seal(
        &self,
        owner: &Owner,
        purpose: Purpose,
        context: &[&[u8]],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, UseError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.get(owner).await?.seal(purpose, context, plaintext) {
                // All keys are withdrawn when the store was away; destroyed ones are not found again.
                Err(SealError::Withdrawn) => {}
                sealed => return sealed.map_err(UseError::Seal),
            }
        }
        Err(KeyringError::Contended(owner.clone()).into())
    }

    /// Opens with the owner's key; see [`OwnerKey::open`].
    ///
    /// # Errors
    /// [`UseError`].
    pub async fn open_sealed(
        &self,
        owner: &Owner,
        purpose: Purpose,
        context: &[&[u8]],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UseError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.get(owner).await?.open(purpose, context, sealed) {
                Err(OpenError::Withdrawn) => {}
                opened => return opened.map_err(UseError::Open),
            }
        }
        Err(KeyringError::Contended(owner.clone()).into())
    }

    /// What became of the owner's key; needs no master key.
    ///
    /// # Errors
    /// [`KeyringError::Corrupt`] or [`KeyringError::Store`].
    pub async fn state(&self, owner: &Owner) -> Result<OwnerState, KeyringError> {
        Ok(match self.read(owner).await? {
            None => OwnerState::Unknown,
            Some((_, Record::Live { created, wrapped })) => {
                OwnerState::Live { created, master: wrapped.master }
            }
            Some((_, Record::Destroyed { created, destroyed })) => {
                OwnerState::Destroyed { created, destroyed }
            }
        })
    }

    /// How many keys are in memory now.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache().len()
    }

    async fn live(&self, owner: &Owner) -> Result<Wrapped, KeyringError> {
        match self.read(owner).await? {
            None => Err(KeyringError::Unknown(owner.clone())),
            Some((_, Record::Destroyed { destroyed, .. })) => {
                Err(KeyringError::Destroyed { owner: owner.clone(), at: destroyed })
            }
            Some((_, Record::Live { wrapped, .. })) => Ok(wrapped),
        }
    }

    async fn read(&self, owner: &Owner) -> Result<Option<(Entry, Record)>, KeyringError> {
        let Some(entry) = self.store.get(&key_of(owner)).await? else { return Ok(None) };
        let record = parse(&entry)?;
        Ok(Some((entry, record)))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(entry: &Entry) -> Result<Record, KeyringError> {
    Record::parse(&entry.value)
        .map_err(|problem| KeyringError::Corrupt { key: entry.key.clone(), problem })
}

/// Whether a change was made, was in the way of another, or is not known: reading says which.
fn settled<T>(committed: Result<T, CommitError>) -> Result<(), StoreError> {
    match committed {
        Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Unknown(_)) => Ok(()),
        Err(CommitError::Store(error)) => Err(error),
        Err(other) => Err(StoreError::Unavailable(other.to_string())),
    }
}

fn key_of(owner: &Owner) -> Key {
    Key::new(&format!("{OWNER_PREFIX}{owner}")).expect("an owner is short printable text")
}

fn destroyed_key() -> Key {
    Key::new(DESTROYED).expect("a key")
}

/// What a wrapped key is bound to: it does not unwrap as another owner's.
fn context(owner: &Owner) -> Vec<u8> {
    parts(&[LABEL_OWNER, owner.to_string().as_bytes()])
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
