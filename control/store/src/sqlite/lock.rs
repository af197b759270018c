//! One process per file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::error::OpenError;
use crate::new_file::beside;

/// What a lock file holds at most, bytes: a process's number.
const OWNER_LEN_MAX: u64 = 32;

/// The lock of a store's file, in a file beside it that stays there. The kernel gives it up when the process
/// ends, however it ends.
///
/// It is not on the file itself: SQLite holds locks there that are gone as soon as the process closes any of
/// its descriptors of that file (fcntl(2)).
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(store: &Path) -> Result<Self, OpenError> {
        let path = beside(store, "-lock");
        let io_error = |source| OpenError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                (&file).take(OWNER_LEN_MAX).read_to_string(&mut owner).map_err(io_error)?;
                return Err(OpenError::InUse { path: store.to_owned(), owner });
            }
            Err(e) => return Err(io_error(e.into())),
        }
        write_owner(&mut file).map_err(io_error)?;
        Ok(Self { _file: file })
    }
}

fn write_owner(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}
