//! One direction of a relay: datagrams in, faults, datagrams out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::{Faults, Kept, port_of};
use crate::namespace::Namespace;
use crate::plan::PORT;
use crate::seeded::Seeded;

/// Largest datagram that a relay passes on.
const DATAGRAM_MAX: usize = 65_535;
/// How often an idle line looks whether to stop.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// How often a line with delayed datagrams looks whether one is due.
const DUE_POLL: Duration = Duration::from_micros(500);
/// Most datagrams in flight; beyond, the oldest goes out early.
const DELAYED_MAX: usize = 65_536;
/// Most source ports (lanes) of one host.
const PORTS_MAX: usize = 256;

/// What was done to the datagrams of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Came in.
    pub received: u64,
    /// Went out, copies included.
    pub sent: u64,
    /// Dropped on purpose.
    pub dropped: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Sent late.
    pub reordered: u64,
    /// Sent with a changed bit or cut.
    pub damaged: u64,
    /// Taken off the wire by `hold`.
    pub held: u64,
}

/// The socket on the known port of one alias; both directions use it.
pub(super) struct Port {
    address: IpAddr,
    socket: UdpSocket,
}

impl Port {
    pub(super) fn bind(ns: &Namespace, address: IpAddr) -> Result<Self> {
        Ok(Self { address, socket: port_of(ns, address, PORT)? })
    }
}

/// A datagram that is due later: when, its place in line, the source port, the payload.
type Delayed = Reverse<(Instant, u64, u16, Vec<u8>)>;

#[derive(Debug)]
struct Control {
    faults: Faults,
    random: Seeded,
    tally: Tally,
    record: usize,
    hold: usize,
    hold_len_min: usize,
    kept: Vec<Kept>,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Line {
    ns: Namespace,
    incoming: UdpSocket,
    /// Address that the receiving host knows the sender by.
    source: IpAddr,
    target: SocketAddr,
    control: Mutex<Control>,
    senders: Mutex<BTreeMap<u16, UdpSocket>>,
}

impl Line {
    pub(super) fn new(
        ns: &Namespace,
        from: &Port,
        to: &Port,
        target: SocketAddr,
        seed: u64,
    ) -> Result<Self> {
        let control = Control {
            faults: Faults::NONE,
            random: Seeded::new(seed),
            tally: Tally::default(),
            record: 0,
            hold: 0,
            hold_len_min: 0,
            kept: Vec::new(),
        };
        Ok(Self {
            ns: ns.clone(),
            incoming: from.socket.try_clone()?,
            source: to.address,
            target,
            control: Mutex::new(control),
            // A host that sends from its listening port appears on the known port here too.
            senders: Mutex::new(BTreeMap::from([(PORT, to.socket.try_clone()?)])),
        })
    }

    pub(super) fn run(&self, stop: &AtomicBool) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut delayed: BinaryHeap<Delayed> = BinaryHeap::new();
        let mut sequence = 0;
        let mut timeout = None;
        while !stop.load(Ordering::Relaxed) {
            let wanted = if delayed.is_empty() { IDLE_POLL } else { DUE_POLL };
            if timeout != Some(wanted) {
                // Only a zero timeout is refused.
                let _ = self.incoming.set_read_timeout(Some(wanted));
                timeout = Some(wanted);
            }
            if let Ok((len, from)) = self.incoming.recv_from(&mut buffer) {
                self.handle(from.port(), &mut buffer[..len], &mut delayed, &mut sequence);
            }
            let now = Instant::now();
            while delayed.peek().is_some_and(|Reverse((due, ..))| *due <= now)
                || delayed.len() > DELAYED_MAX
            {
                let Some(Reverse((_, _, port, payload))) = delayed.pop() else {
                    break;
                };
                self.pass(port, &payload);
            }
        }
    }

    fn handle(
        &self,
        port: u16,
        payload: &mut [u8],
        delayed: &mut BinaryHeap<Delayed>,
        sequence: &mut u64,
    ) {
        let (fate, copies) = self.control().judge(port, payload);
        let Some(Fate { len, late }) = fate else {
            return;
        };
        for _ in 0..copies {
            if late.is_zero() {
                self.pass(port, &payload[..len]);
            } else {
                *sequence += 1;
                let due = Instant::now() + late;
                delayed.push(Reverse((due, *sequence, port, payload[..len].to_vec())));
            }
        }
    }

    fn pass(&self, port: u16, payload: &[u8]) {
        // What the network refuses is lost, as it would be anywhere.
        if self.send(port, payload).is_ok() {
            self.control().tally.sent += 1;
        }
    }

    pub(super) fn send(&self, port: u16, payload: &[u8]) -> Result<()> {
        self.with_sender(port, |sender| sender.send_to(payload, self.target).map(drop))
    }

    /// Sends many datagrams of one length at once, which arrive as one where the kernel merges them.
    pub(super) fn send_many(&self, port: u16, payloads: &[u8], length: u16) -> Result<()> {
        let target = SockaddrStorage::from(self.target);
        let cut = [ControlMessage::UdpGsoSegments(&length)];
        self.with_sender(port, |sender| {
            let parts = [IoSlice::new(payloads)];
            let fd = sender.as_raw_fd();
            Ok(sendmsg(fd, &parts, &cut, MsgFlags::empty(), Some(&target)).map(drop)?)
        })
    }

    fn with_sender(
        &self,
        port: u16,
        send: impl FnOnce(&UdpSocket) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut senders = lock(&self.senders);
        if !senders.contains_key(&port) {
            ensure!(senders.len() < PORTS_MAX, "more than {PORTS_MAX} source ports");
            senders.insert(port, port_of(&self.ns, self.source, port)?);
        }
        Ok(send(&senders[&port])?)
    }

    pub(super) fn faults(&self, faults: Faults) {
        self.control().faults = faults;
    }

    pub(super) fn record(&self, count: usize) {
        let mut control = self.control();
        control.record = count;
        control.kept.clear();
    }

    pub(super) fn hold(&self, count: usize, len_min: usize) {
        let mut control = self.control();
        (control.hold, control.hold_len_min) = (count, len_min);
        control.kept.clear();
    }

    pub(super) fn take(&self) -> Vec<Kept> {
        std::mem::take(&mut self.control().kept)
    }

    pub(super) fn tally(&self) -> Tally {
        self.control().tally
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }
}

/// How a datagram goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    /// Bytes of it.
    len: usize,
    /// How much later.
    late: Duration,
}

impl Control {
    /// What becomes of a datagram and in how many copies; may change a bit of it.
    fn judge(&mut self, port: u16, payload: &mut [u8]) -> (Option<Fate>, u8) {
        self.tally.received += 1;
        if self.hold > 0 && payload.len() >= self.hold_len_min {
            self.hold -= 1;
            self.tally.held += 1;
            self.kept.push(Kept { port, payload: payload.to_vec() });
            return (None, 0);
        }
        if self.record > 0 {
            self.record -= 1;
            self.kept.push(Kept { port, payload: payload.to_vec() });
        }
        let Self { faults, random, tally, .. } = self;
        if random.chance(faults.drop) || payload.len() > faults.payload_max {
            tally.dropped += 1;
            return (None, 0);
        }
        let mut fate = Fate { len: payload.len(), late: faults.delay };
        if random.chance(faults.reorder) {
            let late_max = usize::try_from(faults.late_max.as_nanos()).unwrap_or(usize::MAX);
            fate.late += Duration::from_nanos(random.below(late_max.max(1)) as u64 + 1);
            tally.reordered += 1;
        }
        if !payload.is_empty() && random.chance(faults.flip) {
            payload[random.below(fate.len)] ^= 1 << random.below(8);
            tally.damaged += 1;
        }
        if !payload.is_empty() && random.chance(faults.truncate) {
            fate.len = random.below(fate.len);
            tally.damaged += 1;
        }
        let twice = random.chance(faults.duplicate);
        tally.duplicated += u64::from(twice);
        (Some(fate), 1 + u8::from(twice))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
