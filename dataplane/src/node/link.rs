//! Peers of an environment, and what their state machines want done.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_handshake::{HandshakeError, LocalParams, LocalSide};
use weft_proto::{
    Counter64, LinkCounters, LinkSlot, NewLink, SessionId,
    fallback::Fallback,
    peer::{Action, Peer, State},
    roam::{Answer, Challenge, Roaming},
    segmentation::Segmentation,
    silence::{Silence, Verdict},
    way::Via,
};
use weft_types::{EnvironmentId, HostId, WorkerId};

use super::{
    EventKind, Node, NodeEvent, Origin, Owner, PeerSpec, RequestError, handshakes::Tally, not_kept,
};
use crate::worker::Command;

/// Most peers of one environment.
const PEERS_MAX: usize = 4096;
/// How often at most peers hear that this host's addresses have changed: container engines change some
/// all the time.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Most overlay addresses that live at one peer.
const PEER_ADDRESSES_MAX: usize = 65_536;

/// One peer in one environment.
pub(super) struct PeerEntry {
    pub(super) spec: PeerSpec,
    origin: Origin,
    pub(super) slot: LinkSlot,
    pub(super) machine: Peer,
    pub(super) side: LocalSide,
    pub(super) counters: Vec<Arc<LinkCounters>>,
    pub(super) tally: Tally,
    pub(super) silence: Silence,
    pub(super) roaming: Roaming,
    pub(super) fallback: Fallback,
    pub(super) segmentation: Segmentation,
    /// Handshakes of ours that failed since one succeeded.
    pub(super) failures: u32,
}

impl Node {
    pub(super) fn peer_mut(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
    ) -> Option<&mut PeerEntry> {
        self.environments.get_mut(environment)?.peers.get_mut(host)
    }

    /// Adds a peer, or changes the endpoint and addresses of the one that is there.
    pub(super) async fn add_peer(
        &mut self,
        environment: &EnvironmentId,
        spec: PeerSpec,
        by: Origin,
    ) -> Result<bool, RequestError> {
        self.check_peer(environment, &spec)?;
        // What the configuration says holds again after a restart, whatever the API changed in it.
        let known = self.environment(environment)?.peers.get(&spec.host);
        if by == Origin::Api && known.is_none_or(|entry| entry.origin == Origin::Api) {
            self.kept.peer(environment, &spec).map_err(not_kept)?;
        }
        if by == Origin::Configuration {
            self.kept.forget_peer(environment, &spec.host);
        }
        let Some(entry) = self.peer_mut(environment, &spec.host) else {
            let host = spec.host.clone();
            return match self.insert_peer(environment, spec, by) {
                Ok(()) => Ok(true),
                Err(error) => {
                    self.kept.forget_peer(environment, &host);
                    Err(error)
                }
            };
        };
        if by == Origin::Configuration {
            entry.origin = by;
        }
        let host = spec.host.clone();
        let before = std::mem::replace(&mut entry.spec, spec);
        if before.places().ne(entry.spec.places()) {
            entry.roaming.handle_configured(entry.spec.endpoint, &entry.spec.alternatives);
            let now: Vec<_> = entry.spec.places().collect();
            for place in before.places() {
                self.listener.expect_no_longer(place.ip());
            }
            for place in now {
                self.listener.expect(place.ip());
            }
            self.use_ways(environment, &host);
        }
        self.publish_routes(environment);
        self.barrier().await;
        let event = NodeEvent::new(EventKind::PeerChanged, "peer changed");
        self.publish(event.of(environment).peer(&host));
        Ok(false)
    }

    pub(super) async fn set_routes(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
        addresses: Vec<IpAddr>,
        by: Origin,
    ) -> Result<(), RequestError> {
        let entry = self.environment(environment)?.peers.get(host);
        let entry = entry.ok_or_else(|| no_peer(environment, host))?;
        let spec = PeerSpec { addresses, ..entry.spec.clone() };
        self.add_peer(environment, spec, by).await.map(|_| ())
    }

    /// Adds a peer again that the local API had added to an earlier daemon.
    pub(super) fn restore_peer(
        &mut self,
        environment: &EnvironmentId,
        spec: PeerSpec,
    ) -> Result<(), RequestError> {
        self.check_peer(environment, &spec)?;
        if self.environment(environment)?.peers.contains_key(&spec.host) {
            return Err(RequestError::Exists("the configuration has it now".to_owned()));
        }
        self.insert_peer(environment, spec, Origin::Api)
    }

    pub(super) async fn remove_peer(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
    ) -> Result<(), RequestError> {
        if !self.environment(environment)?.peers.contains_key(host) {
            return Err(no_peer(environment, host));
        }
        self.forget_peer(environment, host).await;
        Ok(())
    }

    fn check_peer(&self, environment: &EnvironmentId, spec: &PeerSpec) -> Result<(), RequestError> {
        let state = self.environment(environment)?;
        if spec.host == self.config.host {
            return Err(RequestError::Invalid(format!(
                "host {} is this host; expected another one",
                spec.host
            )));
        }
        for place in spec.places() {
            check_endpoint(place, self.config.listen)?;
        }
        if spec.addresses.len() > PEER_ADDRESSES_MAX || state.peers.len() >= PEERS_MAX {
            return Err(RequestError::Limit(format!(
                "the limits are {PEERS_MAX} peers and {PEER_ADDRESSES_MAX} addresses per peer"
            )));
        }
        let owner = Owner::Peer(&spec.host);
        spec.addresses.iter().try_for_each(|a| state.check_address(environment, *a, owner))
    }

    fn insert_peer(
        &mut self,
        environment: &EnvironmentId,
        spec: PeerSpec,
        origin: Origin,
    ) -> Result<(), RequestError> {
        let environment_slot = self.environment(environment)?.place.slot;
        let mut instance = [0; 16];
        getrandom::fill(&mut instance)
            .map_err(|e| RequestError::Precondition(format!("no random numbers: {e}")))?;
        let params = LocalParams {
            lanes: u8::try_from(self.workers.len()).unwrap_or(weft_types::LANES_MAX),
            uso: true,
            datagram_max: self.sizes.datagram_max,
            instance,
            generation: 0,
            no_aes: !weft_proto::aead::has_aes(),
        };
        let side = LocalSide { params, indices: Arc::clone(&self.indices) as _ };
        let slot = LinkSlot(self.link_slots.take());
        let counters: Vec<Arc<LinkCounters>> =
            self.workers.iter().map(|_| Arc::default()).collect();
        let endpoint = spec.endpoint;
        self.command_all(|worker| {
            let counters = Arc::clone(&counters[worker]);
            Command::AddLink(slot, NewLink { environment: environment_slot, endpoint, counters })
        });
        let host = spec.host.clone();
        let rehandshake = Duration::from_secs(self.config.keys.rehandshake_seconds);
        let mut machine = Peer::new(&self.config.host, &host, rehandshake);
        machine.handle_need();
        self.directory.insert(environment, &host, side.clone());
        for place in spec.places() {
            self.listener.expect(place.ip());
        }
        self.links_by_slot.insert(slot, (environment.clone(), host.clone()));
        let (tally, silence) = (Tally::default(), Silence::default());
        let roaming = Roaming::new(endpoint, &spec.alternatives, self.workers.len());
        let fallback = Fallback::new(self.workers.len());
        let failures = 0;
        let entry = PeerEntry {
            roaming,
            fallback,
            segmentation: Segmentation::default(),
            failures,
            spec,
            origin,
            slot,
            machine,
            side,
            counters,
            tally,
            silence,
        };
        self.environment_mut(environment)?.peers.insert(host.clone(), entry);
        self.publish_routes(environment);
        let event = NodeEvent::new(EventKind::PeerAdded, "peer added");
        self.publish(event.of(environment).peer(&host));
        self.drive_peer(environment, &host);
        Ok(())
    }

    /// Tells all peers of an environment that sessions end, because this daemon does.
    pub(super) fn part_from_peers(&mut self, environment: &EnvironmentId) {
        let Some(state) = self.environments.get(environment) else { return };
        for host in state.peers.keys().cloned().collect::<Vec<_>>() {
            self.part_from_peer(environment, &host);
        }
    }

    fn part_from_peer(&mut self, environment: &EnvironmentId, host: &HostId) {
        self.directory.remove(environment, host);
        if let Some(entry) = self.peer_mut(environment, host) {
            entry.machine.close();
        }
        self.drive_peer(environment, host);
    }

    pub(super) async fn forget_peer(&mut self, environment: &EnvironmentId, host: &HostId) {
        self.part_from_peer(environment, host);
        self.kept.forget_peer(environment, host);
        let Some(state) = self.environments.get_mut(environment) else { return };
        let Some(entry) = state.peers.remove(host) else { return };
        for place in entry.spec.places() {
            self.listener.expect_no_longer(place.ip());
        }
        self.publish_routes(environment);
        self.command_all(|_| Command::RemoveLink(entry.slot));
        self.barrier().await;
        self.links_by_slot.remove(&entry.slot);
        self.peer_timers.set(entry.slot, None);
        self.link_slots.give_back(entry.slot.0);
        let event = NodeEvent::new(EventKind::PeerRemoved, "peer removed");
        self.publish(event.of(environment).peer(host));
    }

    /// Packets wait for a session.
    pub(super) fn handle_need(&mut self, slot: LinkSlot) {
        let Some((environment, host)) = self.links_by_slot.get(&slot).cloned() else { return };
        if let Some(entry) = self.peer_mut(&environment, &host) {
            entry.machine.handle_need();
        }
        self.drive_peer(&environment, &host);
    }

    pub(super) fn handle_alive(&mut self, id: SessionId) {
        self.with_session(id, |machine, now| machine.handle_alive(now, id));
    }

    pub(super) fn handle_rekey_soon(&mut self, id: SessionId) {
        self.with_session(id, |machine, _| machine.handle_rekey_soon(id));
    }

    pub(super) fn handle_closed(&mut self, id: SessionId) {
        self.with_session(id, |machine, now| machine.handle_closed(now, id));
    }

    /// A peer's datagrams come from elsewhere: ask whether it is there.
    pub(super) fn handle_elsewhere(
        &mut self,
        worker: WorkerId,
        id: SessionId,
        from: SocketAddr,
        is_home: bool,
    ) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        let Some(peer) = self.peer_mut(&environment, &host) else { return };
        let now = Instant::now();
        // Without random numbers nothing is asked that could be answered.
        let (Ok(one), Ok(other)) = (getrandom::u64(), getrandom::u64()) else { return };
        let (worker, numbers) = (worker.as_usize(), [one, other]);
        let challenges = peer.roaming.handle_seen(now, worker, from, is_home, numbers);
        if challenges.is_empty() {
            // It came by UDP from where it should, while datagrams go another way.
            peer.fallback.handle_heard(now);
            self.drive_peer(&environment, &host);
        }
        for challenge in challenges {
            self.challenge(id, challenge);
        }
    }

    pub(super) fn challenge(&self, id: SessionId, challenge: Challenge) {
        let Challenge { worker, way, number } = challenge;
        self.workers[worker].send(Command::Challenge(id, way, number));
    }

    /// A peer is where it was asked.
    pub(super) fn handle_answered(&mut self, id: SessionId, number: u64) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        let Some(peer) = self.peer_mut(&environment, &host) else { return };
        let now = Instant::now();
        let answer = peer.roaming.handle_answer(now, number);
        if answer != Answer::Unknown {
            peer.fallback.handle_udp_works(now);
        }
        let to = peer.roaming.moved_to().unwrap_or(peer.spec.endpoint);
        if answer == Answer::Moved {
            self.use_ways(&environment, &host);
            self.listener.authenticated(to.ip());
            let event = NodeEvent::new(EventKind::PeerMoved, format!("it is at {to} now"));
            self.publish(event.of(&environment).peer(&host));
        }
        self.drive_peer(&environment, &host);
    }

    /// A peer says that datagrams are damaged on their way to it.
    pub(super) fn handle_damaged(&mut self, id: SessionId, refused: u32, sent: u32) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        let Some(peer) = self.peer_mut(&environment, &host) else { return };
        let damage = format!("{refused} of {sent} datagrams were damaged on their way");
        match peer.segmentation.handle_damage(Instant::now()) {
            None => return,
            Some(false) => {
                self.segment(&environment, &host, format!("{damage}: no segmented sends"));
            }
            Some(true) => {
                let message =
                    format!("{damage}, also without segmented sends: they are used again");
                self.segment(&environment, &host, message);
            }
        }
        self.drive_peer(&environment, &host);
    }

    /// Lets all workers send in segmented sends, or not.
    fn segment(&mut self, environment: &EnvironmentId, host: &HostId, message: impl Into<String>) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        let (slot, is_on) = (entry.slot, entry.segmentation.is_on());
        self.command_all(|_| Command::SetSegmented(slot, is_on));
        let event = NodeEvent::new(EventKind::PeerSegmentation, message);
        self.publish(event.of(environment).peer(host));
    }

    /// Lets all workers send where the peer is.
    pub(super) fn use_ways(&mut self, environment: &EnvironmentId, host: &HostId) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        let (slot, mut ways) = (entry.slot, entry.roaming.ways().to_vec());
        if entry.fallback.is_streaming() {
            for way in &mut ways {
                way.via = Via::Stream(slot);
            }
        }
        for (worker, way) in self.workers.iter().zip(ways) {
            worker.send(Command::SetWay(slot, way));
        }
    }

    fn with_session(&mut self, id: SessionId, act: impl FnOnce(&mut Peer, Instant)) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        if let Some(peer) = self.peer_mut(&environment, &host) {
            act(&mut peer.machine, Instant::now());
        }
        self.drive_peer(&environment, &host);
    }

    /// Time has passed for some peer.
    pub(super) fn handle_peer_timeouts(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = std::iter::from_fn(|| self.peer_timers.take_due(now)).collect();
        for slot in due {
            let Some((environment, host)) = self.links_by_slot.get(&slot).cloned() else {
                continue;
            };
            if let Some(entry) = self.peer_mut(&environment, &host) {
                entry.machine.handle_timeout(now);
                entry.fallback.handle_timeout(now);
                if entry.segmentation.handle_timeout(now).is_some() {
                    self.segment(&environment, &host, "segmented sends are tried again");
                }
            }
            self.drive_peer(&environment, &host);
        }
    }

    /// This host's addresses have changed: peers hear from the new one at once.
    pub(super) fn handle_addresses(&mut self) {
        let now = Instant::now();
        match self.told_addresses.0 {
            Some(last) if now < last + TELL_EVERY => self.told_addresses.1 = true,
            _ => self.tell_addresses(now),
        }
    }

    fn tell_addresses(&mut self, now: Instant) {
        self.told_addresses = (Some(now), false);
        for entry in self.environments.values().flat_map(|e| e.peers.values()) {
            if let State::Active { id, .. } = entry.machine.state() {
                // Each lane has a port of its own, which address translation has to learn.
                self.command_all(|_| Command::Ask(id));
            }
        }
    }

    /// Looks whether peers answer to whom packets go.
    pub(super) fn watch_peers(&mut self) {
        let now = Instant::now();
        if self.told_addresses.1 {
            self.tell_addresses(now);
        }
        let mut silent = Vec::new();
        let mut asked = Vec::new();
        let (mut challenges, mut lost) = (Vec::new(), Vec::new());
        for (environment, state) in &mut self.environments {
            for (host, entry) in &mut state.peers {
                let State::Active { id, .. } = entry.machine.state() else { continue };
                let sum = |count: fn(&LinkCounters) -> &Counter64| -> u64 {
                    entry.counters.iter().map(|counters| count(counters).get()).sum()
                };
                let counts = (sum(|c| &c.sent_datagrams), sum(|c| &c.received_datagrams));
                let was_silent = entry.silence.silent_for(now).is_some();
                let verdict = entry.silence.look(now, counts, entry.spec.keepalive);
                let is_lost = entry.silence.is_to_be_looked_for(now);
                if is_lost && !entry.fallback.is_streaming() {
                    entry.fallback.handle_blocked(now);
                    lost.push((environment.clone(), host.clone()));
                }
                // Without random numbers nothing is asked that could be answered.
                let places = entry.roaming.look(now, is_lost, || getrandom::u64().ok());
                challenges.extend(places.into_iter().map(|place| (id, place)));
                if verdict != Verdict::Fine {
                    asked.push(id);
                }
                let is_silent = verdict == Verdict::Silent;
                if is_silent || was_silent {
                    silent.push((environment.clone(), host.clone(), was_silent, is_silent));
                }
            }
        }
        // One lane asks for all: whoever answers on any of them is there.
        for id in asked {
            self.workers[0].send(Command::Ask(id));
        }
        for (id, challenge) in challenges {
            self.challenge(id, challenge);
        }
        for (environment, host) in lost {
            self.drive_peer(&environment, &host);
        }
        for (environment, host, was_silent, is_silent) in silent {
            if was_silent != is_silent {
                let (kind, message) = match is_silent {
                    true => (EventKind::PeerSilent, "packets go and nothing comes back"),
                    false => (EventKind::PeerAnswers, "it answers again"),
                };
                self.publish(NodeEvent::new(kind, message).of(&environment).peer(&host));
            }
            if is_silent && let Some(entry) = self.peer_mut(&environment, &host) {
                entry.machine.handle_silence(now);
                self.drive_peer(&environment, &host);
            }
        }
    }

    /// Does what a peer's state machine wants.
    pub(super) fn drive_peer(&mut self, environment: &EnvironmentId, host: &HostId) {
        while let Some(entry) = self.peer_mut(environment, host) {
            let Some(action) = entry.machine.poll_action() else { break };
            match action {
                Action::Handshake => self.begin_handshake(environment, host),
                Action::Activate(id) => {
                    self.command_all(|_| Command::Activate(id));
                    let event =
                        NodeEvent::new(EventKind::SessionEstablished, "session carries data");
                    self.publish(event.of(environment).peer(host));
                }
                Action::Late => {
                    if let Some(entry) = self.peer_mut(environment, host) {
                        entry.fallback.handle_blocked(Instant::now());
                    }
                }
                Action::Unproven => {
                    self.count_failure(environment, host, &HandshakeError::Unproven);
                }
                Action::Remove { id, say_so } => {
                    self.remove_session(id, say_so);
                    self.publish_end_of(environment, host);
                }
            }
        }
        self.drive_fallback(environment, host);
        if let Some(entry) = self.peer_mut(environment, host) {
            let timeouts = [
                entry.machine.poll_timeout(),
                entry.fallback.poll_timeout(),
                entry.segmentation.poll_timeout(),
            ];
            let (slot, timeout) = (entry.slot, timeouts.into_iter().flatten().min());
            self.peer_timers.set(slot, timeout);
        }
    }

    fn publish_end_of(&mut self, environment: &EnvironmentId, host: &HostId) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        if !matches!(entry.machine.state(), State::Active { .. }) {
            let event = NodeEvent::new(EventKind::SessionEnded, "no session any more");
            self.publish(event.of(environment).peer(host));
        }
    }
}

fn check_endpoint(endpoint: SocketAddr, listen: SocketAddr) -> Result<(), RequestError> {
    if endpoint.is_ipv4() != listen.is_ipv4() {
        return Err(RequestError::Invalid(format!(
            "endpoint {endpoint} is of another IP version than this host's listen address {listen}"
        )));
    }
    if endpoint.port() == 0 || endpoint.ip().is_unspecified() || endpoint.ip().is_multicast() {
        return Err(RequestError::Invalid(format!(
            "endpoint {endpoint} is nobody's; expected ADDRESS:PORT or [ADDRESS]:PORT"
        )));
    }
    Ok(())
}

pub(super) fn no_peer(environment: &EnvironmentId, host: &HostId) -> RequestError {
    RequestError::NotFound(format!("environment {environment} has no peer {host}"))
}
