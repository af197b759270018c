//! What a host says of its sessions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_types::{EnvironmentId, HostId};

use super::{Record, UnixMs};

/// How a host's sessions in an environment are, as it said last; see [`crate::reports`]. It is the environment's: it goes
/// with it, and with the last attachment that the host has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peering {
    /// Where.
    pub environment: EnvironmentId,
    /// Whose.
    pub host: HostId,
    /// When it said so, by the clock of whom it told.
    pub at: UnixMs,
    /// With which hosts, and how they are.
    pub peers: BTreeMap<HostId, PeerSession>,
}

impl Record for Peering {
    const KIND: &'static str = "peering";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.host)
    }
}

/// How a session with another host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSession {
    /// There is one.
    pub is_up: bool,
    /// Age of the oldest key that seals, milliseconds; 0 without.
    pub key_age_ms: u64,
    /// Why the last handshake failed, without control characters; empty when it did not, or when it is not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}
