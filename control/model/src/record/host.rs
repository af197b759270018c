//! Hosts.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};
use weft_types::HostId;

use super::{Record, UnixMs};

/// Most labels of a host.
pub const LABELS_MAX: usize = 64;

/// A machine that runs `weftd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Unique in the installation, and never given to another machine again.
    pub id: HostId,
    /// What it may do.
    pub state: HostState,
    /// Where it stands.
    pub place: Place,
    /// What else is known of it, for placement.
    pub labels: BTreeMap<String, String>,
    /// Where its daemon listens, best first.
    pub endpoints: Vec<Endpoint>,
    /// What it has.
    pub capacity: Capacity,
    /// SHA-256 of its present public key (SubjectPublicKeyInfo), hexadecimal.
    pub key_hash: String,
    /// The same of the key that it has a certificate for and has not used yet; left out when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key_hash: Option<String>,
    /// When it enrolled.
    pub created: UnixMs,
}

impl Record for Host {
    const KIND: &'static str = "host";

    fn path(&self) -> String {
        self.id.to_string()
    }
}

/// Which key of a host somebody has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKey {
    /// The one that it uses.
    Present,
    /// The one that takes over now that it is used.
    Next,
}

/// How a host changes its key:
///
/// ```text
///            renewed(1, 2)              used(2)
///   present 1 ──────────▶ present 1, next 2 ──▶ present 2
///                         ▲     │ both count
///                         └─────┘ renewed(1, 2) again, or renewed(1, 3): next 3
/// ```
///
/// So an answer that is lost shuts nobody out: the host goes on with the present key, and asks again.
impl Host {
    /// Which of its keys this is, if whoever shows it is this host.
    #[must_use]
    pub fn admits(&self, key_hash: &str) -> Option<HostKey> {
        if self.state == HostState::Revoked {
            None
        } else if self.key_hash == key_hash {
            Some(HostKey::Present)
        } else if self.next_key_hash.as_deref() == Some(key_hash) {
            Some(HostKey::Next)
        } else {
            None
        }
    }

    /// As it is once this key was shown: a next one is the only one from then on. `None` when the key is none of this
    /// host's.
    #[must_use]
    pub fn used(&self, key_hash: &str) -> Option<Self> {
        Some(match self.admits(key_hash)? {
            HostKey::Present => self.clone(),
            HostKey::Next => self.with_key(key_hash.to_owned()),
        })
    }

    /// As it is once whoever shows the key `shown` has a certificate for `wanted`, which is the next one unless it is the
    /// present one. `None` when `shown` is none of this host's.
    #[must_use]
    pub fn renewed(&self, shown: &str, wanted: &str) -> Option<Self> {
        let used = self.used(shown)?;
        if used.key_hash == wanted {
            return Some(used);
        }
        Some(Self { next_key_hash: Some(wanted.to_owned()), ..used })
    }

    /// With this key alone.
    #[must_use]
    pub fn with_key(&self, key_hash: String) -> Self {
        Self { key_hash, next_key_hash: None, ..self.clone() }
    }

    /// In this state; a host that is shut out has no next key.
    #[must_use]
    pub fn in_state(&self, state: HostState) -> Self {
        let next_key_hash = self.next_key_hash.clone().filter(|_| state != HostState::Revoked);
        Self { state, next_key_hash, ..self.clone() }
    }
}

/// What a host may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Everything.
    Active,
    /// It keeps what it has and gets nothing new.
    Cordoned,
    /// It is to lose what it has, and gets nothing new.
    Draining,
    /// It is shut out: its certificates are not accepted, and what it had is given to others.
    Revoked,
}

/// Where a host stands; empty where it is not said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The pod: hosts that are managed together.
    pub pod: String,
    /// The zone: what fails together.
    pub zone: String,
    /// The region: what is near.
    pub region: String,
}

/// Where a host's daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// UDP data and TCP handshakes.
    pub address: SocketAddr,
    /// Whom it is for: hosts of this pod only; everybody without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// What a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

/// A host that has not been heard of for too long. Nobody is sent to what runs there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Which.
    pub host: HostId,
    /// Since when.
    pub since: UnixMs,
}

impl Record for Lost {
    const KIND: &'static str = "lost";

    fn path(&self) -> String {
        self.host.to_string()
    }
}

/// When a host was heard of, for every process of the control plane; to some seconds, see [`crate::liveness`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Which host.
    pub host: HostId,
    /// When, by the clock of whom it told.
    pub at: UnixMs,
    /// Its daemon's version.
    pub version: String,
    /// What it had carried out by then: a revision of the store.
    pub revision: u64,
}

impl Record for Heartbeat {
    const KIND: &'static str = "heartbeat";

    fn path(&self) -> String {
        self.host.to_string()
    }
}

/// Whose turn it is to do background work. It is written with a lease, so it is there while its holder lives, and every
/// change that the holder makes rests on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Which process has it.
    pub process: String,
    /// Since when.
    pub since: UnixMs,
}

impl Record for Turn {
    const KIND: &'static str = "turn";

    fn path(&self) -> String {
        // There is one.
        "background".to_owned()
    }
}

#[cfg(test)]
mod tests;
