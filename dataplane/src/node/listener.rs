//! Accepting handshakes: limits first, then TLS in a task of its own.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::AbortHandle,
};
use weft_handshake::{
    DEADLINE, ServerEnvironments, accept,
    admission::{Admission, Limits, Ticket},
};

use super::{Message, directory::Directory};

/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 1024;
/// Pause after the kernel could not give a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the node and the accepting task share.
#[derive(Default)]
pub(super) struct Shared(Mutex<Inner>);

struct Inner {
    admission: Admission,
    running: HashMap<Ticket, AbortHandle>,
    rejected: BTreeMap<&'static str, u64>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            admission: Admission::new(Limits::default()),
            running: HashMap::new(),
            rejected: BTreeMap::new(),
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn count_rejected(&self, cause: &'static str) {
        self.with(|inner| *inner.rejected.entry(cause).or_default() += 1);
    }

    /// Handshakes of others that came to nothing, by cause.
    pub(super) fn rejected(&self) -> Vec<(&'static str, u64)> {
        self.with(|inner| inner.rejected.iter().map(|(cause, n)| (*cause, *n)).collect())
    }

    /// A handshake with `from` was good, whoever began it.
    pub(super) fn authenticated(&self, from: IpAddr) {
        self.with(|inner| inner.admission.authenticated(from, Instant::now()));
    }

    /// Leave for a connection from `from`; a handshake that has to make room is ended.
    fn admit(&self, from: IpAddr) -> Option<Ticket> {
        self.with(|inner| match inner.admission.begin(from, Instant::now()) {
            Ok(admitted) => {
                if let Some(running) =
                    admitted.evicted.and_then(|ticket| inner.running.remove(&ticket))
                {
                    running.abort();
                }
                Some(admitted.ticket)
            }
            Err(refusal) => {
                *inner.rejected.entry(refusal.label()).or_default() += 1;
                None
            }
        })
    }
}

/// Opens the listening socket.
pub(super) fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, None)?;
    // A restarted daemon must not wait for connections of its predecessor to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts for ever.
pub(super) async fn serve(
    tcp: TcpListener,
    shared: Arc<Shared>,
    environments: Arc<ServerEnvironments>,
    directory: Arc<Directory>,
    inbox: mpsc::Sender<Message>,
) {
    loop {
        let (stream, from) = match tcp.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept handshakes");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(ticket) = shared.admit(from.ip()) else { continue };
        let work = handshake(
            stream,
            from.ip(),
            ticket,
            Arc::clone(&shared),
            Arc::clone(&environments),
            Arc::clone(&directory),
            inbox.clone(),
        );
        // Under the lock that its end takes, so that the end comes after the entry.
        shared.with(|inner| {
            inner.running.insert(ticket, tokio::spawn(work).abort_handle());
        });
    }
}

async fn handshake(
    stream: TcpStream,
    from: IpAddr,
    ticket: Ticket,
    shared: Arc<Shared>,
    environments: Arc<ServerEnvironments>,
    directory: Arc<Directory>,
    inbox: mpsc::Sender<Message>,
) {
    let _end = EndTicket { shared: Arc::clone(&shared), ticket };
    let deadline = tokio::time::Instant::now() + DEADLINE;
    // Frames are small and every one is waited for.
    let _ = stream.set_nodelay(true);
    let admit = |environment: &_, peer: &weft_pki::VerifiedPeer| {
        directory.admit(environment, &peer.identity.host)
    };
    let result = accept(stream, &environments, admit, deadline).await;
    if result.is_ok() {
        shared.authenticated(from);
    }
    // The node is gone: so is everything that the handshake was for.
    let _ = inbox.send(Message::Accepted(Box::new(result))).await;
}

/// Gives the ticket back however the task ends, also when it is aborted.
struct EndTicket {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Drop for EndTicket {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.shared.with(|inner| {
            inner.admission.end(ticket);
            inner.running.remove(&ticket);
        });
    }
}
