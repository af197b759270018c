//! One environment: its facts, and the documents that are made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use weft_store::Revision;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{
    AttachmentDocument, Document, DocumentId, EnvironmentDocument, Instance, InstanceState,
    PeerDocument, RoleHolder, ServiceDocument, Update, fact::EnvironmentFact, gone::Gone,
    takes_part,
};
use crate::{
    id::ServiceName,
    policy::Policy,
    record::{
        Attachment, Authority, Drain, Endpoint, Environment, EnvironmentState, Health, HealthState,
        Host, Role, Service,
    },
};

/// What is known outside of the environment.
pub(super) struct Around<'a> {
    pub(super) hosts: &'a BTreeMap<HostId, Host>,
    pub(super) lost: &'a BTreeSet<HostId>,
    pub(super) revision: Revision,
}

/// Who is told.
#[derive(Clone, Copy)]
pub(super) struct Viewer<'a> {
    pub(super) id: &'a HostId,
    pub(super) pod: &'a str,
}

/// Hosts that became members, or are members no more.
#[derive(Default)]
pub(super) struct Change {
    pub(super) joined: Vec<HostId>,
    pub(super) left: Vec<HostId>,
}

/// A document with when it last changed.
#[derive(Debug)]
struct Versioned<T> {
    value: T,
    changed: Revision,
}

/// Sets a document; an equal one has not changed.
fn set<T: PartialEq>(document: &mut Option<Versioned<T>>, value: T, at: Revision) {
    match document {
        Some(before) if before.value == value => {}
        _ => *document = Some(Versioned { value, changed: at }),
    }
}

/// What others know of a member.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    endpoints: Vec<Endpoint>,
    addresses: Vec<std::net::IpAddr>,
}

/// A host with attachments.
#[derive(Debug)]
struct Member {
    since: Revision,
    attachments: BTreeMap<AttachmentName, Option<Versioned<AttachmentDocument>>>,
    row: Option<Versioned<Row>>,
}

/// Which documents may be different.
#[derive(Debug, Default)]
struct Stale {
    environment: bool,
    hosts: BTreeSet<HostId>,
    services: BTreeSet<ServiceName>,
}

#[derive(Debug, Default)]
pub(super) struct Tenancy {
    environment: Option<Environment>,
    authorities: BTreeMap<u32, Authority>,
    attachments: BTreeMap<AttachmentName, Attachment>,
    services: BTreeMap<ServiceName, Service>,
    health: BTreeMap<AttachmentName, Health>,
    drains: BTreeMap<AttachmentName, Drain>,
    roles: BTreeMap<ServiceName, BTreeMap<ServiceName, Role>>,
    policy: Option<Policy>,
    on_host: BTreeMap<HostId, BTreeSet<AttachmentName>>,
    of_service: BTreeMap<ServiceName, BTreeSet<AttachmentName>>,

    stale: Stale,
    settings: Option<Versioned<EnvironmentDocument>>,
    rules: Option<Versioned<Policy>>,
    members: BTreeMap<HostId, Member>,
    offers: BTreeMap<ServiceName, Option<Versioned<ServiceDocument>>>,
}

impl Tenancy {
    pub(super) fn learn(&mut self, fact: EnvironmentFact) {
        match fact {
            EnvironmentFact::Environment(environment) => {
                if self.environment.is_some() != environment.is_some() {
                    self.stale.hosts.extend(self.on_host.keys().cloned());
                }
                self.environment = environment;
                self.stale.environment = true;
            }
            EnvironmentFact::Authority(generation, authority) => {
                put(&mut self.authorities, generation, authority);
                self.stale.environment = true;
            }
            EnvironmentFact::Policy(policy) => {
                self.policy = policy;
                self.stale.environment = true;
            }
            EnvironmentFact::Attachment(name, attachment) => {
                self.learn_attachment(name, attachment);
            }
            EnvironmentFact::Service(name, service) => {
                put(&mut self.services, name.clone(), service);
                self.stale.services.insert(name);
            }
            EnvironmentFact::Health(name, health) => {
                self.service_of_is_stale(&name);
                put(&mut self.health, name, health);
            }
            EnvironmentFact::Drain(name, drain) => {
                self.service_of_is_stale(&name);
                put(&mut self.drains, name, drain);
            }
            EnvironmentFact::Role(service, role, holder) => {
                put(self.roles.entry(service.clone()).or_default(), role, holder);
                self.roles.retain(|_, roles| !roles.is_empty());
                self.stale.services.insert(service);
            }
        }
    }

    fn service_of_is_stale(&mut self, attachment: &AttachmentName) {
        let attachment = self.attachments.get(attachment);
        self.stale.services.extend(attachment.map(|a| a.slot.service.clone()));
    }

    fn learn_attachment(&mut self, name: AttachmentName, attachment: Option<Attachment>) {
        if let Some(before) = self.attachments.remove(&name) {
            take(&mut self.on_host, &before.host, &name);
            take(&mut self.of_service, &before.slot.service, &name);
            self.stale.hosts.insert(before.host);
            self.stale.services.insert(before.slot.service);
        }
        if let Some(attachment) = attachment {
            let (host, service) = (attachment.host.clone(), attachment.slot.service.clone());
            self.on_host.entry(host.clone()).or_default().insert(name.clone());
            self.of_service.entry(service.clone()).or_default().insert(name.clone());
            self.stale.hosts.insert(host);
            self.stale.services.insert(service);
            self.attachments.insert(name, attachment);
        }
    }

    /// Something about a host is different.
    pub(super) fn host_changed(&mut self, host: &HostId) {
        let Some(names) = self.on_host.get(host) else { return };
        self.stale.hosts.insert(host.clone());
        let services = names.iter().filter_map(|name| self.attachments.get(name));
        self.stale.services.extend(services.map(|attachment| attachment.slot.service.clone()));
    }

    pub(super) fn is_on(&self, host: &HostId) -> bool {
        self.on_host.contains_key(host)
    }

    /// What is to be on a host, whether it takes part or not.
    pub(super) fn on(&self, host: &HostId) -> Option<&BTreeSet<AttachmentName>> {
        self.on_host.get(host)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &HostId> {
        self.members.keys()
    }

    /// Since when a host is a member.
    pub(super) fn since(&self, host: &HostId) -> Option<Revision> {
        self.members.get(host).map(|member| member.since)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.environment.is_none()
            && self.policy.is_none()
            && self.authorities.is_empty()
            && self.attachments.is_empty()
            && self.services.is_empty()
            && self.health.is_empty()
            && self.drains.is_empty()
            && self.roles.is_empty()
    }

    /// Makes what is stale again.
    pub(super) fn settle(
        &mut self,
        id: &EnvironmentId,
        around: &Around<'_>,
        gone: &mut Gone,
    ) -> Change {
        let stale = std::mem::take(&mut self.stale);
        let mut change = Change::default();
        if stale.environment {
            self.settle_settings(id, around.revision);
        }
        for host in stale.hosts {
            self.settle_host(id, host, around, gone, &mut change);
        }
        for service in stale.services {
            self.settle_service(id, service, around, gone);
        }
        change
    }

    fn settle_settings(&mut self, id: &EnvironmentId, at: Revision) {
        let Some(environment) = &self.environment else {
            (self.settings, self.rules) = (None, None);
            return;
        };
        let mut authorities: Vec<&Authority> = self.authorities.values().collect();
        // The one that issues first, then what comes, then what was.
        authorities.sort_by_key(|authority| (authority.rank(), authority.generation));
        let settings = EnvironmentDocument {
            id: id.clone(),
            subnets: environment.subnets.clone(),
            suspended: environment.state != EnvironmentState::Active,
            egress_mbit_max: environment.quotas.egress_mbit_max,
            anchors: authorities
                .into_iter()
                .map(|authority| authority.certificate.clone())
                .collect(),
            leaf_seconds: environment.lifetimes.leaf_seconds,
            other_names: environment.other_names.clone(),
        };
        set(&mut self.settings, settings, at);
        let policy = self.policy.clone().unwrap_or_else(|| Policy::open(id.clone()));
        set(&mut self.rules, policy, at);
    }

    fn settle_host(
        &mut self,
        id: &EnvironmentId,
        host: HostId,
        around: &Around<'_>,
        gone: &mut Gone,
        change: &mut Change,
    ) {
        let at = around.revision;
        let known = around.hosts.get(&host).filter(|host| takes_part(host));
        let names = self.on_host.get(&host).filter(|_| self.environment.is_some());
        let (Some(known), Some(names)) = (known, names) else {
            if self.members.remove(&host).is_some() {
                gone.for_members(DocumentId::Peer(id.clone(), host.clone()), at);
                gone.for_host(host.clone(), DocumentId::Environment(id.clone()), at);
                change.left.push(host);
            }
            return;
        };
        let member = self.members.entry(host.clone()).or_insert_with(|| {
            gone.is_back(&host, &DocumentId::Environment(id.clone()));
            change.joined.push(host.clone());
            Member { since: at, attachments: BTreeMap::new(), row: None }
        });
        member.attachments.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                gone.for_host(host.clone(), DocumentId::Attachment(id.clone(), name.clone()), at);
            }
            stays
        });
        let mut addresses = Vec::new();
        for attachment in names.iter().filter_map(|name| self.attachments.get(name)) {
            addresses.extend_from_slice(&attachment.addresses);
            let document = AttachmentDocument {
                environment: id.clone(),
                name: attachment.name.clone(),
                slot: attachment.slot.clone(),
                addresses: attachment.addresses.clone(),
                generation: attachment.generation,
                share: attachment.share,
            };
            gone.is_back(&host, &DocumentId::Attachment(id.clone(), attachment.name.clone()));
            set(member.attachments.entry(attachment.name.clone()).or_default(), document, at);
        }
        addresses.sort_unstable();
        set(&mut member.row, Row { endpoints: known.endpoints.clone(), addresses }, at);
    }

    fn settle_service(
        &mut self,
        id: &EnvironmentId,
        name: ServiceName,
        around: &Around<'_>,
        gone: &mut Gone,
    ) {
        let service = self.services.get(&name);
        let names = self.of_service.get(&name);
        if service.is_none() && names.is_none() {
            if self.offers.remove(&name).is_some() {
                gone.for_members(DocumentId::Service(id.clone(), name), around.revision);
            }
            return;
        }
        let attachments = names.into_iter().flatten().filter_map(|name| self.attachments.get(name));
        let instances = attachments.clone().map(|attachment| {
            let instance = Instance {
                attachment: attachment.name.clone(),
                generation: attachment.generation,
                addresses: attachment.addresses.clone(),
                state: self.state_of(attachment, around),
            };
            (attachment.slot.slot, instance)
        });
        let roles = self.roles.get(&name).into_iter().flatten().filter_map(|(role, held)| {
            let mut holders =
                attachments.clone().filter(|attachment| attachment.name == held.holder);
            holders.next().map(|attachment| {
                let (slot, attachment) = (attachment.slot.slot, attachment.name.clone());
                (role.clone(), RoleHolder { slot, attachment, epoch: held.epoch })
            })
        });
        let document = ServiceDocument {
            environment: id.clone(),
            name: name.clone(),
            version: service.map_or(0, |service| service.version),
            ports: service.map(|service| service.ports.clone()).unwrap_or_default(),
            metadata: service.map(|service| service.metadata.clone()).unwrap_or_default(),
            instances: instances.collect(),
            roles: roles.collect(),
        };
        set(self.offers.entry(name).or_default(), document, around.revision);
    }

    /// Whether others are sent to an attachment; what is said of another generation of it says nothing.
    fn state_of(&self, attachment: &Attachment, around: &Around<'_>) -> InstanceState {
        let Attachment { name, generation, host, .. } = attachment;
        let is_drained = self.drains.get(name).is_some_and(|drain| drain.generation == *generation);
        if is_drained || !around.hosts.get(host).is_some_and(takes_part) {
            return InstanceState::Drained;
        }
        if around.lost.contains(host) {
            return InstanceState::Unhealthy;
        }
        let health = self.health.get(name).filter(|health| health.generation == *generation);
        match health.and_then(Health::overall) {
            None | Some(HealthState::Healthy) => InstanceState::Healthy,
            Some(HealthState::Starting) => InstanceState::Starting,
            Some(HealthState::Unhealthy) => InstanceState::Unhealthy,
        }
    }

    /// Its services that changed after `after`, by name, behind the one that is called `last`.
    pub(super) fn services(
        &self,
        after: Revision,
        last: Option<&ServiceName>,
    ) -> impl Iterator<Item = &ServiceDocument> {
        let behind = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let offers = self.offers.range::<ServiceName, _>(behind);
        offers.filter_map(move |(_, offer)| newer(offer, after))
    }

    /// Whether members can know this now.
    pub(super) fn has(&self, id: &DocumentId) -> bool {
        match id {
            DocumentId::Peer(_, host) => self.members.contains_key(host),
            DocumentId::Service(_, name) => self.offers.contains_key(name),
            _ => true,
        }
    }

    /// Everything that a member has to know and that changed after `after`.
    pub(super) fn tell(
        &self,
        id: &EnvironmentId,
        viewer: Viewer<'_>,
        after: Revision,
        updates: &mut Vec<Update>,
    ) {
        let mut put = |document| updates.push(Update::Put(document));
        if let Some(settings) = newer(&self.settings, after) {
            put(Document::Environment(settings.clone()));
        }
        if let Some(rules) = newer(&self.rules, after) {
            put(Document::Policy(rules.clone()));
        }
        let own = self.members.get(viewer.id).into_iter().flat_map(|own| own.attachments.values());
        for attachment in own.filter_map(|attachment| newer(attachment, after)) {
            put(Document::Attachment(attachment.clone()));
        }
        for (host, member) in self.members.iter().filter(|(host, _)| *host != viewer.id) {
            let Some(row) = newer(&member.row, after) else { continue };
            let for_viewer =
                |endpoint: &&Endpoint| endpoint.pod.as_ref().is_none_or(|pod| pod == viewer.pod);
            put(Document::Peer(PeerDocument {
                environment: id.clone(),
                host: host.clone(),
                endpoints: row.endpoints.iter().filter(for_viewer).map(|e| e.address).collect(),
                addresses: row.addresses.clone(),
            }));
        }
        for offer in self.services(after, None) {
            put(Document::Service(offer.clone()));
        }
    }
}

fn newer<T>(document: &Option<Versioned<T>>, after: Revision) -> Option<&T> {
    document.as_ref().filter(|document| document.changed > after).map(|document| &document.value)
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn take<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}
