//! One underlay with everything that is compared on it, up at the same time.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use netns_tests::process::wait_for;
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::topology::{Offloads, Topology, Underlay};
use netns_tests::traffic::ping;
use netns_tests::{ACME, Family, Load, Namespace, Plan, Site, World, vxlan};
use weft_benches::document::{self, Cell};

use crate::plan::{Direction, Measure, Pacing, UNPACED};
use crate::script::{Script, Started};

const VXLAN_ID: u8 = 2;
const PING_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// A way of a packet.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// The underlay itself.
    Bare,
    /// The kernel's overlay.
    Vxlan,
    /// This product.
    Weft,
    /// The same between two containers of one host.
    WeftLocal,
    /// The same with daemons that were told [`LOW_LATENCY`]; on an underlay of its own, because
    /// daemons that poll take from everybody else.
    WeftLow,
    /// The underlay beside that: what the two are compared by is measured in turn.
    BareLow,
    /// No way at all: four threads that wake each other ([`weft_benches::chain`]).
    WakeUps,
    /// Another tunnel.
    Other(Script),
}

impl Way {
    /// All that need no file.
    pub(crate) const BUILT_IN: [Self; 7] = [
        Self::Bare,
        Self::Vxlan,
        Self::Weft,
        Self::WeftLocal,
        Self::WeftLow,
        Self::BareLow,
        Self::WakeUps,
    ];

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Bare => "bare",
            Self::Vxlan => "vxlan",
            Self::Weft => "weft",
            Self::WeftLocal => "weft-local",
            Self::WeftLow => "weft-low",
            Self::BareLow => "bare-low",
            Self::WakeUps => "wake-ups",
            Self::Other(script) => &script.name,
        }
    }

    /// Whether it needs `weftd` and `weft`.
    pub(crate) fn is_weft(&self) -> bool {
        matches!(self, Self::Weft | Self::WeftLocal | Self::WeftLow)
    }

    /// Whether a measure says anything about it.
    pub(crate) fn takes(&self, measure: Measure) -> bool {
        match self {
            Self::WakeUps => measure == Measure::Ping,
            Self::WeftLocal => {
                matches!(measure, Measure::Tcp(1 | 4, Direction::Out))
            }
            Self::WeftLow => {
                matches!(measure, Measure::Ping | Measure::RequestsIdle | Measure::CpuIdle)
            }
            Self::BareLow => matches!(measure, Measure::Ping | Measure::RequestsIdle),
            Self::Weft => true,
            Self::Bare | Self::Vxlan | Self::Other(_) => measure != Measure::CpuIdle,
        }
    }
}

/// What daemons are told that shall answer early.
const LOW_LATENCY: &str = "latency = \"low\"";

/// What a [`Tunnel`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Packets go through it.
    Network,
    /// [`Way::WakeUps`].
    WakeUps,
}

/// Two ends between which something is measured.
#[derive(Debug, Clone)]
pub(crate) struct Tunnel {
    pub(crate) way: Way,
    pub(crate) kind: Kind,
    pub(crate) ends: [(Namespace, IpAddr); 2],
    /// Process ids of the daemons of both hosts; none where the kernel does it.
    pub(crate) daemons: [Vec<i32>; 2],
}

/// An underlay and what runs on it. The fields go in this order: daemons before the namespaces.
pub(crate) struct Field {
    pub(crate) tunnels: Vec<Tunnel>,
    _others: Vec<Started>,
    _site: Option<Site>,
    _hosts: Topology,
    _world: World,
}

impl Field {
    /// Brings everything up. What does not come up is told to `failed` and left out.
    ///
    /// # Errors
    /// When the underlay itself does not come up.
    pub(crate) fn up(
        cell: Cell,
        ways: &[Way],
        pacing: Pacing,
        mut failed: impl FnMut(&str, anyhow::Error),
    ) -> Result<Self> {
        let world = World::new(Load::Heavy)?;
        let family = family(cell);
        let underlay = Underlay { offloads: offloads(cell), mtu: cell.mtu, ..Underlay::default() };
        let mut plan = Plan::pair().two_each().with_beta().over(family).underlay(underlay);
        if ways.iter().any(|way| matches!(way, Way::WeftLow)) {
            plan = plan.lines(LOW_LATENCY);
        }
        let (site, hosts) = if ways.iter().any(Way::is_weft) {
            let site = Site::up(&world, &plan)?;
            let hosts = Topology { hosts: site.topology.hosts.clone() };
            (Some(site), hosts)
        } else {
            (None, Topology::new(&world, underlay, &["host-a", "host-b"])?)
        };
        let (mut tunnels, mut others) = (Vec::new(), Vec::new());
        for way in ways {
            let made = match way {
                Way::Bare | Way::BareLow | Way::WakeUps => Ok(bare(way, &hosts, family)),
                Way::Vxlan => over_vxlan(&world, &hosts, family),
                Way::Weft | Way::WeftLocal | Way::WeftLow => weft(way, site.as_ref()),
                Way::Other(script) => {
                    let dir = world.dir().join(&script.name);
                    script.start(&hosts, family, cell.mtu, &dir).map(|started| {
                        let tunnel = other(script, &hosts, &started);
                        others.push(started);
                        tunnel
                    })
                }
            };
            match made.and_then(|tunnel| tunnel.reach().map(|()| tunnel)) {
                Ok(tunnel) => tunnels.push(tunnel),
                Err(e) => failed(way.name(), e),
            }
        }
        ensure!(!tunnels.is_empty(), "{cell}: nothing came up");
        if pacing == Pacing::Off {
            for (ns, _) in tunnels.iter().flat_map(|tunnel| &tunnel.ends) {
                ns.sysctl("net/ipv4/tcp_congestion_control", UNPACED)?;
            }
        }
        Ok(Self { tunnels, _others: others, _site: site, _hosts: hosts, _world: world })
    }
}

impl Tunnel {
    fn reach(&self) -> Result<()> {
        let [(from, _), (_, to)] = &self.ends;
        wait_for(&format!("a ping over {}", self.way.name()), SETTLE_LIMIT, || {
            Ok(ping::once(from, *to, PING_LIMIT)?.then_some(()))
        })
    }
}

fn bare(way: &Way, hosts: &Topology, family: Family) -> Tunnel {
    let [a, b] = [&hosts.hosts[0], &hosts.hosts[1]];
    let ends = [a, b].map(|host| (host.ns.clone(), host.address(family)));
    let kind = if matches!(way, Way::WakeUps) { Kind::WakeUps } else { Kind::Network };
    Tunnel { way: way.clone(), kind, ends, daemons: Default::default() }
}

fn over_vxlan(world: &World, hosts: &Topology, family: Family) -> Result<Tunnel> {
    let [va, vb] = [world.namespace("va")?, world.namespace("vb")?];
    vxlan::join(VXLAN_ID, family, (&hosts.hosts[0], &va), (&hosts.hosts[1], &vb))?;
    let ends = [(va, vxlan::address(VXLAN_ID, 1)), (vb, vxlan::address(VXLAN_ID, 2))];
    Ok(Tunnel { way: Way::Vxlan, kind: Kind::Network, ends, daemons: Default::default() })
}

fn weft(way: &Way, site: Option<&Site>) -> Result<Tunnel> {
    let site = site.context("no daemons")?;
    let end = |name| -> Result<_> {
        let container = site.container(ACME, name)?;
        Ok((container.ns.clone(), container.address(Family::V4)))
    };
    let pid = |host| -> Result<_> { Ok(vec![site.daemon(host)?.process().pid().as_raw()]) };
    let (far, daemons) = match way {
        Way::WeftLocal => ("a2", [pid("host-a")?, Vec::new()]),
        _ => ("b1", [pid("host-a")?, pid("host-b")?]),
    };
    let ends = [end("a1")?, end(far)?];
    Ok(Tunnel { way: way.clone(), kind: Kind::Network, ends, daemons })
}

fn other(script: &Script, hosts: &Topology, started: &Started) -> Tunnel {
    let [a, b] = started.addresses;
    let ends = [(hosts.hosts[0].ns.clone(), a), (hosts.hosts[1].ns.clone(), b)];
    let (way, daemons) = (Way::Other(script.clone()), started.daemons.clone());
    Tunnel { way, kind: Kind::Network, ends, daemons }
}

fn family(cell: Cell) -> Family {
    match cell.family {
        document::Family::V4 => Family::V4,
        document::Family::V6 => Family::V6,
    }
}

fn offloads(cell: Cell) -> Offloads {
    match cell.offloads {
        document::Offloads::On => Offloads::On,
        document::Offloads::Nic => Offloads::Receive,
        document::Offloads::Off => Offloads::Off,
    }
}
