//! A second host that has the log too, before anybody is answered.
//!
//! The log is on the own disk first, then here: so a replica is never ahead, and what it lacks after it was away
//! is sent again from the files.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    digest::Digest,
    disk::{Disk as _, RealDisk},
    log::{Place, apply_stub, len_of},
    segment::{list, path_of, read_stub},
    signed::{Expired, Signed},
    text::ProcessId,
};

/// Longest piece that is sent at once, bytes.
pub const PIECE_LEN_MAX: usize = 1 << 20;

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

    /// Puts a stub in place of segments that expired.
    ///
    /// # Errors
    /// [`ReplicaError::Unavailable`].
    async fn expire(&self, stub: &Signed<Expired>) -> Result<(), ReplicaError>;
}

/// Keeps a replica up to date.
#[derive(Debug)]
pub(crate) struct Shipper {
    replica: Arc<dyn Replica>,
    /// How far the replica is; it is asked when that is not known.
    place: Option<Place>,
}

impl Shipper {
    pub(crate) fn new(replica: Arc<dyn Replica>) -> Self {
        Self { replica, place: None }
    }

    /// Sends everything up to `target`.
    pub(crate) async fn ship(
        &mut self,
        process: &ProcessId,
        folder: &Path,
        target: Place,
    ) -> Result<(), ReplicaError> {
        let mut place = match self.place.take() {
            Some(place) => place,
            None => self.find(process, folder, target).await?,
        };
        while place < target {
            let (at, bytes) = read(folder.to_owned(), place, target).await?;
            let len = bytes.len() as u64;
            self.replica.append(process, at, bytes).await?;
            place = Place { segment: at.segment, len: at.len + len };
        }
        self.place = Some(place);
        Ok(())
    }

    pub(crate) async fn expire(&mut self, stub: &Signed<Expired>) -> Result<(), ReplicaError> {
        // Where this fails, or nobody waits for its end, the replica hears of the stub when it is found again.
        let place = self.place.take();
        self.replica.expire(stub).await?;
        self.place = place;
        Ok(())
    }

    /// Where the replica is, after it was away or at first.
    async fn find(
        &self,
        process: &ProcessId,
        folder: &Path,
        target: Place,
    ) -> Result<Place, ReplicaError> {
        let stub = read_stub(folder).map_err(unavailable)?;
        if let Some(stub) = &stub {
            self.replica.expire(stub).await?;
        }
        let Held { place, digest } = self.replica.held(process).await?;
        if place > target {
            return Err(ReplicaError::Diverged);
        }
        let expired = stub.map_or(0, |stub| stub.unverified().segment);
        if place.segment > expired {
            let own = prefix(&path_of(folder, place.segment), place.len);
            if own.map_err(unavailable)? != digest {
                return Err(ReplicaError::Diverged);
            }
        }
        Ok(place)
    }
}

/// The next piece after `place`, and where it belongs.
async fn read(
    folder: PathBuf,
    place: Place,
    target: Place,
) -> Result<(Place, Bytes), ReplicaError> {
    let read = tokio::task::spawn_blocking(move || {
        let end = |segment| match segment == target.segment {
            true => Ok(target.len),
            false => len_of(&folder, segment),
        };
        let mut at = place;
        while at.len >= end(at.segment)? {
            at = Place { segment: at.segment + 1, len: 0 };
        }
        let len = (end(at.segment)? - at.len).min(PIECE_LEN_MAX as u64);
        let mut file = File::open(path_of(&folder, at.segment))?;
        file.seek(SeekFrom::Start(at.len))?;
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok::<_, io::Error>((at, Bytes::from(bytes)))
    });
    read.await.map_err(unavailable)?.map_err(unavailable)
}

/// SHA-256 of the first `len` bytes of a file.
fn prefix(path: &Path, len: u64) -> io::Result<Digest> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => {
            opened?.take(len).read_to_end(&mut bytes)?;
        }
    }
    Ok(Digest::of(&bytes))
}

fn unavailable(error: impl fmt::Display) -> ReplicaError {
    ReplicaError::Unavailable(error.to_string())
}

/// A replica in a folder of this machine, one folder below it for each process: for tests, and the receiving
/// end of one over the network.
#[derive(Debug)]
pub struct FolderReplica {
    folder: PathBuf,
    /// One writer at a time.
    writing: Mutex<()>,
}

impl FolderReplica {
    /// In this folder, which is made when it is needed.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, writing: Mutex::new(()) }
    }

    /// Where the log of a process is; it can be verified as any other.
    #[must_use]
    pub fn folder_of(&self, process: &ProcessId) -> PathBuf {
        self.folder.join(process.as_str())
    }

    fn place(folder: &Path) -> io::Result<Place> {
        if !folder.exists() {
            return Ok(Place::default());
        }
        let expired = read_stub(folder).map_err(io::Error::other)?;
        let expired = expired.map_or(0, |stub| stub.unverified().segment);
        let last = list(folder).map_err(io::Error::other)?.last().copied();
        let segment = last.unwrap_or(0).max(expired);
        Ok(Place { segment, len: len_of(folder, segment)? })
    }

    fn write(folder: &Path, at: Place, bytes: &[u8]) -> io::Result<bool> {
        fs::create_dir_all(folder)?;
        let place = Self::place(folder)?;
        let next = Place { segment: place.segment + 1, len: 0 };
        let path = path_of(folder, at.segment);
        let file = match at {
            at if at == place && at.segment > 0 => RealDisk.append(&path)?,
            at if at == next => RealDisk.create(&path)?,
            _ => return Ok(false),
        };
        let written = RealDisk.write(&file, bytes).and_then(|()| RealDisk.sync(&file));
        if written.is_err() {
            RealDisk.truncate(&file, at.len)?;
        }
        written?;
        if at == next {
            RealDisk.sync_folder(folder)?;
        }
        Ok(true)
    }
}

#[async_trait]
impl Replica for FolderReplica {
    async fn held(&self, process: &ProcessId) -> Result<Held, ReplicaError> {
        let folder = self.folder_of(process);
        let place = Self::place(&folder).map_err(unavailable)?;
        let digest = prefix(&path_of(&folder, place.segment), place.len).map_err(unavailable)?;
        Ok(Held { place, digest })
    }

    async fn append(
        &self,
        process: &ProcessId,
        at: Place,
        bytes: Bytes,
    ) -> Result<(), ReplicaError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match Self::write(&self.folder_of(process), at, &bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ReplicaError::Elsewhere),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn expire(&self, stub: &Signed<Expired>) -> Result<(), ReplicaError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder_of(&stub.unverified().process);
        let applied =
            fs::create_dir_all(&folder).and_then(|()| apply_stub(&RealDisk, &folder, stub));
        applied.map_err(unavailable)
    }
}
