//! What hosts are told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use weft_types::{AttachmentName, EnvironmentId, HostId, Subnet};

use crate::{
    id::{ServiceName, SlotName},
    policy::Policy,
    record::{OtherNames, Port, Share, SlotKey},
};

/// One change of what a host knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// This is so from now on.
    Put(Document),
    /// This is no more; with an environment, all of its documents. Nothing happens if it is not known.
    Remove(DocumentId),
}

/// Which document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DocumentId {
    /// An environment's settings; without them there is nothing of it.
    Environment(EnvironmentId),
    /// An attachment on this host.
    Attachment(EnvironmentId, AttachmentName),
    /// Another host of an environment.
    Peer(EnvironmentId, HostId),
    /// A service of an environment.
    Service(EnvironmentId, ServiceName),
    /// An environment's policy.
    Policy(EnvironmentId),
}

impl DocumentId {
    /// Where it belongs.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentId {
        match self {
            Self::Environment(environment)
            | Self::Attachment(environment, _)
            | Self::Peer(environment, _)
            | Self::Service(environment, _)
            | Self::Policy(environment) => environment,
        }
    }
}

/// Something that a host has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// See there.
    Environment(EnvironmentDocument),
    /// See there.
    Attachment(AttachmentDocument),
    /// See there.
    Peer(PeerDocument),
    /// See there.
    Service(ServiceDocument),
    /// See there.
    Policy(Policy),
}

impl Document {
    /// Which it is.
    #[must_use]
    pub fn id(&self) -> DocumentId {
        match self {
            Self::Environment(d) => DocumentId::Environment(d.id.clone()),
            Self::Attachment(d) => DocumentId::Attachment(d.environment.clone(), d.name.clone()),
            Self::Peer(d) => DocumentId::Peer(d.environment.clone(), d.host.clone()),
            Self::Service(d) => DocumentId::Service(d.environment.clone(), d.name.clone()),
            Self::Policy(d) => DocumentId::Policy(d.environment.clone()),
        }
    }
}

/// An environment's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentDocument {
    /// Which.
    pub id: EnvironmentId,
    /// Its address ranges.
    pub subnets: Vec<Subnet>,
    /// No traffic flows.
    pub suspended: bool,
    /// What all of its attachments on this host may send to other hosts, Mbit/s; no limit without.
    pub egress_mbit_max: Option<u32>,
    /// Certificates of its authorities that are trusted, PEM, the one that issues first.
    pub anchors: Vec<String>,
    /// How long a host's leaf is valid, seconds.
    pub leaf_seconds: u32,
    /// What is said of names that are not the environment's.
    pub other_names: OtherNames,
}

/// An attachment that this host is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentDocument {
    /// Where.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: AttachmentName,
    /// What it fills.
    pub slot: SlotKey,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Which one of that name it is.
    pub generation: u64,
    /// What it may send.
    pub share: Share,
}

/// Another host of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerDocument {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub host: HostId,
    /// Where its daemon listens for this host, best first.
    pub endpoints: Vec<SocketAddr>,
    /// The environment's addresses that live there, in their order.
    pub addresses: Vec<IpAddr>,
}

/// A service with what has a place in it at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDocument {
    /// Where.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: ServiceName,
    /// Which version of it is registered; 0 when none is, and it has slots only.
    pub version: u64,
    /// Where it listens, by name.
    pub ports: BTreeMap<ServiceName, Port>,
    /// What those who use it should know.
    pub metadata: BTreeMap<String, String>,
    /// By slot.
    pub instances: BTreeMap<SlotName, Instance>,
    /// Who has which role.
    pub roles: BTreeMap<ServiceName, RoleHolder>,
}

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleHolder {
    /// The slot.
    pub slot: SlotName,
    /// What fills it.
    pub attachment: AttachmentName,
    /// Higher than that of every earlier holder.
    pub epoch: u64,
}

/// What fills a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub attachment: AttachmentName,
    /// Which one of that name.
    pub generation: u64,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether others are sent to it.
    pub state: InstanceState,
}

/// Whether others are sent to what fills a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// Not yet.
    Starting,
    /// They are. What nobody says anything of is healthy.
    Healthy,
    /// Only if no other one is healthy: it does not answer, or its host is not heard of.
    Unhealthy,
    /// Never: somebody took it out of service, or its host is shut out.
    Drained,
}
