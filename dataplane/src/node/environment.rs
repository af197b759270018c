//! Environments of this host: adding, removing, routes, credentials.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use weft_config::{Names, Share};
use weft_handshake::{Environment, KeyExchange, TrustedTime};
use weft_pki::{Credentials, TrustAnchor};
use weft_proto::{
    AttachmentSlot, EnvironmentCounters, EnvironmentSlot, LinkSlot, NewEnvironment, RouteTable,
    Target, policy::Guard,
};
use weft_types::{AttachmentName, EnvironmentId, HostId, Subnet};

use super::{
    EnvironmentPlace, EventKind, Node, NodeEvent, Owner, RequestError, attachment::AttachmentEntry,
    gateways, link::PeerEntry, names::Named, share::proto_share,
};
use crate::worker::Command;

/// One environment on this host.
pub(super) struct EnvironmentState {
    pub(super) place: EnvironmentPlace,
    pub(super) subnets: Vec<Subnet>,
    pub(super) share: Share,
    /// Who may talk to whom; without, everybody to everybody.
    pub(super) guard: Option<Arc<Guard>>,
    pub(super) named: Named,
    pub(super) tls: Arc<Environment>,
    /// What the next daemon will know of the time.
    pub(super) kept_time: Option<SystemTime>,
    pub(super) attachments: BTreeMap<AttachmentName, AttachmentEntry>,
    pub(super) peers: BTreeMap<HostId, PeerEntry>,
}

impl EnvironmentState {
    /// Checks an address that is to live somewhere in this environment: inside, not the
    /// environment's own, and nobody else's. `owner` says whose it may be already.
    pub(super) fn check_address(
        &self,
        environment: &EnvironmentId,
        address: IpAddr,
        owner: Owner<'_>,
    ) -> Result<(), RequestError> {
        let Some(subnet) = self.subnets.iter().find(|s| s.contains(address)) else {
            let subnets: Vec<_> = self.subnets.iter().map(ToString::to_string).collect();
            return Err(RequestError::Invalid(format!(
                "address {address} is outside environment {environment}; expected one of {}",
                subnets.join(" or ")
            )));
        };
        let reserved = [Some(subnet.address()), Some(subnet.gateway()), subnet.broadcast()];
        if subnet.prefix_len() < if address.is_ipv4() { 31 } else { 127 }
            && reserved.contains(&Some(address))
        {
            return Err(RequestError::Invalid(format!(
                "address {address} is reserved in {subnet}: network, gateway and broadcast \
                 addresses cannot be used"
            )));
        }
        // Whose it may be is asked first: a peer may have thousands of addresses.
        let taken_by = self
            .attachments
            .values()
            .find(|a| owner != Owner::Here(&a.spec.name) && a.spec.addresses.contains(&address))
            .map(|a| format!("attachment {}", a.spec.name))
            .or_else(|| {
                self.peers
                    .values()
                    .find(|p| {
                        owner != Owner::Peer(&p.spec.host) && p.spec.addresses.contains(&address)
                    })
                    .map(|p| format!("peer {}", p.spec.host))
            });
        match taken_by {
            Some(who) => Err(RequestError::Exists(format!(
                "address {address} of environment {environment} belongs to {who} already"
            ))),
            None => Ok(()),
        }
    }

    fn routes(&self) -> RouteTable {
        let local = self.attachments.values().filter_map(|a| Some((a.slot()?, a)));
        let local = local.flat_map(|(slot, a): (AttachmentSlot, _)| {
            a.spec.addresses.iter().map(move |address| (*address, Target::Local(slot)))
        });
        let remote = self.peers.values().flat_map(|p| {
            let slot: LinkSlot = p.slot;
            p.spec.addresses.iter().map(move |address| (*address, Target::Remote(slot)))
        });
        local.chain(remote).collect()
    }
}

impl Node {
    pub(super) fn environment(
        &self,
        id: &EnvironmentId,
    ) -> Result<&EnvironmentState, RequestError> {
        self.environments.get(id).ok_or_else(|| not_here(id))
    }

    pub(super) fn environment_mut(
        &mut self,
        id: &EnvironmentId,
    ) -> Result<&mut EnvironmentState, RequestError> {
        self.environments.get_mut(id).ok_or_else(|| not_here(id))
    }

    pub(super) fn add_environment(
        &mut self,
        id: &EnvironmentId,
        subnets: Vec<Subnet>,
        share: Share,
        anchor: TrustAnchor,
        credentials: Credentials,
        names: Names,
    ) -> Result<(), RequestError> {
        let known = self.kept.known_time(id);
        let time = Arc::new(known.map(TrustedTime::since).unwrap_or_default());
        let tls = tls_environment(anchor, credentials, time)?;
        let slot = EnvironmentSlot(self.environment_slots.take());
        let answered = self.answer_names(slot, &subnets, names);
        let (named, inlet) = answered.inspect_err(|_| self.environment_slots.give_back(slot.0))?;
        let counters: Vec<Arc<EnvironmentCounters>> =
            self.workers.iter().map(|_| Arc::default()).collect();
        let (gateway, gateway6) = gateways(&subnets);
        let to_send = proto_share(share);
        self.command_all(|worker| {
            let (counters, share) = (Arc::clone(&counters[worker]), to_send.clone());
            let new = NewEnvironment { gateway, gateway6, share, counters };
            Command::AddEnvironment(slot, new, inlet.clone())
        });
        let state = EnvironmentState {
            place: EnvironmentPlace { slot, counters },
            subnets,
            share,
            guard: None,
            named,
            tls,
            kept_time: known,
            attachments: BTreeMap::new(),
            peers: BTreeMap::new(),
        };
        self.environments.insert(id.clone(), state);
        if self.policies.contains_key(id) {
            // It has no routes yet: nothing was sent unjudged.
            let _ = self.enforce(id);
        }
        self.publish_tls()?;
        self.publish(NodeEvent::new(EventKind::EnvironmentChanged, "environment added").of(id));
        Ok(())
    }

    /// Removes an environment with everything in it.
    pub(super) async fn remove_environment(&mut self, id: &EnvironmentId) {
        self.forget_environment(id).await;
        self.closed().await;
    }

    /// [`Node::remove_environment`] without waiting for the kernel to remove the interfaces.
    pub(super) async fn forget_environment(&mut self, id: &EnvironmentId) {
        let Some(state) = self.environments.get(id) else { return };
        let slot = state.place.slot;
        let peers: Vec<_> = state.peers.keys().cloned().collect();
        let attachments: Vec<_> = state.attachments.keys().cloned().collect();
        for host in peers {
            self.forget_peer(id, &host).await;
        }
        for name in attachments {
            self.forget_attachment(id, &name).await;
        }
        let Some(state) = self.environments.remove(id) else { return };
        // Before its slot is another's: an answer that came later would be one of that environment.
        state.named.answering.close().await;
        self.command_all(|_| Command::RemoveEnvironment(slot));
        self.barrier().await;
        self.environment_slots.give_back(slot.0);
        // Fewer environments cannot clash.
        let _ = self.publish_tls();
        self.publish(NodeEvent::new(EventKind::EnvironmentRemoved, "environment removed").of(id));
    }

    /// Uses another authority or certificate from now on: new handshakes with all peers, while the
    /// sessions of the old certificate serve until then; for a few seconds, where an authority was taken away.
    pub(super) fn replace_credentials(
        &mut self,
        id: &EnvironmentId,
        anchor: TrustAnchor,
        credentials: Credentials,
    ) -> Result<(), RequestError> {
        let now = Instant::now();
        let before = Arc::clone(&self.environment(id)?.tls);
        let trusted: HashSet<_> = anchor.tags().collect();
        let is_distrusted = before.anchor().tags().any(|tag| !trusted.contains(&tag));
        let tls = tls_environment(anchor, credentials, Arc::clone(before.time()))?;
        let state = self.environment_mut(id)?;
        state.tls = tls;
        if let Err(error) = self.publish_tls() {
            // As it was, so that it is done in full when it is tried again.
            self.environment_mut(id)?.tls = before;
            return Err(error);
        }
        let hosts: Vec<_> = self.environment(id)?.peers.keys().cloned().collect();
        for host in hosts {
            if let Some(entry) = self.peer_mut(id, &host) {
                if is_distrusted {
                    entry.machine.handle_distrust(now);
                } else {
                    entry.machine.handle_renew();
                }
            }
            self.drive_peer(id, &host);
        }
        let event = NodeEvent::new(EventKind::EnvironmentChanged, "credentials replaced");
        self.publish(event.of(id));
        Ok(())
    }

    /// Lets an environment send another share to other hosts from now on.
    pub(super) fn set_environment_share(
        &mut self,
        id: &EnvironmentId,
        share: Share,
    ) -> Result<(), RequestError> {
        let state = self.environment_mut(id)?;
        state.share = share;
        let (slot, to_send) = (state.place.slot, proto_share(share));
        self.command_all(|_| Command::SetEnvironmentShare(slot, to_send.clone()));
        self.publish(NodeEvent::new(EventKind::EnvironmentChanged, "share changed").of(id));
        Ok(())
    }

    /// Hands the present routes of an environment to all workers.
    pub(super) fn publish_routes(&self, id: &EnvironmentId) {
        let Some(state) = self.environments.get(id) else { return };
        let routes = Arc::new(state.routes());
        let slot = state.place.slot;
        self.command_all(|_| Command::SetRoutes(slot, Arc::clone(&routes)));
    }

    fn publish_tls(&self) -> Result<(), RequestError> {
        let all = self.environments.values().map(|e| Arc::clone(&e.tls));
        self.server_environments
            .replace(all)
            .map_err(|error| RequestError::Invalid(error.to_string()))
    }
}

fn tls_environment(
    anchor: TrustAnchor,
    credentials: Credentials,
    time: Arc<TrustedTime>,
) -> Result<Arc<Environment>, RequestError> {
    Environment::new(anchor, credentials, KeyExchange::default())
        .map(|environment| Arc::new(environment.with_time(time)))
        .map_err(|error| RequestError::Invalid(error.to_string()))
}

fn not_here(id: &EnvironmentId) -> RequestError {
    RequestError::NotFound(format!("environment {id} is not configured on this host"))
}
