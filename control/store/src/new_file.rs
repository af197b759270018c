//! Files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A file under another name until it is whole. Dropped before that, it is gone.
#[derive(Debug)]
pub(crate) struct NewFile {
    to: PathBuf,
    partial: PathBuf,
}

impl NewFile {
    /// Makes an empty file, for its owner only, which is to be at `to`. What an interrupted attempt has left is
    /// removed.
    pub(crate) fn create(to: &Path) -> io::Result<(Self, File)> {
        if to.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let partial = beside(to, ".partial");
        match fs::remove_file(&partial) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?;
        Ok((Self { to: to.to_owned(), partial }, file))
    }

    /// Where it is until it is whole.
    #[cfg(feature = "sqlite")]
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Makes it durable under its name, unless something is there.
    pub(crate) fn finish(self) -> io::Result<()> {
        File::open(&self.partial)?.sync_all()?;
        renameat_with(CWD, &self.partial, CWD, &self.to, RenameFlags::NOREPLACE)?;
        sync_directory(&self.to)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After it was renamed there is none. Otherwise the next attempt removes what cannot be removed now.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Makes the name of a new file durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The path of a file that belongs to the one at `path`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
