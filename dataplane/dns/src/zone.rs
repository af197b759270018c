//! An immutable snapshot of one environment's names.
//!
//! ```text
//!  internal.                       SOA NS, and A/AAAA: the gateway itself
//!  ├─ web                          A AAAA of its slots
//!  │  ├─ 0, 1, …                   A AAAA of one slot, by its index: a decimal number
//!  │  ├─ web-blue, primary         A AAAA of a named slot, or of the slots with a role: not a number
//!  │  └─ _tcp, _udp                nothing itself
//!  │     └─ _http                  SRV: port of each slot
//!  ├─ web-1                        an alias: A AAAA of one slot, 0, of a service of its own
//!  └─ …
//! ```
//!
//! An index is written without leading zeros, and names of slots and roles hold a letter, so that neither can be
//! taken for the other. A name of a slot and a role that are the same word are refused, as is everything else
//! that could be read in two ways: a service, index, port or address that is there twice.

use std::{
    collections::{BTreeMap, HashSet, btree_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hickory_proto::rr::Name;
use weft_types::Subnet;
use weft_wire::icmp::is_unicast;

use crate::{
    label::{self, LabelError},
    limits::{
        ADDRESSES_PER_SLOT_MAX, ALIASES_MAX, PORTS_PER_SERVICE_MAX, ROLES_PER_SLOT_MAX,
        SERVICES_MAX, SLOTS_MAX,
    },
};

mod lookup;

pub(crate) use self::lookup::{Node, Reverse};

/// How a slot does. What of it is answered is in [`Zone`]'s text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// Has not been healthy yet.
    Starting,
    /// Its checks pass.
    Healthy,
    /// Its checks fail.
    Unhealthy,
    /// Is about to stop.
    Leaving,
}

/// A transport that a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// `_tcp`
    Tcp,
    /// `_udp`
    Udp,
}

/// One place in a service, which keeps its addresses when what runs there changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRecord {
    /// Unique in the service.
    pub index: u32,
    /// Another name, unique among names and roles of the service; not a number.
    pub name: Option<String>,
    /// At most [`ADDRESSES_PER_SLOT_MAX`], of the environment's subnets; none are in two slots.
    pub addresses: Vec<IpAddr>,
    /// How it does.
    pub health: Health,
    /// At most [`ROLES_PER_SLOT_MAX`], such as `primary`; not numbers. Several slots may have the same.
    pub roles: Vec<String>,
}

/// A port that each slot of a service offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRecord {
    /// At most 15 characters, with a letter (RFC 6335 section 5.1); without the underscore.
    pub name: String,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number, at least 1.
    pub port: u16,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// A DNS label in lower case.
    pub name: String,
    /// At most [`PORTS_PER_SERVICE_MAX`].
    pub ports: Vec<PortRecord>,
    /// In any order.
    pub slots: Vec<SlotRecord>,
}

/// Another name of addresses, such as that of the attachment that has them: a service of its own with slot 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasRecord {
    /// A DNS label in lower case; no service has it.
    pub name: String,
    /// At most [`ADDRESSES_PER_SLOT_MAX`], of the environment's subnets. A slot may have them, too: that is what
    /// they are called then when somebody asks for the name of an address.
    pub addresses: Vec<IpAddr>,
}

/// Everything that a [`Zone`] is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZoneRecords {
    /// Changes with the records: the SOA's serial number.
    pub serial: u32,
    /// The environment's subnets: one, or one of each family. The first address of each is the gateway.
    pub subnets: Vec<Subnet>,
    /// At most [`SERVICES_MAX`] with [`SLOTS_MAX`] slots together.
    pub services: Vec<ServiceRecord>,
    /// At most [`ALIASES_MAX`].
    pub aliases: Vec<AliasRecord>,
}

/// Why records are no zone. The text begins with the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// A name that is none.
    #[error("{field} {name:?} {cause}")]
    Label {
        /// Which field.
        field: &'static str,
        /// What is in it.
        name: String,
        /// What is wrong with it.
        #[source]
        cause: LabelError,
    },
    /// Too much of something.
    #[error("{what} has {found} {of}; expected at most {max}")]
    TooMany {
        /// Whose.
        what: String,
        /// Of what.
        of: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Subnets that give no gateway, or two of a family.
    #[error(
        "subnets: {0}; expected one, or one of IPv4 and one of IPv6, each with room for a gateway"
    )]
    Subnets(String),
    /// Something is there twice.
    #[error("{what} is there twice")]
    Twice {
        /// What.
        what: String,
    },
    /// A slot's name is a role too, or the name of another slot.
    #[error("service {service}: {label:?} names a slot and something else")]
    Ambiguous {
        /// Where.
        service: String,
        /// What.
        label: String,
    },
    /// An address that no slot of this environment can have.
    #[error("slot {slot}: address {address} is not one of this environment's for slots")]
    Address {
        /// Whose.
        slot: String,
        /// Which.
        address: IpAddr,
    },
    /// A port's number is 0.
    #[error("service {service}: port {port:?} is 0; expected 1 to 65535")]
    Port {
        /// Where.
        service: String,
        /// Which.
        port: String,
    },
}

/// What is known of one slot.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
    pub(crate) health: Health,
    /// `<index>.<service>.internal.`, or `<alias>.internal.`
    pub(crate) name: Name,
}

#[derive(Debug, Default)]
struct Service {
    /// By index.
    slots: BTreeMap<u32, Arc<Slot>>,
    words: BTreeMap<String, Word>,
    ports: BTreeMap<(Protocol, String), u16>,
}

/// What a word below a service means.
#[derive(Debug)]
enum Word {
    Slot(Arc<Slot>),
    Role(Vec<Arc<Slot>>),
}

/// The names of one environment, checked and indexed.
///
/// Of a service or a role, the addresses of healthy slots are answered. If there are none, those of unhealthy ones
/// are: when all fail at once it is as likely that the checks do, and a client that is refused a connection knows
/// more than one that is refused a name, which many take for a fault in their configuration. Slots that are
/// starting or leaving are never among them: nothing is lost by leaving those out. A slot's own name is always
/// answered, because members of a cluster must find each other before they are healthy.
#[derive(Debug)]
pub struct Zone {
    serial: u32,
    subnets: Vec<Subnet>,
    apex: Name,
    services: BTreeMap<String, Service>,
    addresses: BTreeMap<IpAddr, Name>,
}

impl Zone {
    /// Checks and indexes `records`.
    ///
    /// # Errors
    /// [`ZoneError`] names what is wrong.
    pub fn new(records: ZoneRecords) -> Result<Self, ZoneError> {
        check_subnets(&records.subnets)?;
        at_most("the environment", "services", records.services.len(), SERVICES_MAX)?;
        let slots = records.services.iter().map(|service| service.slots.len()).sum();
        at_most("the environment", "slots", slots, SLOTS_MAX)?;
        at_most("the environment", "aliases", records.aliases.len(), ALIASES_MAX)?;
        let mut zone = Self {
            serial: records.serial,
            apex: name(&["internal"]),
            services: BTreeMap::new(),
            addresses: BTreeMap::new(),
            subnets: records.subnets,
        };
        for subnet in &zone.subnets {
            zone.addresses.insert(subnet.gateway(), zone.apex.clone());
        }
        for record in records.services {
            zone.add(record)?;
        }
        // After the slots, which go before when an address is asked for its name.
        for record in records.aliases {
            zone.add_alias(record)?;
        }
        Ok(zone)
    }

    /// The addresses that answer: the first of each subnet.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.subnets.iter().map(Subnet::gateway)
    }

    /// The environment's subnets.
    #[must_use]
    pub fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    /// The serial number of its records.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// `internal.`
    pub(crate) fn apex(&self) -> &Name {
        &self.apex
    }

    fn add(&mut self, record: ServiceRecord) -> Result<(), ZoneError> {
        checked("service", &record.name, label::check_label)?;
        let mut service = Service { ports: ports(&record)?, ..Service::default() };
        for slot in &record.slots {
            if service.slots.contains_key(&slot.index) {
                return twice(format!("slot {} of service {}", slot.index, record.name));
            }
            let indexed = Arc::new(self.slot(&record.name, slot)?);
            service.slots.insert(slot.index, indexed.clone());
            if let Some(name) = &slot.name {
                checked("name of a slot", name, label::check_word)?;
                let word = Word::Slot(indexed.clone());
                if service.words.insert(name.clone(), word).is_some() {
                    return ambiguous(&record.name, name);
                }
            }
            at_most(&indexed.name.to_ascii(), "roles", slot.roles.len(), ROLES_PER_SLOT_MAX)?;
            let mut roles = HashSet::new();
            for role in &slot.roles {
                checked("role", role, label::check_word)?;
                if !roles.insert(role) {
                    return twice(format!("role {role} of slot {}", indexed.name));
                }
                match service.words.entry(role.clone()).or_insert(Word::Role(Vec::new())) {
                    Word::Role(holders) => holders.push(indexed.clone()),
                    Word::Slot(_) => return ambiguous(&record.name, role),
                }
            }
        }
        self.insert(record.name, service)
    }

    fn add_alias(&mut self, record: AliasRecord) -> Result<(), ZoneError> {
        checked("alias", &record.name, label::check_label)?;
        let own = name(&[&record.name, "internal"]);
        let slot = self.place(own, &record.name, &record.addresses, Health::Healthy)?;
        for address in record.addresses {
            self.addresses.entry(address).or_insert_with(|| slot.name.clone());
        }
        let slots = [(0, Arc::new(slot))].into();
        self.insert(record.name, Service { slots, ..Service::default() })
    }

    fn insert(&mut self, name: String, service: Service) -> Result<(), ZoneError> {
        match self.services.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(service);
                Ok(())
            }
            Entry::Occupied(entry) => twice(format!("service {}", entry.key())),
        }
    }

    fn slot(&mut self, service: &str, record: &SlotRecord) -> Result<Slot, ZoneError> {
        let index = record.index.to_string();
        let name = name(&[&index, service, "internal"]);
        let text = format!("{index}.{service}");
        let slot = self.place(name, &text, &record.addresses, record.health)?;
        for address in &record.addresses {
            if self.addresses.insert(*address, slot.name.clone()).is_some() {
                return twice(format!("address {address} (slot {text})"));
            }
        }
        Ok(slot)
    }

    /// A slot with these addresses, which have to be of this environment.
    fn place(
        &self,
        name: Name,
        text: &str,
        addresses: &[IpAddr],
        health: Health,
    ) -> Result<Slot, ZoneError> {
        at_most(&format!("slot {text}"), "addresses", addresses.len(), ADDRESSES_PER_SLOT_MAX)?;
        let mut slot = Slot { v4: Vec::new(), v6: Vec::new(), health, name };
        for address in addresses {
            if !self.subnets.iter().any(|subnet| may_have(subnet, *address)) {
                return Err(ZoneError::Address { slot: text.to_owned(), address: *address });
            }
            match address {
                IpAddr::V4(v4) => slot.v4.push(*v4),
                IpAddr::V6(v6) => slot.v6.push(*v6),
            }
        }
        Ok(slot)
    }
}

/// A name of labels that were checked: never too long, since the longest has 80 bytes.
fn name(labels: &[&str]) -> Name {
    Name::from_labels(labels.iter().map(|label| label.as_bytes())).unwrap_or_default()
}

fn ports(record: &ServiceRecord) -> Result<BTreeMap<(Protocol, String), u16>, ZoneError> {
    let what = format!("service {}", record.name);
    at_most(&what, "ports", record.ports.len(), PORTS_PER_SERVICE_MAX)?;
    let mut ports = BTreeMap::new();
    for port in &record.ports {
        checked("name of a port", &port.name, label::check_port_name)?;
        if port.port == 0 {
            return Err(ZoneError::Port { service: record.name.clone(), port: port.name.clone() });
        }
        if ports.insert((port.protocol, port.name.clone()), port.port).is_some() {
            return twice(format!("port {} of {what}", port.name));
        }
    }
    Ok(ports)
}

fn check_subnets(subnets: &[Subnet]) -> Result<(), ZoneError> {
    let of_v4 = subnets.iter().filter(|subnet| subnet.address().is_ipv4()).count();
    let has_room = subnets.iter().all(|subnet| {
        let gateway = subnet.gateway();
        subnet.contains(gateway)
            && is_unicast(gateway)
            && gateway != subnet.address()
            && Some(gateway) != subnet.broadcast()
    });
    if subnets.is_empty() || of_v4 > 1 || subnets.len() - of_v4 > 1 || !has_room {
        let found: Vec<_> = subnets.iter().map(ToString::to_string).collect();
        return Err(ZoneError::Subnets(format!("found [{}]", found.join(", "))));
    }
    Ok(())
}

fn may_have(subnet: &Subnet, address: IpAddr) -> bool {
    subnet.contains(address)
        && address != subnet.address()
        && address != subnet.gateway()
        && Some(address) != subnet.broadcast()
}

fn checked(
    field: &'static str,
    name: &str,
    check: fn(&str) -> Result<(), LabelError>,
) -> Result<(), ZoneError> {
    check(name).map_err(|cause| ZoneError::Label { field, name: name.to_owned(), cause })
}

fn at_most(what: &str, of: &'static str, found: usize, max: usize) -> Result<(), ZoneError> {
    if found > max {
        return Err(ZoneError::TooMany { what: what.to_owned(), of, found, max });
    }
    Ok(())
}

fn twice<T>(what: String) -> Result<T, ZoneError> {
    Err(ZoneError::Twice { what })
}

fn ambiguous<T>(service: &str, label: &str) -> Result<T, ZoneError> {
    Err(ZoneError::Ambiguous { service: service.to_owned(), label: label.to_owned() })
}

#[cfg(test)]
mod tests;
