//! UDP packets, as many as arrive.
//!
//! Plain sockets, one `send` per packet, no `sendmmsg` and no `UDP_SEGMENT`: each packet costs the
//! overlay what a packet of a real service costs it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netns_tests::Namespace;
use netns_tests::traffic::datagrams::socket;
use serde::{Deserialize, Serialize};

/// Payload of the small packets, bytes.
pub const PAYLOAD: usize = 64;
/// Longest payload, bytes.
pub const PAYLOAD_MAX: usize = 1_400;
/// Sending threads, each with a flow of its own and a receiver.
pub const FLOWS: u64 = 2;
/// Packets between two looks at the clock.
const PACE: u64 = 16;
const RECEIVE_POLL: Duration = Duration::from_millis(50);
/// Time for packets that are under way.
const DRAIN: Duration = Duration::from_millis(150);

/// Packets of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Packets {
    /// Per second that were to be offered; 0 for as many as possible.
    pub wanted: u64,
    /// Per second offered.
    pub offered: f64,
    /// Per second delivered.
    pub delivered: f64,
    /// Share of the offered that was lost, 0 to 1.
    pub loss: f64,
}

/// Offers `wanted` packets per second (0: as many as possible) of `payload` bytes, up to
/// [`PAYLOAD_MAX`], for `time`.
///
/// # Errors
/// When a socket cannot be bound, or the payload is too long.
pub fn run(
    from: (&Namespace, IpAddr),
    to: (&Namespace, IpAddr),
    payload: usize,
    wanted: u64,
    time: Duration,
) -> Result<Packets> {
    ensure!(payload <= PAYLOAD_MAX, "a payload of at most {PAYLOAD_MAX} bytes, not {payload}");
    let mut pairs = Vec::new();
    for _ in 0..FLOWS {
        let receiver = socket(to.0, SocketAddr::new(to.1, 0))?;
        receiver.set_read_timeout(Some(RECEIVE_POLL))?;
        let sender = socket(from.0, SocketAddr::new(from.1, 0))?;
        sender.connect(receiver.local_addr()?)?;
        pairs.push((sender, receiver));
    }
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let took = std::thread::scope(|scope| {
        let senders: Vec<_> = pairs
            .iter()
            .map(|(sender, receiver)| {
                scope.spawn(|| receive(receiver, payload, &received, &stop));
                scope.spawn(|| {
                    let count = send(sender, payload, wanted / FLOWS, time);
                    sent.fetch_add(count, Ordering::Relaxed)
                })
            })
            .collect();
        for sender in senders {
            // A sender cannot fail; a panic is passed on by the scope.
            let _ = sender.join();
        }
        let took = start.elapsed();
        std::thread::sleep(DRAIN);
        stop.store(true, Ordering::Relaxed);
        took
    });
    let (sent, received) = (sent.into_inner(), received.into_inner());
    let per_second = |count: u64| as_f64(count) / took.as_secs_f64();
    let loss = 1.0 - as_f64(received) / as_f64(sent.max(1));
    Ok(Packets { wanted, offered: per_second(sent), delivered: per_second(received), loss })
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

fn send(socket: &UdpSocket, payload: usize, rate: u64, time: Duration) -> u64 {
    let bytes = [0x5a; PAYLOAD_MAX];
    let start = Instant::now();
    let mut sent = 0;
    loop {
        for _ in 0..PACE {
            // A full queue is loss at the source; it counts as offered and not delivered.
            let _ = socket.send(&bytes[..payload]);
        }
        sent += PACE;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return sent;
        }
        if let Some(due) = (sent * 1_000_000_000).checked_div(rate) {
            std::thread::sleep(Duration::from_nanos(due).saturating_sub(elapsed));
        }
    }
}

fn receive(socket: &UdpSocket, payload: usize, received: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = [0; PAYLOAD_MAX + 1];
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        while socket.recv(&mut buffer).is_ok_and(|len| len == payload) {
            count += 1;
        }
    }
    received.fetch_add(count, Ordering::Relaxed);
}
