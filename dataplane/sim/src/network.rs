//! The underlay: a network that loses, repeats, delays, damages and marks datagrams, and an
//! attacker on it who keeps copies. The seed decides all of it.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use weft_wire::Ecn;

use crate::rng::Rng;

/// Copies that the attacker keeps.
const COPIES_MAX: usize = 200;
/// Port on which every host listens.
const PORT: u16 = 5820;

/// What happens to datagrams; chances are per mille.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Lost.
    pub drop: usize,
    /// Arrives a second time.
    pub duplicate: usize,
    /// One bit is flipped.
    pub flip: usize,
    /// Cut short.
    pub truncate: usize,
    /// Congestion is marked.
    pub mark: usize,
    /// For every datagram, the attacker also sends something of his own.
    pub attack: usize,
    /// Largest additional delay; zero keeps the order.
    pub jitter: Duration,
    /// How long every datagram is under way at least.
    pub latency: Duration,
}

impl Weather {
    /// Nothing is lost and nothing changes.
    #[must_use]
    pub const fn perfect() -> Self {
        Self {
            drop: 0,
            duplicate: 0,
            flip: 0,
            truncate: 0,
            mark: 0,
            attack: 0,
            jitter: Duration::ZERO,
            latency: Duration::from_millis(1),
        }
    }

    /// Whether datagrams arrive in the order in which they were sent. What an attacker repeats
    /// later is out of order too if the original was lost.
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        let loses = self.drop + self.flip + self.truncate > 0;
        self.jitter.is_zero() && !(self.attack > 0 && loses)
    }

    /// Whether every datagram arrives unchanged.
    #[must_use]
    pub fn loses_nothing(&self) -> bool {
        self.drop + self.flip + self.truncate + self.mark == 0
    }
}

/// A datagram at its destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// Host that receives it.
    pub to: usize,
    /// Host that sent it, or seems to have.
    pub from: usize,
    /// ECN bits of the outer header.
    pub ecn: u8,
    /// UDP payload.
    pub bytes: Vec<u8>,
}

/// The network between all hosts.
pub struct Network {
    /// What happens on it.
    pub weather: Weather,
    under_way: BinaryHeap<Reverse<(Instant, u64, Arrival)>>,
    serial: u64,
    copies: Vec<Arrival>,
    hosts: usize,
}

/// The address on which a host listens.
#[must_use]
pub fn address_of(host: usize) -> SocketAddr {
    let last = u8::try_from(host + 1).expect("few hosts");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), PORT)
}

fn host_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => usize::from(ip.octets()[3]) - 1,
        IpAddr::V6(_) => panic!("the underlay of the simulation is IPv4"),
    }
}

impl Network {
    /// A network between so many hosts.
    #[must_use]
    pub fn new(weather: Weather, hosts: usize) -> Self {
        let under_way = BinaryHeap::new();
        Self { weather, under_way, serial: 0, copies: Vec::new(), hosts }
    }

    /// A host sends a datagram.
    pub fn send(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        from: usize,
        out: (SocketAddr, Ecn, Vec<u8>),
    ) {
        let (to, ecn, bytes) = out;
        let arrival = Arrival { to: host_of(to), from, ecn: ecn as u8, bytes };
        if rng.chance(self.weather.attack) {
            self.attack(now, rng, &arrival);
        }
        if rng.chance(self.weather.duplicate) {
            self.carry(now, rng, arrival.clone());
        }
        self.carry(now, rng, arrival);
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next datagram that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<Arrival> {
        if self.next_arrival()? > now {
            return None;
        }
        self.under_way.pop().map(|Reverse((_, _, arrival))| arrival)
    }

    fn carry(&mut self, now: Instant, rng: &mut Rng, mut arrival: Arrival) {
        if rng.chance(self.weather.drop) {
            return;
        }
        let len = arrival.bytes.len();
        if rng.chance(self.weather.flip) && len > 0 {
            arrival.bytes[rng.below(len)] ^= 1 << rng.below(8);
        }
        if rng.chance(self.weather.truncate) && len > 0 {
            arrival.bytes.truncate(rng.below(len));
        }
        if rng.chance(self.weather.mark) {
            arrival.ecn = 3;
        }
        // In steps, so that datagrams still arrive together now and then.
        let steps = usize::try_from(self.weather.jitter.as_micros() / 100).expect("short");
        let jitter = rng.below(steps + 1) as u64 * 100;
        self.schedule(now + self.weather.latency + Duration::from_micros(jitter), arrival);
    }

    fn schedule(&mut self, at: Instant, arrival: Arrival) {
        self.serial += 1;
        self.under_way.push(Reverse((at, self.serial, arrival)));
    }

    /// The attacker sees everything, keeps some, and sends what he likes; never what a host has
    /// not received yet, so that the order of the originals stays.
    fn attack(&mut self, now: Instant, rng: &mut Rng, seen: &Arrival) {
        if self.copies.len() < COPIES_MAX {
            self.copies.push(seen.clone());
        } else {
            let at = rng.below(COPIES_MAX);
            self.copies[at] = seen.clone();
        }
        let mut forged = self.copies[rng.below(self.copies.len())].clone();
        let len = forged.bytes.len();
        match rng.below(7) {
            0 => {}
            1 => forged.to = rng.below(self.hosts),
            2 => std::mem::swap(&mut forged.to, &mut forged.from),
            // The index, the counter or the epoch of another datagram.
            3 if len >= 16 => {
                let other = &self.copies[rng.below(self.copies.len())].bytes;
                let range = [1..2, 4..8, 8..16][rng.below(3)].clone();
                if other.len() >= 16 {
                    forged.bytes[range.clone()].copy_from_slice(&other[range]);
                }
            }
            4 => forged.bytes = (0..rng.below(100)).map(|_| rng.bits().to_ne_bytes()[0]).collect(),
            5 if len >= 16 => {
                let far = rng.bits().to_be_bytes();
                forged.bytes[8..16].copy_from_slice(&far);
            }
            _ => {
                if len > 0 {
                    forged.bytes[rng.below(len)] ^= rng.bits().to_ne_bytes()[0];
                }
            }
        }
        let after = Duration::from_micros(rng.between(1, 3000) as u64);
        self.schedule(now + self.weather.latency + self.weather.jitter + after, forged);
    }
}
