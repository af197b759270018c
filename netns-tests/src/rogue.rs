//! Hosts that do not play by the rules.
//!
//! A second implementation of the handshake and the framing, written from the protocol's
//! description and not from the daemon's code. It presents any certificate as a client
//! ([`dial`]) or a server ([`Imposter`]), and as a *hostile peer* with a proper one it seals
//! whatever a test wants ([`Session`]). Nothing here verifies what the other side presents.

mod cut;
mod session;
mod tls;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::{ClientConnection, ServerConnection, StreamOwned};

pub use self::cut::cut;
pub use self::session::{Metadata, Parties, Secrets, Session};
use crate::certificates::Identity;
use crate::namespace::Namespace;

/// A peer that says nothing for so long has refused.
const SILENCE_LIMIT: Duration = Duration::from_secs(12);
const ACCEPT_POLL: Duration = Duration::from_millis(20);

/// What the other side made of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It went on: its first frame came.
    Accepted,
    /// It did not; the reason as far as it can be seen from here.
    Refused(String),
}

impl Verdict {
    /// Whether it was accepted.
    #[must_use]
    pub fn accepted(&self) -> bool {
        *self == Self::Accepted
    }
}

/// Connects to a daemon from inside `ns` under a server name, with a certificate or without one,
/// and tells whether the daemon goes on to talk.
///
/// # Errors
/// When no TCP connection can be made.
pub fn dial(
    ns: &Namespace,
    to: SocketAddr,
    server_name: &str,
    identity: Option<&Identity>,
) -> Result<Verdict> {
    let mut stream = connect(ns, to, server_name, identity)?;
    // A server says nothing before it knows what is wanted. If it has gone already, reading says so.
    let _ = session::say_hello(&mut stream);
    Ok(first_byte(&mut stream))
}

fn connect(
    ns: &Namespace,
    to: SocketAddr,
    server_name: &str,
    identity: Option<&Identity>,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let tcp = ns.enter(|| Ok(TcpStream::connect_timeout(&to, SILENCE_LIMIT)?));
    let tcp = tcp.with_context(|| format!("connect to {to}"))?;
    tcp.set_read_timeout(Some(SILENCE_LIMIT))?;
    let config = tls::client(identity)?;
    let name = server_name.to_owned().try_into().context("server name")?;
    Ok(StreamOwned::new(ClientConnection::new(config, name)?, tcp))
}

/// The first message of a TLS client without a certificate, to be said again and again.
///
/// # Errors
/// When it is no server name.
pub fn client_hello(server_name: &str) -> Result<Vec<u8>> {
    let name = server_name.to_owned().try_into().context("server name")?;
    let mut connection = ClientConnection::new(tls::client(None)?, name)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}

/// In TLS 1.3 a client is done before the server has looked at its certificate, and the other way
/// round a server learns of a refusal late as well: only data proves acceptance.
fn first_byte(stream: &mut impl Read) -> Verdict {
    match stream.read(&mut [0; 1]) {
        Ok(1) => Verdict::Accepted,
        Ok(_) => Verdict::Refused("closed".into()),
        Err(e) => Verdict::Refused(e.to_string()),
    }
}

/// A server that pretends to be a host. Dropping it ends it.
#[derive(Debug)]
pub struct Imposter {
    verdicts: Arc<Mutex<Vec<Verdict>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Imposter {
    /// Listens inside `ns` and presents `identity` to everybody.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn listen(ns: &Namespace, on: SocketAddr, identity: &Identity) -> Result<Self> {
        let listener = ns.enter(|| Ok(TcpListener::bind(on)?))?;
        listener.set_nonblocking(true)?;
        let config = tls::server(identity)?;
        let verdicts = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (list, ended) = (Arc::clone(&verdicts), Arc::clone(&stop));
        let serve = move || {
            while !ended.load(Ordering::Relaxed) {
                let Ok((tcp, _)) = listener.accept() else {
                    std::thread::sleep(ACCEPT_POLL);
                    continue;
                };
                let verdict = judge(tcp, &config);
                let verdict = verdict.unwrap_or_else(|e| Verdict::Refused(format!("{e:#}")));
                list.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
            }
        };
        Ok(Self { verdicts, stop, thread: Some(std::thread::spawn(serve)) })
    }

    /// What those who connected so far made of it.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn judge(tcp: TcpStream, config: &Arc<rustls::ServerConfig>) -> Result<Verdict> {
    tcp.set_nonblocking(false)?;
    tcp.set_read_timeout(Some(SILENCE_LIMIT))?;
    let connection = ServerConnection::new(Arc::clone(config))?;
    Ok(first_byte(&mut StreamOwned::new(connection, tcp)))
}

impl Drop for Imposter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed already.
            let _ = thread.join();
        }
    }
}
