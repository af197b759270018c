//! Topologies in network namespaces and what a test needs to use them.
//!
//! A test is a [`scenario`]: it gets a [`World`] that owns everything it makes, builds a
//! [`Site`] from a [`Plan`], sends something and looks at what arrived.
//!
//! ```text
//!  World ── guard: names, turn, clean-up          Plan ── what should exist
//!    │                                              │
//!    ├─ Topology: hosts and wires  ◀────────────────┤
//!    ├─ containers (no wire at all)                 ▼
//!    └─ files ◀── Pki, Config ── Site ── Daemon (weftd) ── Status, Metrics
//!                                  │
//!            traffic: ping, iperf, datagrams, transfer
//!            around:  Capture, Relay (bad network), rogue (hostile hosts), vnet (raw packets)
//! ```
//!
//! Programs under test are found by [`binaries::binary`]. None of their code is used here (only the
//! raw packet socket of `weft-sys`), so a mistake cannot hide on both sides.

pub mod binaries;
pub mod capture;
pub mod certificates;
pub mod clock;
pub mod config;
pub mod daemon;
mod etcd;
pub mod fault;
pub mod filter;
pub mod flood;
pub mod managed;
pub mod metrics;
mod namespace;
pub mod packets;
pub mod pki;
pub mod plan;
mod plane;
pub mod process;
pub mod relay;
pub mod rogue;
pub mod secrets;
pub mod seeded;
pub mod site;
pub mod status;
pub mod topology;
pub mod traffic;
pub mod vnet;
pub mod vxlan;
mod world;

pub use anyhow::{Context, Result, ensure};
pub use capture::{Capture, Caught};
pub use daemon::Daemon;
pub use managed::ManagedSite;
pub use namespace::{LinkCounters, Namespace};
pub use plan::{ACME, BETA, Plan};
pub use relay::{Faults, Relay, Way};
pub use site::{Container, Site};
pub use topology::Family;
pub use world::{Load, World};

/// Runs a test in a world of its own. On an error it panics while the world is still there, so
/// that the daemons' logs are printed before everything is removed.
///
/// # Panics
/// When the test fails.
pub fn scenario(load: Load, test: impl FnOnce(&World) -> Result<()>) {
    let world = World::new(load).unwrap_or_else(|e| panic!("{e:#}"));
    if let Err(e) = test(&world) {
        panic!("{e:#}");
    }
}
