//! What an owner's key is used for.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::{
    aead,
    owner::Owner,
    sealed::{HEADER, NONCE_LEN, PLAINTEXT_LEN_MAX, SEALED_OVERHEAD, Sealed},
    secret::KeyBytes,
};

/// Longest context, bytes of all of its parts together.
pub const CONTEXT_LEN_MAX: usize = 4096;

const LABEL_SEAL: &[u8] = b"weft v1 seal";
const LABEL_SEALED: &[u8] = b"weft v1 sealed";
const LABEL_DERIVE: &[u8] = b"weft v1 derive";

/// What something is sealed for. Each purpose has a key of its own: nothing that was sealed for one opens
/// for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Private keys of certificate authorities.
    CertificateAuthority,
    /// Private keys of TLS servers.
    TlsKey,
    /// Versioned secrets; the context is the secret's name and version.
    Secret,
    /// Volumes.
    Volume,
    /// Registries of images.
    Registry,
    /// Logs.
    Log,
    /// Backups.
    Backup,
    /// What people prove who they are with: seeds of one-time passwords.
    Identity,
    /// The key that signs heads of the audit.
    Audit,
    /// The audit where it leaves its hosts; the context is the object's name.
    AuditObject,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 10] = [
        Self::CertificateAuthority,
        Self::TlsKey,
        Self::Secret,
        Self::Volume,
        Self::Registry,
        Self::Log,
        Self::Backup,
        Self::Identity,
        Self::Audit,
        Self::AuditObject,
    ];

    /// Part of the key schedule: never changes.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "certificate-authority",
            Self::TlsKey => "tls-key",
            Self::Secret => "secret",
            Self::Volume => "volume",
            Self::Registry => "registry",
            Self::Log => "log",
            Self::Backup => "backup",
            Self::Identity => "identity",
            Self::Audit => "audit",
            Self::AuditObject => "audit-object",
        }
    }
}

/// Why nothing was sealed or derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key was withdrawn; the keyring knows why.
    #[error("the key is not held any more; ask the keyring again")]
    Withdrawn,
    /// More than is sealed in one piece.
    #[error("the plaintext has {0} bytes; expected at most {PLAINTEXT_LEN_MAX}")]
    Plaintext(usize),
    /// A context that is no name.
    #[error("the context has {0} bytes; expected at most {CONTEXT_LEN_MAX}")]
    Context(usize),
}

/// Why nothing was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key was withdrawn; the keyring knows why. Says nothing of the data.
    #[error("the key is not held any more; ask the keyring again")]
    Withdrawn,
    /// Of another owner, purpose or context, or changed, or nothing that was ever sealed: all the same.
    #[error("the sealed data do not open")]
    Refused,
}

/// Where a key is held, for the keyring and all who use it: when the keyring withdraws it, it is gone for all
/// of them.
pub(crate) struct Slot {
    owner: Owner,
    key: RwLock<Option<KeyBytes>>,
}

impl Slot {
    pub(crate) fn new(owner: Owner, key: KeyBytes) -> Self {
        Self { owner, key: RwLock::new(Some(key)) }
    }

    /// Wipes the key. Whoever works with it now is waited for: some microseconds for each KiB.
    pub(crate) fn withdraw(&self) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A key derived from this one; `None` when it was withdrawn.
    fn derive(&self, info: &[&[u8]]) -> Option<KeyBytes> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        key.as_ref().map(|key| key.expand(info))
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.key.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// An owner's key, to seal and open with. Cheap to clone. Meant to be asked for each time it is needed
/// ([`crate::Keyring::get`]), not to be kept: what is kept works until the keyring withdraws it.
#[derive(Clone)]
pub struct OwnerKey(pub(crate) Arc<Slot>);

impl OwnerKey {
    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.0.owner
    }

    /// Seals `plaintext` so that it opens for this owner, purpose and context only. The context says which
    /// thing it is, in parts: a secret's name and version. See [`crate::Sealed`] for the format.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &self,
        purpose: Purpose,
        context: &[&[u8]],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the kernel has random numbers");
        self.seal_with(nonce, purpose, context, plaintext)
    }

    fn seal_with(
        &self,
        nonce: [u8; NONCE_LEN],
        purpose: Purpose,
        context: &[&[u8]],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        if plaintext.len() > PLAINTEXT_LEN_MAX {
            return Err(SealError::Plaintext(plaintext.len()));
        }
        let aad = self.additional_data(purpose, context).map_err(SealError::Context)?;
        let key = self.seal_key(purpose).ok_or(SealError::Withdrawn)?;
        // All of its length at once: a buffer that grows leaves plaintext behind.
        let mut sealed = Vec::with_capacity(plaintext.len() + SEALED_OVERHEAD);
        sealed.extend_from_slice(&HEADER);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = aead::seal(&key, nonce, &aad, &mut sealed[HEADER.len() + NONCE_LEN..]);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what [`OwnerKey::seal`] sealed for the same owner, purpose and context.
    ///
    /// # Errors
    /// [`OpenError`]: the same for whatever is wrong with the data.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &[&[u8]],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let key = self.seal_key(purpose).ok_or(OpenError::Withdrawn)?;
        let aad = self.additional_data(purpose, context).map_err(|_| OpenError::Refused)?;
        let sealed = Sealed::parse(sealed).map_err(|_| OpenError::Refused)?;
        let mut plaintext = Zeroizing::new(vec![0; sealed.ciphertext.len()]);
        aead::open(&key, sealed.nonce, &aad, sealed.ciphertext, &sealed.tag, &mut plaintext)
            .ok_or(OpenError::Refused)?;
        Ok(plaintext)
    }

    /// A key for one thing of this owner that other software encrypts with: a volume, a backup. It is always
    /// the same, independent of what is sealed, and needs no storing.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn derive(&self, purpose: Purpose, context: &[&[u8]]) -> Result<KeyBytes, SealError> {
        let len = context_len(context);
        if len > CONTEXT_LEN_MAX {
            return Err(SealError::Context(len));
        }
        let owner = self.owner().to_string();
        let info = [LABEL_DERIVE, owner.as_bytes(), purpose.label().as_bytes()];
        self.0.derive(&[&info, context].concat()).ok_or(SealError::Withdrawn)
    }

    fn seal_key(&self, purpose: Purpose) -> Option<KeyBytes> {
        let owner = self.owner().to_string();
        self.0.derive(&[LABEL_SEAL, owner.as_bytes(), purpose.label().as_bytes()])
    }

    /// The error is the length of a context that is too long.
    fn additional_data(&self, purpose: Purpose, context: &[&[u8]]) -> Result<Vec<u8>, usize> {
        let len = context_len(context);
        if len > CONTEXT_LEN_MAX {
            return Err(len);
        }
        let owner = self.owner().to_string();
        let what = [LABEL_SEALED, &HEADER, owner.as_bytes(), purpose.label().as_bytes()];
        Ok(aead::parts(&[&what, context].concat()))
    }
}

impl fmt::Debug for OwnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerKey({})", self.owner())
    }
}

fn context_len(context: &[&[u8]]) -> usize {
    context.iter().map(|part| part.len()).sum()
}

#[cfg(test)]
mod tests;
