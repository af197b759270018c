//! What a host has to know, as its control plane says: everything once, then every change.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use weft_control_api::v1::{self, host_update, removed};
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
    Ok(Settings {
        subnets: all("environment.subnets", &said.subnets)?,
        suspended: said.suspended,
        egress_mbit_max: (said.egress_mbit_max > 0).then_some(said.egress_mbit_max),
        anchors: said.anchors.clone(),
    })
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
pub(crate) mod tests {
    use super::*;

    pub(crate) fn environment(id: &str) -> host_update::Update {
        host_update::Update::Environment(v1::EnvironmentSettings {
            id: id.to_owned(),
            subnets: vec!["10.40.0.0/24".to_owned()],
            anchors: vec!["an anchor".to_owned()],
            leaf_seconds: 86_400,
            ..Default::default()
        })
    }

    pub(crate) fn attachment(environment: &str, name: &str, address: &str) -> host_update::Update {
        host_update::Update::Attachment(v1::DesiredAttachment {
            environment: environment.to_owned(),
            name: name.to_owned(),
            slot: None,
            addresses: vec![address.to_owned()],
            generation: 1,
            share: None,
        })
    }

    pub(crate) fn peer(environment: &str, host: &str, address: &str) -> host_update::Update {
        host_update::Update::Peer(v1::PeerHost {
            environment: environment.to_owned(),
            host: host.to_owned(),
            endpoints: vec!["192.0.2.2:5820".to_owned()],
            addresses: vec![address.to_owned()],
        })
    }

    fn policy(environment: &str) -> host_update::Update {
        host_update::Update::Policy(v1::Policy {
            environment: environment.to_owned(),
            version: 3,
            ..Default::default()
        })
    }

    fn removed(environment: &str, what: removed::What) -> host_update::Update {
        let environment = environment.to_owned();
        host_update::Update::Removed(v1::Removed { environment, what: Some(what) })
    }

    pub(crate) fn answer(revision: u64, updates: Vec<host_update::Update>) -> v1::WatchResponse {
        let updates = updates.into_iter().map(|update| v1::HostUpdate { update: Some(update) });
        v1::WatchResponse { revision, is_snapshot: false, updates: updates.collect(), more: false }
    }

    fn snapshot(revision: u64, updates: Vec<host_update::Update>) -> v1::WatchResponse {
        v1::WatchResponse { is_snapshot: true, ..answer(revision, updates) }
    }

    fn acme(documents: &Documents) -> &Environment {
        let id: EnvironmentId = "acme".parse().unwrap();
        &documents.environments()[&id]
    }

    fn names(documents: &Documents) -> Vec<&str> {
        documents.environments().keys().map(EnvironmentId::as_str).collect()
    }

    #[test]
    fn a_snapshot_voids_what_was_before_and_changes_add_to_it() {
        let mut documents = Documents::default();
        let told =
            vec![environment("acme"), environment("beta"), attachment("acme", "web", "10.40.0.2")];
        assert_eq!(documents.take(snapshot(5, told)), Some(vec![]));
        assert_eq!((names(&documents), documents.revision()), (vec!["acme", "beta"], 5));
        let changes = vec![
            peer("acme", "host-b", "10.40.0.3"),
            removed("beta", removed::What::All(true)),
            removed("acme", removed::What::Attachment("web".to_owned())),
        ];
        assert_eq!(documents.take(answer(6, changes)), Some(vec![]));
        let acme = acme(&documents);
        assert_eq!((acme.attachments.len(), acme.peers.len()), (0, 1));
        assert_eq!(documents.take(snapshot(9, vec![environment("beta")])), Some(vec![]));
        assert_eq!((names(&documents), documents.revision()), (vec!["beta"], 9));
    }

    #[test]
    fn nothing_counts_before_the_last_part() {
        let mut documents = Documents::default();
        documents.take(snapshot(5, vec![environment("acme")]));
        let first = v1::WatchResponse { more: true, ..snapshot(8, vec![environment("beta")]) };
        assert_eq!(documents.take(first.clone()), None);
        assert_eq!((names(&documents), documents.revision()), (vec!["acme"], 5));
        // The connection breaks: the answer begins anew.
        documents.forget_parts();
        assert_eq!(documents.take(first), None);
        assert_eq!(documents.take(answer(8, vec![environment("gamma")])), Some(vec![]));
        assert_eq!((names(&documents), documents.revision()), (vec!["beta", "gamma"], 8));
    }

    #[test]
    fn what_is_malformed_is_left_out_and_said() {
        let mut documents = Documents::default();
        let told = vec![
            environment("acme"),
            attachment("acme", "web", "10.40.0.256"),
            attachment("beta", "web", "10.40.0.2"),
            attachment("acme", "db", "10.40.0.3"),
            removed("gone", removed::What::Peer("host-b".to_owned())),
        ];
        let errors = documents.take(snapshot(5, told)).unwrap();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].to_string().starts_with("attachment.addresses: \"10.40.0.256\""));
        assert_eq!(errors[1], DocumentError::Environment("beta".parse().unwrap()));
        let unknown = v1::WatchResponse {
            updates: vec![v1::HostUpdate { update: None }],
            ..answer(6, vec![])
        };
        assert_eq!(documents.take(unknown), Some(vec![DocumentError::Kind]));
        assert_eq!(
            (documents.revision(), documents.snapshot().revision),
            (6, 0),
            "it is asked again"
        );
        assert_eq!(acme(&documents).attachments.len(), 1);
    }

    #[test]
    fn what_was_said_can_be_said_again() {
        let mut documents = Documents::default();
        let told = vec![
            environment("acme"),
            attachment("acme", "web", "10.40.0.2"),
            attachment("acme", "db", "10.40.0.3"),
            peer("acme", "host-b", "10.40.0.4"),
            policy("acme"),
            environment("beta"),
        ];
        documents.take(snapshot(5, told));
        documents.take(answer(
            7,
            vec![
                removed("acme", removed::What::Attachment("db".to_owned())),
                removed("beta", removed::What::All(true)),
            ],
        ));
        let mut again = Documents::default();
        assert_eq!(again.take(documents.snapshot()), Some(vec![]));
        assert_eq!(again.snapshot(), documents.snapshot());
        assert_eq!(again.revision(), 7);
        assert_eq!(again.snapshot().updates.len(), 4);
    }
}
