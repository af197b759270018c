//! The packet path of one worker.
//!
//! It owns everything that the worker needs to judge, seal and open packets, and shares nothing
//! but counters and what a policy has allowed. Environments, attachments, links and sessions are put in and taken out by the
//! daemon between packets.

mod backlog;
mod cut;
mod gateway;
mod inbound;
mod join;
mod judging;
mod outbound;
mod pending;
mod pieces;
mod sender;
mod session;
mod slots;
mod tables;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use weft_types::{ReceiverIndex, WorkerId};
use weft_wire::Ecn;

use crate::{
    AttachmentCounters, Bucket, EnvironmentCounters, LinkCounters, RouteTable, Share,
    path::PathMtu,
    policy::{Ground, Guard, Tuple},
    way::Way,
};
use backlog::Backlog;
use join::Join;
use pending::Pending;
use session::{Receiver, Session};
use slots::Slots;

pub use gateway::GATEWAY_PACKET_LEN_MAX;
pub use session::{NewSession, SessionId, SessionStatus};

/// How often [`Engine::handle_timeout`] looks after sessions.
const TICK: Duration = Duration::from_secs(1);
/// ICMP errors per attachment: ten at once, then ten per second, as Linux's per-target default
/// (`net.ipv4.icmp_ratelimit`) roughly allows.
const ICMP_BURST: u32 = 10;
const ICMP_INTERVAL: Duration = Duration::from_millis(100);
/// Denied packets of an environment that a worker tells of: ten at once, then one a second. Counters have all.
const DENIALS_BURST: u32 = 10;
const DENIALS_INTERVAL: Duration = Duration::from_secs(1);
/// Events that wait for the daemon. It takes them after every batch, and a batch makes few; what
/// is beyond is forgotten, and every event is repeated by its cause.
const EVENTS_MAX: usize = 1024;

macro_rules! slot {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl From<$name> for usize {
            fn from(slot: $name) -> usize {
                slot.0 as usize
            }
        }
    };
}
slot! {
    /// Place of an environment in every worker's tables.
    EnvironmentSlot
}
slot! {
    /// Place of an attachment in every worker's tables.
    AttachmentSlot
}
slot! {
    /// Place of a link (one peer in one environment) in every worker's tables.
    LinkSlot
}

/// The container's interface did not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undeliverable;

/// What answers at an environment's gateway address takes no more for now, or is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered;

/// Where packets go that leave the engine.
pub trait Io {
    /// Room for one datagram of exactly `len` bytes that goes this way with these ECN bits. The engine
    /// fills all of it before it asks for the next; it is sent at the latest when the batch ends.
    fn datagram(&mut self, way: &Way, ecn: Ecn, len: usize) -> &mut [u8];

    /// The next datagram is to leave by itself, not in one send with those before.
    fn part(&mut self) {}

    /// Whether datagrams leave about as fast as they come. While they do not, packets from containers
    /// wait in the engine.
    fn has_room(&mut self) -> bool {
        true
    }

    /// Gives `head ‖ payload` to an attachment's interface: a virtio header and one packet.
    ///
    /// # Errors
    /// [`Undeliverable`] when the interface is down or full.
    fn deliver(
        &mut self,
        to: AttachmentSlot,
        head: &[u8],
        payload: &[u8],
    ) -> Result<(), Undeliverable>;

    /// Hands `header ‖ payload` to what answers at an environment's gateway address: one whole packet of at
    /// most [`GATEWAY_PACKET_LEN_MAX`] bytes that an attachment of the environment sent there. Where nothing
    /// else is said, nobody is there.
    ///
    /// # Errors
    /// [`Unanswered`]; the packet is dropped then.
    fn gateway(
        &mut self,
        _environment: EnvironmentSlot,
        _header: &[u8],
        _payload: &[u8],
    ) -> Result<(), Unanswered> {
        Err(Unanswered)
    }
}

/// What the daemon should know or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Packets wait for a session on this link.
    NeedSession(LinkSlot),
    /// The first datagram of a session opened on some lane.
    Alive(SessionId),
    /// A session's keys run out: handshake anew.
    RekeySoon(SessionId),
    /// The peer has forgotten the session.
    Closed(SessionId),
    /// An authenticated datagram of a session came from another address than that to which datagrams
    /// go; said again while it is so.
    Elsewhere {
        /// The session.
        session: SessionId,
        /// Where it came from.
        from: SocketAddr,
        /// Whether it came on the first of the lanes that come to this worker: what this worker sends
        /// is read by that which sent it.
        is_home: bool,
    },
    /// The peer asks whether this host is where it seems to be now.
    Challenged(SessionId),
    /// The number of a challenge came back.
    Answered(SessionId, u64),
    /// Something on the way to the peer damages datagrams.
    Damaged {
        /// The session.
        session: SessionId,
        /// So many did not authenticate.
        refused: u32,
        /// Of so many.
        sent: u32,
    },
    /// A policy forbade a packet; said of few of many.
    Denied(Denial),
}

/// A packet that a policy forbade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Whose policy.
    pub environment: EnvironmentSlot,
    /// Which one: [`Guard::generation`].
    pub generation: u32,
    /// What decided.
    pub ground: Ground,
    /// The packet.
    pub tuple: Tuple,
    /// Whether it came from a container of this host, or from a peer.
    pub direction: Direction,
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a container of this host.
    Out,
    /// From a peer.
    In,
}

/// An environment to add.
pub struct NewEnvironment {
    /// The environment's own IPv4 address, the source of ICMP errors. What attachments here send there is
    /// handed out, see [`Io::gateway`].
    pub gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub gateway6: Option<IpAddr>,
    /// What it may send to other hosts.
    pub share: Share,
    /// This worker's counters.
    pub counters: Arc<EnvironmentCounters>,
}

/// An attachment to add.
pub struct NewAttachment {
    /// The environment it belongs to, for good.
    pub environment: EnvironmentSlot,
    /// The only source addresses it may use: one IPv4, one IPv6 or both.
    pub addresses: Vec<IpAddr>,
    /// Whether its interface takes UDP superpackets.
    pub uso: bool,
    /// What it may send to other hosts, of what its environment may.
    pub share: Share,
    /// This worker's counters.
    pub counters: Arc<AttachmentCounters>,
}

/// A link to add.
pub struct NewLink {
    /// The environment it belongs to, for good.
    pub environment: EnvironmentSlot,
    /// Where the peer's daemon listens.
    pub endpoint: SocketAddr,
    /// This worker's counters.
    pub counters: Arc<LinkCounters>,
}

struct Environment {
    gateway: Option<IpAddr>,
    gateway6: Option<IpAddr>,
    routes: Arc<RouteTable>,
    /// None: everything is allowed.
    guard: Option<Arc<Guard>>,
    /// How many denied packets may be told of.
    denials: Bucket,
    share: Share,
    counters: Arc<EnvironmentCounters>,
}

struct Attachment {
    environment: EnvironmentSlot,
    addresses: Vec<IpAddr>,
    uso: bool,
    share: Share,
    icmp: Bucket,
    /// Packets to the gateway.
    gateway: Bucket,
    counters: Arc<AttachmentCounters>,
}

struct Link {
    environment: EnvironmentSlot,
    way: Way,
    /// What was last said of the peer's being elsewhere.
    elsewhere: Option<Elsewhere>,
    /// Datagrams leave one by one.
    is_single: bool,
    active: Option<SessionId>,
    path: PathMtu,
    pending: Pending,
    counters: Arc<LinkCounters>,
}

/// A peer's datagrams come from another address, on this way.
#[derive(Clone, Copy)]
struct Elsewhere {
    ip: IpAddr,
    /// When it may be said again.
    again: Instant,
    pause: Duration,
}

/// The packet path of one worker. See the module documentation.
pub struct Engine {
    worker: WorkerId,
    environments: Slots<Environment>,
    attachments: Slots<Attachment>,
    links: Slots<Link>,
    sessions: FxHashMap<SessionId, Session>,
    receivers: FxHashMap<ReceiverIndex, Receiver>,
    join: Join,
    /// Packets that wait for room, or until their owners may send.
    backlog: Backlog,
    /// Some of them wait for room: whoever comes now waits behind them.
    is_crowded: bool,
    /// When to look after them again.
    backlog_at: Option<Instant>,
    events: VecDeque<Event>,
    /// Drops that belong to no environment: the datagram's session is not known.
    unattributed: Arc<EnvironmentCounters>,
    next_tick: Option<Instant>,
}

impl Engine {
    /// An engine without environments. `unattributed` counts drops of datagrams whose session is
    /// not known.
    #[must_use]
    pub fn new(worker: WorkerId, unattributed: Arc<EnvironmentCounters>) -> Self {
        Self {
            worker,
            environments: Slots::default(),
            attachments: Slots::default(),
            links: Slots::default(),
            sessions: FxHashMap::default(),
            receivers: FxHashMap::default(),
            join: Join::new(),
            backlog: Backlog::default(),
            is_crowded: false,
            backlog_at: None,
            events: VecDeque::with_capacity(EVENTS_MAX),
            unattributed,
            next_tick: None,
        }
    }

    /// The next event, if any. To be asked after every batch.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Engine::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_tick.into_iter().chain(self.backlog_at).min()
    }

    fn push_event(events: &mut VecDeque<Event>, event: Event) {
        if events.len() < EVENTS_MAX {
            events.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests;
