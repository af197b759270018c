//! What a host has to know, as its control plane says: everything once, then every change.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use weft_control_api::v1::{self, OtherNamesRule, host_update, removed};
use weft_dns::{Outside, UPSTREAMS_MAX};
use weft_types::{AttachmentName, EnvironmentId, HostId, Subnet};

/// Most updates that wait for the rest of their answer.
const PARTS_MAX: usize = 1 << 20;

/// Why an update says nothing to this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A field is missing or malformed.
    #[error("{field}: {found:?}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is there.
        found: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It is about an environment that was not told of.
    #[error("environment {0} is not known")]
    Environment(EnvironmentId),
    /// It is about something that this version does not know.
    #[error("an update of an unknown kind")]
    Kind,
    /// An answer has no end.
    #[error("an answer of more than {PARTS_MAX} updates")]
    Endless,
}

/// What holds for an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) suspended: bool,
    pub(crate) egress_mbit_max: Option<u32>,
    /// PEM, the one that issues first.
    pub(crate) anchors: Vec<String>,
    /// What is said of names that are not the environment's.
    pub(crate) outside: Outside,
}

/// An attachment that this host is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) generation: u64,
    pub(crate) share: v1::AttachmentShare,
}

/// Another host of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// Everything about one environment. What was said is kept as it was said, too: so it can be said again after a
/// restart.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    pub(crate) settings: Settings,
    pub(crate) attachments: BTreeMap<AttachmentName, Attachment>,
    pub(crate) peers: BTreeMap<HostId, Peer>,
    said: BTreeMap<Key, host_update::Update>,
}

impl Environment {
    /// Its services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &v1::ServiceState> {
        self.said.values().filter_map(|said| match said {
            host_update::Update::Service(service) => Some(service),
            _ => None,
        })
    }

    /// Its policy, if it was told.
    pub(crate) fn policy(&self) -> Option<&v1::Policy> {
        match self.said.get(&Key::Policy) {
            Some(host_update::Update::Policy(policy)) => Some(policy),
            _ => None,
        }
    }
}

/// What an update is about, inside its environment; in the order in which they are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Environment,
    Attachment(String),
    Peer(String),
    Service(String),
    Policy,
}

/// What a host has to know.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    revision: u64,
    environments: BTreeMap<EnvironmentId, Environment>,
    /// Updates of an answer that has not come whole.
    parts: Vec<v1::HostUpdate>,
    is_snapshot: bool,
    /// Something since the last snapshot was not understood.
    is_partial: bool,
}

impl Documents {
    /// What the host has; 0 for nothing.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn environments(&self) -> &BTreeMap<EnvironmentId, Environment> {
        &self.environments
    }

    /// An attachment that this host is to have.
    pub(crate) fn attachment(
        &self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) -> Option<&Attachment> {
        self.environments.get(environment)?.attachments.get(name)
    }

    /// Takes a part of an answer; nothing of it counts before its last part is there, and then all of it does but
    /// for what is malformed, which is returned. `None` while more has to come.
    pub fn take(&mut self, mut part: v1::WatchResponse) -> Option<Vec<DocumentError>> {
        if self.parts.is_empty() {
            self.is_snapshot = part.is_snapshot;
        }
        self.parts.append(&mut part.updates);
        if self.parts.len() > PARTS_MAX {
            self.forget_parts();
            return Some(vec![DocumentError::Endless]);
        }
        if part.more {
            return None;
        }
        if self.is_snapshot {
            self.environments.clear();
            self.is_partial = false;
        }
        let parts = std::mem::take(&mut self.parts);
        let errors: Vec<_> =
            parts.into_iter().filter_map(|update| self.update(update).err()).collect();
        self.revision = part.revision;
        self.is_partial |= !errors.is_empty();
        Some(errors)
    }

    /// An answer that broke off is told again from its beginning.
    pub(crate) fn forget_parts(&mut self) {
        self.parts = Vec::new();
        self.is_snapshot = false;
    }

    /// The next daemon asks for everything again: what this one has not understood, that one may.
    pub(crate) fn ask_anew(&mut self) {
        self.revision = 0;
    }

    /// Everything as one answer: whoever is told it knows as much.
    #[must_use]
    pub fn snapshot(&self) -> v1::WatchResponse {
        let said = self.environments.values().flat_map(|environment| environment.said.values());
        let updates = said.map(|update| v1::HostUpdate { update: Some(update.clone()) });
        v1::WatchResponse {
            revision: if self.is_partial { 0 } else { self.revision },
            is_snapshot: true,
            updates: updates.collect(),
            more: false,
        }
    }

    fn update(&mut self, update: v1::HostUpdate) -> Result<(), DocumentError> {
        use host_update::Update;

        let update = update.update.ok_or(DocumentError::Kind)?;
        let said = update.clone();
        let (environment, key) = match update {
            Update::Environment(said_settings) => {
                let id = name("environment.id", &said_settings.id)?;
                self.set_environment(&id, settings(&said_settings)?);
                (id, Key::Environment)
            }
            Update::Attachment(desired) => {
                let (id, environment) = self.known(&desired.environment)?;
                let attachment = Attachment {
                    addresses: all("attachment.addresses", &desired.addresses)?,
                    generation: desired.generation,
                    share: desired.share.unwrap_or_default(),
                };
                environment.attachments.insert(name("attachment.name", &desired.name)?, attachment);
                (id, Key::Attachment(desired.name))
            }
            Update::Peer(peer) => {
                let (id, environment) = self.known(&peer.environment)?;
                let known = Peer {
                    endpoints: all("peer.endpoints", &peer.endpoints)?,
                    addresses: all("peer.addresses", &peer.addresses)?,
                };
                environment.peers.insert(name("peer.host", &peer.host)?, known);
                (id, Key::Peer(peer.host))
            }
            Update::Service(service) => {
                (self.known(&service.environment)?.0, Key::Service(service.name))
            }
            Update::Policy(policy) => (self.known(&policy.environment)?.0, Key::Policy),
            Update::Removed(removed) => return self.remove(&removed),
        };
        if let Some(environment) = self.environments.get_mut(&environment) {
            environment.said.insert(key, said);
        }
        Ok(())
    }

    fn set_environment(&mut self, id: &EnvironmentId, settings: Settings) {
        match self.environments.get_mut(id) {
            Some(environment) => environment.settings = settings,
            None => {
                let environment = Environment {
                    settings,
                    attachments: BTreeMap::new(),
                    peers: BTreeMap::new(),
                    said: BTreeMap::new(),
                };
                self.environments.insert(id.clone(), environment);
            }
        }
    }

    fn known(&mut self, id: &str) -> Result<(EnvironmentId, &mut Environment), DocumentError> {
        let id: EnvironmentId = name("environment", id)?;
        match self.environments.get_mut(&id) {
            Some(environment) => Ok((id, environment)),
            None => Err(DocumentError::Environment(id)),
        }
    }

    /// What is gone already is gone.
    fn remove(&mut self, removed: &v1::Removed) -> Result<(), DocumentError> {
        let id: EnvironmentId = name("removed.environment", &removed.environment)?;
        let what = removed.what.as_ref().ok_or(DocumentError::Kind)?;
        if matches!(what, removed::What::All(_)) {
            self.environments.remove(&id);
            return Ok(());
        }
        let Some(environment) = self.environments.get_mut(&id) else { return Ok(()) };
        let key = match what {
            removed::What::All(_) => return Ok(()),
            removed::What::Attachment(attachment) => {
                let gone: AttachmentName = name("removed.attachment", attachment)?;
                environment.attachments.remove(&gone);
                Key::Attachment(attachment.clone())
            }
            removed::What::Peer(host) => {
                let gone: HostId = name("removed.peer", host)?;
                environment.peers.remove(&gone);
                Key::Peer(host.clone())
            }
            removed::What::Service(service) => Key::Service(service.clone()),
        };
        environment.said.remove(&key);
        Ok(())
    }
}

fn settings(said: &v1::EnvironmentSettings) -> Result<Settings, DocumentError> {
    let subnets: Vec<Subnet> = all("environment.subnets", &said.subnets)?;
    Ok(Settings {
        outside: said
            .other_names
            .as_ref()
            .map(|other| outside(other, &subnets))
            .unwrap_or_default(),
        subnets,
        suspended: said.suspended,
        egress_mbit_max: (said.egress_mbit_max > 0).then_some(said.egress_mbit_max),
        anchors: said.anchors.clone(),
    })
}

/// What a control plane of another version may say and this one cannot do is refused: no name goes where nobody said so,
/// and everything else of the environment goes on.
fn outside(said: &v1::OtherNames, subnets: &[Subnet]) -> Outside {
    match said.rule() {
        OtherNamesRule::Unspecified | OtherNamesRule::Refuse => Outside::Refuse,
        OtherNamesRule::Absent => Outside::Absent,
        OtherNamesRule::Forward => {
            let servers = said.name_servers.iter().filter_map(|text| text.parse().ok());
            let can_be_asked = |server: &SocketAddr| {
                let ip = server.ip();
                let is_host = !ip.is_unspecified() && !ip.is_multicast() && server.port() != 0;
                // It would ask itself.
                is_host && !subnets.iter().any(|subnet| subnet.gateway() == ip)
            };
            let servers: Vec<_> = servers.filter(can_be_asked).take(UPSTREAMS_MAX).collect();
            if servers.is_empty() { Outside::Refuse } else { Outside::Forward(servers) }
        }
    }
}

fn name<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, DocumentError> {
    text.parse().map_err(|problem: T::Err| DocumentError::Field {
        field,
        found: text.chars().take(64).collect(),
        problem: problem.to_string(),
    })
}

fn all<T: FromStr<Err: Display>>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, DocumentError> {
    texts.iter().map(|text| name(field, text)).collect()
}

#[cfg(test)]
pub(crate) mod tests;
