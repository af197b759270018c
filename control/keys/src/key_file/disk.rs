//! The key file on disk: who may read it, and how it changes.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    process::geteuid,
};
use zeroize::Zeroizing;

use super::{
    KEY_FILE_LEN_MAX, KeyFileError,
    text::{self, MasterKey},
};

const MODE: u32 = 0o600;
/// Whoever may do these to it may read or change it.
const MODE_OF_OTHERS: u32 = 0o077;

/// Says whether a file changed: which one it is, when its content or its owner last changed, how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    changed: (i64, i64),
    len: u64,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Result<Self, KeyFileError> {
        fs::symlink_metadata(path).map(|found| Self::new(&found)).map_err(error(path))
    }

    fn new(found: &fs::Metadata) -> Self {
        let changed = (found.ctime(), found.ctime_nsec());
        Self { inode: found.ino(), changed, len: found.len() }
    }
}

/// Reads a file that nobody else may read.
pub(super) fn read(path: &Path) -> Result<(Stamp, Vec<MasterKey>), KeyFileError> {
    // A link may lead to what another user can change; a pipe would never end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(
            |refused| match refused.raw_os_error() {
                Some(code) if code == Errno::LOOP.raw_os_error() => {
                    let (found, expected) = ("is a link".into(), "the file itself".into());
                    KeyFileError::Unsafe { path: path.to_owned(), found, expected }
                }
                _ => error(path)(refused),
            },
        )?;
    let found = file.metadata().map_err(error(path))?;
    check(path, &found)?;
    let mut text = Zeroizing::new(vec![0; KEY_FILE_LEN_MAX + 1]);
    let mut len = 0;
    while len < text.len() {
        match file.read(&mut text[len..]).map_err(error(path))? {
            0 => break,
            read => len += read,
        }
    }
    if len > KEY_FILE_LEN_MAX {
        let problem = format!("is longer than {KEY_FILE_LEN_MAX} bytes");
        return Err(KeyFileError::Refused { path: path.to_owned(), problem });
    }
    let keys = text::parse(&text[..len]).map_err(|(line, problem)| KeyFileError::Malformed {
        path: path.to_owned(),
        line,
        problem,
    })?;
    Ok((Stamp::new(&found), keys))
}

fn check(path: &Path, found: &fs::Metadata) -> Result<(), KeyFileError> {
    let wrong = |found: String, expected: String| {
        Err(KeyFileError::Unsafe { path: path.to_owned(), found, expected })
    };
    let own = geteuid().as_raw();
    if !found.is_file() {
        return wrong("is no file".into(), "a file".into());
    }
    if found.uid() != own {
        return wrong(format!("belongs to user {}", found.uid()), format!("user {own}"));
    }
    let mode = found.mode() & 0o7777;
    if mode & MODE_OF_OTHERS != 0 {
        return wrong(format!("has mode {mode:04o}"), format!("{MODE:04o}: nobody else reads it"));
    }
    Ok(())
}

/// Makes a new file; it is there whole or not at all.
pub(super) fn create(path: &Path, text: &[u8]) -> Result<(), KeyFileError> {
    let folder = folder(path);
    let staged = stage(folder, text).map_err(error(path))?;
    staged.persist_noclobber(path).map_err(|refused| error(path)(refused.error))?;
    sync(folder).map_err(error(path))
}

/// Changes the keys of a file, or nothing. One at a time: a key that somebody else just added must not
/// go again.
pub(super) fn change(
    path: &Path,
    change: impl FnOnce(&mut Vec<MasterKey>) -> Result<(), String>,
) -> Result<(), KeyFileError> {
    let folder = folder(path);
    let lock = File::open(folder).map_err(error(path))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|refused| error(path)(refused.into()))?;
    let (_, mut keys) = read(path)?;
    change(&mut keys)
        .map_err(|problem| KeyFileError::Refused { path: path.to_owned(), problem })?;
    let staged = stage(folder, &text::write(&keys)).map_err(error(path))?;
    staged.persist(path).map_err(|refused| error(path)(refused.error))?;
    sync(folder).map_err(error(path))
}

fn stage(folder: &Path, text: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut staged = tempfile::Builder::new()
        .prefix(".weft-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)?;
    staged.write_all(text)?;
    staged.as_file().sync_all()?;
    Ok(staged)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn error(path: &Path) -> impl Fn(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |cause| match cause.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.clone()),
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.clone()),
        _ => KeyFileError::Io { path: path.clone(), cause },
    }
}
