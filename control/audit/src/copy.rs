//! Copies of a log, also while it is written.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use crate::{
    disk::{Disk, RealDisk},
    segment::{UNFINISHED, list, path_of, read_stub, stub_path},
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
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        RealDisk.sync_folder(parent.unwrap_or(Path::new(".")))?;
        Ok(segments)
    });
    if copied.is_err() {
        // What cannot be removed has a name that says what it is.
        let _ = fs::remove_dir_all(unfinished);
    }
    copied
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
