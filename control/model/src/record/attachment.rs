//! Slots, their addresses, and the attachments that fill them.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{Record, UnixMs};
use crate::id::{GrantId, SecretName, ServiceName, SlotName};

/// Which slot of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotKey {
    /// The service.
    pub service: ServiceName,
    /// Its place.
    pub slot: SlotName,
}

/// A slot that has addresses, whether a container fills it or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub slot: SlotKey,
    /// Its addresses: one for each subnet of the environment, in their order.
    pub addresses: Vec<IpAddr>,
    /// What fills it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<AttachmentName>,
    /// Whether it stays when nothing fills it any more: somebody asked for it by name.
    pub reserved: bool,
}

impl Record for Slot {
    const KIND: &'static str = "slot";

    fn path(&self) -> String {
        format!("{}/{}/{}", self.environment, self.slot.service, self.slot.slot)
    }
}

/// An address that cannot be given to anybody else. It is of one owner because it is one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub address: IpAddr,
    /// Why.
    pub used: AddressUse,
}

impl Record for Address {
    const KIND: &'static str = "address";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.address)
    }
}

/// Why an address is not free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AddressUse {
    /// It is a slot's.
    Slot(SlotKey),
    /// It was a slot's, and somebody may still believe so: only that slot gets it back before the time.
    Quarantine {
        /// Whose it was.
        slot: SlotKey,
        /// Until then.
        until: UnixMs,
    },
}

/// What an environment uses of its quotas. Every change of slots and attachments of an environment rests on this
/// record and writes it, so that they happen one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Whose.
    pub environment: EnvironmentId,
    /// Attachments.
    pub attachments: u32,
    /// Addresses of IPv4: of slots and in quarantine.
    pub addresses_v4: u32,
    /// Addresses of IPv6: of slots and in quarantine.
    pub addresses_v6: u32,
    /// The number that was given last: as the generation of an attachment, the epoch of a role, or the version of a
    /// service. It only grows, also when a backup of the store is brought back, for it is not less than the revision
    /// that the last decision saw: so none of them is ever given twice.
    pub generation: u64,
}

impl Usage {
    /// Nothing is used.
    #[must_use]
    pub fn none(environment: EnvironmentId) -> Self {
        Self { environment, attachments: 0, addresses_v4: 0, addresses_v6: 0, generation: 0 }
    }

    /// The count of addresses of this one's version.
    pub fn addresses_mut(&mut self, of: IpAddr) -> &mut u32 {
        if of.is_ipv4() { &mut self.addresses_v4 } else { &mut self.addresses_v6 }
    }
}

impl Record for Usage {
    const KIND: &'static str = "usage";

    fn path(&self) -> String {
        self.environment.to_string()
    }
}

/// A container's interface on its environment's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Where.
    pub environment: EnvironmentId,
    /// Unique in the environment.
    pub name: AttachmentName,
    /// The slot that it fills.
    pub slot: SlotKey,
    /// The slot's addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it runs.
    pub host: HostId,
    /// Unique in the environment, and higher than every earlier one. What a host says of another generation of an
    /// attachment is not heard.
    pub generation: u64,
    /// What gives the host the right to it.
    pub basis: Basis,
    /// What it may send to other hosts, of what its environment may.
    #[serde(default)]
    pub share: Share,
    /// When it was made or moved.
    pub created: UnixMs,
}

impl Record for Attachment {
    const KIND: &'static str = "attachment";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.name)
    }
}

/// What gives a host the right to an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Basis {
    /// An operator said that the host may have attachments of the environment.
    Binding,
    /// The scheduler gave this one leave.
    Grant(GrantId),
}

/// What an attachment may send to other hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How much compared with the others of its environment: 1 to 10,000.
    pub weight: u16,
    /// How much at most, Mbit/s (10^6 bits) of inner packets; no limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_mbit_max: Option<u32>,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(weight {}, ", self.weight)?;
        match self.egress_mbit_max {
            Some(max) => write!(f, "egress_mbit_max {max})"),
            None => f.write_str("no egress_mbit_max)"),
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 100, egress_mbit_max: None }
    }
}

/// An operator's word that a host may have attachments of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Which host.
    pub host: HostId,
    /// Since when.
    pub created: UnixMs,
}

impl Record for Binding {
    const KIND: &'static str = "binding";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.host)
    }
}

/// The scheduler's leave for one attachment of a service on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Which.
    pub id: GrantId,
    /// Which slot may be filled.
    pub slot: SlotKey,
    /// By which host.
    pub host: HostId,
    /// Which attempt of the scheduler's job it is for, counted from 1.
    pub attempt: u32,
    /// Until when it may be used; an attachment that was made with it stays.
    pub expires: UnixMs,
    /// Secrets that are released to the host for this attachment.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<SecretName>,
    /// The attachment that was made with it: it serves once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<AttachmentName>,
}

impl Record for Grant {
    const KIND: &'static str = "grant";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.id)
    }
}
