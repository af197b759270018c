//! Thousands of strangers a second at the port where handshakes begin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns_tests::certificates::server_name;
use netns_tests::fault::{extent, row};
use netns_tests::flood::{self, Flood, Tally};
use netns_tests::plan::PORT;
use netns_tests::process::pause;
use netns_tests::relay::Kept;
use netns_tests::rogue::client_hello;
use netns_tests::seeded::{Seeded, seed};
use netns_tests::site::{OVERLAY_INTERFACE, RELAY, reach};
use netns_tests::topology::{Joined, Underlay};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::{
    ACME, Context, Family, Load, Plan, Relay, Result, Site, Way, World, ensure, scenario,
};

/// Connections a second.
const RATE: u64 = 20_000;
/// Fewer are no flood. A machine that runs other tests as well makes fewer.
fn rate_min() -> f64 {
    extent(1_000.0, 10_000.0)
}

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
    ensure!(flood.rate() > rate_min(), "only {flood:?}");
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
        site.daemon_mut("host-b")?.kill()?;
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

/// Datagrams that are forged at once, and how often between two pauses.
const SEGMENTS: usize = 40;
const BURST: usize = 2;
/// First bytes of a datagram that anybody can know who sees one.
const HEADER_LEN: usize = 16;

/// Packets that no queue on the way had room for: the sender's interface, the relay, the receiving host.
fn overflows(site: &Site) -> Result<u64> {
    let mut lost = site.container(ACME, "a1")?.ns.link(OVERLAY_INTERFACE)?.tx_dropped;
    for host in [RELAY, "host-b"] {
        let ns = &site.topology.host(host)?.ns;
        let table = ns.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (lines.next(), lines.next());
        let (names, values) = (names.context("no names")?, values.context("no values")?);
        let mut both = names.split_whitespace().zip(values.split_whitespace());
        let errors = both.find(|(name, _)| *name == "RcvbufErrors").context("no RcvbufErrors")?;
        lost += errors.1.parse::<u64>()?;
    }
    Ok(lost)
}

/// Whoever sees the network knows a peer's address, port and session indices. What is forged under them must
/// neither be believed nor cost the good datagrams that come with it, in one receive of the same flow.
#[test]
fn forged_datagrams_under_a_peer_s_name_cost_no_good_one() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        let wanted: u64 = extent(100_000, 10_000_000);
        let good = |packets| Flow {
            packets,
            payload: 600,
            rate: Some(5_000),
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        relay.record(Way::There, 2_000);
        ensure!(send(&a.ns, &b.ns, &good(2_000))?.complete(), "without any forgery");
        let seen = relay.take(Way::There);
        let daemon = site.daemon("host-b")?;
        let (cpu, begun) = (daemon.run_time()?, Instant::now());
        ensure!(send(&a.ns, &b.ns, &good(10_000))?.complete(), "without any forgery");
        let idle = (daemon.run_time()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        let (drops, full) = (site.drops("host-b")?, overflows(&site)?);
        let (cpu, begun) = (daemon.run_time()?, Instant::now());
        let stop = AtomicBool::new(false);
        let (forged, arrived) = std::thread::scope(|scope| {
            let forging = scope.spawn(|| {
                let done = forge(&relay, &seen, wanted);
                stop.store(true, Ordering::Release);
                done
            });
            let (mut sent, mut received) = (0, 0);
            while !stop.load(Ordering::Acquire) {
                let arrived = send(&a.ns, &b.ns, &good(5_000))?;
                ensure!(arrived.duplicates == 0 && arrived.damaged == 0, "{arrived:?}");
                (sent, received) = (sent + arrived.sent, received + arrived.received);
            }
            let forged = forging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok::<_, anyhow::Error>((forged, (sent, received)))
        })?;
        let used = (daemon.run_time()? - cpu).as_secs_f64() - idle * begun.elapsed().as_secs_f64();
        let lost = arrived.0 - arrived.1;
        let full = overflows(&site)? - full;
        ensure!(lost <= full, "{lost} good ones lost, {full} for want of room");
        let more = site.drops("host-b")? - drops;
        ensure!(more + full >= forged, "{more} drops and {full} without room of {forged}");
        #[expect(clippy::cast_precision_loss, reason = "a time to show")]
        let each = used * 1e6 / more as f64;
        let figure = format!(
            "{more} forged, 0 accepted, {lost} of {} good ones lost, {each:.2} µs each, the kernel's part \
             included",
            arrived.0
        );
        ensure!(each < extent(20.0, 2.0), "{each} µs each");
        let missed = if each > 1.0 { "missed: " } else { "" };
        let must = "no state change, no good one lost with a forged one, at most 1 µs each";
        row(
            "forged datagrams with a peer's address, port and index",
            must,
            format!("{missed}{figure}"),
        );
        site.ping_all()?;
        site.assert_healthy()
    });
}

/// Sends what an onlooker can make of what he has seen.
fn forge(relay: &Relay, seen: &[Kept], count: u64) -> Result<u64> {
    let mut random = Seeded::new(seed());
    let length = seen.iter().map(|kept| kept.payload.len()).max().context("nothing was seen")?;
    let seen: Vec<_> = seen.iter().filter(|kept| kept.payload.len() == length).collect();
    let mut forged = 0;
    for (number, seen) in seen.iter().cycle().enumerate() {
        if forged >= count {
            break;
        }
        let mut batch = seen.payload.repeat(SEGMENTS);
        for (nth, datagram) in batch.chunks_exact_mut(length).enumerate() {
            random.fill(&mut datagram[HEADER_LEN..]);
            // Counters that are new to the receiver, or as it was.
            if nth % 4 > 0 {
                datagram[10..12].copy_from_slice(&random.next_u64().to_be_bytes()[..2]);
            }
            // Now and then a false length, to part elsewhere what the kernel has merged.
            if nth % 16 == 1 {
                datagram[3] ^= 0x55;
            }
        }
        relay.inject_many(Way::There, seen.port, &batch, u16::try_from(length)?)?;
        forged += SEGMENTS as u64;
        if number % BURST == 0 {
            pause(Duration::from_micros(300))?;
        }
    }
    Ok(forged)
}
