//! What Weft asks of whoever gives it machines, disks, storage and public addresses.
//!
//! ```text
//!   scheduler, agents, services ──▶ dyn LoadBalancer ── LocalBalancers     what the edge proxy follows
//!                               ──▶ dyn Instance ────── ProcessInstances   processes of this host
//!                               ──▶ dyn BlockVolume ─── SparseVolumes      files in a folder
//!                               ──▶ dyn BlobStore ──┬── FolderBlobs        files in a folder
//!                                                   └── ObjectBlobs        S3 and what speaks like it
//! ```
//!
//! Nothing above these traits sees a path or a cloud's type. Everything has a name that the caller chose, and asking
//! twice is asking once: after an error of [`Tier::Passing`] the same call is made again and finishes what was begun.
//! Deleting what is not there is no error. What differs under the same name is a [`ProviderError::Conflict`], never
//! overwritten.
//!
//! `conformance` has one suite for each trait, which every implementation passes.

pub mod balancer;
pub mod blob;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
pub mod instance;
mod name;
pub mod volume;

pub use self::{
    balancer::{LoadBalancer, LocalBalancers},
    blob::{BlobStore, FolderBlobs, ObjectBlobs},
    error::{ProviderError, Tier},
    instance::{Instance, ProcessInstances},
    name::{BLOB_NAME_LEN_MAX, BLOB_PART_LEN_MAX, BlobName, RESOURCE_NAME_LEN_MAX, ResourceName},
    volume::{BlockVolume, SparseVolumes},
};

/// Most entries of one page of a list.
pub const LIST_LEN_MAX: usize = 1_000;

/// A part of a list, in the order of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found.
    pub entries: Vec<T>,
    /// Whether there is more after the last of them.
    pub more: bool,
}
