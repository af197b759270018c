//! Copies of a log, also while it is written.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::{
    disk::{Disk, RealDisk, put},
    segment::{UNFINISHED, list, path_of, read_stub, stub_path},
    signed::{Expired, Signed},
};

const FOLDER_MODE: u32 = 0o700;

/// Copies the log in `folder` to the new folder `to`, whether a process writes it or not. What is recorded meanwhile
/// may be missing, a line that is being written may be there in part: as after a crash, which is put right when the
/// copy is opened. The copy outlives a loss of power, and nothing stays of one that fails. Blocks. Says how many
/// segments there are.
///
/// A log lacks nothing that was anchored before it was copied: copy the store first.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::AlreadyExists`] when there is something at `to`, or what is wrong
/// with the names of the log's files.
pub fn copy(folder: &Path, to: &Path) -> io::Result<usize> {
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = Path::new(&unfinished);
    let copied = fill(folder, unfinished).and_then(|segments| {
        fs::rename(unfinished, to)?;
        sync_parent(to)?;
        Ok(segments)
    });
    if copied.is_err() {
        // What cannot be removed has a name that says what it is.
        let _ = fs::remove_dir_all(unfinished);
    }
    copied
}

/// A log that is put together of what is somewhere else. It is there whole, once [`NewLog::finish`] has returned, or
/// not at all. Blocks.
#[derive(Debug)]
pub struct NewLog {
    to: PathBuf,
    unfinished: PathBuf,
    /// The segment that is written.
    current: Option<(u64, File)>,
    is_finished: bool,
}

impl NewLog {
    /// In the new folder `to`.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::AlreadyExists`] when there is something at `to`, or at the name
    /// beside it that an unfinished one has.
    pub fn create(to: &Path) -> io::Result<Self> {
        if to.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut unfinished = to.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        DirBuilder::new().mode(FOLDER_MODE).create(&unfinished)?;
        Ok(Self { to: to.to_owned(), unfinished, current: None, is_finished: false })
    }

    /// Writes the next bytes of a segment.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn append(&mut self, segment: u64, bytes: &[u8]) -> io::Result<()> {
        let file = match self.current.take() {
            Some((current, file)) if current == segment => file,
            before => {
                before.map_or(Ok(()), |(_, file)| RealDisk.sync(&file))?;
                RealDisk.create(&path_of(&self.unfinished, segment))?
            }
        };
        RealDisk.write(&file, bytes)?;
        self.current = Some((segment, file));
        Ok(())
    }

    /// Writes the stub in place of what has expired.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn put_stub(&self, stub: &Signed<Expired>) -> io::Result<()> {
        put(&RealDisk, &self.unfinished, &stub_path(&self.unfinished), &stub.encode()).map(drop)
    }

    /// Everything is written; it outlives a loss of power.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn finish(mut self) -> io::Result<()> {
        self.current.take().map_or(Ok(()), |(_, file)| RealDisk.sync(&file))?;
        RealDisk.sync_folder(&self.unfinished)?;
        fs::rename(&self.unfinished, &self.to)?;
        self.is_finished = true;
        sync_parent(&self.to)
    }
}

impl Drop for NewLog {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed has a name that says what it is.
            let _ = fs::remove_dir_all(&self.unfinished);
        }
    }
}

fn sync_parent(of: &Path) -> io::Result<()> {
    let parent = of.parent().filter(|parent| !parent.as_os_str().is_empty());
    RealDisk.sync_folder(parent.unwrap_or(Path::new(".")))
}

fn fill(folder: &Path, to: &Path) -> io::Result<usize> {
    let expired = read_stub(folder).map_err(io::Error::other)?;
    let segments = list(folder).map_err(io::Error::other)?;
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(to)?;
    if expired.is_some() {
        copy_file(&stub_path(folder), &stub_path(to))?;
    }
    for segment in &segments {
        copy_file(&path_of(folder, *segment), &path_of(to, *segment))?;
    }
    if read_stub(folder).map_err(io::Error::other)? != expired {
        return Err(io::Error::other("old segments were removed meanwhile; copy it again"));
    }
    RealDisk.sync_folder(to)?;
    Ok(segments.len())
}

/// What grows is copied as far as it is when it is read.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = RealDisk.create(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    RealDisk.sync(&copy)
}
