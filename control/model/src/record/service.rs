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

/// How an attachment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Where.
    pub environment: EnvironmentId,
    /// Which attachment.
    pub attachment: AttachmentName,
    /// Which generation of it.
    pub generation: u64,
    /// How it is.
    pub state: HealthState,
    /// Since when.
    pub since: UnixMs,
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
