//! What a network does to datagrams and connections, by nftables in the hosts' own namespaces.

use std::time::Duration;

use crate::namespace::Namespace;
use crate::plan::PORT;
use crate::topology::UNDERLAY_INTERFACE;
use crate::{Result, Site};

const LIMIT: Duration = Duration::from_secs(5);
/// The ports of a daemon: that on which it listens and those that its workers send from.
const PORTS: std::ops::RangeInclusive<u16> = PORT..=PORT + 512;

/// Before connections are tracked.
const PRIORITY: i32 = -400;

/// A table with one chain, `main`, for what goes through a hook.
fn add_chain(ns: &Namespace, table: &str, hook: &str) -> Result<()> {
    ns.run_ok(&format!("nft add table inet {table}"), LIMIT)?;
    let chain = format!("{{ type filter hook {hook} priority {PRIORITY} ; }}");
    ns.run_ok(&format!("nft add chain inet {table} main {chain}"), LIMIT).map(drop)
}

/// Loses a share of what arrives at both hosts.
///
/// # Errors
/// When nft refuses.
pub fn lose(site: &Site, percent: f64) -> Result<()> {
    for host in ["host-a", "host-b"] {
        let ns = &site.topology.host(host)?.ns;
        let _ = ns.run("nft delete table inet weft-loss", LIMIT)?;
        if percent == 0.0 {
            continue;
        }
        add_chain(ns, "weft-loss", "prerouting")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 1,000"
        )]
        let share = (percent * 10.0) as u32;
        ns.run_ok(
            &format!(
                "nft add rule inet weft-loss main iifname {UNDERLAY_INTERFACE} numgen random mod 1000 < \
                 {share} drop"
            ),
            LIMIT,
        )?;
    }
    Ok(())
}

/// Lets both hosts send no faster than a link of this speed, with a short queue before it; for good.
///
/// # Errors
/// When tc refuses.
pub fn link_speed(site: &Site, mbit: u32) -> Result<()> {
    for host in ["host-a", "host-b"] {
        let ns = &site.topology.host(host)?.ns;
        let link = format!("tbf rate {mbit}mbit burst 256kb latency 5ms");
        ns.run_ok(&format!("tc qdisc replace dev {UNDERLAY_INTERFACE} root {link}"), LIMIT)?;
    }
    Ok(())
}

/// Drops the daemons' UDP that arrives at a host, as a filter on the way would: its sender learns nothing.
///
/// # Errors
/// When nft refuses.
pub fn block_udp_to(ns: &Namespace) -> Result<()> {
    add_chain(ns, "weft-udp", "prerouting")?;
    let (first, last) = (PORTS.start(), PORTS.end());
    ns.run_ok(
        &format!(
            "nft add rule inet weft-udp main iifname {UNDERLAY_INTERFACE} udp dport {first}-{last} counter \
             drop"
        ),
        LIMIT,
    )?;
    Ok(())
}

/// Lets it through again.
///
/// # Errors
/// When nft refuses.
pub fn unblock_udp_to(ns: &Namespace) -> Result<()> {
    ns.run_ok("nft delete table inet weft-udp", LIMIT).map(drop)
}

/// Drops everything that arrives on an interface of the underlay, as a cable that is cut.
///
/// # Errors
/// When nft refuses.
pub fn cut(ns: &Namespace, interface: &str) -> Result<()> {
    add_chain(ns, "weft-cut", "prerouting")?;
    ns.run_ok(&format!("nft add rule inet weft-cut main iifname {interface} drop"), LIMIT).map(drop)
}

/// Joins it again.
///
/// # Errors
/// When nft refuses.
pub fn mend(ns: &Namespace) -> Result<()> {
    ns.run_ok("nft delete table inet weft-cut", LIMIT).map(drop)
}

/// Damages what a host sends to another as a broken driver would: one byte of every packet that is longer than
/// `longer_than` and, of those, one of `one_of`. With segmented sends a packet is a whole batch here.
///
/// # Errors
/// When nft refuses.
pub fn damage(ns: &Namespace, longer_than: u32, one_of: u32) -> Result<()> {
    add_chain(ns, "weft-damage", "output")?;
    let (first, last) = (PORTS.start(), PORTS.end());
    ns.run_ok(
        &format!(
            "nft add rule inet weft-damage main oifname {UNDERLAY_INTERFACE} udp sport {first}-{last} meta \
             length > {longer_than} numgen random mod {one_of} 0 @th,800,8 set 0x5a"
        ),
        LIMIT,
    )
    .map(drop)
}

/// Damages nothing any more.
///
/// # Errors
/// When nft refuses.
pub fn repair(ns: &Namespace) -> Result<()> {
    ns.run_ok("nft delete table inet weft-damage", LIMIT).map(drop)
}
