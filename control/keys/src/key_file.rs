//! Master keys in a file: the KMS of who has no other.
//!
//! ```text
//!  weft master keys v1
//!  4f0c6a1e9d2b7788 2026-11-30T06:48:10Z 64 hexadecimal digits
//!  99b1c20ffe037a41 2027-11-30T08:00:00Z 64 hexadecimal digits
//! ```
//!
//! One key for each line, the newest last: it wraps, all of them unwrap. Empty lines and lines that begin with
//! `#` say nothing. An id is the first half of a hash of its key, so that a key under a wrong id is noticed.
//! The file belongs to the user that runs the control plane and is readable by nobody else.
//!
//! It is made by [`KeyFile::init`] only, never because it is missing: a new key in place of a lost one would
//! open nothing. A file that changes is read again when it is next needed, so a rotation needs no restart.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use async_trait::async_trait;
use aws_lc_rs::rand;

use crate::{
    aead,
    kms::{Kms, KmsError, MasterKeyId, Wrapped},
    sealed::{NONCE_LEN, TAG_LEN},
    secret::{KEY_LEN, KeyBytes},
};

mod disk;
mod text;

use self::{disk::Stamp, text::MasterKey};

/// Longest key file, bytes: [`MASTER_KEYS_MAX`] keys and some remarks.
pub const KEY_FILE_LEN_MAX: usize = 16 << 10;
/// Most master keys in a file. Two are usual while a rotation goes on.
pub const MASTER_KEYS_MAX: usize = 16;

const LABEL_WRAP: &[u8] = b"weft v1 wrap";
const WRAPPED_LEN: usize = NONCE_LEN + KEY_LEN + TAG_LEN;

/// What is wrong with a key file. No text of it holds anything of a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It is not there.
    #[error("the master key file {} is missing; restore it, or make the first one with init", .0.display())]
    Missing(PathBuf),
    /// There is one already.
    #[error("{} exists already and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// Others could read or change it.
    #[error("the master key file {} {found}; expected {expected}", .path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Not as the module's text has it.
    #[error("the master key file {}, line {line}: {problem}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was found and what was expected.
        problem: String,
    },
    /// A change that would lose or overflow something.
    #[error("the master key file {}: {problem}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The operating system refused.
    #[error("the master key file {}: {cause}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: std::io::Error,
    },
}

/// The keys of a file, and what the file looked like when they were read.
struct Held {
    stamp: Stamp,
    keys: Vec<MasterKey>,
}

impl Held {
    fn newest(&self) -> &MasterKey {
        self.keys.last().expect("a file without keys is malformed")
    }

    fn ids(&self) -> Vec<MasterKeyId> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }
}

/// Master keys in a file; see the module's text.
pub struct KeyFile {
    path: PathBuf,
    held: RwLock<Arc<Held>>,
}

impl KeyFile {
    /// Makes a file with a first key; the folder must be there.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`]: an existing file is never touched.
    pub fn init(path: &Path, now: SystemTime) -> Result<MasterKeyId, KeyFileError> {
        let key = MasterKey::new(now);
        disk::create(path, &text::write(std::slice::from_ref(&key)))?;
        Ok(key.id)
    }

    /// Begins a rotation: one more key, which wraps from now on. Then [`crate::Keyring::rewrap`] until
    /// [`crate::Keyring::census`] shows nothing under the others, then [`KeyFile::remove`] them.
    ///
    /// # Errors
    /// [`KeyFileError`]; the file is as it was.
    pub fn add(path: &Path, now: SystemTime) -> Result<MasterKeyId, KeyFileError> {
        let key = MasterKey::new(now);
        let id = key.id.clone();
        disk::change(path, |keys| {
            if keys.len() >= MASTER_KEYS_MAX {
                return Err(format!("has {MASTER_KEYS_MAX} keys, the most; remove old ones first"));
            }
            keys.push(key);
            Ok(())
        })?;
        Ok(id)
    }

    /// Ends a rotation: what is still wrapped by this key is lost.
    ///
    /// # Errors
    /// [`KeyFileError::Refused`] for the newest key and one that is not there.
    pub fn remove(path: &Path, id: &MasterKeyId) -> Result<(), KeyFileError> {
        disk::change(path, |keys| match keys.iter().position(|key| key.id == *id) {
            Some(at) if at + 1 == keys.len() => {
                Err(format!("key {id} is the newest, which wraps; add another before it goes"))
            }
            Some(at) => {
                keys.remove(at);
                Ok(())
            }
            None => Err(format!("has no key {id}")),
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`KeyFileError`] when it is missing, others could read it, or a line of it is wrong.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        let (stamp, keys) = disk::read(path)?;
        Ok(Self { path: path.to_owned(), held: RwLock::new(Arc::new(Held { stamp, keys })) })
    }

    /// The keys of the file as it is now. The disk is asked for its state only, some microseconds, so this
    /// does not leave the caller's thread.
    fn keys(&self) -> Result<Arc<Held>, KeyFileError> {
        let held = Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner));
        if Stamp::of(&self.path)? == held.stamp {
            return Ok(held);
        }
        let (stamp, keys) = disk::read(&self.path)?;
        let newer = Arc::new(Held { stamp, keys });
        tracing::info!(path = %self.path.display(), wraps = %newer.newest().id, "master keys read");
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&newer);
        Ok(newer)
    }
}

#[async_trait]
impl Kms for KeyFile {
    async fn current(&self) -> Result<MasterKeyId, KmsError> {
        Ok(self.keys()?.newest().id.clone())
    }

    async fn held(&self) -> Result<Vec<MasterKeyId>, KmsError> {
        Ok(self.keys()?.ids())
    }

    async fn wrap(&self, key: &KeyBytes, context: &[u8]) -> Result<Wrapped, KmsError> {
        let held = self.keys()?;
        let master = held.newest();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the kernel has random numbers");
        // In one block of its final length; the key is in it only until it is encrypted.
        let mut bytes = Vec::with_capacity(WRAPPED_LEN);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(key.expose());
        let aad = aead::parts(&[LABEL_WRAP, context]);
        let wrapping = master.key.expand(&[LABEL_WRAP]);
        let tag = aead::seal(&wrapping, nonce, &aad, &mut bytes[NONCE_LEN..]);
        bytes.extend_from_slice(&tag);
        Ok(Wrapped { master: master.id.clone(), bytes })
    }

    async fn unwrap(&self, wrapped: &Wrapped, context: &[u8]) -> Result<KeyBytes, KmsError> {
        let held = self.keys()?;
        let needed = &wrapped.master;
        let master = held.keys.iter().find(|key| key.id == *needed);
        let master =
            master.ok_or_else(|| KmsError::Missing { needed: needed.clone(), held: held.ids() })?;
        let refused = || KmsError::Refused(needed.clone());
        let (nonce, rest) = wrapped.bytes.split_first_chunk().ok_or_else(refused)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or_else(refused)?;
        if ciphertext.len() != KEY_LEN {
            return Err(refused());
        }
        let aad = aead::parts(&[LABEL_WRAP, context]);
        let wrapping = master.key.expand(&[LABEL_WRAP]);
        let mut opened = None;
        let key = KeyBytes::filled(|key| {
            opened = aead::open(&wrapping, *nonce, &aad, ciphertext, tag, key);
        });
        opened.map(|()| key).ok_or_else(refused)
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
