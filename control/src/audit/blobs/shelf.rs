//! The part of a blob store that belongs to one process. What is in it is sealed, each object under its own name, so
//! that whoever reads it learns sizes and times.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::spawn_blocking;
use weft_audit::{Digest, ObjectKind, ObjectName, PIECE_OF_SEGMENT_LEN, ProcessId, SIGNED_LEN_MAX};
use weft_keys::Keyring;
use weft_keys::{KeyringError, OpenError, Owner, OwnerKey, Purpose, SEALED_OVERHEAD, SealError};
use weft_providers::{
    BlobName, BlobStore, LIST_LEN_MAX, ProviderError,
    blob::{ByteRange, Condition, content},
};
use zeroize::Zeroizing;

/// Most segments of one process that are read of: some 90 of each day for six years.
pub(super) const SEGMENTS_MAX: usize = 200_000;

/// Why something is not in the blob store, or not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The blob store.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The key that it is sealed with.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The key was withdrawn meanwhile.
    #[error(transparent)]
    Withdrawn(SealError),
    /// Changed, or brought from elsewhere, or sealed with another key.
    #[error("object {0} does not open: it was changed or swapped, or another key sealed it")]
    Unopened(String),
    /// Something else is there, and is left as it is.
    #[error("object {0} is there with another content; it is left as it is")]
    Other(String),
    /// A name that nobody gives.
    #[error("object {0} has a name that none of ours has")]
    Name(String),
    /// More than are read.
    #[error("there are objects of more than {SEGMENTS_MAX} segments")]
    TooMany,
    /// This process ends.
    #[error("the work was given up: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// What there is of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Objects {
    /// How many pieces from the first on have no gap between them.
    pub(super) pieces: u8,
    /// A piece behind a gap.
    pub(super) beyond_gap: Option<u8>,
    /// Whether its head is there.
    pub(super) has_head: bool,
    /// Whether there is a stub in place of everything up to it.
    pub(super) has_stub: bool,
}

/// Everything that there is, by segment and by the hash of its last line.
pub(super) type Everything = BTreeMap<(u64, [u8; 32]), Objects>;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Shelf {
    process: ProcessId,
    blobs: Arc<dyn BlobStore>,
    keyring: Arc<Keyring>,
}

impl Shelf {
    pub(super) fn new(
        process: ProcessId,
        blobs: Arc<dyn BlobStore>,
        keyring: Arc<Keyring>,
    ) -> Self {
        Self { process, blobs, keyring }
    }

    /// An object's name in the whole blob store, to which it is bound.
    pub(super) fn full_name(&self, name: &ObjectName) -> String {
        format!("{}/{name}", self.process)
    }

    /// Puts an object, unless something has that name, and reads what is there then: nothing counts as shipped that
    /// was not read again.
    pub(super) async fn place(
        &self,
        name: &ObjectName,
        plaintext: &Arc<Zeroizing<Vec<u8>>>,
        is_same: impl Fn(&[u8]) -> bool,
    ) -> Result<(), ShelfError> {
        let full = self.full_name(name);
        let (key, bytes, of) = (self.key().await?, Arc::clone(plaintext), full.clone());
        let seal = move || key.seal(Purpose::AuditObject, &[of.as_bytes()], &bytes);
        let sealed = spawn_blocking(seal).await?.map_err(ShelfError::Withdrawn)?;
        let put = self.blobs.put(&blob_name(name)?, content(sealed), Condition::Absent).await;
        match put {
            // What is there may be what was put before an end.
            Ok(_) | Err(ProviderError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        match self.read(name).await {
            Ok(found) if is_same(&found) => Ok(()),
            Ok(_) | Err(ShelfError::Unopened(_)) => Err(ShelfError::Other(full)),
            Err(error) => Err(error),
        }
    }

    /// What an object says.
    pub(super) async fn read(&self, name: &ObjectName) -> Result<Zeroizing<Vec<u8>>, ShelfError> {
        let len_max = match name.kind {
            ObjectKind::Piece(_) => PIECE_OF_SEGMENT_LEN,
            ObjectKind::Head | ObjectKind::Expired => SIGNED_LEN_MAX,
        };
        let full = self.full_name(name);
        let blob = self.blobs.get(&blob_name(name)?, ByteRange::ALL).await?;
        if blob.info.len > (len_max + SEALED_OVERHEAD) as u64 {
            return Err(ShelfError::Unopened(full));
        }
        let sealed = blob.read(len_max + SEALED_OVERHEAD).await?;
        let (key, of) = (self.key().await?, full.clone());
        let open = move || key.open(Purpose::AuditObject, &[of.as_bytes()], &sealed);
        spawn_blocking(open).await?.map_err(|error| match error {
            OpenError::Withdrawn => ShelfError::Withdrawn(SealError::Withdrawn),
            OpenError::Refused => ShelfError::Unopened(full),
        })
    }

    /// Everything that there is.
    pub(super) async fn everything(&self) -> Result<Everything, ShelfError> {
        let (mut found, mut after) = (Everything::new(), None);
        loop {
            let page = self.blobs.list("", after.as_ref(), LIST_LEN_MAX).await?;
            for listed in &page.entries {
                let text = listed.name.as_str();
                let name: ObjectName = text
                    .parse()
                    .map_err(|_| ShelfError::Name(format!("{}/{text}", self.process)))?;
                let objects = found.entry((name.segment, name.hash.0)).or_default();
                match name.kind {
                    // In their order.
                    ObjectKind::Piece(number) if number == objects.pieces + 1 => {
                        objects.pieces = number;
                    }
                    ObjectKind::Piece(number) => objects.beyond_gap = Some(number),
                    ObjectKind::Head => objects.has_head = true,
                    ObjectKind::Expired => objects.has_stub = true,
                }
            }
            if found.len() > SEGMENTS_MAX {
                return Err(ShelfError::TooMany);
            }
            after = page.entries.into_iter().next_back().map(|listed| listed.name);
            if !page.more || after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Whether an object is there, whatever it says.
    pub(super) async fn has(&self, name: &ObjectName) -> Result<bool, ShelfError> {
        match self.blobs.describe(&blob_name(name)?).await {
            Ok(_) => Ok(true),
            Err(ProviderError::Absent(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn key(&self) -> Result<OwnerKey, ShelfError> {
        Ok(self.keyring.get(&Owner::Installation).await?)
    }
}

/// The name of an object about a segment.
pub(super) fn object(segment: u64, hash: Digest, kind: ObjectKind) -> ObjectName {
    ObjectName { segment, hash, kind }
}

fn blob_name(name: &ObjectName) -> Result<BlobName, ProviderError> {
    BlobName::new(&name.to_string())
}
