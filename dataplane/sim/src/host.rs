//! One host: its workers' engines, its relations with peers, and a small daemon around them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_proto::{
    AttachmentSlot, Engine, EnvironmentSlot, Event, IndexTable, Io, LinkSlot, NewAttachment,
    NewEnvironment, NewLink, NewSession, RouteTable, SessionId, Share, Target, Undeliverable,
    aead::Suite,
    keys::{Role, Secret},
    lane::{Limits, ReceiveLane, SendLane},
    peer::{self, Action, Peer},
    way::Way,
};
use weft_types::{HostId, LaneId, ReceiverIndex, WorkerId};
use weft_wire::Ecn;

use crate::{
    network::{Arrival, address_of},
    rng::Rng,
};

/// Attachments of each environment on each host.
pub const ATTACHMENTS: usize = 2;

/// What every host of a run knows.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Workers of each host.
    pub workers: Vec<usize>,
    /// Environments, each on every host, all with the same addresses.
    pub environments: usize,
    /// When keys change.
    pub limits: Limits,
    /// Time between regular handshakes.
    pub rehandshake: Duration,
    /// Which interfaces take UDP superpackets.
    pub uso: [bool; ATTACHMENTS],
    /// AEAD of all sessions.
    pub suite: Suite,
}

/// The overlay address of attachment `k` of a host, the same in every environment.
#[must_use]
pub fn overlay(host: usize, k: usize, six: bool) -> IpAddr {
    let (h, k) = (u8::try_from(host).expect("few"), u8::try_from(k).expect("few") + 2);
    if six {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, h.into(), k.into()))
    } else {
        IpAddr::V4(Ipv4Addr::new(10, 0, h, k))
    }
}

/// The slot of attachment `k` of an environment.
#[must_use]
pub fn attachment_slot(environment: usize, k: usize) -> AttachmentSlot {
    AttachmentSlot(u32::try_from(environment * ATTACHMENTS + k).expect("few"))
}

/// What an engine gives away.
#[derive(Default)]
struct Out {
    datagrams: Vec<(SocketAddr, Ecn, Vec<u8>)>,
    delivered: Vec<(AttachmentSlot, Vec<u8>)>,
}

impl Io for Out {
    fn datagram(&mut self, way: &Way, ecn: Ecn, len: usize) -> &mut [u8] {
        self.datagrams.push((way.to, ecn, vec![0; len]));
        self.datagrams.last_mut().map(|d| &mut d.2[..]).expect("just added")
    }

    fn deliver(&mut self, to: AttachmentSlot, a: &[u8], b: &[u8]) -> Result<(), Undeliverable> {
        self.delivered.push((to, [a, b].concat()));
        Ok(())
    }
}

struct Worker {
    engine: Engine,
    out: Out,
}

/// A relation of two hosts in an environment, as one of them sees it: environment, other host.
pub type Relation = (usize, usize);

/// What the two ends of a handshake agree on.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// What TLS would export.
    pub exported: [u8; 32],
    /// The client's generation.
    pub generation: u32,
    /// The client's receiver indices, by the server's lanes.
    pub client_indices: Vec<ReceiverIndex>,
    /// The server's receiver indices, by the client's lanes.
    pub server_indices: Vec<ReceiverIndex>,
    /// Instance of client and server.
    pub instances: [[u8; 16]; 2],
}

/// A host.
pub struct Host {
    number: usize,
    /// Counts its restarts.
    pub incarnation: u32,
    plan: Plan,
    workers: Vec<Worker>,
    relations: BTreeMap<Relation, Peer>,
    instance: [u8; 16],
    indices: IndexTable,
    sessions: HashMap<SessionId, (Relation, Vec<ReceiverIndex>)>,
    next_session: u64,
}

fn id_of(host: usize) -> HostId {
    HostId::new(&format!("host-{host}")).expect("a label")
}

impl Host {
    /// A host that has just started.
    #[must_use]
    pub fn new(number: usize, incarnation: u32, plan: &Plan, rng: &mut Rng) -> Self {
        let others = || (0..plan.workers.len()).filter(move |other| *other != number);
        let mut relations = BTreeMap::new();
        for environment in 0..plan.environments {
            for other in others() {
                let mut peer = Peer::new(&id_of(number), &id_of(other), plan.rehandshake);
                peer.handle_need();
                relations.insert((environment, other), peer);
            }
        }
        let worker = |w| Worker { engine: engine(number, w, plan), out: Out::default() };
        Self {
            number,
            incarnation,
            plan: plan.clone(),
            workers: (0..plan.workers[number]).map(worker).collect(),
            relations,
            instance: rng.bytes16(),
            indices: IndexTable::default(),
            sessions: HashMap::new(),
            next_session: u64::from(incarnation) << 32,
        }
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Its instance, new with every start.
    #[must_use]
    pub fn instance(&self) -> [u8; 16] {
        self.instance
    }

    /// A container sends. `flow` decides the worker, as steering does.
    pub fn send(&mut self, now: Instant, from: AttachmentSlot, flow: usize, data: &[u8]) {
        let count = self.workers.len();
        let Worker { engine, out } = &mut self.workers[flow % count];
        engine.handle_packet(now, from, &mut data.to_vec(), out);
    }

    /// Datagrams that one receive drain found, in order. Neighbours of one length may have been
    /// merged by the kernel.
    pub fn receive(&mut self, now: Instant, arrivals: &[Arrival], rng: &mut Rng) {
        for w in 0..self.workers.len() {
            let mine: Vec<_> = arrivals.iter().filter(|a| self.worker_of(a) == w).collect();
            let Worker { engine, out } = &mut self.workers[w];
            let mut rest = &mine[..];
            while let Some(first) = rest.first() {
                let limit = rng.between(1, 64);
                let joins = |a: &&&Arrival| a.from == first.from && a.ecn == first.ecn;
                let same = |a: &&&Arrival| joins(a) && a.bytes.len() == first.bytes.len();
                let mut count = rest.iter().take_while(same).take(limit).count();
                // The last may be shorter.
                if let Some(last) = rest.get(count)
                    && joins(&last)
                    && count < limit
                    && (1..first.bytes.len()).contains(&last.bytes.len())
                {
                    count += 1;
                }
                let data: Vec<u8> = rest[..count].iter().flat_map(|a| a.bytes.clone()).collect();
                let (ecn, len) = (Ecn::from_bits(first.ecn), first.bytes.len());
                engine.handle_datagrams(now, address_of(first.from), ecn, len, &data, out);
                rest = &rest[count..];
            }
            engine.finish_receive(out);
        }
    }

    /// As the classic BPF program: byte 4, or some worker when it names none.
    fn worker_of(&self, arrival: &Arrival) -> usize {
        let byte = arrival.bytes.get(4).map_or(0, |b| usize::from(*b));
        if byte < self.workers.len() { byte } else { 0 }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for Worker { engine, out } in &mut self.workers {
            engine.handle_timeout(now, out);
        }
        for peer in self.relations.values_mut() {
            if peer.poll_timeout().is_some_and(|at| at <= now) {
                peer.handle_timeout(now);
            }
        }
    }

    /// When [`Host::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let engines = self.workers.iter().filter_map(|w| w.engine.poll_timeout());
        engines.chain(self.relations.values().filter_map(Peer::poll_timeout)).min()
    }

    /// Passes events to relations and does what they want. Gives the handshakes to begin.
    pub fn settle(&mut self, now: Instant) -> Vec<Relation> {
        let mut handshakes = Vec::new();
        loop {
            let events: Vec<Event> = self
                .workers
                .iter_mut()
                .flat_map(|w| std::iter::from_fn(|| w.engine.poll_event()))
                .collect();
            for event in events {
                self.handle_event(now, event);
            }
            let Some((relation, action)) = self
                .relations
                .iter_mut()
                .find_map(|(relation, peer)| peer.poll_action().map(|a| (*relation, a)))
            else {
                return handshakes;
            };
            match action {
                Action::Handshake => handshakes.push(relation),
                Action::Activate(id) => {
                    for Worker { engine, out } in &mut self.workers {
                        engine.activate(now, id, out);
                    }
                }
                Action::Unproven => {}
                Action::Remove { id, say_so } => self.remove(now, id, say_so),
                // Nothing but UDP is simulated.
                Action::Late => {}
            }
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        let relation_of = |id: &SessionId| self.sessions.get(id).map(|(relation, _)| *relation);
        let relation = match &event {
            Event::NeedSession(link) => Some(self.relation_of_link(*link)),
            Event::Alive(id) | Event::RekeySoon(id) | Event::Closed(id) => relation_of(id),
            // No host moves here.
            Event::Elsewhere { .. }
            | Event::Challenged(_)
            | Event::Answered(..)
            | Event::Damaged { .. }
            | Event::Denied(_) => None,
        };
        let Some(peer) = relation.and_then(|relation| self.relations.get_mut(&relation)) else {
            return;
        };
        match event {
            Event::NeedSession(_) => peer.handle_need(),
            Event::Alive(id) => peer.handle_alive(now, id),
            Event::RekeySoon(id) => peer.handle_rekey_soon(id),
            Event::Closed(id) => peer.handle_closed(now, id),
            Event::Elsewhere { .. }
            | Event::Challenged(_)
            | Event::Answered(..)
            | Event::Damaged { .. }
            | Event::Denied(_) => {}
        }
    }

    fn remove(&mut self, now: Instant, id: SessionId, say_so: bool) {
        for (w, Worker { engine, out }) in self.workers.iter_mut().enumerate() {
            engine.remove_session(now, id, say_so && w == 0, out);
        }
        let Some((_, indices)) = self.sessions.remove(&id) else { return };
        for index in indices {
            self.indices.release(now, index);
        }
    }

    /// The generation that a handshake of this relation sends.
    #[must_use]
    pub fn next_generation(&self, relation: Relation) -> u32 {
        self.relations[&relation].next_generation()
    }

    /// A new session is wanted although there may be one.
    pub fn renew(&mut self, relation: Relation) {
        if let Some(peer) = self.relations.get_mut(&relation) {
            peer.handle_renew();
        }
    }

    /// The same for all its relations.
    pub fn renew_all(&mut self) {
        self.relations.values_mut().for_each(Peer::handle_renew);
    }

    /// A handshake failed.
    pub fn handle_failed(&mut self, now: Instant, relation: Relation, rng: &mut Rng) {
        let random = u32::try_from(rng.bits() >> 32).expect("32 bits");
        if let Some(peer) = self.relations.get_mut(&relation) {
            peer.handle_failed(now, random);
        }
    }

    /// Indices for a peer's lanes.
    pub fn allocate(&mut self, now: Instant, lanes: usize, rng: &mut Rng) -> Vec<ReceiverIndex> {
        let count = self.workers.len();
        let random = || u32::try_from(rng.bits() >> 32).expect("32 bits");
        let mut random = random;
        (0..lanes)
            .map(|lane| {
                let worker = WorkerId::new(lane % count).expect("few workers");
                self.indices.allocate(now, worker, &mut random).expect("few sessions")
            })
            .collect()
    }

    /// A handshake succeeded: the session goes into all workers.
    pub fn establish(&mut self, now: Instant, relation: Relation, role: Role, with: &Agreement) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let (own, peers, peer_instance) = match role {
            Role::Client => (&with.client_indices, &with.server_indices, with.instances[1]),
            Role::Server => (&with.server_indices, &with.client_indices, with.instances[0]),
        };
        let expires = now + peer::SESSION_AGE_MAX;
        let exported = Secret::exported(&with.exported);
        let lane = |n: usize| LaneId::new(n).expect("few lanes");
        let count = self.workers.len();
        let suite = self.plan.suite;
        let link = self.link_of(relation);
        for (w, Worker { engine, .. }) in self.workers.iter_mut().enumerate() {
            let secret = exported.lane(role, lane(w));
            let send = SendLane::new(peers[w], suite, secret, self.plan.limits, expires);
            let receive = (w..own.len())
                .step_by(count)
                .map(|n| (own[n], ReceiveLane::new(suite, &exported.lane(role.peer(), lane(n)))))
                .collect();
            let confirms = role == Role::Client && w == 0;
            let datagram_max = 1472;
            let new = NewSession { id, link, role, datagram_max, send, receive, confirms };
            engine.install_session(now, new);
        }
        self.sessions.insert(id, (relation, own.clone()));
        let generation = with.generation;
        let new = peer::Established { id, role, peer_instance, generation, expires };
        if let Some(peer) = self.relations.get_mut(&relation) {
            peer.handle_established(now, new);
        }
    }

    /// Gives indices back that no session will use.
    pub fn give_back(&mut self, now: Instant, indices: &[ReceiverIndex]) {
        for index in indices {
            self.indices.release(now, *index);
        }
    }

    /// What left the host since the last call, datagrams of each worker in order.
    pub fn take_datagrams(&mut self) -> Vec<(SocketAddr, Ecn, Vec<u8>)> {
        self.workers.iter_mut().flat_map(|w| std::mem::take(&mut w.out.datagrams)).collect()
    }

    /// What was written to interfaces since the last call.
    pub fn take_delivered(&mut self) -> Vec<(AttachmentSlot, Vec<u8>)> {
        self.workers.iter_mut().flat_map(|w| std::mem::take(&mut w.out.delivered)).collect()
    }

    fn link_of(&self, (environment, other): Relation) -> LinkSlot {
        link_slot(environment, other, self.plan.workers.len())
    }

    fn relation_of_link(&self, link: LinkSlot) -> Relation {
        let hosts = self.plan.workers.len();
        let slot = usize::from(link);
        (slot / hosts, slot % hosts)
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }
}

fn link_slot(environment: usize, other: usize, hosts: usize) -> LinkSlot {
    LinkSlot(u32::try_from(environment * hosts + other).expect("few"))
}

fn engine(host: usize, worker: usize, plan: &Plan) -> Engine {
    let mut engine = Engine::new(WorkerId::new(worker).expect("few workers"), Arc::default());
    let hosts = plan.workers.len();
    for e in 0..plan.environments {
        let environment = EnvironmentSlot(u32::try_from(e).expect("few"));
        let new = NewEnvironment {
            gateway: None,
            gateway6: None,
            share: Share::default(),
            counters: Arc::default(),
        };
        engine.add_environment(environment, new);
        let mut routes = Vec::new();
        for k in 0..ATTACHMENTS {
            let addresses = vec![overlay(host, k, false), overlay(host, k, true)];
            let slot = attachment_slot(e, k);
            routes.extend(addresses.iter().map(|a| (*a, Target::Local(slot))));
            let counters = Arc::default();
            let (uso, share) = (plan.uso[k], Share::default());
            let new = NewAttachment { environment, addresses, uso, share, counters };
            engine.add_attachment(slot, new);
        }
        for other in (0..hosts).filter(|other| *other != host) {
            let link = link_slot(e, other, hosts);
            let endpoint = address_of(other);
            engine.add_link(link, NewLink { environment, endpoint, counters: Arc::default() });
            for k in 0..ATTACHMENTS {
                routes.extend(
                    [false, true].map(|six| (overlay(other, k, six), Target::Remote(link))),
                );
            }
        }
        let routes: RouteTable = routes.into_iter().collect();
        engine.set_routes(environment, Arc::new(routes));
    }
    engine
}
