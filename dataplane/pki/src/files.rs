//! New files, all or none, never over an existing one.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A file to write.
pub struct NewFile<'a> {
    /// Its name inside the directory.
    pub name: &'a str,
    /// What to write.
    pub content: &'a [u8],
    /// Permission bits; 0o600 for keys.
    pub mode: u32,
}

/// Why files were not written. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file of that name is there.
    #[error("{} exists already and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("{}: {cause}", .path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: io::Error,
    },
}

/// Writes `files` into `directory`, which is made if it is missing: all of them, or none.
///
/// Each is first written and synced under a temporary name with its final mode, then renamed in a
/// way that fails when the name is taken, so that no reader ever sees half a file and no existing
/// file is touched. If a later one cannot be placed, the earlier ones are removed again.
///
/// # Errors
/// [`FileError`]; nothing was left behind then, except `directory` itself.
pub fn write_new_files(directory: &Path, files: &[NewFile<'_>]) -> Result<(), FileError> {
    // Nobody wants to wait for key generation and syncing to learn this, and it makes the error
    // the same whichever of the files exists.
    for file in files {
        let path = directory.join(file.name);
        if path.symlink_metadata().is_ok() {
            return Err(FileError::Exists(path));
        }
    }
    fs::create_dir_all(directory).map_err(io_error(directory))?;
    let staged = files.iter().map(|file| stage(directory, file)).collect::<Result<Vec<_>, _>>()?;

    let mut placed = Placed(Vec::with_capacity(files.len()));
    for (temporary, file) in staged.into_iter().zip(files) {
        let path = directory.join(file.name);
        temporary.persist_noclobber(&path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists(path.clone()),
            _ => io_error(&path)(e.error),
        })?;
        placed.0.push(path);
    }
    File::open(directory).and_then(|d| d.sync_all()).map_err(io_error(directory))?;
    placed.keep();
    Ok(())
}

fn stage(directory: &Path, file: &NewFile<'_>) -> Result<tempfile::NamedTempFile, FileError> {
    let path = directory.join(file.name);
    let write = || {
        let mut temporary = tempfile::Builder::new()
            .prefix(".weft-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory)?;
        temporary.write_all(file.content)?;
        let handle = temporary.as_file();
        handle.set_permissions(Permissions::from_mode(file.mode))?;
        handle.sync_all()?;
        Ok(temporary)
    };
    write().map_err(io_error(&path))
}

/// Removes what was placed unless all of it was.
struct Placed(Vec<PathBuf>);

impl Placed {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nothing better can be done while failing already.
            let _ = fs::remove_file(path);
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |cause| FileError::Io { path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &'static str, mode: u32) -> NewFile<'static> {
        NewFile { name, content: b"content", mode }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn writes_all_with_their_modes() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        write_new_files(&inner, &[file("ca.pem", 0o644), file("ca.key", 0o600)]).unwrap();
        let mode = |name| fs::metadata(inner.join(name)).unwrap().permissions().mode();
        assert_eq!(mode("ca.pem") & 0o7777, 0o644);
        assert_eq!(mode("ca.key") & 0o7777, 0o600);
        assert_eq!(names(&inner), ["ca.key", "ca.pem"]);
    }

    #[test]
    fn writes_none_if_one_exists() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("h.key"), "old").unwrap();
        let error = write_new_files(path, &[file("h.pem", 0o644), file("h.key", 0o600)]);
        assert!(matches!(error, Err(FileError::Exists(p)) if p.ends_with("h.key")));
        assert_eq!(names(path), ["h.key"]);
        assert_eq!(fs::read(path.join("h.key")).unwrap(), b"old");
    }

    #[test]
    fn a_dangling_link_counts_as_existing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::os::unix::fs::symlink("elsewhere", path.join("h.key")).unwrap();
        assert!(write_new_files(path, &[file("h.key", 0o600)]).is_err());
        assert_eq!(names(path), ["h.key"]);
    }

    #[test]
    fn takes_back_what_was_placed_when_a_later_one_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        // Passes the first look, then collides with the file placed before it.
        let error = write_new_files(path, &[file("h", 0o600), file("h", 0o600)]);
        assert!(matches!(error, Err(FileError::Exists(_))));
        assert_eq!(names(path), [""; 0]);
    }
}
