//! Networks that let no UDP through: datagrams go over TCP, and by UDP again when that works.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use netns_tests::fault::{extent, row};
use netns_tests::filter::{block_udp_to, lose, unblock_udp_to};
use netns_tests::process::{pause, wait_for};
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::topology::Offloads;
use netns_tests::traffic::heartbeat::Heartbeat;
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, BETA, Family, Load, Plan, Result, Site, ensure, scenario};

/// A second of silence, and what TCP inside makes of it.
const SWITCH_MAX: Duration = Duration::from_secs(4);
/// The way back costs nothing that would be seen.
const BACK_GAP_MAX: Duration = Duration::from_millis(500);

/// By what a host sends to the other.
fn transport(site: &Site, host: &str) -> Result<String> {
    let other = if host == "host-a" { "host-b" } else { "host-a" };
    let status = site.daemon(host)?.status()?;
    Ok(status.peer(ACME, other)?["transport"].as_str().unwrap_or_default().to_owned())
}

fn await_transport(site: &Site, host: &str, wanted: &str) -> Result<()> {
    wait_for(&format!("{host} sends by {wanted}"), SETTLE_LIMIT, || {
        Ok((transport(site, host)? == wanted).then_some(()))
    })
}

fn block(site: &Site, hosts: &[&str]) -> Result<()> {
    hosts.iter().try_for_each(|host| block_udp_to(&site.topology.host(host)?.ns))
}

fn unblock(site: &Site, hosts: &[&str]) -> Result<()> {
    hosts.iter().try_for_each(|host| unblock_udp_to(&site.topology.host(host)?.ns))
}

const BOTH: [&str; 2] = ["host-a", "host-b"];

#[test]
fn where_udp_never_gets_through_everything_goes_over_tcp() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().with_beta())?;
        block(&site, &BOTH)?;
        site.start()?;
        site.settle()?;
        for host in BOTH {
            await_transport(&site, host, "tcp")?;
        }
        site.ping_all()?;
        for environment in [ACME, BETA] {
            let (a, b) = (site.container(environment, "a1")?, site.container(environment, "b1")?);
            let to = SocketAddr::new(b.address(Family::V6), 0);
            let bytes = 20_000_000;
            transfer(&a.ns, &b.ns, to, bytes, 7)?.assert_equal(bytes)?;
        }
        let metrics = site.daemon("host-a")?.metrics()?;
        let streams = metrics.sum("weft_peer_over_tcp", &[]);
        ensure!(streams > 1.5, "one of each environment: {streams}");
        // UDP is tried again and again.
        unblock(&site, &BOTH)?;
        for host in BOTH {
            await_transport(&site, host, "udp")?;
        }
        site.ping_all()?;
        site.assert_healthy()
    });
}

#[test]
fn a_connection_survives_that_udp_is_blocked_and_let_through_again() {
    scenario(Load::Heavy, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let beat = Heartbeat::start(&a.ns, &b.ns, SocketAddr::new(b.address(Family::V4), 0))?;
        pause(Duration::from_millis(500))?;
        block(&site, &BOTH)?;
        let begun = Instant::now();
        for host in BOTH {
            await_transport(&site, host, "tcp")?;
        }
        let switched = begun.elapsed();
        pause(Duration::from_secs(1))?;
        unblock(&site, &BOTH)?;
        for host in BOTH {
            await_transport(&site, host, "udp")?;
        }
        pause(Duration::from_millis(500))?;
        let beats = beat.stop()?;
        ensure!(beats.longest_gap < SWITCH_MAX, "{beats:?}");
        let long = beats.gaps.iter().filter(|gap| **gap > BACK_GAP_MAX).count();
        ensure!(long <= 1, "the way back costs nothing: {beats:?}");
        let figure =
            format!("over TCP after {switched:.1?}, gap {:.1?}, back by itself", beats.longest_gap);
        row("UDP blocked under a connection", "over TCP in 4 s, and back", figure);
        Ok(())
    });
}

#[test]
fn each_direction_has_its_own_way() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        block(&site, &["host-b"])?;
        site.start()?;
        site.settle()?;
        await_transport(&site, "host-a", "tcp")?;
        await_transport(&site, "host-b", "udp")?;
        site.ping_all()?;
        unblock(&site, &["host-b"])?;
        await_transport(&site, "host-a", "udp")?;
        site.assert_healthy()
    });
}

/// Streams are between workers, of which the hosts have not the same number.
#[test]
fn hosts_with_other_numbers_of_workers_understand_each_other() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().two_each())?;
        site.config("host-a").workers = Some(1);
        site.config("host-b").workers = Some(5);
        block(&site, &BOTH)?;
        site.start()?;
        site.settle()?;
        for host in BOTH {
            await_transport(&site, host, "tcp")?;
        }
        for (from, to) in [("a1", "b1"), ("b2", "a2"), ("a2", "b1"), ("b1", "a1")] {
            let (from, to) = (site.container(ACME, from)?, site.container(ACME, to)?);
            for seed in 0..6 {
                let at = SocketAddr::new(to.address(Family::V4), 0);
                transfer(&from.ns, &to.ns, at, 1_000_000, seed)?.assert_equal(1_000_000)?;
            }
        }
        site.assert_healthy()
    });
}

#[test]
fn a_peer_that_is_killed_is_back_over_tcp() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        block(&site, &BOTH)?;
        site.start()?;
        site.settle()?;
        for victim in ["host-a", "host-b"] {
            let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
            let beat = Heartbeat::start(&a.ns, &b.ns, SocketAddr::new(b.address(Family::V4), 0))?;
            pause(Duration::from_millis(500))?;
            site.daemon_mut(victim)?.kill()?;
            site.start_host(victim)?;
            site.settle()?;
            pause(Duration::from_secs(1))?;
            let beats = beat.stop()?;
            println!("{victim}: {beats:?}");
            ensure!(beats.longest_gap < SWITCH_MAX, "{beats:?}");
        }
        Ok(())
    });
}

/// 1 Gbit/s is what streams must carry; TCP inside of TCP must not come to a stand where the outer one loses and
/// repeats.
#[test]
fn tcp_inside_of_tcp_does_not_melt_down() {
    let mut figures = Vec::new();
    // Without offloads, what is lost is one packet, not a superpacket of many.
    for (offloads, word, loss) in [
        (Offloads::On, "", 0.0),
        (Offloads::Off, " without offloads", 0.0),
        (Offloads::Off, " without offloads", 1.0),
    ] {
        let rates = Mutex::new(Vec::new());
        scenario(Load::Heavy, |world| {
            let mut plan = Plan::pair();
            plan.underlay.offloads = offloads;
            let mut site = Site::prepare(world, &plan)?;
            block(&site, &BOTH)?;
            site.start()?;
            site.settle()?;
            await_transport(&site, "host-a", "tcp")?;
            lose(&site, loss)?;
            let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
            let iperf_of = Iperf {
                time: Duration::from_secs(extent(2, 5)),
                congestion: "cubic",
                ..Iperf::default()
            };
            for _ in 0..extent(1, 5) {
                let report = iperf(&b.ns, &a.ns, b.address(Family::V4), &iperf_of)?;
                rates.lock().unwrap().push(report.bits_per_second / 1e6);
            }
            Ok(())
        });
        let mut rates = rates.into_inner().unwrap();
        rates.sort_by(f64::total_cmp);
        let rate = rates[rates.len() / 2];
        figures.push(format!("{rate:.0} Mbit/s at {loss} %{word}"));
        assert!(rate > 10.0, "{figures:?}");
    }
    row("TCP over TCP", "1 Gbit/s; no melt-down at 1 % loss", figures.join(", "));
}
