//! The service registry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_types::{AttachmentName, EnvironmentId};

use super::{Record, UnixMs};
use crate::id::ServiceName;

/// A service of an environment: what its slots have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Where.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: ServiceName,
    /// Where it listens, by name.
    pub ports: BTreeMap<ServiceName, Port>,
    /// What those who use it should know.
    pub metadata: BTreeMap<String, String>,
    /// Unique in the environment, and higher than every earlier one; see [`super::Usage::generation`].
    pub version: u64,
}

impl Record for Service {
    const KIND: &'static str = "service";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.name)
    }
}

/// Where a service listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Over what.
    pub protocol: Protocol,
    /// 1 to 65,535.
    pub port: u16,
}

/// What has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// How an attachment is, as its host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Where.
    pub environment: EnvironmentId,
    /// Which attachment.
    pub attachment: AttachmentName,
    /// Which generation of it.
    pub generation: u64,
    /// How what uses it is; left out when that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<HealthState>,
    /// How its interface is; left out when that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Since when.
    pub since: UnixMs,
}

impl Health {
    /// As it is once its host has said this, where it was `before`. What the host says nothing of stays as it was said of
    /// this generation, with when that was.
    ///
    /// An interface that is to be made is no news when it was there, or could not be made: a daemon that starts again
    /// makes all of them anew, and containers notice nothing of that.
    #[must_use]
    pub fn after(self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.generation == self.generation) else {
            return self;
        };
        let interface = match self.interface {
            None | Some(Interface::Pending) => before.interface.clone().or(self.interface),
            said => said,
        };
        let state = self.state.or(before.state);
        let is_so = (state, &interface) == (before.state, &before.interface);
        let since = if is_so { before.since } else { self.since };
        Self { state, interface, since, ..self }
    }

    /// As bad as the worse of its interface and of what uses it; `None` when nothing is said of either.
    #[must_use]
    pub fn overall(&self) -> Option<HealthState> {
        let interface = self.interface.as_ref().map(|interface| match interface {
            Interface::Pending => HealthState::Starting,
            Interface::Up => HealthState::Healthy,
            Interface::Failed { .. } => HealthState::Unhealthy,
        });
        let badness = |state: &HealthState| match state {
            HealthState::Healthy => 0,
            HealthState::Starting => 1,
            HealthState::Unhealthy => 2,
        };
        interface.into_iter().chain(self.state).max_by_key(badness)
    }
}

impl Record for Health {
    const KIND: &'static str = "health";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.attachment)
    }
}

/// How an attachment is. Only healthy ones are named to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// It does not answer yet.
    Starting,
    /// It answers.
    Healthy,
    /// It answers no more.
    Unhealthy,
}

/// How an attachment's interface is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Interface {
    /// It is not there yet.
    Pending,
    /// It is there and served.
    Up,
    /// It could not be made, or is gone.
    Failed {
        /// Why, without control characters.
        error: String,
    },
}

/// Somebody has taken an attachment out of service: nobody is sent to it, however it is. It goes when the attachment
/// does, or moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Where.
    pub environment: EnvironmentId,
    /// Which attachment.
    pub attachment: AttachmentName,
    /// Which generation of it.
    pub generation: u64,
    /// Since when.
    pub since: UnixMs,
}

impl Record for Drain {
    const KIND: &'static str = "drain";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.attachment)
    }
}

/// Who has a role of a service, for example `primary`. A failover is one compare-and-swap of this record. It is there
/// while somebody has the role, and that attachment is there and where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Where.
    pub environment: EnvironmentId,
    /// Of which service.
    pub service: ServiceName,
    /// Which role.
    pub role: ServiceName,
    /// Who has it.
    pub holder: AttachmentName,
    /// Higher than every earlier one of the environment, also after nobody had the role for a while; see
    /// [`super::Usage::generation`]. Whoever acts in the role shows it, and who has seen a higher one refuses.
    pub epoch: u64,
}

impl Record for Role {
    const KIND: &'static str = "role";

    fn path(&self) -> String {
        format!("{}/{}/{}", self.environment, self.service, self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Option<Interface> {
        Some(Interface::Failed { error: "no such namespace".to_owned() })
    }

    fn health(state: Option<HealthState>, interface: Option<Interface>, since: u64) -> Health {
        Health {
            environment: "env-a".parse().unwrap(),
            attachment: "web".parse().unwrap(),
            generation: 7,
            state,
            interface,
            since: UnixMs(since),
        }
    }

    #[test]
    fn both_have_to_be_good() {
        use HealthState::{Healthy, Starting, Unhealthy};
        for (state, interface, expected) in [
            (None, None, None),
            (Some(Starting), None, Some(Starting)),
            (None, Some(Interface::Up), Some(Healthy)),
            (None, Some(Interface::Pending), Some(Starting)),
            (None, failed(), Some(Unhealthy)),
            (Some(Healthy), Some(Interface::Up), Some(Healthy)),
            (Some(Healthy), Some(Interface::Pending), Some(Starting)),
            (Some(Healthy), failed(), Some(Unhealthy)),
            (Some(Starting), Some(Interface::Up), Some(Starting)),
            (Some(Starting), failed(), Some(Unhealthy)),
            (Some(Unhealthy), Some(Interface::Up), Some(Unhealthy)),
            (Some(Unhealthy), Some(Interface::Pending), Some(Unhealthy)),
        ] {
            let health = health(state, interface, 1);
            assert_eq!(health.overall(), expected, "{health:?}");
        }
    }

    #[test]
    fn an_interface_that_is_made_anew_takes_nobody_away() {
        let said = |interface| health(None, interface, 2);
        let pending = || said(Some(Interface::Pending));
        assert_eq!(pending().after(None), pending(), "nothing was there");
        for was in [Some(Interface::Up), failed()] {
            let before = health(Some(HealthState::Healthy), was, 1);
            assert_eq!(pending().after(Some(&before)), before);
            assert_eq!(said(None).after(Some(&before)), before, "nothing is said");
            // What is said of another generation says nothing of this one.
            let earlier = Health { generation: 6, ..before };
            assert_eq!(pending().after(Some(&earlier)), pending());
        }
        let up = said(Some(Interface::Up));
        assert_eq!(up.clone().after(Some(&health(None, Some(Interface::Pending), 1))), up);
        assert_eq!(up.clone().after(Some(&health(None, failed(), 1))), up);
        assert_eq!(said(failed()).after(Some(&up)), said(failed()));
        let both =
            said(Some(Interface::Up)).after(Some(&health(Some(HealthState::Starting), None, 1)));
        assert_eq!(both, health(Some(HealthState::Starting), Some(Interface::Up), 2));
    }

    #[test]
    fn what_earlier_processes_wrote_is_read() {
        let document = r#"{"environment":"env-a","attachment":"web","generation":7,"state":"healthy","since":1}"#;
        let read: Health = serde_json::from_str(document).unwrap();
        assert_eq!(read, health(Some(HealthState::Healthy), None, 1));
        assert_eq!(serde_json::to_string(&read).unwrap(), document);
    }
}
