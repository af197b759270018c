//! Round trips and throughput, beside the kernel's own unencrypted overlay.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::traffic::ping::{Ping, ping};
use netns_tests::{ACME, BETA, Family, Namespace, Site, World, vxlan};

use crate::screen::Screen;

const STREAM: Duration = Duration::from_secs(3);
const VXLAN_ID: u8 = 1;

pub(crate) fn pings(screen: &Screen, site: &Site) -> Result<()> {
    screen.step("Pings");
    let run = Ping { count: 20, interval: Duration::from_millis(20), ..Ping::default() };
    for id in [ACME, BETA] {
        for (from, to) in [("a1", "b1"), ("b1", "a1"), ("a1", "a2")] {
            let (from, to) = (site.container(id, from)?, site.container(id, to)?);
            let mut line = format!("{id:5} {} → {} ", from.plan.name, to.plan.name);
            for family in [Family::V4, Family::V6] {
                let pinged = ping(&from.ns, to.address(family), &run)?;
                ensure!(pinged.complete(), "{}", pinged.text);
                let mut times = pinged.round_trips;
                times.sort();
                let median = times[times.len() / 2].as_micros();
                line += &format!("  {:?} {}/{} {median:4} µs", family, pinged.received, run.count);
            }
            screen.note(&line);
        }
    }
    screen.check("every container reaches its own environment, over IPv4 and IPv6");
    Ok(())
}

pub(crate) fn throughput(screen: &Screen, world: &World, site: &Site) -> Result<()> {
    screen.step("Throughput of one TCP stream (iperf3, cubic)");
    let [a, b] = [&site.topology.hosts[0], &site.topology.hosts[1]];
    let ends = [world.namespace("va")?, world.namespace("vb")?];
    vxlan::join(VXLAN_ID, Family::V4, (a, &ends[0]), (b, &ends[1]))?;
    let mut figures = Vec::new();
    let mut measure = |name: String, from: &Namespace, to: &Namespace, address: IpAddr| {
        let rate = screen.during(&name, STREAM.as_secs_f64() + 0.5, || {
            let run = Iperf { time: STREAM, ..Iperf::default() };
            Ok(iperf(to, from, address, &run)?.bits_per_second)
        })?;
        figures.push((name, rate));
        Ok::<(), anyhow::Error>(())
    };
    let over = vxlan::address(VXLAN_ID, 2);
    measure("kernel VXLAN, not encrypted".into(), &ends[0], &ends[1], over)?;
    for id in [ACME, BETA] {
        for (to, what) in [("b1", "between the hosts"), ("a2", "on one host")] {
            let (from, to) = (site.container(id, "a1")?, site.container(id, to)?);
            let name = format!("weft, {id} {what}");
            measure(name, &from.ns, &to.ns, to.address(Family::V4))?;
        }
    }
    let best = figures.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    for (name, rate) in &figures {
        screen.bar(name, rate / best, &format!("{:5.2} Gbit/s", rate / 1e9));
    }
    ensure!(figures.iter().all(|(_, rate)| *rate > 1e7), "something does not flow");
    screen.check("both environments carry traffic, each under its own keys");
    Ok(())
}
