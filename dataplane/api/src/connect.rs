//! The caller's end of the socket.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::{MESSAGE_BYTES_MAX, SOCKET_PATH_LEN_MAX, v1::local_api_client::LocalApiClient};

/// How long connecting may take; a local daemon that is alive accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the daemon cannot be reached. Each is a sentence that says what to look at.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket.
    #[error("weftd is not running: there is no socket at {0}")]
    NoSocket(PathBuf),
    /// There is a socket and nobody listens on it.
    #[error("weftd is not running: nobody listens on {0}")]
    NotRunning(PathBuf),
    /// The socket may not be opened by this user.
    #[error("permission denied for {0}: only root may use it")]
    Permission(PathBuf),
    /// The daemon does not take more connections now.
    #[error("weftd does not accept connections on {0}: it is too busy or hangs")]
    Busy(PathBuf),
    /// The path does not fit a socket address.
    #[error("the socket path {0} is too long; expected at most {SOCKET_PATH_LEN_MAX} bytes")]
    PathTooLong(PathBuf),
    /// Anything else that the operating system says.
    #[error("cannot connect to weftd at {path}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody listens who does not speak the protocol.
    #[error("whatever listens on {path} is not weftd")]
    Protocol {
        /// The socket's path.
        path: PathBuf,
        /// What the transport said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ConnectError {
    fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoSocket(path),
            io::ErrorKind::ConnectionRefused => Self::NotRunning(path),
            io::ErrorKind::PermissionDenied => Self::Permission(path),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Busy(path),
            _ => Self::Io { path, source },
        }
    }
}

/// A client on a channel of [`connect()`] that takes messages of up to [`MESSAGE_BYTES_MAX`].
#[must_use]
pub fn client(channel: Channel) -> LocalApiClient<Channel> {
    LocalApiClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Connects to the daemon that listens on the unix socket `path`. The channel connects again by
/// itself when the daemon restarts.
///
/// # Errors
/// [`ConnectError`] says whether the daemon runs and what to look at.
pub async fn connect(path: &Path) -> Result<Channel, ConnectError> {
    if path.as_os_str().len() > SOCKET_PATH_LEN_MAX {
        return Err(ConnectError::PathTooLong(path.to_owned()));
    }
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await {
        Ok(result) => result.map_err(|e| ConnectError::from_io(path, e))?,
        Err(_) => return Err(ConnectError::Busy(path.to_owned())),
    };
    let mut first = Some(stream);
    let socket = path.to_owned();
    let connector = service_fn(move |_: Uri| {
        let first = first.take();
        let socket = socket.clone();
        async move {
            let stream = match first {
                Some(stream) => stream,
                None => UnixStream::connect(socket).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The name only fills the :authority header; nothing resolves it.
    Endpoint::from_static("http://weftd.invalid")
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector(connector)
        .await
        .map_err(|e| ConnectError::Protocol { path: path.to_owned(), source: Box::new(e) })
}
