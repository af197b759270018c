//! What lies beside the socket of the local API, and who removes it.
//!
//! ```text
//!  weftd.sock             the local API, root's
//!  weftd.sock.state/      what the daemon keeps: the only place where it may write
//!  weftd.sock.helper      the helper
//!  weftd.sock.helper.d/   the helper's records
//! ```
//! The folder is root's, and the daemon may not write to it, so whatever takes the daemon over can put
//! nothing in anybody's way. The helper removes what the daemon leaves.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::FileTypeExt as _},
    path::{Path, PathBuf},
};

const HELPER: &str = ".helper";
const RECORDS: &str = ".d";
const STATE: &str = ".state";

/// The helper's socket of the daemon whose local API is at `api`.
#[must_use]
pub fn socket_beside(api: &Path) -> PathBuf {
    with(api, HELPER)
}

/// The folder of what the daemon keeps whose local API is at `api`.
#[must_use]
pub fn state_beside(api: &Path) -> PathBuf {
    with(api, STATE)
}

/// The folder with the records of the helper on this socket.
pub(crate) fn records_beside(socket: &Path) -> PathBuf {
    with(socket, RECORDS)
}

/// Removes the socket of the local API beside the helper's, and the daemon's folder if nothing is in it.
pub(crate) fn clean_up(socket: &Path) {
    let Some(api) = api_beside(socket) else { return };
    // What stays is in nobody's way: the next daemon takes it over.
    if fs::symlink_metadata(&api).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = fs::remove_file(&api);
    }
    let _ = fs::remove_dir(state_beside(&api));
}

/// The local API's socket that a helper's belongs to, if it has such a name.
fn api_beside(socket: &Path) -> Option<PathBuf> {
    let api = socket.as_os_str().as_bytes().strip_suffix(HELPER.as_bytes())?;
    (!api.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(api)))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_what_the_daemon_leaves_goes() {
        let folder = tempfile::tempdir().unwrap();
        let api = folder.path().join("weftd.sock");
        let left = || fs::read_dir(folder.path()).unwrap().count();
        let _listener = UnixListener::bind(&api).unwrap();
        let state = state_beside(&api);
        fs::create_dir(&state).unwrap();
        fs::write(state.join("acme.web-1.attachment"), "").unwrap();
        clean_up(&socket_beside(&api));
        assert_eq!((api.exists(), state.exists(), left()), (false, true, 1));
        fs::remove_file(state.join("acme.web-1.attachment")).unwrap();
        // What is no socket is not the daemon's, and a socket of another name belongs to no API.
        fs::write(&api, "").unwrap();
        clean_up(&socket_beside(&api));
        clean_up(&folder.path().join("other"));
        assert_eq!((api.exists(), state.exists(), left()), (true, false, 1));
    }
}
