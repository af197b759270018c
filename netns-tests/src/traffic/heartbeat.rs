//! A TCP connection on which a number comes every few milliseconds: shows for how long it stood still.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;

/// Time between two numbers.
pub const BEAT: Duration = Duration::from_millis(5);
/// A gap that is worth telling.
pub const GAP_MIN: Duration = Duration::from_millis(25);
/// A connection that stands still for so long has failed: TCP waits at most so long between two tries.
const STALL_LIMIT: Duration = Duration::from_secs(120);

/// A connection that is beating.
#[derive(Debug)]
pub struct Heartbeat {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    sending: JoinHandle<Result<u64>>,
    receiving: JoinHandle<Result<Beats>>,
}

/// What came.
#[derive(Debug, Clone, Default)]
pub struct Beats {
    /// Numbers, all in order.
    pub count: u64,
    /// The longest time between two.
    pub longest_gap: Duration,
    /// Every time between two of at least [`GAP_MIN`], in order.
    pub gaps: Vec<Duration>,
}

impl Heartbeat {
    /// Connects to `address` in the namespace `to` and begins.
    ///
    /// # Errors
    /// When no connection can be made.
    pub fn start(from: &Namespace, to: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = to.enter(|| Ok(TcpListener::bind(address)?))?;
        let address = listener.local_addr()?;
        // The connection is waiting in the backlog, so that accepting it below cannot block.
        let stream = from.enter(|| Ok(TcpStream::connect_timeout(&address, STALL_LIMIT)?));
        let stream = stream.with_context(|| format!("connect to {address}"))?;
        let (peer, _) = listener.accept()?;
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let sending = std::thread::spawn(move || beat(stream, &stopped));
        let receiving = std::thread::spawn(move || listen(peer, &counted));
        Ok(Self { stop, count, sending, receiving })
    }

    /// Numbers that came so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether it goes on: only a failure ends it before [`Heartbeat::stop`].
    #[must_use]
    pub fn is_beating(&self) -> bool {
        !self.sending.is_finished() && !self.receiving.is_finished()
    }

    /// Ends it and says how it went.
    ///
    /// # Errors
    /// When the connection broke, or not everything came in order.
    pub fn stop(self) -> Result<Beats> {
        self.stop.store(true, Ordering::Release);
        let sent = joined(self.sending)?;
        let beats = joined(self.receiving)?;
        ensure!(beats.count == sent, "{} of {sent} numbers came", beats.count);
        Ok(beats)
    }
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn beat(mut stream: TcpStream, stop: &AtomicBool) -> Result<u64> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STALL_LIMIT))?;
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        stream.write_all(&number.to_be_bytes()).context("send")?;
        number += 1;
        std::thread::sleep(BEAT);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(number)
}

fn listen(mut stream: TcpStream, count: &AtomicU64) -> Result<Beats> {
    stream.set_read_timeout(Some(STALL_LIMIT))?;
    let mut beats = Beats::default();
    let mut last = Instant::now();
    loop {
        let mut number = [0; 8];
        match stream.read(&mut number[..1]).context("receive")? {
            0 => return Ok(beats),
            _ => stream.read_exact(&mut number[1..]).context("receive")?,
        }
        let number = u64::from_be_bytes(number);
        ensure!(number == beats.count, "{number} after {} numbers", beats.count);
        let now = Instant::now();
        let gap = now - last;
        beats.longest_gap = beats.longest_gap.max(gap);
        if gap >= GAP_MIN {
            beats.gaps.push(gap);
        }
        beats.count += 1;
        count.store(beats.count, Ordering::Relaxed);
        last = now;
    }
}
