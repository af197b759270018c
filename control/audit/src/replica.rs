//! A second host that has the log too, before anybody is answered.
//!
//! The log is on the own disk first, then here: so a replica is never ahead, and what it lacks after it was away
//! is sent again from the files.

mod folder;
mod shipper;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::folder::FolderReplica;
pub(crate) use self::shipper::Shipper;
use crate::{
    digest::Digest,
    line::LINE_LEN_MAX,
    log::Place,
    signed::{Expired, Signed},
    text::ProcessId,
};

/// Longest piece that is sent at once, bytes.
pub const PIECE_LEN_MAX: usize = 1 << 20;
/// Longest part that a loss of power tears on a replica, bytes: each piece is on its disk before the next one comes,
/// and a line may have begun before it.
pub const TAIL_LEN_MAX: usize = PIECE_LEN_MAX + LINE_LEN_MAX;

/// What a replica has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How far it is.
    pub place: Place,
    /// SHA-256 of what it has of the last segment.
    pub digest: Digest,
}

/// Why a replica did not do its part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// It has something else than this log.
    #[error("the replica has another log under this id")]
    Diverged,
    /// It is further or less far than thought; ask where it is.
    #[error("the replica is elsewhere in the log")]
    Elsewhere,
    /// It does not answer, or could not write.
    #[error("the replica: {0}")]
    Unavailable(String),
}

/// Where a copy of the log is kept.
#[async_trait]
pub trait Replica: fmt::Debug + Send + Sync {
    /// What it has of a process's log; the default place where it has nothing.
    ///
    /// # Errors
    /// [`ReplicaError::Unavailable`].
    async fn held(&self, process: &ProcessId) -> Result<Held, ReplicaError>;

    /// Appends bytes at a place: where it is, or the beginning of the next segment. When this returns, they
    /// outlive a loss of power there.
    ///
    /// # Errors
    /// [`ReplicaError::Elsewhere`] when the place is another.
    async fn append(
        &self,
        process: &ProcessId,
        at: Place,
        bytes: Bytes,
    ) -> Result<(), ReplicaError>;

    /// What it has of a segment behind a place, at most [`TAIL_LEN_MAX`] bytes.
    ///
    /// # Errors
    /// [`ReplicaError::Unavailable`].
    async fn read(&self, process: &ProcessId, from: Place) -> Result<Bytes, ReplicaError>;

    /// Cuts off what is behind `to` in the last segment, if it has `from` and the beginning of that is `to`. When this
    /// returns, it outlives a loss of power there.
    ///
    /// # Errors
    /// [`ReplicaError::Elsewhere`] when it has something else than `from`, [`ReplicaError::Diverged`] when that does
    /// not begin with `to`: nothing was cut off.
    async fn cut(&self, process: &ProcessId, from: Held, to: Held) -> Result<(), ReplicaError>;

    /// Puts a stub in place of segments that expired.
    ///
    /// # Errors
    /// [`ReplicaError::Unavailable`].
    async fn expire(&self, stub: &Signed<Expired>) -> Result<(), ReplicaError>;
}

fn unavailable(error: impl fmt::Display) -> ReplicaError {
    ReplicaError::Unavailable(error.to_string())
}
