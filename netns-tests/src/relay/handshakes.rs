//! The relay's TCP side: bytes are passed on unchanged, or not at all.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::Namespace;

const ACCEPT_POLL: Duration = Duration::from_millis(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Most connections that stand still at a time.
const STALLED_MAX: usize = 64;

/// Accepts on `listen` and connects to `target`, as often as `left` says; then nobody is passed on. The connection's source is the relay's own
/// address, which says nothing: identity comes from certificates alone.
pub(super) fn relay(
    ns: &Namespace,
    listen: SocketAddr,
    target: SocketAddr,
    left: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let listener = ns.enter(|| Ok(TcpListener::bind(listen)?));
    let listener = listener.with_context(|| format!("listen on {listen}"))?;
    listener.set_nonblocking(true)?;
    let ns = ns.clone();
    Ok(std::thread::spawn(move || {
        let mut standing: Vec<TcpStream> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(ACCEPT_POLL);
                continue;
            };
            let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                if left == usize::MAX { Some(left) } else { left.checked_sub(1) }
            });
            if taken.is_err() {
                standing.truncate(STALLED_MAX - 1);
                standing.push(client);
                continue;
            }
            // A target that does not answer closes the client, as a refused connection would.
            if splice(&ns, client, target).is_err() && taken != Ok(usize::MAX) {
                left.fetch_add(1, Ordering::Relaxed);
            }
        }
    }))
}

/// Copies both ways on two threads that end with the connection.
fn splice(ns: &Namespace, client: TcpStream, target: SocketAddr) -> Result<()> {
    client.set_nonblocking(false)?;
    let server = ns.enter(|| Ok(TcpStream::connect_timeout(&target, CONNECT_LIMIT)?))?;
    for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        std::thread::spawn(move || {
            // Either side may reset; the other is told by the shutdown.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
