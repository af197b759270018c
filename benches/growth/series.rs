//! What is measured of each thing that grows. Grounds of all sizes exist at the same time, and
//! each round measures all of them, up or down in turn.

use std::time::Duration;

use anyhow::{Context, Result};
use netns_tests::World;
use netns_tests::process::pause;
use weft_benches::report::Target;
use weft_benches::stats::Summary;

use crate::ground::{Ground, Shape};
use crate::measure::{idle_percent, ping_median, resident_mib, throughput, throughput_to_all};
use crate::results::{Line, Results, number};
use netns_tests::plan::WORKERS;

const ENVIRONMENTS: &str = "environments";
const HOSTS: &str = "hosts";
const ROUTES: &str = "routes";
const ATTACHMENTS: &str = "attachments";

const fn gbit(name: &'static str, x: &'static str) -> Line {
    Line { name, x, y: "throughput", unit: "Gbit/s" }
}

const fn mib(x: &'static str) -> Line {
    Line { name: "memory of a daemon", x, y: "memory", unit: "MiB" }
}

const fn seconds(name: &'static str, x: &'static str) -> Line {
    Line { name, x, y: "time", unit: "s" }
}

const ONE_STREAM: &str = "throughput";
const ONE_PAIR: Line = gbit("throughput: one pair", HOSTS);
const ALL_PAIRS: Line = gbit("throughput: one host to all others", HOSTS);
const PING: Line = Line { name: "ping, median", x: ENVIRONMENTS, y: "round trip", unit: "µs" };
const SESSION_MEMORY: Line =
    Line { name: "memory per session", x: ENVIRONMENTS, y: "memory", unit: "KiB" };
const IDLE: Line = Line { name: "idle CPU of a daemon", x: ENVIRONMENTS, y: "CPU", unit: "% core" };
const START: &str = "start until everything is up";
const STOP: &str = "stop";
const RESTART: &str = "restart until everything is up";
const REMOVE: &str = "stop and remove all interfaces";

/// Most memory for each session, KiB.
const SESSION_MEMORY_MAX: f64 = 64.0;
/// Most CPU time of an idle daemon, percent of a core.
const IDLE_MAX: f64 = 0.2;
/// Least throughput of the largest against the smallest.
const RATIO_MIN: f64 = 0.95;
/// Sessions that have just begun still have something to say.
const CALM: Duration = Duration::from_secs(3);

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) rounds: u32,
    pub(crate) stream: Duration,
    pub(crate) pings: u32,
    pub(crate) idle: Duration,
    pub(crate) idle_windows: u32,
    pub(crate) hosts: Vec<usize>,
    pub(crate) environments: Vec<usize>,
    pub(crate) routes: Vec<usize>,
    pub(crate) attachments: Vec<usize>,
    /// Workers in the series of attachments, each of which takes a descriptor for each of them.
    pub(crate) attachments_workers: u8,
    pub(crate) handshakes: u32,
}

impl Extent {
    pub(crate) fn full(rounds: u32, everything: bool) -> Self {
        let mut attachments = vec![1, 10, 100, 1_000];
        attachments.extend(everything.then_some(10_000));
        Self {
            rounds,
            stream: Duration::from_secs(3),
            pings: 100,
            idle: Duration::from_secs(20),
            idle_windows: 2,
            hosts: vec![2, 4, 6, 8],
            environments: vec![1, 10, 100, 1_000],
            routes: vec![1, 100, 10_000],
            attachments,
            // Where nobody may raise the limit of 20,000 descriptors, 10,000 attachments fit one.
            attachments_workers: if everything { 1 } else { WORKERS },
            handshakes: 200,
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            rounds: 1,
            stream: Duration::from_secs(1),
            pings: 20,
            idle: Duration::from_secs(3),
            idle_windows: 1,
            hosts: vec![2, 4],
            environments: vec![1, 100],
            routes: vec![1, 10_000],
            attachments: vec![1, 100],
            attachments_workers: WORKERS,
            handshakes: 50,
        }
    }
}

/// Measures each ground once in every round.
fn rounds(
    extent: &Extent,
    grounds: &[(usize, Ground)],
    mut measure: impl FnMut(usize, &Ground) -> Result<()>,
) -> Result<()> {
    for round in 0..extent.rounds {
        eprintln!("  round {} of {}", round + 1, extent.rounds);
        let mut order: Vec<_> = grounds.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (size, ground) in order {
            measure(*size, ground).inspect_err(|_| ground.show_logs())?;
        }
    }
    Ok(())
}

/// One ground for each size, started.
fn grounds(
    world: &World,
    sizes: &[usize],
    shape: impl Fn(usize) -> Shape,
    mut started: impl FnMut(usize, Duration),
) -> Result<Vec<(usize, Ground)>> {
    let mut all = Vec::with_capacity(sizes.len());
    for size in sizes {
        eprintln!("  starting {size}");
        let mut ground = Ground::prepare(world, shape(*size))?;
        let took = ground.start().inspect_err(|_| ground.show_logs());
        started(*size, took.with_context(|| format!("start of {size}"))?);
        all.push((*size, ground));
    }
    Ok(all)
}

/// Hosts of one environment.
pub(crate) fn hosts(world: &World, extent: &Extent, results: &mut Results) -> Result<()> {
    let shape = |hosts| Shape { hosts, ..Shape::SMALLEST };
    let all = grounds(world, &extent.hosts, shape, |_, _| {})?;
    rounds(extent, &all, |size, ground| {
        results.sample(ONE_PAIR, size, throughput(ground, extent.stream)?);
        results.sample(ALL_PAIRS, size, throughput_to_all(ground, extent.stream)?);
        results.sample(mib(HOSTS), size, resident_mib(&ground.daemons[0])?);
        Ok(())
    })
}

/// Environments between two hosts. The most of them come with the most routes in the environment
/// that is measured.
pub(crate) fn environments(world: &World, extent: &Extent, results: &mut Results) -> Result<()> {
    const THROUGHPUT: Line = gbit(ONE_STREAM, ENVIRONMENTS);
    let most = extent.environments.iter().copied().max().unwrap_or(1);
    let routes = extent.routes.iter().copied().max().unwrap_or(0);
    let shape = |environments| Shape {
        environments,
        routes: if environments == most { routes } else { 0 },
        ..Shape::SMALLEST
    };
    let all = grounds(world, &extent.environments, shape, |size, took| {
        results.sample(seconds(START, ENVIRONMENTS), size, took.as_secs_f64());
    })?;
    pause(CALM)?;
    idle(extent, &all, results)?;
    rounds(extent, &all, |size, ground| {
        results.sample(THROUGHPUT, size, throughput(ground, extent.stream)?);
        results.sample(PING, size, ping_median(ground, extent.pings)?);
        Ok(())
    })?;
    let (large, small) = (results.samples(THROUGHPUT, most), results.samples(THROUGHPUT, 1));
    let ratio = Summary::of_ratios(large, small);
    let name = format!("throughput with {most} environments and {routes} routes / one environment");
    results.figure(name, "×", Target::AtLeast(RATIO_MIN), ratio);
    let name = format!("memory per session with {most} sessions");
    let memory = Summary::of(results.samples(SESSION_MEMORY, most));
    results.figure(name, "KiB", Target::AtMost(SESSION_MEMORY_MAX), memory);
    let name = format!("CPU of an idle daemon with {most} sessions");
    let idle = Summary::of(results.samples(IDLE, most));
    results.figure(name, "% core", Target::AtMost(IDLE_MAX), idle);
    let name = format!("start until {most} sessions are up");
    let start = Summary::of(results.samples(seconds(START, ENVIRONMENTS), most));
    results.figure(name, "s", Target::None, start);
    Ok(())
}

/// Memory and CPU time while all sessions are up and nothing is sent.
fn idle(extent: &Extent, all: &[(usize, Ground)], results: &mut Results) -> Result<()> {
    let mut smallest = [f64::NAN; 2];
    for (size, ground) in all {
        for (daemon, smallest) in ground.daemons.iter().zip(&mut smallest) {
            let mib_now = resident_mib(daemon)?;
            results.sample(mib(ENVIRONMENTS), *size, mib_now);
            if *size == 1 {
                *smallest = mib_now;
            } else {
                let kib = (mib_now - *smallest) * 1024.0 / number(*size - 1);
                results.sample(SESSION_MEMORY, *size, kib);
            }
        }
    }
    let daemons: Vec<_> =
        all.iter().flat_map(|(size, g)| g.daemons.iter().map(move |d| (*size, d))).collect();
    let alone: Vec<_> = daemons.iter().map(|(_, daemon)| *daemon).collect();
    for _ in 0..extent.idle_windows {
        eprintln!("  idle for {} s", extent.idle.as_secs());
        let percents = idle_percent(&alone, extent.idle)?;
        for ((size, _), percent) in daemons.iter().zip(percents) {
            results.sample(IDLE, *size, percent);
        }
    }
    Ok(())
}

/// Routes in one environment.
pub(crate) fn routes(world: &World, extent: &Extent, results: &mut Results) -> Result<()> {
    let shape = |routes| Shape { routes, ..Shape::SMALLEST };
    let all = grounds(world, &extent.routes, shape, |_, _| {})?;
    rounds(extent, &all, |size, ground| {
        results.sample(gbit(ONE_STREAM, ROUTES), size, throughput(ground, extent.stream)?);
        Ok(())
    })
}

/// Attachments on one host.
pub(crate) fn attachments(world: &World, extent: &Extent, results: &mut Results) -> Result<()> {
    let workers = extent.attachments_workers;
    let shape = |attachments| Shape { attachments, workers, ..Shape::SMALLEST };
    let mut all = grounds(world, &extent.attachments, shape, |size, took| {
        results.sample(seconds(START, ATTACHMENTS), size, took.as_secs_f64());
    })?;
    for (size, ground) in &all {
        results.sample(mib(ATTACHMENTS), *size, resident_mib(&ground.daemons[0])?);
    }
    rounds(extent, &all, |size, ground| {
        results.sample(gbit(ONE_STREAM, ATTACHMENTS), size, throughput(ground, extent.stream)?);
        Ok(())
    })?;
    for (size, ground) in &mut all {
        for (name, took) in
            [(STOP, ground.stop()?), (RESTART, ground.restart()?), (REMOVE, ground.remove()?)]
        {
            results.sample(seconds(name, ATTACHMENTS), *size, took.as_secs_f64());
        }
    }
    Ok(())
}
