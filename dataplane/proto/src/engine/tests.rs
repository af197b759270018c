//! Two engines with in-memory [`Io`], and on each the same two environments with the same
//! addresses:
//!
//! ```text
//!  side A                                     side B
//!   environment 0  web  10.0.0.2  fd00::2      environment 0  db  10.0.0.9  fd00::9
//!                  app  10.0.0.3                          idle (no USO) 10.0.0.8  fd00::8
//!   environment 1  web  10.0.0.2  fd00::2      environment 1  db  10.0.0.9  fd00::9
//! ```
//! Slots have the same numbers on both sides: attachments 0 `web`/`db` and 1 `app`/`idle` of
//! environment 0, 2 of environment 1; links 0 and 1 in environments 0 and 1.

mod bulk;
mod congestion;
mod control;
mod damage;
mod ecn;
mod gateway;
mod hostile;
mod mtu;
mod ownership;
mod pieces;
mod policy;
mod relay;
mod roam;
mod udp;
mod unreachable;
mod vectors;
mod waiting;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_sim::packet::{Flow, Packet, Transport, tcp};
use weft_types::{LaneId, ReceiverIndex, WorkerId};
use weft_wire::{Ecn, Header};

use super::*;
use crate::{
    Counter64, DropReason, Share, Target,
    aead::Suite,
    keys::{Role, Secret},
    lane::{Limits, ReceiveLane, SendLane},
};

const WEB: AttachmentSlot = AttachmentSlot(0);
const DB: AttachmentSlot = AttachmentSlot(0);
const APP: AttachmentSlot = AttachmentSlot(1);
const IDLE: AttachmentSlot = AttachmentSlot(1);
const OTHER: AttachmentSlot = AttachmentSlot(2);
const LINK: LinkSlot = LinkSlot(0);
const ENV: EnvironmentSlot = EnvironmentSlot(0);
const OTHER_ENV: EnvironmentSlot = EnvironmentSlot(1);
const SESSION: SessionId = SessionId(1);
const OTHER_SESSION: SessionId = SessionId(2);
const DATAGRAM_MAX: usize = 1472;

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Where datagrams come from in these tests.
const UNDERLAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000);

fn endpoint(side: usize, link: u16) -> SocketAddr {
    SocketAddr::new(addr("192.0.2.1"), 5000 + 10 * link + u16::try_from(side).unwrap())
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Sent {
    way: Way,
    ecn: Ecn,
    bytes: Vec<u8>,
}

/// What an engine gave away.
#[derive(Default)]
struct Memory {
    /// How often the next datagram was to leave by itself.
    parts: usize,
    datagrams: Vec<Sent>,
    delivered: Vec<(AttachmentSlot, Vec<u8>)>,
    /// What the gateways of environments were asked.
    asked: Vec<(EnvironmentSlot, Vec<u8>)>,
    /// How many packets more they take.
    asked_max: Option<usize>,
    is_full: bool,
    is_congested: bool,
    /// How many datagrams there is room for, if not for all.
    room: Option<usize>,
}

impl Io for Memory {
    fn datagram(&mut self, way: &Way, ecn: Ecn, len: usize) -> &mut [u8] {
        let bytes = vec![0; len];
        self.datagrams.push(Sent { way: *way, ecn, bytes });
        &mut self.datagrams.last_mut().unwrap().bytes
    }

    fn part(&mut self) {
        self.parts += 1;
    }

    fn has_room(&mut self) -> bool {
        !self.is_congested && self.room.is_none_or(|room| self.datagrams.len() < room)
    }

    fn deliver(
        &mut self,
        to: AttachmentSlot,
        head: &[u8],
        payload: &[u8],
    ) -> Result<(), Undeliverable> {
        if self.is_full {
            return Err(Undeliverable);
        }
        self.delivered.push((to, [head, payload].concat()));
        Ok(())
    }

    fn gateway(
        &mut self,
        environment: EnvironmentSlot,
        header: &[u8],
        payload: &[u8],
    ) -> Result<(), Unanswered> {
        if self.asked_max.is_some_and(|max| self.asked.len() >= max) {
            return Err(Unanswered);
        }
        self.asked.push((environment, [header, payload].concat()));
        Ok(())
    }
}

struct Side {
    engine: Engine,
    io: Memory,
    counters: [Arc<EnvironmentCounters>; 2],
    attachments: [Arc<AttachmentCounters>; 3],
    links: [Arc<LinkCounters>; 2],
    unattributed: Arc<EnvironmentCounters>,
    now: Instant,
}

impl Side {
    fn new(now: Instant, side: usize) -> Self {
        let unattributed = Arc::<EnvironmentCounters>::default();
        let mut this = Self {
            engine: Engine::new(WorkerId::new(0).unwrap(), unattributed.clone()),
            io: Memory::default(),
            counters: Default::default(),
            attachments: Default::default(),
            links: Default::default(),
            unattributed,
            now,
        };
        let (mine, theirs) = if side == 0 {
            (["10.0.0.2", "fd00::2"], ["10.0.0.9", "fd00::9"])
        } else {
            (["10.0.0.9", "fd00::9"], ["10.0.0.2", "fd00::2"])
        };
        let (second, second_there) = if side == 0 {
            (["10.0.0.3", "fd00::3"], ["10.0.0.8", "fd00::8"])
        } else {
            (["10.0.0.8", "fd00::8"], ["10.0.0.3", "fd00::3"])
        };
        for slot in 0..2u16 {
            let environment = EnvironmentSlot(slot.into());
            let new = NewEnvironment {
                gateway: Some(addr("10.0.0.1")),
                gateway6: Some(addr("fd00::1")),
                share: Share::default(),
                counters: this.counters[usize::from(slot)].clone(),
            };
            this.engine.add_environment(environment, new);
            let new = NewLink {
                environment,
                endpoint: endpoint(1 - side, slot),
                counters: this.links[usize::from(slot)].clone(),
            };
            this.engine.add_link(LinkSlot(slot.into()), new);
        }
        for (slot, environment, addresses) in
            [(WEB, ENV, mine), (APP, ENV, second), (OTHER, OTHER_ENV, mine)]
        {
            let new = NewAttachment {
                environment,
                addresses: addresses.map(addr).to_vec(),
                uso: slot != IDLE || side == 0,
                share: Share::default(),
                counters: this.attachments[slot.0 as usize].clone(),
            };
            this.engine.add_attachment(slot, new);
        }
        let routes = |own: AttachmentSlot, link: LinkSlot, with_second: bool| {
            let mut routes: Vec<_> = mine.map(|a| (addr(a), Target::Local(own))).to_vec();
            routes.extend(theirs.map(|a| (addr(a), Target::Remote(link))));
            if with_second {
                routes.extend(second.map(|a| (addr(a), Target::Local(APP))));
                routes.extend(second_there.map(|a| (addr(a), Target::Remote(link))));
            }
            Arc::new(routes.into_iter().collect())
        };
        this.engine.set_routes(ENV, routes(WEB, LINK, true));
        this.engine.set_routes(OTHER_ENV, routes(OTHER, LinkSlot(1), false));
        this
    }

    /// A packet from a container.
    fn send(&mut self, from: AttachmentSlot, packet: &[u8]) {
        self.engine.handle_packet(self.now, from, &mut packet.to_vec(), &mut self.io);
    }

    /// Datagrams from the underlay, one receive each, and the end of the drain.
    fn receive<'a>(&mut self, datagrams: impl IntoIterator<Item = &'a Sent>) {
        for datagram in datagrams {
            let bytes = &datagram.bytes;
            let (ecn, io) = (datagram.ecn, &mut self.io);
            self.engine.handle_datagrams(self.now, UNDERLAY, ecn, bytes.len(), bytes, io);
        }
        self.engine.finish_receive(&mut self.io);
    }

    fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.io.datagrams)
    }

    fn take_delivered(&mut self) -> Vec<(AttachmentSlot, Vec<u8>)> {
        std::mem::take(&mut self.io.delivered)
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters[0].drops[reason as usize].get()
    }

    fn unattributed(&self, reason: DropReason) -> u64 {
        self.unattributed.drops[reason as usize].get()
    }

    /// Drops of every cause, wherever they are counted.
    fn drops_of_all_kinds(&self) -> u64 {
        let all = self.counters.iter().chain([&self.unattributed]);
        all.flat_map(|c| &c.drops).map(Counter64::get).sum()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }

    fn tick(&mut self, after: Duration) {
        self.now += after;
        self.engine.handle_timeout(self.now, &mut self.io);
    }
}

struct Pair {
    a: Side,
    b: Side,
}

/// Which index a side gave to the other's lane of a session.
fn index(side: usize, session: SessionId) -> ReceiverIndex {
    let number = 0x10 * u32::try_from(session.0).unwrap() + u32::try_from(side).unwrap();
    ReceiverIndex::new(WorkerId::new(0).unwrap(), number)
}

fn session(now: Instant, side: usize, id: SessionId, link: LinkSlot, limits: Limits) -> NewSession {
    let exported = || {
        let byte = u8::try_from(id.0).unwrap();
        Secret::exported(&[byte; 32])
    };
    let lane = LaneId::new(0).unwrap();
    let role = if side == 0 { Role::Client } else { Role::Server };
    let suite = Suite::Aes256Gcm;
    let expires = now + Duration::from_secs(7200);
    NewSession {
        id,
        link,
        role,
        datagram_max: DATAGRAM_MAX,
        send: SendLane::new(
            index(1 - side, id),
            suite,
            exported().lane(role, lane),
            limits,
            expires,
        ),
        receive: vec![(
            index(side, id),
            ReceiveLane::new(suite, &exported().lane(role.peer(), lane)),
        )],
        confirms: side == 0,
    }
}

impl Pair {
    fn without_sessions() -> Self {
        let now = Instant::now();
        Self { a: Side::new(now, 0), b: Side::new(now, 1) }
    }

    fn with_limits(limits: Limits) -> Self {
        let mut pair = Self::without_sessions();
        for (link, id) in [(LINK, SESSION), (LinkSlot(1), OTHER_SESSION)] {
            pair.install(id, link, limits);
            pair.a.engine.activate(pair.a.now, id, &mut pair.a.io);
            pair.b.engine.activate(pair.b.now, id, &mut pair.b.io);
        }
        pair
    }

    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn install(&mut self, id: SessionId, link: LinkSlot, limits: Limits) {
        for (i, side) in [&mut self.a, &mut self.b].into_iter().enumerate() {
            let new = session(side.now, i, id, link, limits);
            side.engine.install_session(side.now, new);
        }
    }

    /// Both sides' clocks.
    fn advance(&mut self, by: Duration) {
        self.a.now += by;
        self.b.now += by;
    }

    /// What A sent arrives at B, in order and whole.
    fn a_to_b(&mut self) -> Vec<(AttachmentSlot, Vec<u8>)> {
        let sent = self.a.take_sent();
        self.b.receive(&sent);
        self.b.take_delivered()
    }

    fn b_to_a(&mut self) -> Vec<(AttachmentSlot, Vec<u8>)> {
        let sent = self.b.take_sent();
        self.a.receive(&sent);
        self.a.take_delivered()
    }
}

fn flow(source: &str, destination: &str) -> Flow {
    Flow { source: addr(source), destination: addr(destination), ports: (40_000, 443) }
}

/// From `web` on A to `db` on B.
fn forth(version: u8) -> Flow {
    match version {
        4 => flow("10.0.0.2", "10.0.0.9"),
        _ => flow("fd00::2", "fd00::9"),
    }
}

fn back(version: u8) -> Flow {
    let Flow { source, destination, ports } = forth(version);
    Flow { source: destination, destination: source, ports }
}

/// Bytes that differ from place to place.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251).to_le_bytes()[0]).collect()
}

/// A TCP packet whose every flag that matters is set and whose numbers are about to wrap.
fn tcp_packet(flow: Flow, payload: usize) -> Packet {
    let transport = Transport::Tcp {
        sequence: u32::MAX - 700,
        flags: tcp::ACK | tcp::PSH | tcp::FIN,
        options: 12,
    };
    let mut packet = Packet::new(flow, transport, bytes(payload));
    packet.id = 0xfffe;
    packet
}

fn udp_packet(flow: Flow, payload: usize) -> Packet {
    Packet::new(flow, Transport::Udp, bytes(payload))
}

/// The clear header of a datagram.
fn header(datagram: &Sent) -> Header {
    Header::decode(&datagram.bytes).unwrap()
}
