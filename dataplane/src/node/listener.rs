//! Accepting handshakes: limits first, then TLS in a task of its own.
//!
//! Strangers may call thousands of times a second. Whoever is refused costs an accepted connection and its
//! reset, and nothing else: no task, no timer, no message to the node, no line in the log.

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
    DEADLINE, HandshakeError, ServerEnvironments, accept,
    admission::{Admission, Limits, Ticket},
};

use super::{Message, directory::Directory};

/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 1024;
/// Pause after the kernel could not give a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Refusals that the log tells of in a second.
const LOGGED_PER_SECOND: u32 = 10;

/// What the node and the accepting task share.
#[derive(Default)]
pub(super) struct Shared(Mutex<Inner>);

struct Inner {
    admission: Admission,
    running: HashMap<Ticket, AbortHandle>,
    rejected: BTreeMap<&'static str, u64>,
    logged: Logged,
}

/// How much the log was told.
struct Logged {
    /// Since then.
    second: Instant,
    lines: u32,
    /// Refusals that it was not told of.
    silent: u64,
}

impl Logged {
    /// Whether to tell it; how many it was not told of since the last time.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.lines) = (now, 0);
        }
        if self.lines >= LOGGED_PER_SECOND {
            self.silent += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.silent))
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            admission: Admission::new(Limits::default()),
            running: HashMap::new(),
            rejected: BTreeMap::new(),
            logged: Logged { second: Instant::now(), lines: 0, silent: 0 },
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A peer's handshake came to nothing.
    fn failed(&self, error: &HandshakeError) {
        let cause = error.label();
        let told = self.with(|inner| {
            *inner.rejected.entry(cause).or_default() += 1;
            inner.logged.tell(Instant::now())
        });
        match told {
            Some(0) => tracing::info!(cause, %error, "refused a handshake"),
            Some(others) => tracing::info!(cause, %error, others, "refused handshakes"),
            None => {}
        }
    }

    /// One more peer is to be found at this address.
    pub(super) fn expect(&self, address: IpAddr) {
        self.with(|inner| inner.admission.expect(address));
    }

    /// One peer less is to be found there.
    pub(super) fn expect_no_longer(&self, address: IpAddr) {
        self.with(|inner| inner.admission.expect_no_longer(address));
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
        let Some(ticket) = shared.admit(from.ip()) else {
            // Nothing of it is to stay in the kernel either; if it does, its own limits are for that.
            let _ = stream.set_zero_linger();
            continue;
        };
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
    let answer = || shared.with(|inner| inner.admission.answer(ticket, Instant::now()));
    match accept(stream, &environments, answer, admit, deadline).await {
        Ok(accepted) => {
            shared.authenticated(from);
            // The node is gone: so is everything that the handshake was for.
            let _ = inbox.send(Message::Accepted(accepted)).await;
        }
        Err(error) => shared.failed(&error),
    }
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
