//! Volumes as sparse files in a folder of this host.
//!
//! ```text
//!  folder/
//!  ├─ .lock             held as long as it is open: one process has it
//!  ├─ .tmp/             what is being made or removed; emptied when it is opened
//!  ├─ volumes/NAME/     disk, record.json
//!  └─ snapshots/NAME/   disk, record.json
//! ```
//!
//! A volume is made beside and renamed, and renamed before it is removed: it is there whole or not at all. A snapshot
//! shares the disk's blocks where the file system can (`FICLONE`: btrfs, xfs) and takes no time then; elsewhere what
//! is not a hole is copied, which needs a volume that nobody has attached.

mod disk;

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use disk::{copy_data, sync_folder};

use super::{Attached, AttachedVolume, BlockVolume, SnapshotInfo, VolumeInfo, VolumeSpec};
use crate::{LIST_LEN_MAX, Page, error::ProviderError, name::ResourceName};

/// See the module's text.
#[derive(Debug, Clone)]
pub struct SparseVolumes {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Everything happens one after the other: it is seldom, and short but for copies.
    turn: Mutex<()>,
    _lock: File,
}

/// What is kept of a volume beside its disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct VolumeRecord {
    spec: VolumeSpec,
    attached: Option<Attached>,
    generation: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SnapshotRecord {
    volume: String,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Volume,
    Snapshot,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Volume => "volumes",
            Self::Snapshot => "snapshots",
        }
    }

    fn what(self, name: &ResourceName) -> String {
        match self {
            Self::Volume => format!("volume {name}"),
            Self::Snapshot => format!("snapshot {name}"),
        }
    }
}

impl SparseVolumes {
    /// Opens the volumes in `root`, which is made if it is not there. What was being made or removed when a process
    /// ended is removed.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] if another process has it open.
    pub fn open(root: &Path) -> Result<Self, ProviderError> {
        let io = |error| ProviderError::io("the folder of volumes", &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(root.join(".lock"));
        let lock = lock.map_err(io)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = "the folder of volumes is in use by another process";
                return Err(ProviderError::Conflict(text.to_owned()));
            }
            Err(error) => return Err(io(error.into())),
        }
        match fs::remove_dir_all(root.join(".tmp")) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
            _ => fs::create_dir(root.join(".tmp")).map_err(io)?,
        }
        for kind in [Kind::Volume, Kind::Snapshot] {
            match fs::create_dir(root.join(kind.folder())) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io(error)),
                _ => {}
            }
        }
        sync_folder(root).map_err(io)?;
        let folder = Folder { root: root.to_owned(), turn: Mutex::new(()), _lock: lock };
        Ok(Self { folder: Arc::new(folder) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let folder = self.folder.clone();
        let done = spawn_blocking(move || {
            let _turn = folder.turn.lock().unwrap_or_else(PoisonError::into_inner);
            work(&folder)
        });
        done.await.map_err(|error| ProviderError::Unavailable(error.to_string()))?
    }
}

#[async_trait]
impl BlockVolume for SparseVolumes {
    async fn create(
        &self,
        name: &ResourceName,
        spec: &VolumeSpec,
    ) -> Result<VolumeInfo, ProviderError> {
        VolumeSpec::check_len(spec.len)?;
        let (name, spec) = (name.clone(), spec.clone());
        self.blocking(move |folder| folder.create(&name, spec)).await
    }

    async fn describe(&self, name: &ResourceName) -> Result<VolumeInfo, ProviderError> {
        let name = name.clone();
        self.blocking(move |folder| Ok(folder.volume(&name)?.0)).await
    }

    async fn list(
        &self,
        after: Option<&ResourceName>,
        len_max: usize,
    ) -> Result<Page<VolumeInfo>, ProviderError> {
        let after = after.cloned();
        self.blocking(move |folder| folder.list(after.as_ref(), len_max.min(LIST_LEN_MAX))).await
    }

    async fn grow(&self, name: &ResourceName, len: u64) -> Result<VolumeInfo, ProviderError> {
        VolumeSpec::check_len(len)?;
        let name = name.clone();
        self.blocking(move |folder| {
            let (mut info, _) = folder.volume(&name)?;
            if info.len < len {
                let io = |error| ProviderError::io(&format!("volume {name}"), &error);
                let disk = File::options().write(true).open(folder.disk(Kind::Volume, &name));
                let disk = disk.map_err(io)?;
                disk.set_len(len).and_then(|()| disk.sync_all()).map_err(io)?;
                info.len = len;
            }
            Ok(info)
        })
        .await
    }

    async fn attach(
        &self,
        name: &ResourceName,
        host: &str,
        generation: u64,
    ) -> Result<AttachedVolume, ProviderError> {
        let (name, wanted) = (name.clone(), Attached { host: host.to_owned(), generation });
        self.blocking(move |folder| folder.attach(&name, wanted)).await
    }

    async fn detach(&self, name: &ResourceName, host: &str) -> Result<(), ProviderError> {
        let (name, host) = (name.clone(), host.to_owned());
        self.blocking(move |folder| {
            let (_, mut record) = folder.volume(&name)?;
            if record.attached.as_ref().is_some_and(|attached| attached.host == host) {
                record.attached = None;
                folder.write_record(Kind::Volume, &name, &record)?;
            }
            Ok(())
        })
        .await
    }

    async fn fence(
        &self,
        name: &ResourceName,
        generation: u64,
    ) -> Result<VolumeInfo, ProviderError> {
        let name = name.clone();
        self.blocking(move |folder| {
            let (_, mut record) = folder.volume(&name)?;
            if generation < record.generation {
                return Err(superseded(&name, generation, record.generation));
            }
            record.generation = generation;
            record.attached = record.attached.filter(|attached| attached.generation >= generation);
            folder.write_record(Kind::Volume, &name, &record)?;
            Ok(folder.volume(&name)?.0)
        })
        .await
    }

    async fn snapshot(
        &self,
        volume: &ResourceName,
        name: &ResourceName,
    ) -> Result<SnapshotInfo, ProviderError> {
        let (volume, name) = (volume.clone(), name.clone());
        self.blocking(move |folder| folder.take_snapshot(&volume, &name)).await
    }

    async fn describe_snapshot(&self, name: &ResourceName) -> Result<SnapshotInfo, ProviderError> {
        let name = name.clone();
        self.blocking(move |folder| folder.snapshot(&name)).await
    }

    async fn delete_snapshot(&self, name: &ResourceName) -> Result<(), ProviderError> {
        let name = name.clone();
        self.blocking(move |folder| folder.remove(Kind::Snapshot, &name)).await
    }

    async fn delete(&self, name: &ResourceName) -> Result<(), ProviderError> {
        let name = name.clone();
        self.blocking(move |folder| match folder.volume(&name) {
            Ok((VolumeInfo { attached: Some(attached), .. }, _)) => Err(ProviderError::Conflict(
                format!("volume {name} is attached to {}", attached.host),
            )),
            Ok(_) => folder.remove(Kind::Volume, &name),
            Err(ProviderError::Absent(_)) => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }
}

impl Folder {
    fn home(&self, kind: Kind, name: &ResourceName) -> PathBuf {
        self.root.join(kind.folder()).join(name.as_str())
    }

    fn disk(&self, kind: Kind, name: &ResourceName) -> PathBuf {
        self.home(kind, name).join("disk")
    }

    fn record<T: DeserializeOwned>(
        &self,
        kind: Kind,
        name: &ResourceName,
    ) -> Result<(T, u64), ProviderError> {
        let what = kind.what(name);
        let io = |error| ProviderError::io(&what, &error);
        let text = fs::read(self.home(kind, name).join("record.json")).map_err(io)?;
        let record = serde_json::from_slice(&text);
        let record = record.map_err(|_| ProviderError::Corrupt(what.clone()))?;
        let len = fs::metadata(self.disk(kind, name)).map_err(io)?.len();
        Ok((record, len))
    }

    fn volume(&self, name: &ResourceName) -> Result<(VolumeInfo, VolumeRecord), ProviderError> {
        let (record, len): (VolumeRecord, u64) = self.record(Kind::Volume, name)?;
        let info = VolumeInfo {
            name: name.clone(),
            len,
            attached: record.attached.clone(),
            generation: record.generation,
        };
        Ok((info, record))
    }

    fn snapshot(&self, name: &ResourceName) -> Result<SnapshotInfo, ProviderError> {
        let (record, len): (SnapshotRecord, u64) = self.record(Kind::Snapshot, name)?;
        let volume = ResourceName::new(&record.volume);
        let volume = volume.map_err(|_| ProviderError::Corrupt(Kind::Snapshot.what(name)))?;
        Ok(SnapshotInfo { name: name.clone(), volume, len })
    }

    /// Replaces the record of what is there, so that a loss of power leaves the old one or the new one.
    fn write_record(
        &self,
        kind: Kind,
        name: &ResourceName,
        record: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let home = self.home(kind, name);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(self.root.join(".tmp"))?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.as_file().sync_all()?;
            file.persist(home.join("record.json")).map_err(|failed| failed.error)?;
            sync_folder(&home)
        };
        write().map_err(|error| beside(kind, name, &error))
    }

    /// Makes what is not there: its disk by `fill`, its record, and then its name.
    fn make(
        &self,
        kind: Kind,
        name: &ResourceName,
        record: &impl Serialize,
        fill: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), ProviderError> {
        let make = || {
            let beside = TempDir::new_in(self.root.join(".tmp"))?;
            let disk = File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(beside.path().join("disk"))?;
            fill(&disk)?;
            disk.sync_all()?;
            let mut file = File::create(beside.path().join("record.json"))?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            sync_folder(beside.path())?;
            fs::rename(beside.path(), self.home(kind, name))?;
            sync_folder(&self.root.join(kind.folder()))
        };
        make().map_err(|error| self::beside(kind, name, &error))
    }

    fn remove(&self, kind: Kind, name: &ResourceName) -> Result<(), ProviderError> {
        let remove = || {
            let beside = TempDir::new_in(self.root.join(".tmp"))?;
            match fs::rename(self.home(kind, name), beside.path().join("removed")) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                renamed => renamed?,
            }
            sync_folder(&self.root.join(kind.folder()))?;
            beside.close()
        };
        remove().map_err(|error| self::beside(kind, name, &error))
    }

    fn create(&self, name: &ResourceName, spec: VolumeSpec) -> Result<VolumeInfo, ProviderError> {
        match self.volume(name) {
            Ok((info, record)) if record.spec == spec => return Ok(info),
            Ok(_) => {
                let text = format!("volume {name} is there with another specification");
                return Err(ProviderError::Conflict(text));
            }
            Err(ProviderError::Absent(_)) => {}
            Err(error) => return Err(error),
        }
        let source = match &spec.snapshot {
            Some(snapshot) => {
                let snapshot = self.snapshot(&ResourceName::new(snapshot)?)?;
                if snapshot.len > spec.len {
                    return Err(ProviderError::Invalid(format!(
                        "len: {}; expected at least the snapshot's, {}",
                        spec.len, snapshot.len
                    )));
                }
                let what = Kind::Snapshot.what(&snapshot.name);
                let disk = File::open(self.disk(Kind::Snapshot, &snapshot.name));
                Some(disk.map_err(|error| ProviderError::io(&what, &error))?)
            }
            None => None,
        };
        let len = spec.len;
        let record = VolumeRecord { spec, attached: None, generation: 0 };
        self.make(Kind::Volume, name, &record, |disk| {
            if let Some(source) = source
                && rustix::fs::ioctl_ficlone(disk, &source).is_err()
            {
                copy_data(&source, disk)?;
            }
            disk.set_len(len)
        })?;
        Ok(self.volume(name)?.0)
    }

    fn attach(
        &self,
        name: &ResourceName,
        wanted: Attached,
    ) -> Result<AttachedVolume, ProviderError> {
        let (_, mut record) = self.volume(name)?;
        if wanted.generation < record.generation {
            return Err(superseded(name, wanted.generation, record.generation));
        }
        if let Some(other) = record.attached.as_ref().filter(|other| other.host != wanted.host) {
            let text = format!("volume {name} is attached to {}", other.host);
            return Err(ProviderError::Conflict(text));
        }
        let disk = File::options().read(true).write(true).open(self.disk(Kind::Volume, name));
        let disk = disk.map_err(|error| ProviderError::io(&format!("volume {name}"), &error))?;
        record.generation = wanted.generation;
        record.attached = Some(wanted);
        self.write_record(Kind::Volume, name, &record)?;
        Ok(AttachedVolume { disk, info: self.volume(name)?.0 })
    }

    fn take_snapshot(
        &self,
        volume: &ResourceName,
        name: &ResourceName,
    ) -> Result<SnapshotInfo, ProviderError> {
        match self.snapshot(name) {
            Ok(info) if info.volume == *volume => return Ok(info),
            Ok(info) => {
                let text = format!("snapshot {name} is there, of volume {}", info.volume);
                return Err(ProviderError::Conflict(text));
            }
            Err(ProviderError::Absent(_)) => {}
            Err(error) => return Err(error),
        }
        let (info, _) = self.volume(volume)?;
        let source = File::open(self.disk(Kind::Volume, volume));
        let source =
            source.map_err(|error| ProviderError::io(&format!("volume {volume}"), &error))?;
        let record = SnapshotRecord { volume: volume.as_str().to_owned() };
        let mut in_use = false;
        let made = self.make(Kind::Snapshot, name, &record, |disk| {
            if rustix::fs::ioctl_ficlone(disk, &source).is_ok() {
                return Ok(());
            }
            in_use = info.attached.is_some();
            if in_use { Err(ErrorKind::ResourceBusy.into()) } else { copy_data(&source, disk) }
        });
        if in_use {
            return Err(ProviderError::Conflict(format!(
                "volume {volume} is attached, and this file system keeps only what nobody writes to"
            )));
        }
        made?;
        self.snapshot(name)
    }

    fn list(
        &self,
        after: Option<&ResourceName>,
        len_max: usize,
    ) -> Result<Page<VolumeInfo>, ProviderError> {
        let io = |error| ProviderError::io("the folder of volumes", &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(Kind::Volume.folder())).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let name = name.to_str().and_then(|name| ResourceName::new(name).ok());
            names.extend(name.filter(|name| after.is_none_or(|after| name > after)));
        }
        names.sort_unstable();
        let more = names.len() > len_max;
        names.truncate(len_max);
        let entries: Result<Vec<_>, _> =
            names.iter().map(|name| Ok(self.volume(name)?.0)).collect();
        Ok(Page { entries: entries?, more })
    }
}

fn superseded(name: &ResourceName, generation: u64, newest: u64) -> ProviderError {
    ProviderError::Conflict(format!(
        "volume {name}: generation {generation} is superseded by {newest}"
    ))
}

/// A fault of the folder, where *not found* does not mean what is being made or removed.
fn beside(kind: Kind, name: &ResourceName, error: &io::Error) -> ProviderError {
    let what = kind.what(name);
    match ProviderError::io(&what, error) {
        ProviderError::Absent(_) => ProviderError::Unavailable(format!("{what}: {error}")),
        other => other,
    }
}

#[cfg(test)]
mod tests;
