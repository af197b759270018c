//! Disks that outlive what uses them.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Page, error::ProviderError, name::ResourceName};

mod sparse;

pub use self::sparse::SparseVolumes;

/// Lengths of volumes are whole numbers of this many bytes: what every cloud rounds to.
pub const VOLUME_LEN_STEP: u64 = 1 << 20;
/// Longest volume, bytes.
pub const VOLUME_LEN_MAX: u64 = 64 << 40;

/// What a volume is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its length in bytes when it is made; [`BlockVolume::grow`] may raise it later.
    pub len: u64,
    /// A snapshot whose content it begins with, instead of zeros; not longer than `len`.
    pub snapshot: Option<String>,
}

impl VolumeSpec {
    /// Whether a length is one of a volume.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] says what was expected.
    pub fn check_len(len: u64) -> Result<(), ProviderError> {
        if len == 0 || len > VOLUME_LEN_MAX || !len.is_multiple_of(VOLUME_LEN_STEP) {
            return Err(ProviderError::Invalid(format!(
                "len: {len}; expected a multiple of {VOLUME_LEN_STEP} from {VOLUME_LEN_STEP} to {VOLUME_LEN_MAX}"
            )));
        }
        Ok(())
    }
}

/// Who uses a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The host.
    pub host: String,
    /// Of which generation of the job.
    pub generation: u64,
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its name.
    pub name: ResourceName,
    /// Its length in bytes.
    pub len: u64,
    /// Who uses it.
    pub attached: Option<Attached>,
    /// Attaching with a lower generation is refused.
    pub generation: u64,
}

/// What is known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: ResourceName,
    /// Its volume's name; the volume may be gone.
    pub volume: ResourceName,
    /// Its length in bytes.
    pub len: u64,
}

/// A volume that is attached to this host: a disk or a file that stands for one, open for reading and writing. It is
/// closed when it is dropped, and detached by [`BlockVolume::detach`] only.
#[derive(Debug)]
pub struct AttachedVolume {
    /// The open disk.
    pub disk: std::fs::File,
    /// What is attached.
    pub info: VolumeInfo,
}

/// Volumes and snapshots by name.
///
/// A volume is attached to one host at a time, with a generation that only grows. Whoever takes a job over raises it:
/// from then on the old host can attach nothing any more. What it has open is taken from it where the provider can;
/// where it cannot, as with files on one host, the agent has stopped the old job before.
#[async_trait]
pub trait BlockVolume: fmt::Debug + Send + Sync {
    /// Makes a volume, whole or not at all. One that was made so before is left as it is, also if it has grown.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] if there is another one of this name; [`ProviderError::Absent`] without the
    /// snapshot; [`ProviderError::Invalid`], [`ProviderError::Full`].
    async fn create(
        &self,
        name: &ResourceName,
        spec: &VolumeSpec,
    ) -> Result<VolumeInfo, ProviderError>;

    /// What is known of a volume.
    ///
    /// # Errors
    /// [`ProviderError::Absent`].
    async fn describe(&self, name: &ResourceName) -> Result<VolumeInfo, ProviderError>;

    /// Volumes after `after`, in the order of their names: at most `len_max`, and never more than
    /// [`crate::LIST_LEN_MAX`].
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn list(
        &self,
        after: Option<&ResourceName>,
        len_max: usize,
    ) -> Result<Page<VolumeInfo>, ProviderError>;

    /// Makes a volume at least so long. What is attached grows under its user, who has to grow its file system.
    ///
    /// # Errors
    /// [`ProviderError::Absent`], [`ProviderError::Invalid`], [`ProviderError::Full`].
    async fn grow(&self, name: &ResourceName, len: u64) -> Result<VolumeInfo, ProviderError>;

    /// Attaches a volume to `host`, for a job's `generation`. The same again gives another handle.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] while another host has it, or if a higher generation was there.
    async fn attach(
        &self,
        name: &ResourceName,
        host: &str,
        generation: u64,
    ) -> Result<AttachedVolume, ProviderError>;

    /// Detaches a volume from `host`; nothing happens if it is not attached there.
    ///
    /// # Errors
    /// [`ProviderError::Absent`].
    async fn detach(&self, name: &ResourceName, host: &str) -> Result<(), ProviderError>;

    /// Takes a volume from whoever has it with a lower generation, and refuses all such from now on.
    ///
    /// # Errors
    /// [`ProviderError::Absent`]; [`ProviderError::Conflict`] if a higher generation was there.
    async fn fence(
        &self,
        name: &ResourceName,
        generation: u64,
    ) -> Result<VolumeInfo, ProviderError>;

    /// Keeps what a volume holds at one moment, under a name of its own. One that was made of it before is left as
    /// it is.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] if there is one of another volume, or where the provider can keep only what
    /// nobody writes to, and the volume is attached; [`ProviderError::Absent`], [`ProviderError::Full`].
    async fn snapshot(
        &self,
        volume: &ResourceName,
        name: &ResourceName,
    ) -> Result<SnapshotInfo, ProviderError>;

    /// What is known of a snapshot.
    ///
    /// # Errors
    /// [`ProviderError::Absent`].
    async fn describe_snapshot(&self, name: &ResourceName) -> Result<SnapshotInfo, ProviderError>;

    /// Removes a snapshot, if it is there. Volumes that were made of it stay.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn delete_snapshot(&self, name: &ResourceName) -> Result<(), ProviderError>;

    /// Removes a volume, if it is there. Its snapshots stay.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] while it is attached.
    async fn delete(&self, name: &ResourceName) -> Result<(), ProviderError>;
}
