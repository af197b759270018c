//! Copies of disks, and what makes a name in a folder last.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use rustix::fs::{SeekFrom, seek};

/// Bytes that are copied at once.
const COPY_LEN: usize = 1 << 20;

/// Copies what is not a hole, and the length.
pub(super) fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let len = from.metadata()?.len();
    let mut buffer = vec![0; COPY_LEN];
    let mut at = 0;
    while at < len {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole until the end.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(COPY_LEN).min(COPY_LEN);
            from.read_exact_at(&mut buffer[..left], at)?;
            to.write_all_at(&buffer[..left], at)?;
            at += left as u64;
        }
    }
    to.set_len(len)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
