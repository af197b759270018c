//! Two hosts with one session: the client's container talks to the server's.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_proto::{
    AttachmentSlot, Engine, EnvironmentSlot, Io, LinkSlot, NewAttachment, NewEnvironment, NewLink,
    NewSession, SessionId, Share, Target, Undeliverable,
    aead::Suite,
    keys::{Role, Secret},
    lane::{Limits, ReceiveLane, SendLane},
    way::Way,
};
use weft_types::{LaneId, ReceiverIndex, WorkerId};
use weft_wire::{Ecn, Kind};

/// Largest datagram of the session.
pub const DATAGRAM_MAX: usize = 1472;

/// Addresses of the container on side 0 (client) or 1 (server).
#[must_use]
pub fn addresses(side: usize) -> [IpAddr; 2] {
    let last = if side == 0 { 2 } else { 9 };
    [
        Ipv4Addr::new(10, 0, 0, last).into(),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into(),
    ]
}

/// What an engine gave away.
#[derive(Default)]
pub struct Memory {
    /// Datagrams sealed.
    pub datagrams: Vec<Vec<u8>>,
    /// Packets written to the container's interface, with virtio headers.
    pub delivered: Vec<Vec<u8>>,
}

impl Io for Memory {
    fn datagram(&mut self, _: &Way, _: Ecn, len: usize) -> &mut [u8] {
        self.datagrams.push(vec![0; len]);
        self.datagrams.last_mut().expect("just added")
    }

    fn deliver(&mut self, _: AttachmentSlot, a: &[u8], b: &[u8]) -> Result<(), Undeliverable> {
        self.delivered.push([a, b].concat());
        Ok(())
    }
}

/// The two hosts.
pub struct Pair {
    /// The time, which stands still.
    pub now: Instant,
    /// The host that sends.
    pub client: Engine,
    /// The host that receives.
    pub server: Engine,
    /// Another sender with the client's keys, for a peer that seals what it likes.
    lane: SendLane,
}

impl Pair {
    /// The attachment on each side.
    pub const ATTACHMENT: AttachmentSlot = AttachmentSlot(0);
    /// The environment's own addresses.
    pub const GATEWAYS: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    ];

    /// Where each is, for the other.
    pub const UNDERLAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5820);

    /// A session that nothing has been sent on. Every pair is the same, so that corpora can hold
    /// sealed datagrams.
    #[must_use]
    pub fn fresh() -> Self {
        let now = Instant::now();
        Self { now, client: engine(now, 0), server: engine(now, 1), lane: send_lane(now, 0) }
    }

    /// A datagram that the server opens.
    pub fn seal(&mut self, kind: Kind, plain: &[u8]) -> Vec<u8> {
        self.lane.prepare(self.now, 1).expect("few datagrams");
        let mut out = vec![0; SendLane::datagram_len(plain.len(), 0)];
        self.lane.seal(kind, plain, &[], &mut out);
        out
    }
}

fn role(side: usize) -> Role {
    if side == 0 { Role::Client } else { Role::Server }
}

fn index(side: usize) -> ReceiverIndex {
    ReceiverIndex::new(WorkerId::new(0).expect("a worker"), if side == 0 { 1 } else { 2 })
}

fn secret(side: usize) -> Secret {
    let exported = Secret::exported(&[7; 32]);
    exported.lane(role(side), LaneId::new(0).expect("a lane"))
}

fn send_lane(now: Instant, side: usize) -> SendLane {
    let expires = now + Duration::from_secs(7200);
    SendLane::new(index(1 - side), Suite::Aes256Gcm, secret(side), Limits::default(), expires)
}

fn engine(now: Instant, side: usize) -> Engine {
    let mut engine = Engine::new(WorkerId::new(0).expect("a worker"), Arc::default());
    let (environment, link) = (EnvironmentSlot(0), LinkSlot(0));
    let [gateway, gateway6] = Pair::GATEWAYS.map(Some);
    engine.add_environment(
        environment,
        NewEnvironment { gateway, gateway6, share: Share::default(), counters: Arc::default() },
    );
    let new = NewAttachment {
        environment,
        addresses: addresses(side).to_vec(),
        uso: true,
        share: Share::default(),
        counters: Arc::default(),
    };
    engine.add_attachment(Pair::ATTACHMENT, new);
    let endpoint = Pair::UNDERLAY;
    engine.add_link(link, NewLink { environment, endpoint, counters: Arc::default() });
    let own = addresses(side).map(|a| (a, Target::Local(Pair::ATTACHMENT)));
    let other = addresses(1 - side).map(|a| (a, Target::Remote(link)));
    engine.set_routes(environment, Arc::new(own.into_iter().chain(other).collect()));
    let receive = ReceiveLane::new(Suite::Aes256Gcm, &secret(1 - side));
    let new = NewSession {
        id: SessionId(1),
        link,
        role: role(side),
        datagram_max: DATAGRAM_MAX,
        send: send_lane(now, side),
        receive: vec![(index(side), receive)],
        confirms: false,
    };
    engine.install_session(now, new);
    engine.activate(now, SessionId(1), &mut Memory::default());
    engine
}
