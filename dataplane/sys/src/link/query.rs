//! Questions about the interfaces of the calling thread's namespace.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::{family_of, request::Connection};

/// An interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// The interface of the calling thread's namespace that holds `addr`; `None` when none does, as for
/// the unspecified address.
///
/// # Errors
/// When the kernel does not answer.
pub fn interface_of(addr: IpAddr) -> io::Result<Option<Interface>> {
    let mut connection = Connection::open()?;
    let mut query = AddressMessage::default();
    query.header.family = family_of(addr);
    let mut holder = None;
    connection.dump(RouteNetlinkMessage::GetAddress(query), |answer| {
        if let RouteNetlinkMessage::NewAddress(message) = answer {
            // On a point-to-point interface `Address` is the other end and `Local` ours.
            let has = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
                message.attributes.iter().find_map(wanted)
            };
            if has(local_of).or_else(|| has(address_of)) == Some(addr) {
                holder = Some(message.header.index);
            }
        }
    })?;
    match holder {
        Some(index) => find(&mut connection, |number, _| number == index),
        None => Ok(None),
    }
}

/// The interface of this name in the calling thread's namespace, if there is one.
///
/// # Errors
/// When the kernel does not answer.
pub fn interface_named(name: &str) -> io::Result<Option<Interface>> {
    find(&mut Connection::open()?, |_, found| found == name)
}

fn find(
    connection: &mut Connection,
    is_it: impl Fn(u32, &str) -> bool,
) -> io::Result<Option<Interface>> {
    let mut found = None;
    connection.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |answer| {
        let RouteNetlinkMessage::NewLink(message) = answer else { return };
        let (mut name, mut mtu) = (None, None);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text),
                LinkAttribute::Mtu(bytes) => mtu = Some(bytes),
                _ => {}
            }
        }
        if let (Some(name), Some(mtu)) = (name, mtu)
            && is_it(message.header.index, &name)
        {
            found = Some(Interface { name, mtu });
        }
    })?;
    Ok(found)
}

fn local_of(attribute: &AddressAttribute) -> Option<IpAddr> {
    if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None }
}

pub(super) fn address_of(attribute: &AddressAttribute) -> Option<IpAddr> {
    if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
}
