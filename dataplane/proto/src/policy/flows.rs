//! Flows that a policy has allowed, so that answers pass.
//!
//! ```text
//!  hash ─▶ one of 16 shards (a lock each) ─▶ one of 4 to 512 buckets ─▶ one of 8 places
//! ```
//! A table of a fixed greatest size without chains: a look-up compares eight keys at most, whatever anybody
//! sends. It begins small and doubles a shard when a bucket is full; at its greatest, the flow that would end
//! first makes room. Every environment has its own. The hash is keyed, so that nobody can aim at a bucket.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::seen::{Packet, Part, Protocol};

const SHARDS: usize = 16;
const WAYS: usize = 8;
const BUCKETS_MIN: usize = 4;
/// Of a shard. 512 buckets of 8 flows of 56 bytes: 224 KiB, and 3.5 MiB an environment.
const BUCKETS_MAX: usize = 512;
/// Most flows of an environment on a host, 65,536: a quarter of what Linux tracks for a whole host by default
/// (`nf_conntrack_max`).
pub const FLOWS_MAX: usize = SHARDS * BUCKETS_MAX * WAYS;

/// Seconds without a packet after which a flow is forgotten: the defaults of Linux's connection tracking
/// (Documentation/networking/nf_conntrack-sysctl.rst) where nothing else is said.
mod timeout {
    /// `nf_conntrack_tcp_timeout_syn_sent`.
    pub(super) const TCP_ASKED: u32 = 120;
    /// RFC 5382 REQ-5 demands 2 hours and 4 minutes. Five days, as Linux has it, keep 65,536 places full of
    /// what is long gone; and what is forgotten too early is judged as after a restart.
    pub(super) const TCP_ANSWERED: u32 = 2 * 3600 + 4 * 60;
    /// `nf_conntrack_tcp_timeout_fin_wait`: one end has ended.
    pub(super) const TCP_HALF: u32 = 120;
    /// `nf_conntrack_tcp_timeout_last_ack`: both have, what comes is a last acknowledgement.
    pub(super) const TCP_ENDED: u32 = 30;
    /// `nf_conntrack_tcp_timeout_close`.
    pub(super) const TCP_RESET: u32 = 10;
    /// `nf_conntrack_udp_timeout`.
    pub(super) const UDP_ASKED: u32 = 30;
    /// Linux's `nf_conntrack_udp_timeout_stream` has been 180 and 120; RFC 4787 REQ-5 demands 120 at least.
    pub(super) const UDP_ANSWERED: u32 = 180;
    /// `nf_conntrack_icmp_timeout`.
    pub(super) const ECHO: u32 = 30;
    /// `nf_conntrack_generic_timeout`.
    pub(super) const OTHER: u32 = 600;
}

/// What both directions of a flow have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    ends: [[u64; 2]; 2],
    ports: [u16; 2],
    kind: Kind,
    is_v6: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Echo,
    Other(u8),
}

impl Kind {
    const fn number(self) -> u64 {
        match self {
            Self::Tcp => 1,
            Self::Udp => 2,
            Self::Echo => 3,
            Self::Other(protocol) => 0x100 | protocol as u64,
        }
    }
}

/// Where a packet's flow is in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    key: Key,
    hash: u64,
    /// The packet's sender is the first of the key's ends.
    pub(super) is_from_first: bool,
}

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only one end has spoken.
    Asked,
    /// Both have.
    Answered,
    /// One end has sent FIN: the first of the key's, or the other.
    Half { first: bool },
    /// Both have.
    Ended,
    /// Somebody has sent RST.
    Reset,
}

/// A flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    key: Key,
    /// The last second in which it is known.
    until: u32,
    /// Of the policy that allowed it last.
    pub(super) generation: u32,
    stage: Stage,
    /// The first of the key's ends has asked.
    pub(super) is_first_asking: bool,
}

const _: () = assert!(size_of::<Option<Entry>>() <= 56);

impl Entry {
    /// A packet of the flow passes.
    #[inline]
    pub(super) fn note(&mut self, part: Part, place: &Place, now: u32) {
        let from_first = place.is_from_first;
        let is_over = matches!(self.stage, Stage::Ended | Stage::Reset);
        self.stage = match (self.stage, part) {
            (_, Part::Reset) => Stage::Reset,
            (Stage::Asked | Stage::Answered, Part::Finishing) => Stage::Half { first: from_first },
            (Stage::Half { first }, Part::Finishing) if first != from_first => Stage::Ended,
            (Stage::Asked, _) if from_first != self.is_first_asking => Stage::Answered,
            (stage, _) => stage,
        };
        // What is over is not kept by packets that come all the same.
        if !is_over {
            self.until = now.saturating_add(timeout(self.key.kind, self.stage));
        }
    }

    /// Whether no end has ended it: what opens it is said again, and no other connection with its ports.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::Answered)
    }
}

fn timeout(kind: Kind, stage: Stage) -> u32 {
    match (kind, stage) {
        (Kind::Tcp, Stage::Asked) => timeout::TCP_ASKED,
        (Kind::Tcp, Stage::Answered) => timeout::TCP_ANSWERED,
        (Kind::Tcp, Stage::Half { .. }) => timeout::TCP_HALF,
        (Kind::Tcp, Stage::Ended) => timeout::TCP_ENDED,
        (Kind::Tcp, Stage::Reset) => timeout::TCP_RESET,
        (Kind::Udp, Stage::Asked) => timeout::UDP_ASKED,
        (Kind::Udp, _) => timeout::UDP_ANSWERED,
        (Kind::Echo, _) => timeout::ECHO,
        (Kind::Other(_), _) => timeout::OTHER,
    }
}

/// The flows of an environment.
pub(super) struct Flows {
    start: Instant,
    seed: u64,
    shards: Box<[Line]>,
}

/// Locks that different workers take are not in one cache line.
#[repr(align(64))]
#[derive(Default)]
struct Line(Mutex<Shard>);

impl Flows {
    /// No flows. `seed` is random.
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Line::default()).collect();
        Self { start: now, seed, shards }
    }

    /// The time in the table.
    pub(super) fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.start).as_secs()).unwrap_or(u32::MAX)
    }

    /// Where the flow of a packet is; one that is of no flow has none.
    #[inline]
    pub(super) fn place(&self, packet: &Packet) -> Option<Place> {
        let tuple = &packet.tuple;
        let kind = match (packet.part, tuple.protocol) {
            (Part::Error | Part::Alone | Part::Portless, _) => return None,
            (Part::Request(_) | Part::Reply(_), _) => Kind::Echo,
            (_, Protocol::Tcp) => Kind::Tcp,
            (_, Protocol::Udp) => Kind::Udp,
            (_, Protocol::Other(number)) => Kind::Other(number),
            (_, Protocol::Icmp) => return None,
        };
        let (source, destination) = (words(tuple.source), words(tuple.destination));
        let (from, to) = tuple.ports.unwrap_or((0, 0));
        // Whoever asks for an echo is first, so that requests of both ends with one identifier are two flows.
        let (ports, is_from_first) = match packet.part {
            Part::Request(id) => ([id, id], true),
            Part::Reply(id) => ([id, id], false),
            _ if (source, from) <= (destination, to) => ([from, to], true),
            _ => ([to, from], false),
        };
        let ends = if is_from_first { [source, destination] } else { [destination, source] };
        let key = Key { ends, ports, kind, is_v6: tuple.source.is_ipv6() };
        Some(Place { key, hash: hash(&key, self.seed), is_from_first })
    }

    /// Locks the part of the table that a flow is in.
    #[inline]
    pub(super) fn lock(&self, place: &Place) -> MutexGuard<'_, Shard> {
        // The highest bits; the lowest choose the bucket.
        let shard = low_bits(place.hash >> 60) % SHARDS;
        // Whoever panicked while it had the lock left whole entries.
        self.shards[shard].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new flow, to be put in.
    pub(super) fn entry(&self, place: &Place, is_first_asking: bool, generation: u32) -> Entry {
        let stage = Stage::Asked;
        Entry { key: place.key, until: 0, generation, stage, is_first_asking }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many flows there is room for now.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let of = |line: &Line| line.0.lock().unwrap().buckets.len() * WAYS;
        self.shards.iter().map(of).sum()
    }
}

type Bucket = [Option<Entry>; WAYS];

/// A part of the table.
#[derive(Default)]
pub(super) struct Shard {
    /// None, or a power of two.
    buckets: Vec<Bucket>,
}

impl Shard {
    /// The flow, if it is known.
    #[inline]
    pub(super) fn find(&mut self, place: &Place, now: u32) -> Option<&mut Entry> {
        let at = self.at(place.hash)?;
        let mut entries = self.buckets[at].iter_mut().flatten();
        entries.find(|entry| entry.key == place.key && entry.until >= now)
    }

    /// Puts a flow in, in the place of what was known of it before.
    pub(super) fn insert(&mut self, place: &Place, entry: Entry, now: u32, seed: u64) {
        loop {
            let may_grow = self.buckets.len() < BUCKETS_MAX;
            let Some(at) = self.at(place.hash) else {
                self.buckets = vec![[None; WAYS]; BUCKETS_MIN];
                continue;
            };
            let bucket = &mut self.buckets[at];
            let same = bucket.iter().position(|e| e.is_some_and(|e| e.key == entry.key));
            let free = || bucket.iter().position(|e| e.is_none_or(|e| e.until < now));
            if let Some(way) = same.or_else(free) {
                bucket[way] = Some(entry);
                return;
            }
            if may_grow {
                self.grow(seed);
                continue;
            }
            let first_to_end = bucket.iter_mut().min_by_key(|e| e.map_or(0, |e| e.until));
            if let Some(way) = first_to_end {
                *way = Some(entry);
            }
            return;
        }
    }

    #[inline]
    fn at(&self, hash: u64) -> Option<usize> {
        let mask = self.buckets.len().checked_sub(1)?;
        Some(low_bits(hash) & mask)
    }

    /// Twice as many buckets; what was in one is in one of two.
    #[cold]
    fn grow(&mut self, seed: u64) {
        let len = self.buckets.len() * 2;
        let old = std::mem::replace(&mut self.buckets, vec![[None; WAYS]; len]);
        for (way, entry) in old.iter().flat_map(|bucket| bucket.iter().enumerate()) {
            let at = entry.and_then(|entry| self.at(hash(&entry.key, seed)));
            if let Some(at) = at {
                // No two of one bucket were at one place.
                self.buckets[at][way] = *entry;
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lowest bits are meant")]
const fn low_bits(hash: u64) -> usize {
    hash as usize
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are there")]
fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0, u64::from(u32::from(address))],
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            [(bits >> 64) as u64, bits as u64]
        }
    }
}

/// Folded multiplication, as in wyhash: some nanoseconds, and without the seed nobody can tell which flows
/// share a bucket.
#[inline]
fn hash(key: &Key, seed: u64) -> u64 {
    /// Odd, with bits in no order: the fraction of the golden ratio.
    const MIXED: u64 = 0x9e37_79b9_7f4a_7c15;
    let other = seed.rotate_left(32) ^ MIXED;
    let ports = u64::from(key.ports[0]) << 16 | u64::from(key.ports[1]);
    let rest = key.kind.number() << 32 | ports;
    let [[a, b], [c, d]] = key.ends;
    let first = folded(a ^ seed, b ^ other);
    let second = folded(c ^ other, d ^ seed ^ MIXED);
    folded(first ^ rest, second ^ MIXED)
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
const fn folded(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}
