//! Interfaces through rtnetlink: limits, moves between namespaces, addresses and routes.
//!
//! Setup path only; every call opens a socket of its own in the namespace that it is about.

pub mod offloads;
mod query;
mod request;
mod watch;

use std::io;
use std::net::IpAddr;
use std::path::Path;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::os::fd::{AsFd, AsRawFd};

use crate::netns::Netns;
use crate::syscall::{interface_index, interface_name, invalid_input};
use request::Connection;

pub use query::{Interface, interface_named, interface_of};
pub use request::read_answers;
pub use watch::AddressWatch;

/// How an interface looks inside its namespace.
#[derive(Debug, Clone, Copy)]
pub struct LinkConfig<'a> {
    /// Its name there.
    pub name: &'a str,
    /// Addresses with their prefix lengths in bits.
    pub addresses: &'a [(IpAddr, u8)],
    /// Destinations with their prefix lengths in bits, reached directly through the interface. A
    /// destination that an address' own prefix already reaches is skipped.
    pub routes: &'a [(IpAddr, u8)],
}

/// Sets the largest superpackets that the kernel builds for an interface of the calling thread's
/// namespace: `gso_max_size` bytes (at most 65,536 without BIG TCP), `gso_max_segs` segments.
///
/// # Errors
/// `InvalidInput` when a value is over what the device can do.
pub fn set_gso_limits(ifindex: u32, gso_max_size: u32, gso_max_segs: u16) -> io::Result<()> {
    let attributes = vec![
        LinkAttribute::GsoMaxSize(gso_max_size),
        LinkAttribute::GsoIpv4MaxSize(gso_max_size),
        LinkAttribute::GsoMaxSegs(u32::from(gso_max_segs)),
    ];
    set_link(ifindex, attributes)
        .map_err(|error| context(&error, &format!("GSO limits {gso_max_size}/{gso_max_segs}")))
}

/// Sets how many packets wait in each queue of an interface of the calling thread's namespace.
///
/// # Errors
/// `InvalidInput` when the device cannot do it.
pub fn set_queue_len(ifindex: u32, packets: u32) -> io::Result<()> {
    set_link(ifindex, vec![LinkAttribute::TxQueueLen(packets)])
        .map_err(|error| context(&error, &format!("queue length {packets}")))
}

/// Sets the MTU of an interface of the calling thread's namespace, in bytes.
///
/// # Errors
/// `InvalidInput` when the device cannot do it.
pub fn set_mtu(ifindex: u32, mtu: u32) -> io::Result<()> {
    set_link(ifindex, vec![LinkAttribute::Mtu(mtu)])
        .map_err(|error| context(&error, &format!("MTU {mtu}")))
}

/// Moves an interface of the calling thread's namespace to `ns` under `new_name`, in one request.
/// It arrives down and without addresses, and its index may change.
///
/// # Errors
/// `AlreadyExists` when `ns` has another interface of this name. The device may have moved all the
/// same: close its queues.
pub fn move_to_netns(ifindex: u32, ns: &Netns, new_name: &str) -> io::Result<()> {
    interface_name(new_name)?;
    let attributes = vec![
        LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd()),
        LinkAttribute::IfName(new_name.to_owned()),
    ];
    set_link(ifindex, attributes)
        .map_err(|error| context(&error, &format!("moving the interface as {new_name}")))
}

/// Removes an interface in `ns`; one that is not there is removed already.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(ns: &Netns, ifindex: u32) -> io::Result<()> {
    let message = RouteNetlinkMessage::DelLink(link_message(ifindex, Vec::new()));
    match ns.run(|| Connection::open()?.request(message, NLM_F_ACK))? {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result.map_err(|error| context(&error, "removing the interface")),
    }
}

/// Gives an interface in `ns` its addresses, brings it up and adds its routes. It gets no
/// link-local address, so nothing leaves it that no one sent.
///
/// Returns its index there. An interface that is up and has all that already keeps it.
///
/// # Errors
/// Names the step that failed; what came before it stays. `AlreadyExists` when another interface
/// has one of the routes.
pub fn configure(ns: &Netns, config: &LinkConfig<'_>) -> io::Result<u32> {
    for (address, prefix_len) in config.addresses.iter().chain(config.routes) {
        check_prefix(*address, *prefix_len)?;
    }
    ns.run(|| configure_here(config))?
}

fn configure_here(config: &LinkConfig<'_>) -> io::Result<u32> {
    let index = interface_index(config.name)?;
    let mut connection = Connection::open()?;
    forbid_link_local(&mut connection, index)?;
    if config.addresses.iter().any(|(address, _)| address.is_ipv6()) {
        allow_ipv6(config.name)?;
    }
    for (address, prefix_len) in config.addresses {
        add_address(&mut connection, index, *address, *prefix_len)
            .map_err(|error| context(&error, &format!("address {address}/{prefix_len}")))?;
    }
    forbid_queueing(&mut connection, index)?;
    let mut up = link_message(index, Vec::new());
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    connection
        .request(RouteNetlinkMessage::SetLink(up), NLM_F_ACK)
        .map_err(|error| context(&error, &format!("interface {} up", config.name)))?;
    for (destination, prefix_len) in config.routes {
        let network = network_of(*destination, *prefix_len);
        let connected = config.addresses.iter().any(|(address, address_prefix_len)| {
            address_prefix_len == prefix_len && network_of(*address, *prefix_len) == network
        });
        if !connected {
            add_route(&mut connection, index, network, *prefix_len)
                .map_err(|error| context(&error, &format!("route {network}/{prefix_len}")))?;
        }
    }
    Ok(index)
}

/// Sets the address generation mode to none, before the interface comes up.
fn forbid_link_local(connection: &mut Connection, index: u32) -> io::Result<()> {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
    let message = RouteNetlinkMessage::SetLink(link_message(index, vec![spec]));
    match connection.request(message, NLM_F_ACK) {
        // No IPv6 here, so no link-local address either.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
        result => result.map_err(|error| context(&error, "IPv6 address generation mode")),
    }
}

/// Lets packets go straight to the device's own queues, before the interface comes up: a TUN never asks
/// the kernel to hold packets back, so a queueing discipline in front of it holds none, but the default
/// one takes 6 MiB of kernel memory for the 256 queues that a multi-queue TUN might have.
fn forbid_queueing(connection: &mut Connection, index: u32) -> io::Result<()> {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("noqueue".to_owned())];
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    match connection.request(RouteNetlinkMessage::NewQueueDiscipline(message), flags) {
        // A kernel without queueing disciplines.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        result => result.map_err(|error| context(&error, "queueing discipline")),
    }
}

/// Container engines switch IPv6 off in the namespaces of containers that they gave no IPv6
/// address; ours has one.
fn allow_ipv6(name: &str) -> io::Result<()> {
    // `interface_index` found the interface, so its name is a plain path component.
    let path = Path::new("/proc/sys/net/ipv6/conf").join(name).join("disable_ipv6");
    match std::fs::read_to_string(&path) {
        Ok(value) if value.trim() != "0" => {
            std::fs::write(&path, "0").map_err(|error| context(&error, &path.display().to_string()))
        }
        // Adding the address says it better if IPv6 is missing altogether.
        _ => Ok(()),
    }
}

fn add_address(
    connection: &mut Connection,
    index: u32,
    address: IpAddr,
    prefix_len: u8,
) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address);
    message.header.prefix_len = prefix_len;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if address.is_ipv6() {
        // Nobody else can have it, and detection would delay it by a second.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    connection.request(RouteNetlinkMessage::NewAddress(message), flags)
}

fn add_route(
    connection: &mut Connection,
    index: u32,
    network: IpAddr,
    prefix_len: u8,
) -> io::Result<()> {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(network);
    message.header.destination_prefix_length = prefix_len;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = if network.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = RouteType::Unicast;
    if prefix_len > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(network)));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    connection.request(RouteNetlinkMessage::NewRoute(message), flags)
}

fn set_link(ifindex: u32, attributes: Vec<LinkAttribute>) -> io::Result<()> {
    let message = RouteNetlinkMessage::SetLink(link_message(ifindex, attributes));
    Connection::open()?.request(message, NLM_F_ACK)
}

fn link_message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn check_prefix(address: IpAddr, prefix_len: u8) -> io::Result<()> {
    let max = if address.is_ipv4() { 32 } else { 128 };
    if prefix_len <= max {
        return Ok(());
    }
    Err(invalid_input(format!("prefix length {prefix_len} of {address}: expected at most {max}")))
}

/// `address` with all bits behind the prefix cleared.
fn network_of(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

fn context(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests;
