//! Peers of an environment, and what their state machines want done.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use weft_handshake::{LocalParams, LocalSide};
use weft_proto::{
    LinkCounters, LinkSlot, NewLink, fallback::Fallback, peer::Peer, roam::Roaming,
    segmentation::Segmentation, silence::Silence,
};
use weft_types::{EnvironmentId, HostId};

use super::{
    EventKind, Node, NodeEvent, Origin, Owner, PeerSpec, RequestError, handshakes::Tally, not_kept,
};
use crate::worker::Command;

/// Most peers of one environment.
const PEERS_MAX: usize = 4096;
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
