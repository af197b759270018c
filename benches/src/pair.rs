//! Two hosts' engines with a session between them, and a place for what they give away: the same
//! engine that the daemon's workers run, without sockets and interfaces.
//!
//! ```text
//!  Sender: handle_packet ─▶ Sink ─▶ Receiver: handle_datagrams, finish_receive ─▶ Sink
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_proto::aead::Suite;
use weft_proto::keys::{Role, SECRET_LEN, Secret};
use weft_proto::lane::{Limits, ReceiveLane, SendLane};
use weft_proto::way::Way;
use weft_proto::{
    AttachmentSlot, Engine, EnvironmentSlot, Io, LinkSlot, NewAttachment, NewEnvironment, NewLink,
    NewSession, SessionId, Share, Target, Undeliverable,
};
use weft_sim::packet::{Flow, Packet, Transport, tcp};
use weft_types::{LaneId, ReceiverIndex, WorkerId};
use weft_wire::{Ecn, METADATA_LEN, VIRTIO_HEADER_LEN};

/// Segments of the superpacket: as many as fit `gso_max_size` 60,500 at MTU 1408.
pub const SEGMENTS: usize = 44;
/// Payload of each segment, bytes: MTU 1408 less 20 of IPv4 and 32 of TCP with timestamps.
pub const SEGMENT_LEN: usize = 1356;
/// IPv4 and TCP header with timestamps, bytes.
pub const INNER_HEADER_LEN: usize = 52;
/// What stands behind the payload in every datagram, bytes: inner header and metadata.
pub const TAIL_LEN: usize = INNER_HEADER_LEN + METADATA_LEN;
/// Bytes of each datagram of the superpacket.
pub const DATAGRAM_LEN: usize = SendLane::datagram_len(SEGMENT_LEN, TAIL_LEN);

const ENVIRONMENT: EnvironmentSlot = EnvironmentSlot(0);
const ATTACHMENT: AttachmentSlot = AttachmentSlot(0);
const LINK: LinkSlot = LinkSlot(0);
const SESSION: SessionId = SessionId(1);
/// Index by which the receiver knows the sender's lane.
const INDEX: ReceiverIndex = ReceiverIndex(0);
const SENDER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const RECEIVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
const ENDPOINT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5820);
/// Largest datagram on a path with an MTU of 1500, bytes.
const DATAGRAM_MAX: usize = 1472;
const SESSION_AGE_MAX: Duration = Duration::from_secs(7200);
const SUITE: Suite = Suite::Aes256Gcm;

/// Keeps datagrams one behind the other, as the daemon's batch does, and counts what an interface
/// is given.
#[derive(Debug)]
pub struct Sink {
    buffer: Box<[u8]>,
    used: usize,
    /// Bytes delivered so far, virtio headers included.
    pub delivered: usize,
}

impl Default for Sink {
    fn default() -> Self {
        Self { buffer: vec![0; SEGMENTS * DATAGRAM_LEN].into(), used: 0, delivered: 0 }
    }
}

impl Sink {
    /// The datagrams since the last [`Sink::clear`], one behind the other.
    #[must_use]
    pub fn datagrams(&self) -> &[u8] {
        &self.buffer[..self.used]
    }

    /// Forgets the datagrams.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

impl Io for Sink {
    /// # Panics
    /// When there are more than the superpacket makes.
    fn datagram(&mut self, _: &Way, _: Ecn, len: usize) -> &mut [u8] {
        let at = self.used;
        self.used += len;
        &mut self.buffer[at..self.used]
    }

    fn deliver(
        &mut self,
        _: AttachmentSlot,
        head: &[u8],
        payload: &[u8],
    ) -> Result<(), Undeliverable> {
        self.delivered += head.len() + payload.len();
        Ok(())
    }
}

/// The host that sends.
pub struct Sender {
    engine: Engine,
    now: Instant,
    packet: Vec<u8>,
    /// The packet's first bytes, which the engine may write.
    header: [u8; VIRTIO_HEADER_LEN + INNER_HEADER_LEN],
}

impl Sender {
    /// Takes the superpacket as if it was read from the container's interface, and cuts and seals
    /// it into `sink`.
    pub fn send(&mut self, sink: &mut Sink) {
        self.packet[..self.header.len()].copy_from_slice(&self.header);
        self.engine.handle_packet(self.now, ATTACHMENT, &mut self.packet, sink);
    }
}

/// The host that receives.
pub struct Receiver {
    engine: Engine,
    now: Instant,
}

impl Receiver {
    /// Takes a superpacket's datagrams as if the kernel had merged them into one receive, and opens
    /// and joins them into `sink`.
    pub fn receive(&mut self, datagrams: &[u8], sink: &mut Sink) {
        self.engine.handle_datagrams(
            self.now,
            ENDPOINT,
            Ecn::NotEct,
            DATAGRAM_LEN,
            datagrams,
            sink,
        );
        self.engine.finish_receive(sink);
        while self.engine.poll_event().is_some() {}
    }
}

/// Two hosts, a container on each, and a session between them.
#[must_use]
pub fn pair() -> (Sender, Receiver) {
    let now = Instant::now();
    let stream = Transport::Tcp { sequence: 7, flags: tcp::ACK | tcp::PSH, options: 12 };
    let flow = Flow { source: SENDER, destination: RECEIVER, ports: (1, 2) };
    let segment = u16::try_from(SEGMENT_LEN).expect("below 2^16");
    let packet = Packet::new(flow, stream, vec![5; SEGMENTS * SEGMENT_LEN]).superpacket(segment);
    let header = *packet.first_chunk().expect("a packet has its header");
    let sender = Sender { engine: engine(now, Role::Client), now, packet, header };
    (sender, Receiver { engine: engine(now, Role::Server), now })
}

/// Both ends of the lane on which the [`Sender`] sends, without the engines around them.
#[must_use]
pub fn lanes(now: Instant) -> (SendLane, ReceiveLane) {
    (send_lane(now, Role::Client), ReceiveLane::new(SUITE, &secret(Role::Client)))
}

fn secret(role: Role) -> Secret {
    let lane = LaneId::new(0).expect("a lane");
    Secret::exported(&[7; SECRET_LEN]).lane(role, lane)
}

fn send_lane(now: Instant, role: Role) -> SendLane {
    SendLane::new(INDEX, SUITE, secret(role), Limits::default(), now + SESSION_AGE_MAX)
}

fn engine(now: Instant, role: Role) -> Engine {
    let mut engine = Engine::new(WorkerId::new(0).expect("a worker"), Arc::default());
    let new = NewEnvironment {
        gateway: None,
        gateway6: None,
        share: Share::default(),
        counters: Arc::default(),
    };
    engine.add_environment(ENVIRONMENT, new);
    let (own, other) = match role {
        Role::Client => (SENDER, RECEIVER),
        Role::Server => (RECEIVER, SENDER),
    };
    let new = NewAttachment {
        environment: ENVIRONMENT,
        addresses: vec![own],
        uso: true,
        share: Share::default(),
        counters: Arc::default(),
    };
    engine.add_attachment(ATTACHMENT, new);
    let new = NewLink { environment: ENVIRONMENT, endpoint: ENDPOINT, counters: Arc::default() };
    engine.add_link(LINK, new);
    let routes = [(own, Target::Local(ATTACHMENT)), (other, Target::Remote(LINK))];
    engine.set_routes(ENVIRONMENT, Arc::new(routes.into_iter().collect()));
    let new = NewSession {
        id: SESSION,
        link: LINK,
        role,
        datagram_max: DATAGRAM_MAX,
        send: send_lane(now, role),
        receive: vec![(INDEX, ReceiveLane::new(SUITE, &secret(role.peer())))],
        confirms: false,
    };
    engine.install_session(now, new);
    engine.activate(now, SESSION, &mut Sink::default());
    engine
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A benchmark of packets that are dropped would measure nothing.
    #[test]
    fn every_superpacket_arrives_whole() {
        let (mut sender, mut receiver) = pair();
        let (mut wire, mut interface) = (Sink::default(), Sink::default());
        for round in 1..=3 {
            wire.clear();
            sender.send(&mut wire);
            assert_eq!(wire.datagrams().len(), SEGMENTS * DATAGRAM_LEN);
            receiver.receive(wire.datagrams(), &mut interface);
            assert_eq!(interface.delivered, round * sender.packet.len());
        }
    }
}
