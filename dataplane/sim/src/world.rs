//! A whole run: hosts, their containers, the network, and everything that happens, decided by one
//! seed.
//!
//! ```text
//!  phase 1  sessions come up        weather of the seed
//!  phase 2  traffic under load      weather of the seed; restarts, new sessions, new epochs
//!  phase 3  silence                 perfect: whatever was broken must mend by itself
//!  phase 4  traffic                 perfect: every packet arrives, once, in order
//! ```

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use weft_proto::{aead::Suite, keys::Role, lane::Limits};

use crate::{
    host::{Agreement, Host, Plan, Relation},
    model::{Model, Place},
    network::{Arrival, Network, Weather},
    rng::Rng,
    traffic::{FlowPlan, flows},
};

/// Most events of one run: a run that needs more is busy with itself.
const EVENTS_MAX: usize = 200_000;
/// With fewer datagrams per epoch, bad weather can lose all of more epochs than a receiver looks
/// ahead.
const EPOCH_SAFE: u64 = 300;
/// Silence in which sessions must come back: retries have pauses of up to 60 s.
const MEND: Duration = Duration::from_secs(150);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Send { flow: usize },
    Handshake { client: usize, relation: Relation, generation: u32, incarnations: [u32; 2] },
    ClientDone { client: usize, relation: Relation, agreement: usize, incarnations: [u32; 2] },
    Restart { host: usize },
    Renew { host: usize, relation: Relation },
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Packets that containers sent under load.
    pub sent: usize,
    /// Of these, delivered.
    pub delivered: usize,
    /// Handshakes that succeeded.
    pub handshakes: usize,
}

/// The simulated world.
pub struct World {
    rng: Rng,
    now: Instant,
    plan: Plan,
    hosts: Vec<Host>,
    network: Network,
    model: Model,
    flows: Vec<FlowPlan>,
    tasks: BinaryHeap<Reverse<(Instant, u64, Task)>>,
    agreements: Vec<Agreement>,
    serial: u64,
    packet_serial: u64,
    handshake_fails: usize,
    handshakes: usize,
    restarts: bool,
    events: usize,
}

fn weather(rng: &mut Rng) -> Weather {
    let perfect = Weather::perfect();
    match rng.below(5) {
        0 => perfect,
        // Nothing is lost, but an attacker is there.
        1 => Weather { attack: 300, duplicate: 50, ..perfect },
        // Losses in order.
        2 => {
            Weather { drop: rng.between(1, 200), flip: 20, truncate: 10, duplicate: 50, ..perfect }
        }
        // Everything.
        _ => Weather {
            drop: rng.between(0, 300),
            duplicate: rng.between(0, 200),
            flip: rng.between(0, 50),
            truncate: rng.between(0, 50),
            mark: rng.between(0, 100),
            attack: rng.between(0, 500),
            jitter: Duration::from_micros(rng.between(1, 50) as u64 * 100),
            latency: Duration::from_micros(rng.between(1, 20) as u64 * 100),
        },
    }
}

impl World {
    /// The world of a seed, just before it starts.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let weather = weather(&mut rng);
        let hosts = rng.between(2, 3);
        let per_epoch: &[u64] =
            if weather.loses_nothing() { &[64, 100, 300] } else { &[1, 5, 20, 64, 300, 1 << 28] };
        let plan = Plan {
            workers: (0..hosts).map(|_| rng.between(1, 3)).collect(),
            environments: rng.between(1, 3),
            limits: Limits {
                epoch_datagrams_max: rng.pick(per_epoch),
                epoch_age_max: rng.pick(&[Duration::from_millis(50), Duration::from_secs(120)]),
            },
            rehandshake: Duration::from_secs(rng.pick(&[20, 3600])),
            uso: [true, rng.chance(700)],
            suite: rng.pick(&[Suite::Aes256Gcm, Suite::ChaCha20Poly1305]),
        };
        let flows = flows(&plan, &mut rng);
        let all = (0..hosts).map(|number| Host::new(number, 0, &plan, &mut rng)).collect();
        let loses_nothing = weather.loses_nothing();
        Self {
            model: Model::new(weather.keeps_order()),
            network: Network::new(weather, hosts),
            restarts: !loses_nothing && rng.chance(300),
            handshake_fails: if loses_nothing { 0 } else { 200 },
            now: Instant::now(),
            rng,
            plan,
            hosts: all,
            flows,
            tasks: BinaryHeap::new(),
            agreements: Vec::new(),
            serial: 0,
            packet_serial: 0,
            handshakes: 0,
            events: 0,
        }
    }

    /// Runs it to the end.
    ///
    /// # Errors
    /// A sentence about what went wrong.
    pub fn run(mut self) -> Result<Report, String> {
        let was_perfect = self.network.weather.loses_nothing();
        self.run_for(Duration::from_millis(100))?;
        self.plan_traffic(Duration::from_millis(200), 60);
        for _ in 0..self.rng.pick(&[0, 3, 20]) {
            let host = self.rng.below(self.hosts.len());
            let other = (host + 1 + self.rng.below(self.hosts.len() - 1)) % self.hosts.len();
            let relation = (self.rng.below(self.plan.environments), other);
            let after = Duration::from_millis(self.rng.between(0, 200) as u64);
            self.plan_task(after, Task::Renew { host, relation });
        }
        if self.restarts {
            let host = self.rng.below(self.hosts.len());
            let after = Duration::from_millis(self.rng.between(0, 200) as u64);
            self.plan_task(after, Task::Restart { host });
        }
        self.run_for(Duration::from_millis(300))?;
        let (sent, delivered) = self.model.counts();
        if was_perfect {
            self.model.check_complete()?;
        }

        self.network.weather = Weather::perfect();
        self.handshake_fails = 0;
        if self.plan.limits.epoch_datagrams_max < EPOCH_SAFE && !was_perfect {
            // A sender may be more epochs ahead than its receiver follows: only new keys mend that.
            self.hosts.iter_mut().for_each(Host::renew_all);
        }
        self.run_for(MEND)?;
        self.model.clear();
        self.model.keeps_order = true;
        self.plan_traffic(Duration::from_millis(50), 10);
        self.run_for(Duration::from_millis(100))?;
        self.model.check_complete().map_err(|e| format!("after all has mended: {e}"))?;
        Ok(Report { sent, delivered, handshakes: self.handshakes })
    }

    fn plan_traffic(&mut self, within: Duration, packets: usize) {
        if self.flows.is_empty() {
            return;
        }
        let micros = usize::try_from(within.as_micros()).expect("short");
        for _ in 0..packets {
            let at = Duration::from_micros(self.rng.below(micros) as u64);
            let flow = self.rng.below(self.flows.len());
            // Bursts, so that datagrams arrive together.
            for _ in 0..self.rng.pick(&[1, 1, 3, 8]) {
                self.plan_task(at, Task::Send { flow });
            }
        }
    }

    fn plan_task(&mut self, after: Duration, task: Task) {
        self.serial += 1;
        self.tasks.push(Reverse((self.now + after, self.serial, task)));
    }

    fn run_for(&mut self, span: Duration) -> Result<(), String> {
        let end = self.now + span;
        loop {
            self.settle()?;
            let next =
                [self.tasks.peek().map(|Reverse((at, ..))| *at), self.network.next_arrival()]
                    .into_iter()
                    .chain(self.hosts.iter().map(Host::poll_timeout))
                    .flatten()
                    .min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = self.now.max(next);
            self.events += 1;
            if self.events > EVENTS_MAX {
                return Err(format!("more than {EVENTS_MAX} events"));
            }
            self.receive();
            while let Some(Reverse((at, ..))) = self.tasks.peek()
                && *at <= self.now
            {
                if let Some(Reverse((_, _, task))) = self.tasks.pop() {
                    self.carry_out(task);
                }
            }
            for host in &mut self.hosts {
                host.handle_timeout(self.now);
            }
        }
    }

    /// Everything that has arrived, one drain per host.
    fn receive(&mut self) {
        let mut drains: Vec<Vec<Arrival>> = vec![Vec::new(); self.hosts.len()];
        while let Some(arrival) = self.network.receive(self.now) {
            drains[arrival.to].push(arrival);
        }
        for (host, drain) in self.hosts.iter_mut().zip(drains) {
            if !drain.is_empty() {
                host.receive(self.now, &drain, &mut self.rng);
            }
        }
    }

    /// Carries datagrams to the network and packets to the model until nothing is left to do.
    fn settle(&mut self) -> Result<(), String> {
        for h in 0..self.hosts.len() {
            for relation in self.hosts[h].settle(self.now) {
                self.begin_handshake(h, relation);
            }
            for out in self.hosts[h].take_datagrams() {
                self.network.send(self.now, &mut self.rng, h, out);
            }
            for (slot, data) in self.hosts[h].take_delivered() {
                self.model.deliver(Place { host: h, slot: slot.0 }, &data)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Send { flow } => self.send(flow),
            Task::Handshake { client, relation, generation, incarnations } => {
                self.handshake(client, relation, generation, incarnations);
            }
            Task::ClientDone { client, relation, agreement, incarnations } => {
                if self.incarnations(client, relation.1) == incarnations {
                    let agreement = self.agreements[agreement].clone();
                    self.hosts[client].establish(self.now, relation, Role::Client, &agreement);
                    self.handshakes += 1;
                }
            }
            Task::Renew { host, relation } => self.hosts[host].renew(relation),
            Task::Restart { host } => {
                let incarnation = self.hosts[host].incarnation + 1;
                self.hosts[host] = Host::new(host, incarnation, &self.plan, &mut self.rng);
            }
        }
    }

    fn send(&mut self, flow: usize) {
        let flow = &mut self.flows[flow];
        let data = flow.next(&mut self.packet_serial, &mut self.rng);
        self.model.send(flow.to, flow.number, &data);
        let from = weft_proto::AttachmentSlot(flow.from.slot);
        self.hosts[flow.from.host].send(self.now, from, flow.number, &data);
    }

    fn incarnations(&self, a: usize, b: usize) -> [u32; 2] {
        [self.hosts[a].incarnation, self.hosts[b].incarnation]
    }

    fn begin_handshake(&mut self, client: usize, relation: Relation) {
        let generation = self.hosts[client].next_generation(relation);
        let incarnations = self.incarnations(client, relation.1);
        let after = Duration::from_micros(self.rng.between(500, 4000) as u64);
        self.plan_task(after, Task::Handshake { client, relation, generation, incarnations });
    }

    /// The server has verified the client and says *ready*; the client hears it a moment later,
    /// or never.
    fn handshake(
        &mut self,
        client: usize,
        relation: Relation,
        generation: u32,
        incarnations: [u32; 2],
    ) {
        let (environment, server) = relation;
        let now = self.now;
        if self.hosts[client].incarnation != incarnations[0] {
            return;
        }
        let server_restarted = self.hosts[server].incarnation != incarnations[1];
        if server_restarted || self.rng.chance(self.handshake_fails) {
            self.hosts[client].handle_failed(now, relation, &mut self.rng);
            return;
        }
        let lanes = [self.hosts[client].workers(), self.hosts[server].workers()];
        let (low, high) = (self.rng.bytes16(), self.rng.bytes16());
        let mut exported = [0; 32];
        exported[..16].copy_from_slice(&low);
        exported[16..].copy_from_slice(&high);
        let agreement = Agreement {
            exported,
            generation,
            client_indices: self.hosts[client].allocate(now, lanes[1], &mut self.rng),
            server_indices: self.hosts[server].allocate(now, lanes[0], &mut self.rng),
            instances: [self.hosts[client].instance(), self.hosts[server].instance()],
        };
        self.hosts[server].establish(now, (environment, client), Role::Server, &agreement);
        if self.rng.chance(self.handshake_fails / 2) {
            self.hosts[client].give_back(now, &agreement.client_indices);
            self.hosts[client].handle_failed(now, relation, &mut self.rng);
            return;
        }
        self.agreements.push(agreement);
        let agreement = self.agreements.len() - 1;
        let after = Duration::from_micros(self.rng.between(100, 2000) as u64);
        self.plan_task(after, Task::ClientDone { client, relation, agreement, incarnations });
    }
}
