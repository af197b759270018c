//! Finding names and addresses in a zone.

use std::{net::IpAddr, sync::Arc};

use hickory_proto::rr::Name;
use weft_types::Subnet;

use super::{Health, Protocol, Service, Slot, Word, Zone};

/// What a name of the zone is.
#[derive(Debug)]
pub(crate) enum Node<'z> {
    /// There is no such name, and none below it: NXDOMAIN (RFC 8020).
    Absent,
    /// The name is there, or one below it, and has no records.
    Empty,
    /// The zone itself.
    Apex,
    /// Addresses of these slots.
    Slots(Vec<&'z Slot>),
    /// This port of these slots.
    Ports(u16, Vec<&'z Slot>),
}

/// What is known of an address, or of a range of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reverse<'z> {
    /// Nothing: NXDOMAIN.
    Absent,
    /// There are addresses in this range.
    Empty,
    /// Whose address it is.
    Name(&'z Name),
}

impl Zone {
    /// Looks a name up by its labels below `internal.`, in lower case, from the left.
    pub(crate) fn find(&self, labels: &[&[u8]]) -> Node<'_> {
        let texts: Option<Vec<&str>> =
            labels.iter().map(|label| std::str::from_utf8(label).ok()).collect();
        let Some(texts) = texts else { return Node::Absent };
        let Some((service, below)) = texts.split_last() else { return Node::Apex };
        let Some(service) = self.services.get(*service) else { return Node::Absent };
        match below {
            [] => slots(service.slots.values()),
            ["_tcp"] => service.transport(Protocol::Tcp),
            ["_udp"] => service.transport(Protocol::Udp),
            [port, "_tcp"] => service.port(Protocol::Tcp, port),
            [port, "_udp"] => service.port(Protocol::Udp, port),
            [label] => service.member(label),
            _ => Node::Absent,
        }
    }

    /// Looks up the addresses of `range`; a whole address is a range of one.
    pub(crate) fn find_reverse(&self, range: &Subnet) -> Reverse<'_> {
        let first = self.addresses.range(range.address()..).next();
        let Some((address, name)) = first.filter(|(address, _)| range.contains(**address)) else {
            return Reverse::Absent;
        };
        let is_whole = range.prefix_len() == if address.is_ipv4() { 32 } else { 128 };
        if is_whole { Reverse::Name(name) } else { Reverse::Empty }
    }

    /// The gateway's address of each family, for the zone's own name.
    pub(crate) fn gateway(&self, is_v4: bool) -> Option<IpAddr> {
        self.gateways().find(|gateway| gateway.is_ipv4() == is_v4)
    }
}

impl Service {
    fn member(&self, label: &str) -> Node<'_> {
        if label.bytes().all(|b| b.is_ascii_digit()) {
            // The only way to write an index; `00` and `+1` are no names.
            let index = label.parse().ok().filter(|index: &u32| index.to_string() == label);
            return match index.and_then(|index| self.slots.get(&index)) {
                Some(slot) => Node::Slots(vec![slot]),
                None => Node::Absent,
            };
        }
        match self.words.get(label) {
            Some(Word::Slot(slot)) => Node::Slots(vec![slot]),
            Some(Word::Role(holders)) => slots(holders.iter()),
            None => Node::Absent,
        }
    }

    fn transport(&self, protocol: Protocol) -> Node<'_> {
        let some = self.ports.keys().any(|(of, _)| *of == protocol);
        if some { Node::Empty } else { Node::Absent }
    }

    fn port(&self, protocol: Protocol, label: &str) -> Node<'_> {
        let name = label.strip_prefix('_').unwrap_or_default();
        match self.ports.get(&(protocol, name.to_owned())) {
            Some(port) => match slots(self.slots.values()) {
                Node::Slots(slots) => Node::Ports(*port, slots),
                other => other,
            },
            None => Node::Absent,
        }
    }
}

/// Those of `all` that are answered; see [`Zone`].
fn slots<'z>(all: impl Iterator<Item = &'z Arc<Slot>> + Clone) -> Node<'z> {
    for health in [Health::Healthy, Health::Unhealthy] {
        let some: Vec<&Slot> =
            all.clone().filter(|slot| slot.health == health).map(Arc::as_ref).collect();
        if !some.is_empty() {
            return Node::Slots(some);
        }
    }
    Node::Empty
}
