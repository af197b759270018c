//! From what there is to know to what the data plane is to run.

use std::collections::BTreeMap;

use weft_config::{
    ADDRESSES_PER_PEER_MAX, ALTERNATIVES_MAX, Attachment, Environment, Names, Peer, Share,
    WEIGHT_DEFAULT,
};
use weft_dns::ServiceRecord;
use weft_proto::policy::Rules;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use crate::{
    documents::{self, Documents},
    leaves::{Leaves, anchor},
    services,
    state::{Binding, Bindings},
};

/// What the data plane is to run.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Environments of which this host has a certificate.
    pub environments: Vec<Environment>,
    /// By what they are judged; those that are not there, by nothing. In one that is suspended nobody may talk to
    /// anybody, and interfaces stay.
    pub policies: BTreeMap<EnvironmentId, Rules>,
    /// Their services, for names.
    pub services: BTreeMap<EnvironmentId, Vec<ServiceRecord>>,
}

impl Desired {
    pub(crate) fn new(documents: &Documents, leaves: &Leaves, bindings: &Bindings) -> Self {
        let mut desired = Self::default();
        for (id, known) in documents.environments() {
            // Without a certificate there is nobody to talk to yet.
            let Some(leaf) = leaves.get(id) else { continue };
            let anchor = match anchor(&known.settings.anchors) {
                Ok(anchor) => anchor,
                Err(error) => {
                    tracing::error!(environment = %id, %error, "its authority is no use");
                    continue;
                }
            };
            let policy = match known.settings.suspended {
                true => Some(Rules::nothing()),
                false => {
                    known.policy().and_then(|policy| services::rules(policy, known.services()))
                }
            };
            desired.policies.extend(policy.map(|policy| (id.clone(), policy)));
            desired.services.insert(id.clone(), known.services().map(services::record).collect());
            desired.environments.push(Environment {
                id: id.clone(),
                subnets: known.settings.subnets.clone(),
                share: Share {
                    weight: WEIGHT_DEFAULT,
                    egress_mbit_max: known.settings.egress_mbit_max,
                },
                files: None,
                anchor,
                credentials: leaf.credentials.clone(),
                // Those of all of its services are set as a whole.
                names: Names::default(),
                attachments: attachments(id, known, bindings),
                peers: known
                    .peers
                    .iter()
                    .filter_map(|(host, peer)| self::peer(host, peer))
                    .collect(),
            });
        }
        desired
    }

    /// An attachment that is desired here.
    pub(crate) fn attachment(
        &self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) -> Option<&Attachment> {
        let environment = self.environments.iter().find(|e| e.id == *environment)?;
        environment.attachments.iter().find(|attachment| attachment.name == *name)
    }
}

/// Those whose place is known, and is that of the same one.
fn attachments(
    id: &EnvironmentId,
    known: &documents::Environment,
    bindings: &Bindings,
) -> Vec<Attachment> {
    let placed = known.attachments.iter().filter_map(|(name, attachment)| {
        let binding = bindings.get(id, name)?;
        (binding.generation == attachment.generation).then(|| self::attachment(binding, attachment))
    });
    placed.collect()
}

fn attachment(binding: &Binding, known: &documents::Attachment) -> Attachment {
    let mut addresses = known.addresses.clone();
    // IPv4 first, as in a file.
    addresses.sort_unstable();
    let weight = u16::try_from(known.share.weight).ok().filter(|weight| *weight > 0);
    let limit = known.share.egress_mbit_max;
    Attachment {
        name: binding.name.clone(),
        netns: binding.netns.clone(),
        interface: binding.interface.clone(),
        addresses,
        share: Share {
            weight: weight.unwrap_or(WEIGHT_DEFAULT),
            egress_mbit_max: (limit > 0).then_some(limit),
        },
    }
}

/// A host that nobody can call is no peer.
fn peer(host: &HostId, known: &documents::Peer) -> Option<Peer> {
    let (endpoint, others) = known.endpoints.split_first()?;
    Some(Peer {
        host: host.clone(),
        endpoint: *endpoint,
        alternatives: others.iter().take(ALTERNATIVES_MAX).copied().collect(),
        addresses: known.addresses.iter().take(ADDRESSES_PER_PEER_MAX).copied().collect(),
        keepalive_seconds: None,
    })
}
