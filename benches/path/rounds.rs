//! One round: everything once, in turn.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netns_tests::process::pause;
use netns_tests::topology::{Offloads, Topology, Underlay};
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::traffic::ping::{Ping, ping};
use netns_tests::{ACME, Container, Daemon, Family, Load, Namespace, Plan, Site, World, vxlan};
use weft_benches::chain::{self, Placement};
use weft_benches::figures::{Round, Weft};
use weft_benches::packets::{self, PAYLOAD};
use weft_benches::stats::median;

use crate::progress::Progress;

/// Always stated: the machine's default may halve or double a result.
pub(crate) const CONGESTION: &str = "cubic";
/// Offered rate at which the daemons' CPU time is measured, bits per second.
const OFFERED: u64 = 1_000_000_000;
/// Rates of small packets that are tried; 0 is as many as possible.
const PACKET_RATES: [u64; 4] = [130_000, 160_000, 200_000, 0];
const MEMORY_POLL: Duration = Duration::from_millis(100);
const VXLAN_ID: u8 = 1;

/// How long the parts of a round take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    stream: Duration,
    packets: Duration,
    pings: u32,
    chains: usize,
}

impl Length {
    /// For figures.
    pub(crate) const FULL: Self = Self {
        stream: Duration::from_secs(5),
        packets: Duration::from_secs(2),
        pings: 200,
        chains: 2_000,
    };
    /// To see that it works.
    pub(crate) const QUICK: Self = Self {
        stream: Duration::from_secs(2),
        packets: Duration::from_secs(1),
        pings: 50,
        chains: 300,
    };
}

impl Length {
    /// About how long a round takes.
    pub(crate) fn estimate(&self) -> Duration {
        let streams = (self.stream + START) * STREAMS;
        let packets = (self.packets + START) * PACKET_RATES.len().try_into().unwrap_or(u32::MAX);
        let pings = (PING_INTERVAL * self.pings + START) * PING_SERIES;
        streams + packets + pings
    }
}

/// Runs of iperf3 in a round.
const STREAMS: u32 = 9;
/// Series of pings, or of wake-ups at their rate.
const PING_SERIES: u32 = 3;
/// What starting and ending a program adds.
const START: Duration = Duration::from_millis(500);

/// Pings: far enough apart that `ping` sleeps in between (it spins below 10 ms), and so do the
/// cores.
const PING_INTERVAL: Duration = Duration::from_millis(20);
const CHAIN_INTERVAL: Duration = Duration::from_millis(1);

struct Bench {
    length: Length,
    site: Option<Site>,
    hosts: Topology,
    vxlan: [Namespace; 2],
}

/// Measures `count` rounds.
///
/// # Errors
/// When something does not come up or fails; a figure is never guessed.
pub(crate) fn measure(
    offloads: Offloads,
    count: u32,
    length: &Length,
    with_weft: bool,
    progress: &mut Progress,
) -> Result<Vec<Round>> {
    let world = World::new(Load::Heavy)?;
    let plan =
        Plan::pair().two_each().with_beta().underlay(Underlay { offloads, ..Underlay::default() });
    let (site, hosts) = if with_weft {
        let site = Site::up(&world, &plan)?;
        let hosts = Topology { hosts: site.topology.hosts.clone() };
        (Some(site), hosts)
    } else {
        (None, Topology::new(&world, plan.underlay, &["host-a", "host-b"])?)
    };
    let vxlan = [world.namespace("va")?, world.namespace("vb")?];
    let [a, b] = [&hosts.hosts[0], &hosts.hosts[1]];
    vxlan::join(VXLAN_ID, Family::V4, (a, &vxlan[0]), (b, &vxlan[1]))?;
    let bench = Bench { length: *length, site, hosts, vxlan };
    (1..=count)
        .map(|number| {
            let what = format!("figures with targets, offloads {offloads:?}");
            progress.begin(&format!("{what}, round {number} of {count}"), length.estimate());
            let round = bench.round()?;
            progress.end();
            Ok(round)
        })
        .collect()
}

impl Bench {
    fn round(&self) -> Result<Round> {
        let [a, b] = [&self.hosts.hosts[0], &self.hosts.hosts[1]];
        let bare = (&a.ns, &b.ns, IpAddr::from(b.v4));
        let [va, vb] = &self.vxlan;
        let over_vxlan = (va, vb, vxlan::address(VXLAN_ID, 2));
        let mut round = Round {
            bare_1: self.stream(bare, 1)?,
            vxlan_1: self.stream(over_vxlan, 1)?,
            ..Round::default()
        };
        let mut weft = self.site.as_ref().map(|site| self.weft_streams(site)).transpose()?;
        round.vxlan_4 = self.stream(over_vxlan, 4)?;
        round.bare_4 = self.stream(bare, 4)?;
        pause(Duration::from_millis(500))?;
        round.ping_bare_us = self.ping(&a.ns, b.v4.into())?;
        if let (Some(weft), Some(site)) = (&mut weft, &self.site) {
            let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
            weft.ping_us = self.ping(&a.ns, b.address(Family::V4))?;
        }
        let chain = |rounds, interval, placement| -> Result<f64> {
            Ok(median(&chain::measure(rounds, interval, placement)?))
        };
        round.chain_free_us = chain(self.length.chains, CHAIN_INTERVAL, Placement::Free)?;
        round.chain_pinned_us = chain(self.length.chains, CHAIN_INTERVAL, Placement::Pinned)?;
        let pings = usize::try_from(self.length.pings)?;
        round.chain_slow_us = chain(pings, PING_INTERVAL, Placement::Pinned)?;
        if let (Some(weft), Some(site)) = (&mut weft, &self.site) {
            self.weft_load(site, weft)?;
        }
        round.weft = weft;
        Ok(round)
    }

    fn stream(&self, (from, to, address): (&Namespace, &Namespace, IpAddr), n: u8) -> Result<f64> {
        let time = self.length.stream;
        let run = Iperf { time, streams: n, congestion: CONGESTION, ..Iperf::default() };
        Ok(iperf(to, from, address, &run)?.bits_per_second)
    }

    fn between(&self, from: &Container, to: &Container, streams: u8) -> Result<f64> {
        self.stream((&from.ns, &to.ns, to.address(Family::V4)), streams)
    }

    fn ping(&self, from: &Namespace, to: IpAddr) -> Result<f64> {
        let run = Ping { count: self.length.pings, interval: PING_INTERVAL, ..Ping::default() };
        let pinged = ping(from, to, &run)?;
        anyhow::ensure!(pinged.complete(), "{}", pinged.text);
        let times: Vec<_> = pinged.round_trips.iter().map(|t| t.as_secs_f64() * 1e6).collect();
        Ok(median(&times))
    }

    fn weft_streams(&self, site: &Site) -> Result<Weft> {
        let [a1, a2, b1] = ["a1", "a2", "b1"].map(|name| site.container(ACME, name));
        let (a1, a2, b1) = (a1?, a2?, b1?);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let memory = scope.spawn(|| largest_memory(site, &stop));
            let measured = (|| -> Result<Weft> {
                Ok(Weft {
                    stream_1: self.between(a1, b1, 1)?,
                    local_1: self.between(a1, a2, 1)?,
                    stream_4: self.between(a1, b1, 4)?,
                    local_4: self.between(a1, a2, 4)?,
                    ..Weft::default()
                })
            })();
            stop.store(true, Ordering::Relaxed);
            let memory = memory.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let mut weft = measured?;
            weft.resident_bytes = memory?;
            Ok(weft)
        })
    }

    /// CPU time at a steady rate, and small packets.
    fn weft_load(&self, site: &Site, weft: &mut Weft) -> Result<()> {
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let daemons = [site.daemon("host-a")?, site.daemon("host-b")?];
        let before = daemons.map(Daemon::cpu_time);
        let start = Instant::now();
        let run = Iperf {
            time: self.length.stream,
            rate: Some(OFFERED),
            congestion: CONGESTION,
            ..Iperf::default()
        };
        let report = iperf(&b.ns, &a.ns, b.address(Family::V4), &run)?;
        let elapsed = start.elapsed();
        let after = daemons.map(Daemon::cpu_time);
        // The rest of the time, iperf3 starts and ends; the load is that of its own seconds.
        let busy = self.length.stream.min(elapsed).as_secs_f64();
        let mut percent = [0.0; 2];
        for ((percent, before), after) in percent.iter_mut().zip(before).zip(after) {
            *percent = (after? - before?).as_secs_f64() / busy * 100.0;
        }
        [weft.cpu_sender_percent, weft.cpu_receiver_percent] = percent;
        weft.offered = report.bits_per_second;
        for rate in PACKET_RATES {
            let from = (&a.ns, a.address(Family::V4));
            let to = (&b.ns, b.address(Family::V4));
            weft.packets.push(packets::run(from, to, PAYLOAD, rate, self.length.packets)?);
            pause(Duration::from_millis(300))?;
        }
        let resident = site.daemons.values().map(Daemon::resident_bytes);
        let resident = resident.collect::<Result<Vec<_>>>()?.into_iter().max();
        weft.resident_bytes = weft.resident_bytes.max(resident.context("no daemon")?);
        Ok(())
    }
}

fn largest_memory(site: &Site, stop: &AtomicBool) -> Result<u64> {
    let mut largest = 0;
    while !stop.load(Ordering::Relaxed) {
        for daemon in site.daemons.values() {
            largest = largest.max(daemon.resident_bytes()?);
        }
        std::thread::sleep(MEMORY_POLL);
    }
    Ok(largest)
}
