//! A bad network, and the attacker who sits on it.
//!
//! ```text
//!  ┌ host-a ───────┐      ┌ relay ──────────────────────────┐      ┌ host-b ───────┐
//!  │ weftd  .1:5820├─────▶│ .101:5820  faults  .102:port    ├─────▶│ weftd  .2:5820│
//!  │               │◀─────┤ .101:port  faults  .102:5820    │◀─────┤               │
//!  └───────────────┘      └─────────────────────────────────┘      └───────────────┘
//!     knows .101 as host-b                                          knows .102 as host-a
//! ```
//!
//! Each daemon has the relay's alias as its peer's endpoint. Source ports are kept, so lanes stay
//! apart. Datagrams can be dropped, delayed, reordered, duplicated, damaged, cut, recorded, held
//! back and injected; TCP connections (the handshakes) are passed on as they are, or stalled.
//! All draws come from one seed per direction.

mod handshakes;
mod line;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

pub use self::line::Tally;
use self::line::{Line, Port};
use crate::namespace::Namespace;
use crate::plan::PORT;
use crate::topology::{Family, Host, UNDERLAY_INTERFACE};

/// What happens to datagrams of one direction. Shares are probabilities from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// Never arrive.
    pub drop: f64,
    /// Arrive twice.
    pub duplicate: f64,
    /// Arrive up to [`Faults::late_max`] later than others.
    pub reorder: f64,
    /// Arrive with one bit changed.
    pub flip: f64,
    /// Arrive cut short.
    pub truncate: f64,
    /// How late a reordered datagram is at most.
    pub late_max: Duration,
    /// Time that every datagram takes.
    pub delay: Duration,
    /// Longer ones never arrive; UDP payload, bytes.
    pub payload_max: usize,
}

impl Faults {
    /// A perfect wire.
    pub const NONE: Self = Self {
        drop: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        flip: 0.0,
        truncate: 0.0,
        late_max: Duration::from_millis(1),
        delay: Duration::ZERO,
        payload_max: usize::MAX,
    };

    /// A share each of datagrams dropped, reordered and duplicated.
    #[must_use]
    pub const fn rough(share: f64) -> Self {
        Self { drop: share, reorder: share, duplicate: share, ..Self::NONE }
    }
}

/// Whose datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the first host to the second.
    There,
    /// From the second host to the first.
    Back,
}

/// A datagram that the relay kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The sender's port.
    pub port: u16,
    /// Payload.
    pub payload: Vec<u8>,
}

/// The relay's address that stands for the other host: the first host sees the second under
/// number 101, the second sees the first under 102.
#[must_use]
pub fn alias(family: Family, seen_by: usize) -> IpAddr {
    let number = if seen_by == 0 { 101 } else { 102 };
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// A running relay. Dropping it ends its threads.
#[derive(Debug)]
pub struct Relay {
    there: Arc<Line>,
    back: Arc<Line>,
    /// How many TCP connections are still passed on; all are if it is the greatest number.
    left: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Takes its two addresses on `host` and relays between `a` and `b`.
    ///
    /// # Errors
    /// When an address or a port cannot be had.
    pub fn start(host: &Host, a: &Host, b: &Host, family: Family, seed: u64) -> Result<Self> {
        let aliases = [alias(family, 0), alias(family, 1)];
        for address in aliases {
            let (length, nodad) = if address.is_ipv4() { (24, "") } else { (64, "nodad") };
            host.ns
                .ip(&format!("address add {address}/{length} dev {UNDERLAY_INTERFACE} {nodad}"))?;
        }
        let ends = [a, b].map(|host| SocketAddr::new(host.address(family), PORT));
        let ports = [Port::bind(&host.ns, aliases[0])?, Port::bind(&host.ns, aliases[1])?];
        let line = |from: usize, to: usize, seed| -> Result<Arc<Line>> {
            Ok(Arc::new(Line::new(&host.ns, &ports[from], &ports[to], ends[to], seed)?))
        };
        let mut relay = Self {
            there: line(0, 1, seed)?,
            back: line(1, 0, seed.wrapping_add(1))?,
            left: Arc::new(AtomicUsize::new(usize::MAX)),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for line in [&relay.there, &relay.back] {
            let (line, stop) = (Arc::clone(line), Arc::clone(&relay.stop));
            relay.threads.push(std::thread::spawn(move || line.run(&stop)));
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let (left, stop) = (Arc::clone(&relay.left), Arc::clone(&relay.stop));
            let listen = SocketAddr::new(aliases[from], PORT);
            let thread = handshakes::relay(&host.ns, listen, ends[to], left, stop)?;
            relay.threads.push(thread);
        }
        Ok(relay)
    }

    /// Changes the faults of one direction.
    pub fn faults_of(&self, way: Way, faults: Faults) {
        self.line(way).faults(faults);
    }

    /// Changes the faults of both directions.
    pub fn faults(&self, faults: Faults) {
        self.there.faults(faults);
        self.back.faults(faults);
    }

    /// While true, TCP connections are accepted and then stand still.
    pub fn stall_handshakes(&self, stalled: bool) {
        self.pass_handshakes(if stalled { 0 } else { usize::MAX });
    }

    /// The next `count` TCP connections are passed on; those after them stand still.
    pub fn pass_handshakes(&self, count: usize) {
        self.left.store(count, Ordering::Relaxed);
    }

    /// From now on keeps a copy of up to `count` datagrams that pass.
    pub fn record(&self, way: Way, count: usize) {
        self.line(way).record(count);
    }

    /// From now on takes the next `count` datagrams of at least `len_min` bytes off the wire.
    pub fn hold(&self, way: Way, count: usize, len_min: usize) {
        self.line(way).hold(count, len_min);
    }

    /// What was recorded or held so far; the list is empty afterwards.
    #[must_use]
    pub fn take(&self, way: Way) -> Vec<Kept> {
        self.line(way).take()
    }

    /// Sends a datagram as if it came from the host at the beginning of this way.
    ///
    /// # Errors
    /// When the network refuses it.
    pub fn inject(&self, way: Way, datagram: &Kept) -> Result<()> {
        self.line(way).send(datagram.port, &datagram.payload)
    }

    /// Sends datagrams of one length, one behind the other in `payloads`, as if they came at once.
    ///
    /// # Errors
    /// When the network refuses them.
    pub fn inject_many(&self, way: Way, port: u16, payloads: &[u8], length: u16) -> Result<()> {
        self.line(way).send_many(port, payloads, length)
    }

    /// What was done to datagrams of this way.
    #[must_use]
    pub fn tally(&self, way: Way) -> Tally {
        self.line(way).tally()
    }

    fn line(&self, way: Way) -> &Line {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic was printed already.
            let _ = thread.join();
        }
    }
}

/// A socket on port [`PORT`] of an alias.
pub(crate) fn port_of(ns: &Namespace, address: IpAddr, port: u16) -> Result<std::net::UdpSocket> {
    crate::traffic::datagrams::socket(ns, SocketAddr::new(address, port))
}
