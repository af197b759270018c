//! A file of random bytes over TCP, with SHA-256 on both sides.
//!
//! iperf3 does not look at what arrives; with checksums that are elided on the way a byte in the
//! wrong place would go unnoticed. Here it does not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;

use crate::namespace::Namespace;
use crate::process::interrupt_flag;
use crate::seeded::Seeded;

/// Bytes made, written and hashed at a time.
const BLOCK: usize = 256 << 10;
/// A connection that stands still for so long has failed: TCP waits at most so long between two tries.
const STALL_LIMIT: Duration = Duration::from_secs(120);

/// A listener forgets a connection whose handshake it could not end by then (tcp_synack_retries, 63 s). It forgets it at
/// once when its own interface drops what it repeats, as one without a daemon and helper does; the other end, which
/// believes to be connected and sends nothing, is never told.
const ACCEPT_LIMIT: Duration = Duration::from_secs(70);
const ACCEPT_POLL: Duration = Duration::from_millis(1);

/// What happened.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Bytes received.
    pub bytes: u64,
    /// From the connection to the last byte.
    pub elapsed: Duration,
    /// The longest time in which nothing came.
    pub longest_gap: Duration,
    /// SHA-256 of what was sent.
    pub sent: Vec<u8>,
    /// SHA-256 of what was received.
    pub received: Vec<u8>,
}

impl Transfer {
    /// Fails unless all of it arrived as it was sent.
    ///
    /// # Errors
    /// With both hashes.
    pub fn assert_equal(&self, bytes: u64) -> Result<()> {
        ensure!(self.bytes == bytes, "{} of {bytes} bytes arrived", self.bytes);
        ensure!(self.sent == self.received, "{:02x?} became {:02x?}", self.sent, self.received);
        Ok(())
    }

    /// Payload bits per second.
    #[must_use]
    pub fn bits_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate to show")]
        let bits = self.bytes as f64 * 8.0;
        bits / self.elapsed.as_secs_f64()
    }
}

/// Sends `bytes` random bytes made from `seed` to `address` in the namespace `to`.
///
/// # Errors
/// When no connection can be made or it stalls.
pub fn transfer(
    from: &Namespace,
    to: &Namespace,
    address: SocketAddr,
    bytes: u64,
    seed: u64,
) -> Result<Transfer> {
    let listener = to.enter(|| Ok(TcpListener::bind(address)?))?;
    let address = listener.local_addr()?;
    let stream = from.enter(|| Ok(TcpStream::connect_timeout(&address, STALL_LIMIT)?));
    let connected = stream.and_then(|stream| Ok((stream, accept(&listener)?)));
    let (stream, peer) = connected.with_context(|| format!("connect to {address}"))?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || produce(stream, bytes, seed));
        let (count, received, longest_gap) = consume(peer)?;
        let elapsed = start.elapsed();
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Transfer { bytes: count, elapsed, longest_gap, sent, received })
    })
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    loop {
        match listener.accept() {
            Ok((peer, _)) => {
                peer.set_nonblocking(false)?;
                return Ok(peer);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                ensure!(
                    begun.elapsed() < ACCEPT_LIMIT,
                    "its listener has forgotten the connection"
                );
                std::thread::sleep(ACCEPT_POLL);
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn produce(mut stream: TcpStream, bytes: u64, seed: u64) -> Result<Vec<u8>> {
    stream.set_write_timeout(Some(STALL_LIMIT))?;
    let mut random = Seeded::new(seed);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 && !interrupt_flag().load(std::sync::atomic::Ordering::Relaxed) {
        let take = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        random.fill(&mut block[..take]);
        hash.update(&block[..take]);
        stream.write_all(&block[..take]).context("send")?;
        left -= take as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(hash.finish().as_ref().to_vec())
}

fn consume(mut stream: TcpStream) -> Result<(u64, Vec<u8>, Duration)> {
    stream.set_read_timeout(Some(STALL_LIMIT))?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut block = vec![0; BLOCK];
    let (mut count, mut last, mut longest_gap) = (0, Instant::now(), Duration::ZERO);
    loop {
        let len = stream.read(&mut block).context("receive")?;
        longest_gap = longest_gap.max(last.elapsed());
        last = Instant::now();
        if len == 0 {
            return Ok((count, hash.finish().as_ref().to_vec(), longest_gap));
        }
        hash.update(&block[..len]);
        count += len as u64;
    }
}
