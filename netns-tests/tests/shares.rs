//! Who gets how much of a path that is too slow for all, and limits that hold on any path.

use std::time::Duration;

use netns_tests::{
    ACME, BETA, Family, Load, Plan, Result, Site, ensure, scenario,
    seeded::seed,
    site::OVERLAY_INTERFACE,
    traffic::datagrams::{Flow, send},
    traffic::transfer::transfer,
};
use nix::sys::signal::Signal;

/// Both environments send three times what the path carries, from one container each; one has more
/// flows and larger packets. Each gets its weight.
#[test]
fn a_tenant_that_floods_takes_no_more_than_its_share() {
    scenario(Load::Heavy, |world| {
        // Lanes of different workers meet in the host's queue only, which knows no environments.
        let plan = Plan { workers: 1, ..Plan::pair().with_beta() };
        let mut site = Site::prepare(world, &plan)?;
        site.config("host-a").environment(BETA).weight = Some(300);
        site.write("host-a")?;
        site.start()?;
        site.settle()?;
        // So little that the path is what there is not enough of, and never the time of a core.
        site.slow_down("host-a", 50)?;
        let flood = |environment: &str, segments| -> Result<_> {
            let (a, b) = (site.container(environment, "a1")?, site.container(environment, "b1")?);
            let flow = Flow {
                packets: 60_000,
                rate: Some(19_000),
                segments,
                ..Flow::between(a.address(Family::V4), b.address(Family::V4))
            };
            send(&a.ns, &b.ns, &flow)
        };
        let (acme, beta) = std::thread::scope(|scope| {
            let beta = scope.spawn(|| flood(BETA, 10));
            (flood(ACME, 40), beta.join().unwrap())
        });
        let (acme, beta) = (acme?, beta?);
        ensure!(site.drops_by("host-a", ACME, "congestion")? > 0, "no flood: {acme:?}");
        ensure!(site.drops_by("host-a", BETA, "congestion")? > 0, "no flood: {beta:?}");
        let ratio = beta.received as f64 / acme.received as f64;
        ensure!((2.0..4.0).contains(&ratio), "{ratio} of 3: {acme:?}, {beta:?}");
        site.assert_healthy()
    });
}

/// The time of a core is what there is not enough of: the daemon runs for a moment now and then. One environment sends
/// from two containers, each as much as the other's one; they share what is read, and not by containers.
#[test]
fn who_has_more_containers_gets_no_more_of_a_core() {
    /// As long as it takes for full queues.
    const STOPPED: Duration = Duration::from_millis(50);
    const RUNS: Duration = Duration::from_millis(1);
    const RATE: u64 = 20_000;
    /// Of the 1,000 that wait: with more, it may have had all, and read others' in its place.
    const HAD_MAX: u64 = 800;
    /// So many packets say something.
    const READ_MIN: u64 = 4_000;
    scenario(Load::Heavy, |world| {
        let plan = Plan { workers: 1, ..Plan::pair().with_beta().two_each() };
        let mut site = Site::prepare(world, &plan)?;
        site.start()?;
        site.settle()?;
        let senders = [(ACME, "a1", "b1"), (ACME, "a2", "b2"), (BETA, "a1", "b1")];
        let flood = |(environment, from, to): (&str, &str, &str)| -> Result<_> {
            let (a, b) = (site.container(environment, from)?, site.container(environment, to)?);
            let flow = Flow {
                packets: 4 * RATE,
                rate: Some(RATE),
                payload: 200,
                ..Flow::between(a.address(Family::V4), b.address(Family::V4))
            };
            send(&a.ns, &b.ns, &flow)
        };
        let read = || -> Result<Vec<(u64, u64)>> {
            let all = senders.iter().map(|(environment, from, _)| {
                let link = site.container(environment, from)?.ns.link(OVERLAY_INTERFACE)?;
                Ok((link.tx_packets, link.tx_dropped))
            });
            all.collect()
        };
        let (acme, beta) = std::thread::scope(|scope| {
            let floods = senders.map(|sender| scope.spawn(move || flood(sender)));
            let daemon = site.daemon("host-a")?;
            let (mut acme, mut beta) = (0, 0);
            while !floods.iter().any(|flood| flood.is_finished()) {
                daemon.process().signal(Signal::SIGSTOP)?;
                let begun = read()?;
                std::thread::sleep(STOPPED);
                let (before, run) = (read()?, daemon.run_time()?);
                // Everybody's queue is full.
                let is_full = before.iter().zip(begun).all(|(now, then)| now.1 > then.1);
                daemon.process().signal(Signal::SIGCONT)?;
                while daemon.run_time()? - run < RUNS {
                    std::thread::yield_now();
                }
                daemon.process().signal(Signal::SIGSTOP)?;
                let had: Vec<_> =
                    read()?.iter().zip(before).map(|(now, then)| now.0 - then.0).collect();
                if is_full && had.iter().all(|had| *had < HAD_MAX) {
                    acme += had[0] + had[1];
                    beta += had[2];
                }
            }
            daemon.process().signal(Signal::SIGCONT)?;
            for flood in floods {
                flood.join().unwrap()?;
            }
            anyhow::Ok((acme, beta))
        })?;
        ensure!(acme + beta >= READ_MIN, "the core was never scarce: {acme}, {beta}");
        let ratio = beta as f64 / acme as f64;
        ensure!((0.8..1.25).contains(&ratio), "{ratio}: {acme}, {beta}");
        site.assert_healthy()
    });
}

#[test]
fn a_limit_holds_and_changes_while_everything_runs() {
    const BYTES: u64 = 5_000_000;
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        site.config("host-a").environment(ACME).egress_mbit_max = Some(20);
        site.write("host-a")?;
        site.start()?;
        site.settle()?;
        let index = |site: &Site| -> Result<_> {
            let line = site.container(ACME, "a1")?.ns.run_ok("ip -o link show weft0", LIMIT)?;
            Ok(line.split(':').next().unwrap_or_default().to_owned())
        };
        let before = index(&site)?;
        let run = |site: &Site| -> Result<_> {
            let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
            let run = transfer(&a.ns, &b.ns, (b.address(Family::V4), 0).into(), BYTES, seed())?;
            run.assert_equal(BYTES)?;
            Ok(run)
        };
        // Two seconds, headers not counted.
        let limited = run(&site)?;
        ensure!(limited.elapsed > Duration::from_millis(1_950), "{limited:?}");
        ensure!(site.drops_by("host-a", ACME, "congestion")? == 0, "what waits is not lost");
        site.config("host-a").environment(ACME).egress_mbit_max = Some(1_000);
        site.write("host-a")?;
        site.reload("host-a")?;
        let free = run(&site)?;
        ensure!(free.elapsed < limited.elapsed, "{free:?}");
        ensure!(index(&site)? == before, "the container has another interface");
        site.assert_healthy()
    });
}

const LIMIT: Duration = Duration::from_secs(5);
