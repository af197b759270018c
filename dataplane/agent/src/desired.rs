//! From what there is to know to what the data plane is to run.

use std::{collections::BTreeMap, net::SocketAddr};

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
    /// For a host that others reach by IPv4, or by IPv6.
    pub(crate) fn new(
        documents: &Documents,
        leaves: &Leaves,
        bindings: &Bindings,
        is_ipv4: bool,
    ) -> Self {
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
            desired.policies.extend(rules(known).map(|rules| (id.clone(), rules)));
            desired.services.insert(id.clone(), records(known));
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
                names: Names { services: Vec::new(), outside: known.settings.outside.clone() },
                attachments: attachments(id, known, bindings),
                peers: known
                    .peers
                    .iter()
                    .filter_map(|(host, peer)| self::peer(host, peer, is_ipv4))
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

impl Documents {
    /// By what each environment is judged and what is called there, whether or not this host has a certificate of it.
    #[must_use]
    pub fn compiled(&self) -> Vec<(Option<Rules>, Vec<ServiceRecord>)> {
        let all = self.environments().values();
        all.map(|known| (rules(known), records(known))).collect()
    }
}

fn rules(known: &documents::Environment) -> Option<Rules> {
    match known.settings.suspended {
        true => Some(Rules::nothing()),
        false => known.policy().and_then(|policy| services::rules(policy, known.services())),
    }
}

fn records(known: &documents::Environment) -> Vec<ServiceRecord> {
    known.services().map(services::record).collect()
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

/// A host that cannot be called from here is no peer.
fn peer(host: &HostId, known: &documents::Peer, is_ipv4: bool) -> Option<Peer> {
    let can_be_called = |endpoint: &&SocketAddr| {
        endpoint.is_ipv4() == is_ipv4
            && endpoint.port() != 0
            && !endpoint.ip().is_unspecified()
            && !endpoint.ip().is_multicast()
    };
    let mut endpoints = known.endpoints.iter().filter(can_be_called).copied();
    Some(Peer {
        host: host.clone(),
        endpoint: endpoints.next()?,
        alternatives: endpoints.take(ALTERNATIVES_MAX).collect(),
        addresses: known.addresses.iter().take(ADDRESSES_PER_PEER_MAX).copied().collect(),
        keepalive_seconds: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_called_where_they_can_be() {
        let host = "host-b".parse().unwrap();
        let peer = |endpoints: &[&str], is_ipv4| {
            let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
            let known = documents::Peer { endpoints, addresses: Vec::new() };
            let peer = self::peer(&host, &known, is_ipv4)?;
            Some((peer.endpoint.to_string(), peer.alternatives.len()))
        };
        let mixed =
            ["0.0.0.0:5820", "[2001:db8::2]:5820", "192.0.2.2:0", "192.0.2.2:5820", "192.0.2.3:1"];
        assert_eq!(peer(&mixed, true), Some(("192.0.2.2:5820".to_owned(), 1)));
        assert_eq!(peer(&mixed, false), Some(("[2001:db8::2]:5820".to_owned(), 0)));
        assert_eq!(peer(&mixed[..3], true), None);
    }
}
