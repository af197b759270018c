//! The helper's end of the socket: one daemon at a time, one request after the other.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
        socket_with, sockopt,
    },
    process::Pid,
};

use crate::{
    keeper::Keeper,
    message::{Ids, Name, Reply, Request, VERSION, encode},
    permit::Permits,
    place::{clean_up, records_beside},
    socket::{receive, send},
};

/// Only root may connect.
const SOCKET_MODE: u32 = 0o600;
/// The daemon's group may as well, of which only its user is heard. The socket stays root's, so that the
/// daemon cannot let others in.
const SOCKET_MODE_SHARED: u32 = 0o660;
/// Mode of the socket's folder when it has to be made.
const FOLDER_MODE: u32 = 0o755;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8;
/// How often a helper that no daemon is connected to looks for what is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many looks in a row that found nothing to keep end it.
const IDLE_LOOKS_MAX: u32 = 2;

/// Why the helper cannot run.
#[derive(Debug)]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot serve {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for ServeError {}

/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that may be silent at a time.
const NEWCOMERS_MAX: usize = 8;

/// Who wants something.
struct Ready {
    arrives: bool,
    speaks: bool,
    newcomer: Option<usize>,
}

/// What comes after a request.
enum Then {
    GoOn,
    Part,
    End,
}

/// A socket on which a daemon may ask.
#[derive(Debug)]
pub struct Service {
    path: PathBuf,
    listener: OwnedFd,
    user: Option<Ids>,
}

impl Service {
    /// Listens at `path` for a daemon of root, or of this user.
    ///
    /// # Errors
    /// When another helper serves there, or the operating system refuses.
    pub fn listen(path: &Path, user: Option<Ids>) -> Result<Self, ServeError> {
        match listen_at(path, user) {
            Ok(listener) => Ok(Self { path: path.to_owned(), listener, user }),
            Err(source) => Err(ServeError { path: path.to_owned(), source }),
        }
    }

    /// Serves until a daemon asks for the end, or nobody is connected and nothing is held. Records are in
    /// the folder of the same name with `.d` at its end. Namespaces that the configuration `config` names
    /// may be entered, and those that are registered.
    ///
    /// # Errors
    /// When the operating system refuses the folder or the socket.
    pub fn serve(self, config: Option<&Path>) -> Result<(), ServeError> {
        let Self { path, listener, user } = self;
        let permits = Permits::new(config.map(Path::to_owned));
        let ended = Keeper::open_folder(&records_beside(&path), permits).and_then(|keeper| {
            let path = path.clone();
            let (client, newcomers, daemon) = (None, Vec::new(), None);
            Server { path, user, keeper, client, newcomers, daemon, idle_looks: 0 }.run(&listener)
        });
        // First the name: whoever connects in between sees the connection end and starts another helper.
        let _ = fs::remove_file(&path);
        ended.map_err(|source| ServeError { path, source })
    }
}

pub(crate) fn new_socket() -> io::Result<OwnedFd> {
    let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None)?)
}

fn listen_at(path: &Path, user: Option<Ids>) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    let address = SocketAddrUnix::new(path)?;
    let listener = new_socket()?;
    if let Err(error) = bind(&listener, &address) {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if !is_socket || connect(new_socket()?, &address).is_ok() {
            return Err(error.into());
        }
        // A killed helper left it.
        fs::remove_file(path)?;
        bind(&listener, &address)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    if let Some(user) = user {
        chown(path, None, Some(user.gid))?;
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE_SHARED))?;
    }
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

struct Server {
    path: PathBuf,
    /// Who may be the daemon besides root.
    user: Option<Ids>,
    keeper: Keeper,
    client: Option<OwnedFd>,
    /// Connections that have said nothing yet.
    newcomers: Vec<OwnedFd>,
    /// The process that greeted last.
    daemon: Option<Pid>,
    idle_looks: u32,
}

impl Server {
    fn run(&mut self, listener: &OwnedFd) -> io::Result<()> {
        loop {
            let Ready { arrives, speaks, newcomer } = self.wait(listener)?;
            if let Some(newcomer) = newcomer {
                let newcomer = self.newcomers.remove(newcomer);
                self.meet(newcomer);
                continue;
            }
            if speaks {
                match self.handle() {
                    Then::GoOn => {}
                    Then::Part => self.part(),
                    Then::End => return Ok(()),
                }
            }
            if arrives {
                if self.newcomers.len() >= NEWCOMERS_MAX {
                    self.newcomers.remove(0);
                }
                match accept_with(listener, SocketFlags::CLOEXEC) {
                    Ok(newcomer) => self.newcomers.push(newcomer),
                    // No descriptor is left: whoever comes waits until one is.
                    Err(_) => thread::sleep(ACCEPT_PAUSE),
                }
                self.idle_looks = 0;
            }
            if self.client.is_none() && self.newcomers.is_empty() && !arrives {
                self.keeper.tidy_up();
                self.idle_looks = if self.keeper.is_empty() { self.idle_looks + 1 } else { 0 };
                if self.idle_looks > IDLE_LOOKS_MAX {
                    self.keeper.end();
                    return Ok(());
                }
            }
        }
    }

    /// Waits until somebody connects or the daemon says something.
    fn wait(&self, listener: &OwnedFd) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
        fds.extend(self.client.as_ref().map(|client| PollFd::new(client, PollFlags::IN)));
        fds.extend(self.newcomers.iter().map(|newcomer| PollFd::new(newcomer, PollFlags::IN)));
        let look = Timespec::try_from(LOOK_EVERY).map_err(io::Error::other)?;
        let timeout = self.client.is_none().then_some(&look);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let (own, others) = fds.split_at(1 + usize::from(self.client.is_some()));
        Ok(Ready {
            arrives: is_ready(&own[0]),
            speaks: own.get(1).is_some_and(is_ready),
            newcomer: others.iter().position(is_ready),
        })
    }

    /// Somebody says what it has come for: the daemon greets, anybody else registers.
    fn meet(&mut self, newcomer: OwnedFd) {
        let request = match receive(&newcomer) {
            Ok(Some((bytes, _))) => Request::parse(&bytes),
            Ok(None) | Err(_) => return,
        };
        let reply = match request {
            Ok(Request::Hello { version }) if self.may_be_the_daemon(&newcomer) => {
                let from = sockopt::socket_peercred(&newcomer).map(|cred| cred.pid);
                self.daemon = from.ok();
                if version == VERSION {
                    self.keeper.greet(Instant::now());
                }
                let config = self.keeper.config().map(Path::to_owned);
                let welcome = Reply::Welcome { version: VERSION, config, user: self.user };
                if matches!(answer(&newcomer, &welcome, &[]), Then::GoOn) {
                    // The newest counts: an old one that still holds on is about to end.
                    self.client = Some(newcomer);
                }
                return;
            }
            Ok(Request::Register { name, netns }) => self.register(&newcomer, name, &netns),
            Ok(Request::Hello { .. }) => Err("expected the daemon's user, or root".to_owned()),
            Ok(_) => Err("expected a greeting or a registration".to_owned()),
            Err(error) => Err(format!("request: {error}")),
        };
        let reply = reply.map_or_else(Reply::Failed, |()| Reply::Done);
        // Whoever asked is gone: nobody minds.
        let _ = answer(&newcomer, &reply, &[]);
    }

    fn may_be_the_daemon(&self, from: &OwnedFd) -> bool {
        sockopt::socket_peercred(from).is_ok_and(|cred| {
            cred.uid.is_root() || self.user.is_some_and(|user| cred.uid.as_raw() == user.uid)
        })
    }

    /// The daemon cannot start another process, so it is told by its number.
    fn register(&mut self, from: &OwnedFd, name: Name, netns: &Path) -> Result<(), String> {
        let cred = sockopt::socket_peercred(from).map_err(|error| error.to_string())?;
        if !cred.uid.is_root() {
            return Err(format!("user {} may not register; expected root", cred.uid.as_raw()));
        }
        if self.daemon == Some(cred.pid) {
            return Err("the daemon may not register; expected another process".to_owned());
        }
        self.keeper.register(name, netns)
    }

    fn part(&mut self) {
        self.client = None;
        self.keeper.part(Instant::now());
    }

    fn handle(&mut self) -> Then {
        let Some(client) = &self.client else { return Then::GoOn };
        let bytes = match receive(client) {
            Ok(Some((bytes, _))) => bytes,
            Ok(None) | Err(_) => return Then::Part,
        };
        let request = match Request::parse(&bytes) {
            Ok(request) => request,
            Err(error) => return self.answer(&Reply::Failed(format!("request: {error}")), &[]),
        };
        match request {
            Request::Hello { .. } | Request::Register { .. } => {
                self.answer(&Reply::Failed("this comes first on a connection".to_owned()), &[])
            }
            Request::Open(interface) => match self.keeper.open(interface) {
                Ok((opened, queues)) => {
                    let queues: Vec<_> = queues.iter().map(AsFd::as_fd).collect();
                    answer(client, &Reply::Opened(opened), &queues)
                }
                Err(reply) => self.answer(&reply, &[]),
            },
            Request::Close(name) => {
                let reply = match self.keeper.close(&name) {
                    Ok(()) => Reply::Done,
                    Err(error) => Reply::Failed(format!("the interface stays: {error}")),
                };
                self.answer(&reply, &[])
            }
            Request::Settle => {
                self.keeper.settle();
                self.answer(&Reply::Done, &[])
            }
            Request::Ended => self.answer(&Reply::Ended(self.keeper.ended()), &[]),
            Request::Leave => {
                clean_up(&self.path);
                self.answer(&Reply::Done, &[])
            }
            Request::End => {
                clean_up(&self.path);
                self.keeper.end();
                self.answer(&Reply::Done, &[]);
                Then::End
            }
            Request::Retire => {
                self.answer(&Reply::Done, &[]);
                Then::End
            }
        }
    }

    fn answer(&self, reply: &Reply, fds: &[BorrowedFd<'_>]) -> Then {
        self.client.as_ref().map_or(Then::Part, |client| answer(client, reply, fds))
    }
}

fn answer(client: &OwnedFd, reply: &Reply, fds: &[BorrowedFd<'_>]) -> Then {
    let sent = encode(reply).map_err(io::Error::other).and_then(|bytes| send(client, &bytes, fds));
    match sent {
        Ok(()) => Then::GoOn,
        Err(_) => Then::Part,
    }
}
