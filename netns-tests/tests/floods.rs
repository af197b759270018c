//! Thousands of strangers a second at the port where handshakes begin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netns_tests::certificates::server_name;
use netns_tests::daemon::STOP_LIMIT;
use netns_tests::fault::{extent, row};
use netns_tests::flood::{self, Flood, Tally};
use netns_tests::plan::PORT;
use netns_tests::process::pause;
use netns_tests::rogue::client_hello;
use netns_tests::seeded::{Seeded, seed};
use netns_tests::site::reach;
use netns_tests::topology::{Joined, Underlay};
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::{ACME, Family, Load, Plan, Result, Site, World, ensure, scenario};
use nix::sys::signal::Signal;

/// Connections a second.
const RATE: u64 = 20_000;
/// Fewer are no flood.
const RATE_MIN: f64 = 10_000.0;
/// What containers send meanwhile, bits per second.
const LOAD: u64 = 1_000_000_000;
/// Nobody listens there.
const CLOSED_PORT: u16 = 9;
/// A restarted peer is back within this time.
const BACK_MAX: Duration = Duration::from_secs(5);
/// Bytes that are no TLS.
const GARBAGE_LEN: usize = 300;
/// The flood runs, and what is measured begins.
const WARM_UP: Duration = Duration::from_millis(500);

fn site(world: &World, family: Family) -> Result<Site> {
    let mut plan = Plan::pair().over(family);
    plan.underlay = Underlay { joined: Joined::Bridge, ..Underlay::default() };
    plan.hosts.push("host-c".into());
    let site = Site::up(world, &plan)?;
    flood::prepare(site.topology.host("host-c")?, site.topology.host("host-a")?)?;
    Ok(site)
}

/// What is said, and from how many addresses.
struct Attack {
    name: &'static str,
    says: Arc<[u8]>,
    sources: u32,
}

impl Attack {
    fn begin(&self, site: &Site, port: u16) -> Result<Flood> {
        let to = SocketAddr::new(site.endpoint("host-a")?.ip(), port);
        let says = Arc::clone(&self.says);
        let plan = flood::Plan { to, sources: self.sources, rate: RATE, says };
        let flood = Flood::start(&site.topology.host("host-c")?.ns, &plan)?;
        pause(WARM_UP)?;
        Ok(flood)
    }

    /// What containers carry meanwhile, bits per second.
    fn carried(&self, site: &Site, port: u16) -> Result<(f64, Tally)> {
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let load =
            Iperf { time: Duration::from_secs(extent(1, 6)), rate: Some(LOAD), ..Iperf::default() };
        let flood = self.begin(site, port)?;
        let report = iperf(&b.ns, &a.ns, b.address(Family::V4), &load)?;
        Ok((report.bits_per_second, flood.stop()?))
    }
}

fn attacks(site: &Site) -> Result<Vec<Attack>> {
    let mut garbage = vec![0; GARBAGE_LEN];
    Seeded::new(seed()).fill(&mut garbage);
    let hello = client_hello(&server_name(&site.pki[ACME])?)?;
    let attack = |name, says: &[u8], sources| Attack { name, says: says.into(), sources };
    Ok(vec![
        attack("garbage from 1,024 addresses", &garbage, 1_024),
        attack("ClientHellos from 1,024 addresses", &hello, 1_024),
        attack("ClientHellos from 16,384 addresses", &hello, 16_384),
    ])
}

#[test]
fn strangers_by_the_thousand_keep_nobody_from_working() {
    for family in [Family::V4, Family::V6] {
        scenario(Load::Heavy, |world| {
            let mut site = site(world, family)?;
            for attack in attacks(&site)?.into_iter().skip(extent(1, 0)) {
                under(&mut site, family, &attack)?;
                if extent(true, false) {
                    break;
                }
            }
            site.ping_all()?;
            site.assert_healthy()
        });
    }
}

/// As many tries as there are to be; what the victim takes of them is its own matter.
fn assert_flows(flood: &Tally) -> Result<()> {
    ensure!(flood.rate() > RATE_MIN, "only {flood:?}");
    ensure!(flood.made > flood.tried / 4, "hardly a connection was made: {flood:?}");
    Ok(())
}

fn under(site: &mut Site, family: Family, attack: &Attack) -> Result<()> {
    let (baseline, closed) = attack.carried(site, CLOSED_PORT)?;
    ensure!(closed.made == 0, "{closed:?} at a closed port");
    let cpu = site.daemon("host-a")?.cpu_time()?;
    let (carried, open) = attack.carried(site, PORT)?;
    let used = site.daemon("host-a")?.cpu_time()? - cpu;
    assert_flows(&open)?;
    ensure!(baseline > 1e8, "{baseline} bit/s: the load did not flow");
    let flood = attack.begin(site, PORT)?;
    let mut back_max = Duration::ZERO;
    for _ in 0..extent(1, 10) {
        site.daemon_mut("host-b")?.stop(Signal::SIGKILL, STOP_LIMIT)?;
        let begun = Instant::now();
        site.start_host("host-b")?;
        reach(site.container(ACME, "b1")?, site.container(ACME, "a1")?)?;
        back_max = back_max.max(begun.elapsed());
    }
    let flowing = flood.stop()?;
    assert_flows(&flowing)?;
    let ratio = carried / baseline;
    println!(
        "{attack} {family:?}: {closed:?} {open:?} {flowing:?} used {used:?}",
        attack = attack.name
    );
    ensure!(back_max < extent(BACK_MAX * 2, BACK_MAX), "back after {back_max:?}");
    let missed = if ratio < 0.8 { "missed: " } else { "" };
    let figure = format!(
        "{missed}{ratio:.2} of {:.0} Mbit/s under {:.0} connections a second ({:.0} at the closed port); back \
         in {} ms",
        baseline / 1e6,
        open.rate(),
        closed.rate(),
        back_max.as_millis()
    );
    row(
        &format!("handshake flood over {family:?}, {}", attack.name),
        "0.8 × of what the same flood at a closed port leaves of 1 Gbit/s; a restarted peer back in 5 s",
        figure,
    );
    Ok(())
}
