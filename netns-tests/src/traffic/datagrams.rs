//! Numbered UDP datagrams: exact loss, order and content.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce, UdpGsoSegment};

use crate::namespace::Namespace;
use crate::process::interrupt_flag;

/// Socket buffers, bytes: a receiver that is not scheduled for a while must not lose anything.
pub const BUFFER_BYTES: usize = 32 << 20;
/// Shortest payload: it holds the number.
pub const PAYLOAD_MIN: usize = 8;
/// Largest payload that a test sends.
pub const PAYLOAD_MAX: usize = 65_507;
/// How long a receiver waits for stragglers after the sender's end.
const STRAGGLERS: Duration = Duration::from_millis(700);
const RECEIVE_POLL: Duration = Duration::from_millis(50);
/// Datagrams between two looks at the clock when a rate is to be kept.
const PACE: u64 = 8;

/// A stream of datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Bound at the sender; port 0 for any.
    pub from: SocketAddr,
    /// Bound at the receiver; port 0 for any.
    pub to: SocketAddr,
    /// How many.
    pub packets: u64,
    /// UDP payload, [`PAYLOAD_MIN`] to [`PAYLOAD_MAX`] bytes.
    pub payload: usize,
    /// Per second; `None` as fast as it goes.
    pub rate: Option<u64>,
    /// Datagrams handed to the kernel at a time with `UDP_SEGMENT`, 1 to 128; 1 does without.
    pub segments: usize,
}

impl Flow {
    /// 1,000 datagrams of 1,000 bytes at 10,000 per second between two addresses.
    #[must_use]
    pub fn between(from: IpAddr, to: IpAddr) -> Self {
        let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, 0));
        Self { from, to, packets: 1_000, payload: 1_000, rate: Some(10_000), segments: 1 }
    }
}

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrived {
    /// Datagrams sent.
    pub sent: u64,
    /// Different numbers received.
    pub received: u64,
    /// Numbers received again.
    pub duplicates: u64,
    /// Of an earlier flow with the same [`Numbers`], received for the first time.
    pub earlier: u64,
    /// Numbers below one that came before.
    pub late: u64,
    /// Datagrams whose content or length was not what was sent.
    pub damaged: u64,
    /// From the first to the last datagram received.
    pub elapsed: Duration,
    /// The longest time between two datagrams received.
    pub longest_gap: Duration,
}

impl Arrived {
    /// Every datagram, once, unharmed.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.received == self.sent && self.duplicates == 0 && self.damaged == 0
    }
}

/// Numbers that several flows share, so that what arrives after the end of its flow is still counted once.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// The first that was not sent yet.
    next: u64,
    /// One bit for each that was received.
    seen: Vec<u64>,
}

impl Numbers {
    /// Whether `number` is received for the first time; it must have been sent.
    fn receive(&mut self, number: u64) -> Result<bool> {
        let (word, bit) = (usize::try_from(number / 64)?, 1 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        Ok(new)
    }
}

/// A UDP socket in a namespace, with large buffers.
///
/// # Errors
/// When the address is not there.
pub fn socket(ns: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let bound = ns.enter(|| Ok(UdpSocket::bind(address)?));
    let socket = bound.with_context(|| format!("{ns:?}: bind {address}"))?;
    setsockopt(&socket, RcvBufForce, &BUFFER_BYTES)?;
    setsockopt(&socket, SndBufForce, &BUFFER_BYTES)?;
    Ok(socket)
}

/// Sends a flow from one namespace to another and says what arrived.
///
/// # Errors
/// When a socket cannot be bound. Loss is no error.
pub fn send(from: &Namespace, to: &Namespace, flow: &Flow) -> Result<Arrived> {
    send_next(from, to, flow, &mut Numbers::default())
}

/// The same with the next of `numbers`.
///
/// # Errors
/// See [`send`].
pub fn send_next(
    from: &Namespace,
    to: &Namespace,
    flow: &Flow,
    numbers: &mut Numbers,
) -> Result<Arrived> {
    ensure!((PAYLOAD_MIN..=PAYLOAD_MAX).contains(&flow.payload), "payload of {}", flow.payload);
    let receiver = socket(to, flow.to)?;
    let sender = socket(from, flow.from)?;
    sender.connect(receiver.local_addr()?)?;
    let done = AtomicBool::new(false);
    let first = numbers.next;
    numbers.next += flow.packets;
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver, flow, numbers, &done));
        let transmitted = transmit(&sender, flow, first);
        done.store(true, Ordering::Release);
        let arrived = receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        transmitted.and(arrived)
    })
}

fn transmit(socket: &UdpSocket, flow: &Flow, first: u64) -> Result<()> {
    if flow.segments > 1 {
        setsockopt(socket, UdpGsoSegment, &i32::try_from(flow.payload)?)?;
    }
    let mut batch = vec![0; flow.payload * flow.segments];
    let start = Instant::now();
    let mut number = 0;
    let mut pause_at = 0;
    while number < flow.packets {
        if let Some(rate) = flow.rate.filter(|_| number >= pause_at) {
            let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if interrupt_flag().load(Ordering::Relaxed) {
                break;
            }
            pause_at = number + PACE;
        }
        let left = usize::try_from(flow.packets - number).unwrap_or(usize::MAX);
        let take = flow.segments.min(left);
        for (payload, n) in batch.chunks_exact_mut(flow.payload).zip(first + number..) {
            fill(payload, n);
        }
        // A full queue or an ICMP error from before is loss, which the receiver sees.
        let _ = socket.send(&batch[..take * flow.payload]);
        number += take as u64;
    }
    Ok(())
}

/// The content of datagram `number`: the number, then bytes that depend on it.
fn fill(payload: &mut [u8], number: u64) {
    let (head, rest) = payload.split_at_mut(PAYLOAD_MIN);
    head.copy_from_slice(&number.to_be_bytes());
    rest.fill(number.to_be_bytes()[7] ^ 0xa5);
}

fn receive(
    socket: &UdpSocket,
    flow: &Flow,
    numbers: &mut Numbers,
    done: &AtomicBool,
) -> Result<Arrived> {
    socket.set_read_timeout(Some(RECEIVE_POLL))?;
    let flow_start = numbers.next - flow.packets;
    let mut buffer = vec![0; PAYLOAD_MAX + 1];
    let mut expected = vec![0; flow.payload];
    let mut arrived = Arrived { sent: flow.packets, ..Arrived::default() };
    let (mut next, mut first, mut last) = (0, None, Instant::now());
    while arrived.received < flow.packets {
        let Ok(len) = socket.recv(&mut buffer) else {
            if done.load(Ordering::Acquire) && last.elapsed() > STRAGGLERS {
                break;
            }
            continue;
        };
        let now = Instant::now();
        let begin = *first.get_or_insert(now);
        arrived.elapsed = now - begin;
        if now > begin {
            arrived.longest_gap = arrived.longest_gap.max(now - last);
        }
        last = now;
        let number = buffer[..len].first_chunk().map_or(u64::MAX, |n| u64::from_be_bytes(*n));
        if number >= numbers.next {
            arrived.damaged += 1;
            continue;
        }
        fill(&mut expected, number);
        arrived.damaged += u64::from(buffer[..len] != expected);
        if !numbers.receive(number)? {
            arrived.duplicates += 1;
        } else if number < flow_start {
            arrived.earlier += 1;
        } else {
            arrived.received += 1;
            arrived.late += u64::from(number < next);
            next = next.max(number + 1);
        }
    }
    Ok(arrived)
}
