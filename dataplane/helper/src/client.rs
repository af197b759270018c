//! The daemon's end of the socket.

use std::{
    io,
    os::fd::OwnedFd,
    path::{self, Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::net::{SocketAddrUnix, connect, sockopt};
use weft_sys::tun::TunQueue;

use crate::{
    message::{Ids, Interface, Name, Opened, Reply, Request, VERSION, decode, encode},
    server::new_socket,
    socket::{receive, send},
};

/// How long a helper may take until it answers the greeting.
const START_MAX: Duration = Duration::from_secs(5);
/// How often a helper that is being started is asked.
const START_POLL: Duration = Duration::from_millis(2);
/// How long one request may take: interfaces that a killed process left are waited for.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// Why a request failed.
#[derive(Debug)]
pub enum ClientError {
    /// The namespace is not there; the helper says so in a sentence.
    Absent(String),
    /// The helper said why.
    Refused(String),
    /// There is no talking to it.
    Io(io::Error),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent(why) | Self::Refused(why) => f.write_str(why),
            Self::Io(error) => write!(f, "weft-helper: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What distinguishes one helper from another.
#[derive(Debug, PartialEq, Eq)]
struct Helper {
    version: u32,
    config: Option<PathBuf>,
    user: Option<Ids>,
}

impl std::fmt::Display for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "of version {}", self.version)?;
        if let Some(config) = &self.config {
            write!(f, ", with the configuration {}", config.display())?;
        }
        match self.user {
            Some(user) => write!(f, ", for a daemon of {user}"),
            None => f.write_str(", for a daemon of root"),
        }
    }
}

/// A connection to the helper, which is started when none is there. Every call blocks.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    program: PathBuf,
    config: Option<PathBuf>,
    user: Option<Ids>,
    socket: Mutex<Option<OwnedFd>>,
}

impl Client {
    /// Connects to the helper at `path`, or starts `program` there, which lets namespaces be entered that
    /// the configuration `config` names. `user` is whom the daemon becomes if it does not stay root. A
    /// helper of another version, with another configuration or for another user is asked to make room;
    /// interfaces stay meanwhile.
    ///
    /// # Errors
    /// When the program cannot be started or does not answer within 5 s.
    pub fn connect(
        path: &Path,
        program: &Path,
        config: Option<&Path>,
        user: Option<Ids>,
    ) -> Result<Self, ClientError> {
        let config = config.map(path::absolute).transpose()?;
        let (path, program) = (path.to_owned(), program.to_owned());
        let client = Self { path, program, config, user, socket: Mutex::new(None) };
        let socket = client.greet()?;
        Ok(Self { socket: Mutex::new(Some(socket)), ..client })
    }

    /// The queues of an interface, which is made if it is not there as it is wanted.
    ///
    /// # Errors
    /// Why not; then nothing of that name is held.
    pub fn open(&self, interface: &Interface) -> Result<(Opened, Vec<TunQueue>), ClientError> {
        let (reply, fds) = self.call(&Request::Open(interface.clone()))?;
        let Reply::Opened(opened) = reply else { return Err(unexpected(&reply)) };
        if fds.len() != usize::from(interface.queues) {
            let (found, expected) = (fds.len(), interface.queues);
            return Err(invalid(format!("{found} queues; expected {expected}")));
        }
        let queues = fds.into_iter().map(|fd| TunQueue::from_fd(fd, opened.uso));
        Ok((opened, queues.collect::<io::Result<_>>()?))
    }

    /// Lets the helper remove an interface. The kernel does so when the daemon has closed its queues
    /// too.
    ///
    /// # Errors
    /// When the kernel keeps it.
    pub fn close(&self, name: Name) -> Result<(), ClientError> {
        self.expect_done(&Request::Close(name))
    }

    /// Lets the helper remove all interfaces that were not opened on this connection.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub fn settle(&self) -> Result<(), ClientError> {
        self.expect_done(&Request::Settle)
    }

    /// Which of the adopted interfaces have lost their container.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub fn ended(&self) -> Result<Vec<Name>, ClientError> {
        match self.call(&Request::Ended)?.0 {
            Reply::Ended(names) => Ok(names),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets the helper remove what the daemon leaves in the file system at its end, and may not remove
    /// itself: the socket of the local API, and what else is empty.
    ///
    /// # Errors
    /// When the helper does not answer, or listens to another daemon by now.
    pub fn leave(&self) -> Result<(), ClientError> {
        let held = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = held.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        understood(ask(socket, &Request::Leave)?).map(drop)
    }

    /// Lets the helper do that, remove all interfaces, and end.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub fn end(&self) -> Result<(), ClientError> {
        self.expect_done(&Request::End)
    }

    fn expect_done(&self, request: &Request) -> Result<(), ClientError> {
        match self.call(request)?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// One request and its reply. A helper that has ended is started again, once.
    fn call(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), ClientError> {
        let mut held = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &*held
            && let Ok(reply) = ask(socket, request)
        {
            return understood(reply);
        }
        *held = None;
        let socket = self.greet()?;
        let reply = ask(&socket, request)?;
        *held = Some(socket);
        understood(reply)
    }

    /// Connects and greets; starts the helper when nobody listens.
    fn greet(&self) -> Result<OwnedFd, ClientError> {
        let deadline = Instant::now() + START_MAX;
        let mut is_started = false;
        loop {
            let error = match self.try_to_greet() {
                Ok((socket, helper)) if helper == self.wanted() => return Ok(socket),
                Ok((socket, helper)) => {
                    // Its end closes the socket.
                    let _ = ask(&socket, &Request::Retire);
                    is_started = false;
                    invalid(format!("a helper does not make room, which is {helper}"))
                }
                Err(error) => {
                    if !is_started && is_absence(&error) {
                        self.start()?;
                        is_started = true;
                    }
                    error.into()
                }
            };
            if Instant::now() > deadline {
                return Err(error);
            }
            thread::sleep(START_POLL);
        }
    }

    fn wanted(&self) -> Helper {
        Helper { version: VERSION, config: self.config.clone(), user: self.user }
    }

    fn try_to_greet(&self) -> io::Result<(OwnedFd, Helper)> {
        let socket = connected(&self.path)?;
        match ask(&socket, &Request::Hello { version: VERSION })?.0 {
            Reply::Welcome { version, config, user } => {
                Ok((socket, Helper { version, config, user }))
            }
            other => Err(io::Error::other(format!("unexpected reply {other:?}"))),
        }
    }

    /// The program starts itself in the background and ends.
    fn start(&self) -> io::Result<()> {
        let program = self.program.display();
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(&self.path);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        if let Some(user) = self.user {
            command.arg("--user").arg(user.to_string());
        }
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(|e| {
            let hint = match e.kind() {
                io::ErrorKind::PermissionDenied => "; a weftd that runs may not, restart it",
                _ => "",
            };
            io::Error::new(e.kind(), format!("cannot start {program}: {e}{hint}"))
        })?;
        match started.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{program} cannot start: {started}"))),
        }
    }
}

/// Whether a helper listens at `path`.
///
/// # Errors
/// Why not.
pub fn reach(path: &Path) -> io::Result<()> {
    connected(path).map(drop)
}

/// Lets the daemon make an attachment in the namespace at `netns`, within a minute and once. For root.
///
/// # Errors
/// Why the helper at `path` does not, or that there is none.
pub fn register(path: &Path, name: Name, netns: &Path) -> Result<(), ClientError> {
    let socket = connected(path)?;
    let netns = netns.to_owned();
    match understood(ask(&socket, &Request::Register { name, netns })?)?.0 {
        Reply::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn connected(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(REPLY_MAX))?;
    Ok(socket)
}

/// Nobody listens, or whoever did is ending.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

fn ask(socket: &OwnedFd, request: &Request) -> io::Result<(Reply, Vec<OwnedFd>)> {
    send(socket, &encode(request).map_err(io::Error::other)?, &[])?;
    let Some((bytes, fds)) = receive(socket)? else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    };
    Ok((decode(&bytes).map_err(io::Error::other)?, fds))
}

fn understood((reply, fds): (Reply, Vec<OwnedFd>)) -> Result<(Reply, Vec<OwnedFd>), ClientError> {
    match reply {
        Reply::Absent(why) => Err(ClientError::Absent(why)),
        Reply::Failed(why) => Err(ClientError::Refused(why)),
        reply => Ok((reply, fds)),
    }
}

fn unexpected(reply: &Reply) -> ClientError {
    invalid(format!("unexpected reply {reply:?}"))
}

fn invalid(message: String) -> ClientError {
    io::Error::new(io::ErrorKind::InvalidData, message).into()
}
