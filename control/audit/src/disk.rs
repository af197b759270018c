//! Everything that a log asks of the disk, so that tests can let any of it fail.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::segment::UNFINISHED;

/// Only the control plane reads and writes there.
const FILE_MODE: u32 = 0o600;

/// The disk.
pub(crate) trait Disk: fmt::Debug + Send {
    /// A new file to append to; one that is there is emptied.
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
    }

    /// A file to append to.
    fn append(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).open(path)
    }

    /// Writes at the end.
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// When this returns, what was written outlives a loss of power.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Cuts off everything after `len` bytes.
    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Gives a file another name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file; one that is not there is no error.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// When this returns, names outlive a loss of power.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// The disk that there is.
#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {}

/// A file that is there whole or not at all, and stays; returns it to append to.
pub(crate) fn put(disk: &dyn Disk, folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = Path::new(&unfinished);
    let written = disk.create(unfinished).and_then(|file| {
        disk.write(&file, bytes)?;
        disk.sync(&file)?;
        disk.rename(unfinished, path)?;
        Ok(file)
    });
    if written.is_err() {
        // What stays is removed when the log is opened again.
        let _ = disk.remove(unfinished);
    }
    let file = written?;
    disk.sync_folder(folder)?;
    Ok(file)
}
