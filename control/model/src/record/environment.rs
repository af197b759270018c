//! Environments and their authorities.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use weft_types::{EnvironmentId, Subnet};

use super::{Record, UnixMs};
use crate::id::{OrganisationId, ServiceName};

/// A tenant's network; the unit of isolation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Unique in the installation.
    pub id: EnvironmentId,
    /// Whose it is.
    pub organisation: OrganisationId,
    /// What people call it, a DNS label, unique in the organisation.
    pub name: ServiceName,
    /// Whether traffic flows.
    pub state: EnvironmentState,
    /// Whether an operator of the installation suspended it: nobody else lets its traffic flow again.
    #[serde(default)]
    pub held: bool,
    /// Its address ranges: one of IPv4, or one of IPv6, or one of each in this order. Environments may have
    /// the same.
    pub subnets: Vec<Subnet>,
    /// What it may use.
    pub quotas: Quotas,
    /// How long its certificates are valid.
    pub lifetimes: Lifetimes,
    /// What its gateways say of names that are not its own.
    #[serde(default, skip_serializing_if = "OtherNames::is_refused")]
    pub other_names: OtherNames,
    /// When it was made.
    pub created: UnixMs,
}

impl Record for Environment {
    const KIND: &'static str = "environment";

    fn path(&self) -> String {
        self.id.to_string()
    }
}

/// Whether an environment's traffic flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EnvironmentState {
    /// It does.
    Active,
    /// It does not; everything else stays.
    Suspended,
    /// It does not, and everything goes when the time has come, its key first. Until then it can be resumed.
    Deleting {
        /// When.
        purge: UnixMs,
    },
    /// It does not, its key is being destroyed, and everything goes.
    Purging,
}

/// What an environment may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Most attachments.
    pub attachments_max: u32,
    /// Most addresses of each version of IP, in use, reserved or in quarantine.
    pub addresses_max: u32,
    /// What all of its attachments on one host may send to other hosts, Mbit/s (10^6 bits); no limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_mbit_max: Option<u32>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { attachments_max: 1_000, addresses_max: 4_000, egress_mbit_max: None }
    }
}

/// How long certificates are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetimes {
    /// A host's leaf, seconds: an hour to 7 days. It is renewed at half of it.
    pub leaf_seconds: u32,
    /// Until when leaves count that were issued for longer than this, before it was made shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longer_until: Option<UnixMs>,
}

impl Lifetimes {
    /// So many seconds, as long as there is an environment.
    #[must_use]
    pub fn of(leaf_seconds: u32) -> Self {
        Self { leaf_seconds, longer_until: None }
    }

    /// When no leaf counts any more that was issued until `at`.
    #[must_use]
    pub fn end_of_all(self, at: UnixMs) -> UnixMs {
        let end = at.after(Duration::from_secs(self.leaf_seconds.into()));
        end.max(self.longer_until.unwrap_or_default())
    }

    /// For leaves that are issued from `now` on; those that there are stay as they are.
    #[must_use]
    pub fn changed(self, leaf_seconds: u32, now: UnixMs) -> Self {
        let is_shorter = leaf_seconds < self.leaf_seconds;
        let longer_until = if is_shorter { Some(self.end_of_all(now)) } else { self.longer_until };
        Self { leaf_seconds, longer_until }
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self::of(24 * 60 * 60)
    }
}

/// What an environment's gateways say of names that are not its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OtherNames {
    /// That they are not answered there.
    #[default]
    Refuse,
    /// That they do not exist.
    Absent,
    /// What the first of these servers that answers says; each host with an attachment asks them from its own address.
    Forward(Vec<SocketAddr>),
}

impl OtherNames {
    fn is_refused(&self) -> bool {
        *self == Self::Refuse
    }
}

/// One generation of an environment's certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Whose it is.
    pub environment: EnvironmentId,
    /// Counted from 1.
    pub generation: u32,
    /// What it does.
    pub state: AuthorityState,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its private key, sealed under the environment's key, base 64; empty when it issues no more.
    pub sealed_key: String,
    /// When it was made.
    pub created: UnixMs,
    /// Since when it does what it does; since it was made without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
}

impl Record for Authority {
    const KIND: &'static str = "authority";

    fn path(&self) -> String {
        // In the order of their generations.
        format!("{}/{:010}", self.environment, self.generation)
    }
}

impl Authority {
    /// Since when it does what it does.
    #[must_use]
    pub fn since(&self) -> UnixMs {
        self.since.unwrap_or(self.created)
    }

    /// In which order hosts are told of generations: the one that issues first.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self.state {
            AuthorityState::Current => 0,
            AuthorityState::Next => 1,
            AuthorityState::Previous => 2,
        }
    }
}

/// What a generation of an authority does. A rotation goes through them one after the other, so that at every
/// moment each host trusts whoever issued the leaf of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityState {
    /// It is trusted and issues nothing yet.
    Next,
    /// It issues.
    Current,
    /// It is trusted until the last leaf that it issued has expired.
    Previous,
}
