//! The daemon's end of the socket.
//!
//! The socket's mode is set between `bind` and `listen`, so nobody else can connect in between.
//! A socket that a killed daemon left behind is removed; one on which somebody listens is not.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net,
    },
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;

use crate::SOCKET_PATH_LEN_MAX;

/// Only the daemon's own user may connect.
const SOCKET_MODE: u32 = 0o600;
/// Mode of the socket's folder when it has to be made.
const FOLDER_MODE: u32 = 0o755;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// How often a stale socket is removed before giving up: others may race for the path.
const ATTEMPTS_MAX: usize = 3;

/// Why the socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers there.
    #[error("another weftd already listens on {0}")]
    InUse(PathBuf),
    /// Something that is not a socket has that path.
    #[error("{0} exists and is not a socket; remove it or choose another path")]
    NotASocket(PathBuf),
    /// The path does not fit a socket address.
    #[error("the socket path {0} is too long; expected at most {SOCKET_PATH_LEN_MAX} bytes")]
    PathTooLong(PathBuf),
    /// Anything else that the operating system says.
    #[error("cannot listen on {path}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A unix socket on which connections already wait, made outside a runtime. Dropping it removes the
/// socket.
#[derive(Debug)]
pub struct Bound {
    listener: net::UnixListener,
    place: Place,
}

impl Bound {
    /// Accepts connections from now on.
    ///
    /// # Errors
    /// As the operating system says.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn listen(self) -> io::Result<Listener> {
        Ok(Listener { listener: UnixListener::from_std(self.listener)?, place: self.place })
    }
}

/// A listening unix socket; a stream of connections, as tonic's `serve_with_incoming` takes it.
/// Dropping it removes the socket, unless the path has become somebody else's.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    place: Place,
}

impl Listener {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }
}

impl Stream for Listener {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll_accept(cx).map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

/// The socket in the file system.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Device and inode of the socket that was made.
    identity: (u64, u64),
}

impl Drop for Place {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|i| i == self.identity) {
            // Nobody is left to be told when this fails, and the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the unix socket `path` with mode 0600, and its folder when that is missing.
///
/// Two daemons that start at the same instant on one path may both succeed, with the socket
/// reaching the later one; their other sockets then tell them apart.
///
/// # Errors
/// [`BindError`] when another daemon listens there, when something else has the path, or as the
/// operating system says.
pub fn bind(path: &Path) -> Result<Bound, BindError> {
    if path.as_os_str().len() > SOCKET_PATH_LEN_MAX {
        return Err(BindError::PathTooLong(path.to_owned()));
    }
    let io_error = |source| BindError::Io { path: path.to_owned(), source };
    make_folder(path).map_err(io_error)?;
    let address = SockAddr::unix(path).map_err(io_error)?;
    for _ in 0..ATTEMPTS_MAX {
        let socket = new_socket().map_err(io_error)?;
        match socket.bind(&address) {
            Ok(()) => return listen(socket, path).map_err(io_error),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => remove_stale(path, &address)?,
            Err(e) => return Err(io_error(e)),
        }
    }
    Err(BindError::InUse(path.to_owned()))
}

fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
        }
        _ => Ok(()),
    }
}

fn listen(socket: Socket, path: &Path) -> io::Result<Bound> {
    let made = (|| {
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
        let identity = identity(path)?;
        socket.listen(BACKLOG)?;
        Ok(Place { path: path.to_owned(), identity })
    })();
    match made {
        Ok(place) => Ok(Bound { listener: socket.into(), place }),
        Err(e) => {
            let _ = fs::remove_file(path);
            Err(e)
        }
    }
}

/// Removes the socket at `path` when nobody listens on it.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), BindError> {
    let io_error = |source| BindError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error(e)),
    }
    // A unix socket connects at once or not at all.
    match new_socket().and_then(|socket| socket.connect(address)) {
        Ok(()) => Err(BindError::InUse(path.to_owned())),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::ConnectionRefused => match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(e)),
                _ => Ok(()),
            },
            // A full backlog: somebody listens and is busy.
            io::ErrorKind::WouldBlock => Err(BindError::InUse(path.to_owned())),
            _ => Err(io_error(e)),
        },
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
