//! Who holds the master key.

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;

use crate::{key_file::KeyFileError, secret::KeyBytes};

/// Longest id of a master key, bytes: an ARN of a cloud's KMS fits.
pub const MASTER_KEY_ID_LEN_MAX: usize = 256;
/// Longest wrapped key, bytes: what clouds return for 32 bytes is some 200.
pub const WRAPPED_LEN_MAX: usize = 1024;

/// Which master key. Printable ASCII without spaces; says nothing of the key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MasterKeyId(Arc<str>);

/// Text that is no id of a master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no id of a master key; expected 1 to {MASTER_KEY_ID_LEN_MAX} characters of printable ASCII without spaces"
)]
pub struct MasterKeyIdError(String);

impl MasterKeyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MasterKeyId {
    type Err = MasterKeyIdError;

    fn from_str(text: &str) -> Result<Self, MasterKeyIdError> {
        let fits = (1..=MASTER_KEY_ID_LEN_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        Err(MasterKeyIdError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that only a [`Kms`] can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The master key that wraps it.
    pub master: MasterKeyId,
    /// The wrapped key, at most [`WRAPPED_LEN_MAX`]; what is in it is the KMS's affair.
    pub bytes: Vec<u8>,
}

/// Why a [`Kms`] did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// It does not hold the master key.
    #[error("master key {needed} is needed and not there; held: {}", list(.held))]
    Missing {
        /// What was asked for.
        needed: MasterKeyId,
        /// What there is.
        held: Vec<MasterKeyId>,
    },
    /// The master key is there, and this was not wrapped by it, or not for this context.
    #[error("master key {0} does not unwrap this key: it was changed, or is of something else")]
    Refused(MasterKeyId),
    /// The key file is of no use.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// It does not answer now.
    #[error("the key management service does not answer: {0}")]
    Unavailable(String),
}

fn list(ids: &[MasterKeyId]) -> String {
    let ids: Vec<&str> = ids.iter().map(MasterKeyId::as_str).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

/// Who holds master keys and never gives them away.
#[async_trait]
pub trait Kms: fmt::Debug + Send + Sync {
    /// The id of the master key that wraps now.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn current(&self) -> Result<MasterKeyId, KmsError>;

    /// The ids of all master keys that can unwrap, the current one too.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn held(&self) -> Result<Vec<MasterKeyId>, KmsError>;

    /// Wraps `key` with the current master key, so that it is unwrapped for the same `context` only.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn wrap(&self, key: &KeyBytes, context: &[u8]) -> Result<Wrapped, KmsError>;

    /// Unwraps what [`Kms::wrap`] wrapped.
    ///
    /// # Errors
    /// [`KmsError::Missing`] names the master key that it takes.
    async fn unwrap(&self, wrapped: &Wrapped, context: &[u8]) -> Result<KeyBytes, KmsError>;
}
