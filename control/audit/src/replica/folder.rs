//! A replica in a folder of this machine, which may be another one's disk.
//!
//! Such a disk may not answer for a long time. So whoever asks waits for its turn and for the end, and may give up;
//! what has begun goes on, on one thread, and nothing else begins before it has ended.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Held, Replica, ReplicaError, TAIL_LEN_MAX, unavailable};
use crate::{
    digest::Digest,
    disk::{Disk as _, RealDisk},
    log::{Place, apply_stub, len_of},
    segment::{list, path_of},
    signed::{Expired, PublicKey, Signed},
    stub::{believed, check},
    text::ProcessId,
};

/// A replica in a folder, one folder below it for each process.
#[derive(Debug)]
pub struct FolderReplica {
    files: Arc<Files>,
    /// One call at a time: one that hangs is not followed by others that do.
    turn: Arc<Semaphore>,
}

impl FolderReplica {
    /// In this folder, which is made when it is needed. Stubs are believed that one of `trusted` signed.
    #[must_use]
    pub fn new(folder: PathBuf, trusted: Vec<PublicKey>) -> Self {
        Self { files: Arc::new(Files { folder, trusted }), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Where the log of a process is; it can be verified as any other.
    #[must_use]
    pub fn folder_of(&self, process: &ProcessId) -> PathBuf {
        self.files.folder_of(process)
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, ReplicaError> + Send + 'static,
    ) -> Result<T, ReplicaError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(unavailable)?;
        let files = Arc::clone(&self.files);
        let done = spawn_blocking(move || {
            let done = work(&files);
            drop(turn);
            done
        });
        done.await.map_err(unavailable)?
    }
}

#[async_trait]
impl Replica for FolderReplica {
    async fn held(&self, process: &ProcessId) -> Result<Held, ReplicaError> {
        let process = process.clone();
        self.work(move |files| files.held(&process)).await
    }

    async fn append(
        &self,
        process: &ProcessId,
        at: Place,
        bytes: Bytes,
    ) -> Result<(), ReplicaError> {
        let process = process.clone();
        self.work(move |files| files.append(&process, at, &bytes)).await
    }

    async fn read(&self, process: &ProcessId, from: Place) -> Result<Bytes, ReplicaError> {
        let process = process.clone();
        self.work(move |files| files.read(&process, from).map_err(unavailable)).await
    }

    async fn cut(&self, process: &ProcessId, from: Held, to: Held) -> Result<(), ReplicaError> {
        let process = process.clone();
        self.work(move |files| files.cut(&process, from, to)).await
    }

    async fn expire(&self, stub: &Signed<Expired>) -> Result<(), ReplicaError> {
        let stub = stub.clone();
        self.work(move |files| files.expire(&stub)).await
    }
}

/// What is done there. Blocking.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    trusted: Vec<PublicKey>,
}

impl Files {
    fn folder_of(&self, process: &ProcessId) -> PathBuf {
        self.folder.join(process.as_str())
    }

    fn place(&self, process: &ProcessId) -> Result<Place, ReplicaError> {
        let folder = self.folder_of(process);
        if !folder.exists() {
            return Ok(Place::default());
        }
        let expired = believed(&folder, process, &self.trusted).map_err(unavailable)?;
        let expired = expired.map_or(0, |expired| expired.segment);
        let last = list(&folder).map_err(unavailable)?.last().copied();
        let segment = last.unwrap_or(0).max(expired);
        Ok(Place { segment, len: len_of(&folder, segment).map_err(unavailable)? })
    }

    fn held(&self, process: &ProcessId) -> Result<Held, ReplicaError> {
        let place = self.place(process)?;
        let path = path_of(&self.folder_of(process), place.segment);
        Ok(Held { place, digest: prefix(&path, place.len).map_err(unavailable)? })
    }

    fn append(&self, process: &ProcessId, at: Place, bytes: &[u8]) -> Result<(), ReplicaError> {
        let folder = self.folder_of(process);
        fs::create_dir_all(&folder).map_err(unavailable)?;
        let place = self.place(process)?;
        let next = Place { segment: place.segment + 1, len: 0 };
        let path = path_of(&folder, at.segment);
        let file = match at {
            at if at == place && at.segment > 0 => RealDisk.append(&path),
            at if at == next => RealDisk.create(&path),
            _ => return Err(ReplicaError::Elsewhere),
        };
        let file = file.map_err(unavailable)?;
        let written = RealDisk.write(&file, bytes).and_then(|()| RealDisk.sync(&file));
        if written.is_err() {
            RealDisk.truncate(&file, at.len).map_err(unavailable)?;
        }
        written.map_err(unavailable)?;
        if at == next {
            RealDisk.sync_folder(&folder).map_err(unavailable)?;
        }
        Ok(())
    }

    fn read(&self, process: &ProcessId, from: Place) -> io::Result<Bytes> {
        let mut file = File::open(path_of(&self.folder_of(process), from.segment))?;
        file.seek(SeekFrom::Start(from.len))?;
        let mut bytes = Vec::new();
        file.take(TAIL_LEN_MAX as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    fn cut(&self, process: &ProcessId, from: Held, to: Held) -> Result<(), ReplicaError> {
        if self.held(process)? != from {
            return Err(ReplicaError::Elsewhere);
        }
        let path = path_of(&self.folder_of(process), to.place.segment);
        let is_part = to.place.segment == from.place.segment && to.place.len <= from.place.len;
        if !is_part || prefix(&path, to.place.len).map_err(unavailable)? != to.digest {
            return Err(ReplicaError::Diverged);
        }
        let file = RealDisk.append(&path).map_err(unavailable)?;
        RealDisk.truncate(&file, to.place.len).map_err(unavailable)?;
        RealDisk.sync(&file).map_err(unavailable)
    }

    fn expire(&self, stub: &Signed<Expired>) -> Result<(), ReplicaError> {
        let process = &stub.unverified().process;
        check(stub, process, &self.trusted).map_err(unavailable)?;
        let folder = self.folder_of(process);
        let applied =
            fs::create_dir_all(&folder).and_then(|()| apply_stub(&RealDisk, &folder, stub));
        applied.map_err(unavailable)
    }
}

/// SHA-256 of the first `len` bytes of a file, or of nothing.
pub(super) fn prefix(path: &Path, len: u64) -> io::Result<Digest> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Digest::of(&[])),
        opened => Digest::of_all(opened?.take(len)),
    }
}
