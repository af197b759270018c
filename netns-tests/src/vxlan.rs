//! The kernel's own overlay, unencrypted: what ours is compared with.
//!
//! ```text
//!  ┌ container ─┐                                        ┌ container ─┐
//!  │ vx0 ───────┼── UDP 4789 in host-a ── host-b's UDP ──┼─────── vx0 │
//!  └────────────┘                                        └────────────┘
//! ```
//! The device is made on the host and moved into the container, as `weftd` does with its own: no
//! bridge and no second veth, so this is VXLAN at its fastest.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;

use crate::namespace::Namespace;
use crate::topology::{Family, Host, UNDERLAY_INTERFACE};

/// Name of the device in both containers.
pub const INTERFACE: &str = "vx0";
const PORT: u16 = 4789;

/// The address of one end of tunnel `id`: 172.30.*id*.1 or .2.
#[must_use]
pub fn address(id: u8, end: u8) -> IpAddr {
    Ipv4Addr::new(172, 30, id, end).into()
}

/// Joins two namespaces by a VXLAN between two hosts over this version of IP. The first end has
/// [`address`]`(id, 1)`, the second `(id, 2)`.
///
/// # Errors
/// When the kernel refuses.
pub fn join(id: u8, family: Family, a: (&Host, &Namespace), b: (&Host, &Namespace)) -> Result<()> {
    for (end, (host, container), other) in [(1, a, b.0), (2, b, a.0)] {
        let (local, remote) = (host.address(family), other.address(family));
        let name = format!("vx{id}");
        host.ns.ip(&format!(
            "link add {name} type vxlan id {id} local {local} remote {remote} dstport {PORT} \
             dev {UNDERLAY_INTERFACE}"
        ))?;
        let target = container.name();
        host.ns.ip(&format!("link set {name} netns {target} name {INTERFACE}"))?;
        container.ip(&format!("address add {}/24 dev {INTERFACE}", address(id, end)))?;
        container.ip(&format!("link set {INTERFACE} up"))?;
    }
    Ok(())
}
