//! No packet costs an allocation: not sealed, not opened, not relayed, not dropped. Proven by an
//! allocator that counts; what a session or a new epoch costs is not counted.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_proto::{
    AttachmentSlot, Engine, EnvironmentSlot, Io, LinkSlot, NewAttachment, NewEnvironment, NewLink,
    NewSession, SessionId, Share, Target, Undeliverable,
    aead::Suite,
    keys::{Role, Secret},
    lane::{Limits, ReceiveLane, SendLane},
    policy::{Guard, PortRange, Rule, Rules, Selector, Transport as Over, Verdict},
    way::Way,
};
use weft_sim::packet::{Flow, Packet, Transport, tcp};
use weft_types::{LaneId, ReceiverIndex, WorkerId};
use weft_wire::Ecn;

const ROUNDS: usize = 50;
const OWN: AttachmentSlot = AttachmentSlot(0);
const NEIGHBOUR: AttachmentSlot = AttachmentSlot(1);

/// Where each is, for the other.
const UNDERLAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5820);

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Takes everything into memory that is there from the start.
struct Fixed {
    buffer: Box<[u8]>,
    lengths: Vec<usize>,
    used: usize,
    packets: usize,
    bytes: usize,
}

impl Fixed {
    fn new() -> Self {
        let buffer = vec![0; 1 << 20].into();
        Self { buffer, lengths: Vec::with_capacity(1 << 14), used: 0, packets: 0, bytes: 0 }
    }

    fn clear(&mut self) {
        self.used = 0;
        self.lengths.clear();
    }

    fn datagrams(&self) -> Vec<Vec<u8>> {
        let mut at = 0;
        let one = |len: &usize| {
            at += len;
            self.buffer[at - len..at].to_vec()
        };
        self.lengths.iter().map(one).collect()
    }
}

impl Io for Fixed {
    fn datagram(&mut self, _: &Way, _: Ecn, len: usize) -> &mut [u8] {
        let at = self.used;
        self.used += len;
        self.lengths.push(len);
        &mut self.buffer[at..self.used]
    }

    fn deliver(&mut self, _: AttachmentSlot, a: &[u8], b: &[u8]) -> Result<(), Undeliverable> {
        self.packets += 1;
        self.bytes += a.len() + b.len();
        Ok(())
    }
}

/// One side; its peer has the other's addresses.
fn engine(now: Instant, side: u32) -> Engine {
    let environment = EnvironmentSlot(0);
    let link = LinkSlot(0);
    let mut engine = Engine::new(WorkerId::new(0).expect("a worker"), Arc::default());
    let gateways = (Some(addr("10.0.0.1")), Some(addr("fd00::1")));
    let (gateway, gateway6) = gateways;
    engine.add_environment(
        environment,
        NewEnvironment { gateway, gateway6, share: Share::default(), counters: Arc::default() },
    );
    let (own, other) = if side == 0 { ("2", "9") } else { ("9", "2") };
    let both = |last: &str| [addr(&format!("10.0.0.{last}")), addr(&format!("fd00::{last}"))];
    for (slot, last) in [(OWN, own), (NEIGHBOUR, "5")] {
        let new = NewAttachment {
            environment,
            addresses: both(last).to_vec(),
            uso: true,
            share: Share::default(),
            counters: Arc::default(),
        };
        engine.add_attachment(slot, new);
    }
    let endpoint = UNDERLAY;
    engine.add_link(link, NewLink { environment, endpoint, counters: Arc::default() });
    let routes =
        [(own, Target::Local(OWN)), ("5", Target::Local(NEIGHBOUR)), (other, Target::Remote(link))];
    let routes = routes.into_iter().flat_map(|(last, to)| both(last).map(|a| (a, to)));
    engine.set_routes(environment, Arc::new(routes.collect()));

    let exported = || Secret::exported(&[7; 32]);
    let lane = LaneId::new(0).expect("a lane");
    let role = if side == 0 { Role::Client } else { Role::Server };
    let (suite, limits) = (Suite::Aes256Gcm, Limits::default());
    let secret = exported().lane(role, lane);
    let expires = now + Duration::from_secs(7200);
    let new = NewSession {
        id: SessionId(1),
        link,
        role,
        datagram_max: 1472,
        send: SendLane::new(ReceiverIndex(1 - side), suite, secret, limits, expires),
        receive: vec![(
            ReceiverIndex(side),
            ReceiveLane::new(suite, &exported().lane(role.peer(), lane)),
        )],
        confirms: false,
    };
    engine.install_session(now, new);
    engine.activate(now, SessionId(1), &mut Fixed::new());
    engine
}

fn flow(destination: &str) -> Flow {
    let source = if destination.contains(':') { "fd00::2" } else { "10.0.0.2" };
    Flow { source: addr(source), destination: addr(destination), ports: (1, 2) }
}

/// Everything that a container can send, small and in bulk.
fn traffic(to4: &str, to6: &str) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for to in [to4, to6] {
        let stream = Transport::Tcp { sequence: 7, flags: tcp::ACK | tcp::PSH, options: 12 };
        let with = |transport, len| Packet::new(flow(to), transport, vec![5; len]);
        packets.push(with(stream, 60_000).superpacket(1348));
        packets.push(with(stream, 2000).superpacket(1348));
        packets.push(with(stream, 0).unfinished());
        packets.push(with(Transport::Echo, 56).complete());
        packets.push(with(Transport::Other(50), 400).complete());
        for segments in [2, 64, 65, 66, 127, 128] {
            packets.push(with(Transport::Udp, segments * 100).superpacket(100));
            packets.push(with(stream, segments * 100).superpacket(100));
        }
        packets.extend((0..20).map(|_| with(Transport::Udp, 64).unfinished()));
        packets.push(with(Transport::Udp, 64).complete());
    }
    packets
}

#[track_caller]
fn assert_no_allocation(what: &str, mut work: impl FnMut()) {
    // The first round grows what grows once.
    work();
    let info = allocation_counter::measure(|| (0..ROUNDS).for_each(|_| work()));
    assert_eq!(info.count_total, 0, "{what}: {info:?}");
}

fn send_all(now: Instant, engine: &mut Engine, packets: &[Vec<u8>], io: &mut Fixed) {
    io.clear();
    // The engine uses a packet up.
    let mut read = [0; 1 << 16];
    for packet in packets {
        let read = &mut read[..packet.len()];
        read.copy_from_slice(packet);
        engine.handle_packet(now, OWN, read, io);
    }
}

#[test]
fn sealing_allocates_nothing() {
    let now = Instant::now();
    let (mut a, mut io) = (engine(now, 0), Fixed::new());
    let packets = traffic("10.0.0.9", "fd00::9");
    for i in 0..packets.len() {
        let one = &packets[i..=i];
        assert_no_allocation(&format!("packet {i}"), || send_all(now, &mut a, one, &mut io));
        assert!(!io.lengths.is_empty());
    }
    assert_no_allocation("all", || send_all(now, &mut a, &packets, &mut io));
}

#[test]
fn opening_and_joining_allocates_nothing() {
    let now = Instant::now();
    let (mut a, mut b) = (engine(now, 0), engine(now, 1));
    let packets = traffic("10.0.0.9", "fd00::9");
    let mut io = Fixed::new();
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        send_all(now, &mut a, &packets, &mut io);
        rounds.push(io.datagrams());
    }
    let mut rounds = rounds.into_iter();
    let mut done = Vec::with_capacity(ROUNDS + 1);
    assert_no_allocation("datagrams", || {
        let round = rounds.next().unwrap();
        for datagram in &round {
            b.handle_datagrams(now, UNDERLAY, Ecn::NotEct, datagram.len(), datagram, &mut io);
        }
        b.finish_receive(&mut io);
        done.push(round);
    });
    assert!(io.bytes > (ROUNDS + 1) * packets.iter().map(Vec::len).sum::<usize>() * 9 / 10);

    // Lost, marked, repeated, forged, of another worker: the same.
    assert_no_allocation("replays", || {
        for datagram in &done[0] {
            b.handle_datagrams(now, UNDERLAY, Ecn::NotEct, datagram.len(), datagram, &mut io);
        }
    });
    for (at, value) in [(60, 1), (4, 9), (5, 9), (3, 0), (8, 0x77)] {
        for datagram in &mut done[0] {
            let at = at.min(datagram.len() - 1);
            datagram[at] ^= value;
        }
        assert_no_allocation("forgeries", || {
            for datagram in &done[0] {
                b.handle_datagrams(now, UNDERLAY, Ecn::NotEct, datagram.len(), datagram, &mut io);
            }
        });
    }
}

#[test]
fn partial_superpackets_allocate_nothing() {
    let now = Instant::now();
    let (mut a, mut b) = (engine(now, 0), engine(now, 1));
    let packets = traffic("10.0.0.9", "fd00::9");
    let mut io = Fixed::new();
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        send_all(now, &mut a, &packets, &mut io);
        rounds.push(io.datagrams());
    }
    let mut rounds = rounds.iter();
    assert_no_allocation("gaps", || {
        for (i, datagram) in rounds.next().unwrap().iter().enumerate() {
            let ecn = if i % 5 == 0 { Ecn::Ect1 } else { Ecn::NotEct };
            if i % 7 != 0 {
                b.handle_datagrams(now, UNDERLAY, ecn, datagram.len(), datagram, &mut io);
            }
        }
        b.finish_receive(&mut io);
    });
    assert!(io.packets > 0);
}

#[test]
fn relaying_allocates_nothing() {
    let now = Instant::now();
    let (mut a, mut io) = (engine(now, 0), Fixed::new());
    let packets = traffic("10.0.0.5", "fd00::5");
    assert_no_allocation("relay", || send_all(now, &mut a, &packets, &mut io));
    assert_eq!(io.packets, (ROUNDS + 1) * packets.len());
}

/// A policy under which the traffic of these tests goes, or does not.
fn guard(now: Instant, default: Verdict) -> Arc<Guard> {
    let rule = Rule {
        name: "none".parse().expect("a name"),
        from: Selector::Any,
        to: Selector::Addresses([addr("10.0.0.9")].into()),
        protocol: Some(Over::Tcp),
        ports: vec![PortRange { first: 9, last: 9 }],
        verdict: Verdict::Deny,
    };
    let rules = Rules { default, rules: vec![rule] };
    Arc::new(Guard::new(now, rules.compile().expect("rules"), 1, 7))
}

#[test]
fn judging_allocates_nothing() {
    let now = Instant::now();
    let (mut a, mut io) = (engine(now, 0), Fixed::new());
    a.set_policy(EnvironmentSlot(0), Some(guard(now, Verdict::Allow)));
    let packets = traffic("10.0.0.9", "fd00::9");
    assert_no_allocation("allowed", || send_all(now, &mut a, &packets, &mut io));
    assert!(!io.lengths.is_empty());
    a.set_policy(EnvironmentSlot(0), Some(guard(now, Verdict::Deny)));
    assert_no_allocation("denied", || send_all(now, &mut a, &packets, &mut io));
    assert!(io.lengths.is_empty());
}

#[test]
fn dropping_allocates_nothing() {
    let now = Instant::now();
    let (mut a, mut io) = (engine(now, 0), Fixed::new());
    let mut packets = traffic("10.0.0.77", "fd00::77");
    packets.push(vec![0; 5]);
    packets.push(vec![0; 500]);
    assert_no_allocation("nowhere", || send_all(now, &mut a, &packets, &mut io));
    let packets = traffic("10.0.0.9", "fd00::9");
    let later = now + Duration::from_secs(7200);
    assert_no_allocation("expired", || send_all(later, &mut a, &packets, &mut io));
    assert!(io.lengths.is_empty());
}
