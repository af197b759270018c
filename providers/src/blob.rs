//! Storage for blobs: backups, logs, images, the audit log.

use std::{fmt, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_stream::Stream;

use crate::{Page, error::ProviderError, name::BlobName};

mod folder;
mod format;
mod objects;

pub use self::{
    folder::FolderBlobs,
    format::{BLOB_LEN_MAX, BLOCK_LEN},
    objects::{ObjectBlobs, S3Settings},
};

/// Longest content of a put with a condition, bytes: S3 knows conditions for uploads in one piece only, and each is
/// held in memory.
pub const CONDITIONAL_PUT_LEN_MAX: usize = 16 << 20;

/// Content on its way, in pieces of any size. What is read ends with an error if it is not what was written: nothing
/// of a block of [`BLOCK_LEN`] bytes is handed on before its checksum was compared.
pub type Content = Pin<Box<dyn Stream<Item = Result<Bytes, ProviderError>> + Send>>;

/// Content that is in memory.
#[must_use]
pub fn content(bytes: impl Into<Bytes>) -> Content {
    Box::pin(tokio_stream::once(Ok(bytes.into())))
}

/// What content a blob has: a digest of all of it, the same wherever it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ETag(pub(crate) [u8; 32]);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What must hold for a put to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing: what was there is replaced.
    #[default]
    Always,
    /// There is no blob of this name.
    Absent,
    /// The blob has this content.
    Unchanged(ETag),
}

/// What is known of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub name: BlobName,
    /// Bytes of its content.
    pub len: u64,
    /// Which content.
    pub etag: ETag,
}

/// A blob that is being read.
pub struct Blob {
    /// Of the whole blob, whatever part of it is read.
    pub info: BlobInfo,
    /// The part that was asked for.
    pub content: Content,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

impl Blob {
    /// All of the content at once, if it has no more than `len_max` bytes.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] if it has more, and whatever reading it gives.
    pub async fn read(mut self, len_max: usize) -> Result<Bytes, ProviderError> {
        gather(&mut self.content, len_max).await
    }
}

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte, from 0; at most the blob's length.
    pub start: u64,
    /// How many at most; fewer where the blob ends before.
    pub len: u64,
}

impl ByteRange {
    /// Everything.
    pub const ALL: Self = Self { start: 0, len: u64::MAX };
}

/// A blob in a list. Its content was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: BlobName,
}

/// Blobs by name. A blob is written whole or not at all, and never changed but replaced whole. When a put returns,
/// its content outlives a loss of power.
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync {
    /// Writes a blob, in bounded memory however long it is. Dropping the future before it returns leaves the blob as
    /// it was, or written whole.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] if the condition does not hold; [`ProviderError::Invalid`] beyond
    /// [`BLOB_LEN_MAX`], or beyond [`CONDITIONAL_PUT_LEN_MAX`] with a condition; [`ProviderError::Full`]; an error of
    /// `content` as it is. Nothing is left of what failed.
    async fn put(
        &self,
        name: &BlobName,
        content: Content,
        condition: Condition,
    ) -> Result<BlobInfo, ProviderError>;

    /// Reads a blob or a part of it, in bounded memory.
    ///
    /// # Errors
    /// [`ProviderError::Absent`]; [`ProviderError::Invalid`] for a range that begins behind the end;
    /// [`ProviderError::Corrupt`], also in the content.
    async fn get(&self, name: &BlobName, range: ByteRange) -> Result<Blob, ProviderError>;

    /// What is known of a blob.
    ///
    /// # Errors
    /// [`ProviderError::Absent`], [`ProviderError::Corrupt`].
    async fn describe(&self, name: &BlobName) -> Result<BlobInfo, ProviderError>;

    /// Names that begin with `prefix` (any name, with or without a slash behind it, or nothing) and come after
    /// `after`, in the order of their bytes: at most `len_max`, and never more than [`crate::LIST_LEN_MAX`].
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] for a prefix that no name has.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobName>,
        len_max: usize,
    ) -> Result<Page<Listed>, ProviderError>;

    /// Removes a blob, if it is there.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`], [`ProviderError::Denied`].
    async fn delete(&self, name: &BlobName) -> Result<(), ProviderError>;
}

/// All of `content`, at most `len_max` bytes.
async fn gather(content: &mut Content, len_max: usize) -> Result<Bytes, ProviderError> {
    use tokio_stream::StreamExt as _;
    let mut all = Vec::new();
    while let Some(piece) = content.next().await {
        let piece = piece?;
        if all.len() + piece.len() > len_max {
            return Err(ProviderError::Invalid(format!(
                "content: longer than expected; expected at most {len_max} bytes"
            )));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests;
