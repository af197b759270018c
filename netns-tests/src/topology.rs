//! Hosts and the wires between them.
//!
//! ```text
//!  Joined::Direct                            Joined::Bridge
//!
//!  ┌ host-a ───────┐   ┌ host-b ───────┐     ┌ host-a ─┐ ┌ host-b ─┐ ┌ host-c ─┐
//!  │ eth0 ─────────┼───┼───────── eth0 │     │  eth0   │ │  eth0   │ │  eth0   │
//!  │ 192.0.2.1     │   │     192.0.2.2 │     └───┼─────┘ └───┼─────┘ └───┼─────┘
//!  │ 2001:db8::1   │   │   2001:db8::2 │     ┌ fabric ───────┼───────────┼─────┐
//!  └───────────────┘   └───────────────┘     │  p0 ────────  p1 ──────── p2    │ br0
//!        veth pair, MTU 1500                 └─────────────────────────────────┘
//! ```
//!
//! Everything is in namespaces of its own, the bridge too, so tests cannot meet. Hosts are not
//! routers and know only this one subnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;
use crate::world::World;

/// The host's interface on the underlay.
pub const UNDERLAY_INTERFACE: &str = "eth0";
/// Hosts of one topology: their number is the last byte of their address.
pub const HOSTS_MAX: usize = 60;
/// MTU of the underlay unless a test says otherwise.
pub const UNDERLAY_MTU: u32 = 1500;

/// Which version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How hosts are wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// Two hosts, one veth pair.
    Direct,
    /// Any number of hosts, a bridge between them.
    Bridge,
}

/// What the underlay's interfaces do for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offloads {
    /// Whatever veth offers: checksums, TSO, UDP segmentation.
    On,
    /// Checksums and aggregation on receipt, but no segmentation, neither of TCP nor of UDP: as a
    /// network card that cannot cut packets.
    Receive,
    /// Nothing: every packet is cut and summed before it reaches the interface, so a capture there
    /// sees single datagrams.
    Off,
}

/// The wires to make.
#[derive(Debug, Clone, Copy)]
pub struct Underlay {
    /// Shape.
    pub joined: Joined,
    /// MTU of every interface, bytes.
    pub mtu: u32,
    /// Offloads of every interface.
    pub offloads: Offloads,
}

impl Default for Underlay {
    fn default() -> Self {
        Self { joined: Joined::Direct, mtu: UNDERLAY_MTU, offloads: Offloads::On }
    }
}

/// A machine that may run a `weftd`.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name, as in certificates.
    pub name: String,
    /// Its network namespace.
    pub ns: Namespace,
    /// 192.0.2.*n*.
    pub v4: Ipv4Addr,
    /// 2001:db8::*n*.
    pub v6: Ipv6Addr,
}

impl Host {
    /// Its underlay address.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

/// Hosts on one underlay.
#[derive(Debug)]
pub struct Topology {
    /// In the order that was asked for.
    pub hosts: Vec<Host>,
}

impl Topology {
    /// Makes the hosts and wires them.
    ///
    /// # Errors
    /// When there are too many hosts for the shape, or the kernel refuses something.
    pub fn new(world: &World, underlay: Underlay, names: &[&str]) -> Result<Self> {
        ensure!(names.len() <= HOSTS_MAX, "at most {HOSTS_MAX} hosts");
        let hosts: Vec<Host> = names
            .iter()
            .zip(1_u8..)
            .map(|(name, n)| {
                Ok(Host {
                    name: (*name).to_owned(),
                    ns: world.namespace(name)?,
                    v4: Ipv4Addr::new(192, 0, 2, n),
                    v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()),
                })
            })
            .collect::<Result<_>>()?;
        match underlay.joined {
            Joined::Direct => {
                ensure!(hosts.len() == 2, "a direct wire joins two hosts");
                wire(&hosts[0].ns, UNDERLAY_INTERFACE, &hosts[1].ns, underlay)?;
            }
            Joined::Bridge => {
                let fabric = world.namespace("fabric")?;
                fabric.ip(&format!("link add br0 mtu {} type bridge", underlay.mtu))?;
                fabric.ip("link set br0 up")?;
                for (number, host) in hosts.iter().enumerate() {
                    let port = format!("p{number}");
                    wire(&fabric, &port, &host.ns, underlay)?;
                    fabric.ip(&format!("link set {port} master br0"))?;
                }
            }
        }
        for host in &hosts {
            let (v4, v6) = (host.v4, host.v6);
            host.ns.ip(&format!("address add {v4}/24 dev {UNDERLAY_INTERFACE}"))?;
            host.ns.ip(&format!("address add {v6}/64 dev {UNDERLAY_INTERFACE} nodad"))?;
        }
        Ok(Self { hosts })
    }

    /// The host of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|h| h.name == name).with_context(|| format!("no host {name}"))
    }
}

/// Joins two namespaces by a veth pair: `near` under the name `port`, `far` under
/// [`UNDERLAY_INTERFACE`], both up.
fn wire(near: &Namespace, port: &str, far: &Namespace, underlay: Underlay) -> Result<()> {
    let mtu = underlay.mtu;
    let far_name = far.name();
    near.ip(&format!(
        "link add {port} mtu {mtu} type veth peer name {UNDERLAY_INTERFACE} mtu {mtu} \
         netns {far_name}"
    ))?;
    for (ns, interface) in [(near, port), (far, UNDERLAY_INTERFACE)] {
        set_offloads(ns, interface, underlay.offloads)?;
        ns.ip(&format!("link set {interface} up"))?;
    }
    Ok(())
}

/// Switches the offloads of an interface with `ethtool -K`.
///
/// # Errors
/// When `ethtool` refuses.
pub fn set_offloads(ns: &Namespace, interface: &str, offloads: Offloads) -> Result<()> {
    let settings = match offloads {
        // What a veth has by default.
        Offloads::On => return Ok(()),
        Offloads::Receive => "tso off gso off tx-udp-segmentation off gro on",
        Offloads::Off => "rx off tx off sg off tso off gso off gro off tx-udp-segmentation off",
    };
    let line = format!("ethtool -K {interface} {settings}");
    ns.run_ok(&line, Duration::from_secs(10)).map(drop)
}
