//! Blobs in a folder of this host.
//!
//! ```text
//!  folder/
//!  ├─ .lock         held as long as the store is open: one process has it; others may read
//!  ├─ .tmp/         what is being written; emptied when the store is opened
//!  ├─ a=            blob "a"
//!  └─ a/            what begins with "a/"
//!     └─ b=         blob "a/b"
//! ```
//!
//! A blob is written beside and then renamed: file, name and every new folder are on the disk before a put returns.
//! No part of a name has an equals sign or begins with a dot, so nothing else can be a blob's file.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tempfile::NamedTempFile;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    Blob, BlobInfo, BlobStore, ByteRange, CONDITIONAL_PUT_LEN_MAX, Condition, Content, Listed,
    format::{BLOCK_LEN, DIGEST_LEN, TRAILER_LEN, Trailer, Writer, is_block},
};
use crate::{LIST_LEN_MAX, Page, error::ProviderError, name::BlobName};

/// Bytes that are written at once, where pieces are smaller.
const WRITE_LEN: usize = 256 << 10;

/// See the module's text.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Changes of names happen one after the other; content is written before.
    names: Mutex<()>,
    /// There is none where it is only read.
    lock: Option<File>,
}

/// A blob on its way to the disk. It is removed when it is dropped, unless it was renamed.
#[derive(Debug)]
struct Writing {
    file: NamedTempFile,
    writer: Writer,
    len: usize,
}

impl FolderBlobs {
    /// Opens the store in `root`, which is made if it is not there. What was being written when a process ended is
    /// removed.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] if another process has it open.
    pub fn open(root: &Path) -> Result<Self, ProviderError> {
        let io = |error| ProviderError::io("the blob store's folder", &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(root.join(".lock"));
        let lock = lock.map_err(io)?;
        let locked = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = "the blob store's folder is in use by another process";
                return Err(ProviderError::Conflict(text.to_owned()));
            }
            Err(error) => return Err(io(error.into())),
        }
        let writing = root.join(".tmp");
        match fs::remove_dir_all(&writing) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
            _ => fs::create_dir(&writing).map_err(io)?,
        }
        sync_folder(root).map_err(io)?;
        let folder = Folder { root: root.to_owned(), names: Mutex::new(()), lock: Some(lock) };
        Ok(Self { folder: Arc::new(folder) })
    }

    /// Reads the store in `root`, also while a process has it open. Nothing is made there, and one that is not there is
    /// as an empty one; whoever wants to change something is told that it is [`ProviderError::Unsupported`].
    #[must_use]
    pub fn reading(root: &Path) -> Self {
        let folder = Folder { root: root.to_owned(), names: Mutex::new(()), lock: None };
        Self { folder: Arc::new(folder) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let folder = self.folder.clone();
        spawn_blocking(move || work(&folder)).await.map_err(ended)?
    }
}

#[async_trait]
impl BlobStore for FolderBlobs {
    async fn put(
        &self,
        name: &BlobName,
        mut content: Content,
        condition: Condition,
    ) -> Result<BlobInfo, ProviderError> {
        let begun = name.clone();
        let mut writing = self.blocking(move |folder| folder.begin(&begun)).await?;
        let mut waiting = BytesMut::new();
        while let Some(piece) = content.next().await {
            waiting.extend_from_slice(&piece?);
            if waiting.len() >= WRITE_LEN {
                let (name, bytes) = (name.clone(), waiting.split());
                let written = move |_: &Folder| writing.write(&name, &bytes, condition);
                writing = self.blocking(written).await?;
            }
        }
        let name = name.clone();
        self.blocking(move |folder| {
            let writing = writing.write(&name, &waiting, condition)?;
            folder.finish(writing, name, condition)
        })
        .await
    }

    async fn get(&self, name: &BlobName, range: ByteRange) -> Result<Blob, ProviderError> {
        let wanted = name.clone();
        let (file, info) = self.blocking(move |folder| folder.open(&wanted)).await?;
        let range = part_of(&info, range)?;
        let (pieces, content) = mpsc::channel(1);
        tokio::spawn(send_blocks(Arc::new(file), info.clone(), range, pieces));
        Ok(Blob { info, content: Box::pin(ReceiverStream::new(content)) })
    }

    async fn describe(&self, name: &BlobName) -> Result<BlobInfo, ProviderError> {
        let name = name.clone();
        Ok(self.blocking(move |folder| folder.open(&name)).await?.1)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobName>,
        len_max: usize,
    ) -> Result<Page<Listed>, ProviderError> {
        BlobName::check_prefix(prefix)?;
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |folder| {
            let len_max = len_max.min(LIST_LEN_MAX);
            let after = after.as_ref().map_or("", BlobName::as_str);
            let mut found = Vec::new();
            folder.walk(
                &folder.root,
                "",
                &Wanted { prefix: &prefix, after, len_max },
                &mut found,
            )?;
            let more = found.len() > len_max;
            found.truncate(len_max);
            Ok(Page { entries: found, more })
        })
        .await
    }

    async fn delete(&self, name: &BlobName) -> Result<(), ProviderError> {
        let name = name.clone();
        self.blocking(move |folder| folder.remove(&name)).await
    }
}

impl Writing {
    fn write(
        mut self,
        name: &BlobName,
        bytes: &[u8],
        condition: Condition,
    ) -> Result<Self, ProviderError> {
        self.len += bytes.len();
        if condition != Condition::Always && self.len > CONDITIONAL_PUT_LEN_MAX {
            return Err(too_long_for_a_condition());
        }
        self.writer.update(bytes)?;
        self.file.write_all(bytes).map_err(|error| beside(name, &error))?;
        Ok(self)
    }
}

/// Which names a list is of: one more than `len_max`, to know whether there are more.
struct Wanted<'w> {
    prefix: &'w str,
    after: &'w str,
    len_max: usize,
}

impl Folder {
    fn path(&self, name: &BlobName) -> PathBuf {
        self.root.join(format!("{name}="))
    }

    fn may_change(&self) -> Result<(), ProviderError> {
        let reads = ProviderError::Unsupported("to change blobs that are only read");
        self.lock.as_ref().map(drop).ok_or(reads)
    }

    fn begin(&self, name: &BlobName) -> Result<Writing, ProviderError> {
        self.may_change()?;
        let file = NamedTempFile::new_in(self.root.join(".tmp"));
        let file = file.map_err(|error| beside(name, &error))?;
        Ok(Writing { file, writer: Writer::default(), len: 0 })
    }

    fn finish(
        &self,
        writing: Writing,
        name: BlobName,
        condition: Condition,
    ) -> Result<BlobInfo, ProviderError> {
        let io = |error| beside(&name, &error);
        let Writing { mut file, writer, .. } = writing;
        let (trailer, tail) = writer.finish();
        file.write_all(&tail).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        let info = BlobInfo { name, len: trailer.len, etag: trailer.etag };
        self.rename(file, &info, condition)?;
        Ok(info)
    }

    fn rename(
        &self,
        file: NamedTempFile,
        info: &BlobInfo,
        condition: Condition,
    ) -> Result<(), ProviderError> {
        let io = |error| beside(&info.name, &error);
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match condition {
            Condition::Always => None,
            Condition::Absent | Condition::Unchanged(_) => match self.open(&info.name) {
                Ok((_, found)) => Some(found.etag),
                Err(ProviderError::Absent(_)) => None,
                Err(error) => return Err(error),
            },
        };
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => found.is_none(),
            Condition::Unchanged(etag) => found == Some(etag),
        };
        if !holds {
            return Err(changed(&info.name));
        }
        let path = self.path(&info.name);
        let parent = path.parent().unwrap_or(&self.root);
        self.make_folders(parent).map_err(io)?;
        file.persist(&path).map_err(|failed| io(failed.error))?;
        sync_folder(parent).map_err(io)
    }

    /// Makes a folder and those above it, each on the disk before anything is in it.
    fn make_folders(&self, folder: &Path) -> std::io::Result<()> {
        if folder == self.root || folder.is_dir() {
            return Ok(());
        }
        let above = folder.parent().unwrap_or(&self.root);
        self.make_folders(above)?;
        fs::DirBuilder::new().mode(0o700).create(folder)?;
        sync_folder(above)
    }

    fn open(&self, name: &BlobName) -> Result<(File, BlobInfo), ProviderError> {
        let what = format!("blob {name}");
        let io = |error| ProviderError::io(&what, &error);
        let file = File::open(self.path(name)).map_err(io)?;
        let stored_len = file.metadata().map_err(io)?.len();
        let mut tail = [0; TRAILER_LEN];
        let at = stored_len.checked_sub(TRAILER_LEN as u64);
        let at = at.ok_or_else(|| ProviderError::Corrupt(what.clone()))?;
        file.read_exact_at(&mut tail, at).map_err(io)?;
        let trailer = Trailer::decode(&tail, stored_len).ok_or(ProviderError::Corrupt(what))?;
        let info = BlobInfo { name: name.clone(), len: trailer.len, etag: trailer.etag };
        Ok((file, info))
    }

    /// Names below `folder`, whose own name is `above`, in the order of their bytes. Of each folder on the way all
    /// entries are held.
    fn walk(
        &self,
        folder: &Path,
        above: &str,
        wanted: &Wanted<'_>,
        found: &mut Vec<Listed>,
    ) -> Result<(), ProviderError> {
        let io = |error| ProviderError::io("the blob store's folder", &error);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // Its last blob was removed just now.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(error)),
        };
        // With its slash a folder stands where its names stand.
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = match name.strip_suffix('=') {
                _ if name.starts_with('.') => continue,
                Some(blob) => format!("{above}{blob}"),
                None => format!("{above}{name}/"),
            };
            names.push(name);
        }
        names.sort_unstable();
        for name in names {
            if found.len() > wanted.len_max {
                return Ok(());
            }
            let is_folder = name.ends_with('/');
            let may_hold = is_folder && wanted.prefix.starts_with(&name);
            if !may_hold && !name.starts_with(wanted.prefix) {
                continue;
            }
            if is_folder {
                if name.as_str() > wanted.after || wanted.after.starts_with(&name) {
                    self.walk(&self.root.join(&name), &name, wanted, found)?;
                }
            } else if name.as_str() > wanted.after
                && let Ok(name) = BlobName::new(&name)
            {
                found.push(Listed { name });
            }
        }
        Ok(())
    }

    fn remove(&self, name: &BlobName) -> Result<(), ProviderError> {
        self.may_change()?;
        let io = |error| beside(name, &error);
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(name);
        let parent = path.parent().unwrap_or(&self.root);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(parent).map_err(io)?,
            // Absent, or in a folder that is.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(error)),
        }
        // Names of folders tell what was there, so empty ones go too. The first that is not empty ends it.
        let mut folder = parent;
        while folder != self.root && fs::remove_dir(folder).is_ok() {
            folder = folder.parent().unwrap_or(&self.root);
        }
        sync_folder(folder).map_err(io)
    }
}

/// A fault of the folder around a blob, where *not found* does not mean the blob.
fn beside(name: &BlobName, error: &std::io::Error) -> ProviderError {
    match ProviderError::io(&format!("blob {name}"), error) {
        ProviderError::Absent(_) => ProviderError::Unavailable(format!("blob {name}: {error}")),
        other => other,
    }
}

pub(super) fn changed(name: &BlobName) -> ProviderError {
    ProviderError::Conflict(format!("blob {name} is not what was expected"))
}

pub(super) fn too_long_for_a_condition() -> ProviderError {
    ProviderError::Invalid(format!(
        "content: longer than expected; expected at most {CONDITIONAL_PUT_LEN_MAX} bytes with a condition"
    ))
}

/// First byte of a part and the one after its last.
pub(super) fn part_of(info: &BlobInfo, range: ByteRange) -> Result<(u64, u64), ProviderError> {
    if range.start > info.len {
        return Err(ProviderError::Invalid(format!(
            "range: starts at {}; expected at most the length of the blob, {}",
            range.start, info.len
        )));
    }
    Ok((range.start, range.start.saturating_add(range.len).min(info.len)))
}

fn ended(error: tokio::task::JoinError) -> ProviderError {
    ProviderError::Unavailable(error.to_string())
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads and compares block after block, until nobody wants more. No thread waits for who reads slowly.
async fn send_blocks(
    file: Arc<File>,
    info: BlobInfo,
    (start, end): (u64, u64),
    pieces: mpsc::Sender<Result<Bytes, ProviderError>>,
) {
    let trailer = Trailer { len: info.len, etag: info.etag };
    for block in Trailer::blocks_of(start, end) {
        let stored = trailer.block_at(block);
        let file = file.clone();
        let piece = match spawn_blocking(move || read_block(&file, &trailer, block)).await {
            Ok(Ok(Some(bytes))) => {
                let from = usize::try_from(start.saturating_sub(stored.start)).unwrap_or(BLOCK_LEN);
                let until = usize::try_from(end.min(stored.end) - stored.start).unwrap_or(0);
                Ok(bytes.slice(from..until))
            }
            Ok(Ok(None)) => Err(ProviderError::Corrupt(format!("blob {}", info.name))),
            Ok(Err(error)) => Err(beside(&info.name, &error)),
            Err(error) => Err(ended(error)),
        };
        let is_last = piece.is_err();
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// `None`: it is not what was written.
fn read_block(file: &File, trailer: &Trailer, block: u64) -> std::io::Result<Option<Bytes>> {
    let stored = trailer.block_at(block);
    let mut bytes = vec![0; usize::try_from(stored.end - stored.start).unwrap_or(BLOCK_LEN)];
    file.read_exact_at(&mut bytes, stored.start)?;
    let mut digest = [0; DIGEST_LEN];
    file.read_exact_at(&mut digest, trailer.digests_at(block))?;
    Ok(is_block(block, &bytes, &digest).then(|| bytes.into()))
}

#[cfg(test)]
mod tests;
