//! The key hierarchy of an installation.
//!
//! ```text
//!  master key (Kms: a key file, or somebody else's KMS)
//!    │ wraps
//!    ▼
//!  owner's key, random ──── one for each environment, one for the installation; wrapped, in the Keyring
//!    │ HKDF-SHA256(owner, purpose)
//!    ▼
//!  purpose's key ──── AES-256-GCM-SIV(context) ──▶ Sealed: secrets, CA keys, tokens …, in any other store
//! ```
//!
//! - An owner has one key in its life. [`Keyring::destroy`] leaves a tombstone, so that *destroyed* and
//!   *lost* are told apart and nobody seals under a second key what the first one was to open.
//! - The [`Keyring`] has a store of its own: backups of the control plane's store hold what is sealed, never
//!   the keys for it. So what an environment owned is gone with its key, in every backup too. A copy of the
//!   keyring's store is another matter: whoever keeps one, or a store that keeps history, ends what is in it
//!   by rotating the master key ([`Keyring::rewrap`]) and removing the old one.
//! - Rotating the master key wraps owners' keys anew and touches nothing else.
//! - What does not open says nothing of why ([`OpenError::Refused`]).
//! - Keys are in blocks of their own that are wiped when they are dropped; none has a `Debug` that shows it.
//!
//! This crate decides nothing about who may have a key; its callers do.

mod aead;
mod key_file;
mod keyring;
mod kms;
mod owner;
mod owner_key;
mod sealed;
mod secret;

pub use self::{
    key_file::{KEY_FILE_LEN_MAX, KeyFile, KeyFileError, MASTER_KEYS_MAX},
    keyring::{
        CACHE_FRESH_MAX, CACHE_LEN_MAX, Census, FOLLOW_INTERVAL, KEYRING_PREFIX, Keyring,
        KeyringError, MASTERS_INTERVAL, OwnerState, PROVE_INTERVAL, Record, Rewrapped, UseError,
    },
    kms::{Kms, KmsError, MASTER_KEY_ID_LEN_MAX, MasterKeyId, WRAPPED_LEN_MAX, Wrapped},
    owner::{Owner, OwnerError},
    owner_key::{CONTEXT_LEN_MAX, OpenError, OwnerKey, Purpose, SealError},
    sealed::{NONCE_LEN, PLAINTEXT_LEN_MAX, SEALED_OVERHEAD, Sealed, SealedError, TAG_LEN},
    secret::{KEY_LEN, KeyBytes},
};
