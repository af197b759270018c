//! How workers run: the engine, placement and latency that the configuration names, and hosts where
//! io_uring is forbidden.

use std::time::Duration;

use netns_tests::process::{pause, wait_for};
use netns_tests::traffic::ping::{Ping, once, ping};
use netns_tests::{ACME, Daemon, Family, Load, Plan, Result, Site, ensure, scenario};
use weft_sys::process::forbid_io_uring;

const LIMIT: Duration = Duration::from_secs(10);
const EPERM: i32 = 1;

fn with_engine(engine: &str) -> Plan {
    Plan { engine: Some(engine.into()), ..Plan::pair() }
}

fn engine_of(site: &Site, host: &str) -> Result<String> {
    let status = site.daemon(host)?.status()?;
    Ok(status.0["engine"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_configured_engine_moves_the_packets() {
    for engine in ["epoll", "uring"] {
        scenario(Load::Light, |world| {
            let site = Site::up(world, &with_engine(engine))?;
            for host in ["host-a", "host-b"] {
                ensure!(engine_of(&site, host)? == engine, "{host}: {}", engine_of(&site, host)?);
                let shown = site.daemon(host)?.weft_net("status")?.ok()?;
                ensure!(shown.contains(engine), "{shown}");
                let log = site.daemon(host)?.log();
                ensure!(log.contains(&format!("engine={engine}")), "{log}");
            }
            Ok(())
        });
    }
}

#[test]
fn hosts_with_different_engines_understand_each_other() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &with_engine("uring"))?;
        site.config("host-b").engine = Some("epoll".into());
        site.start()?;
        site.settle()?;
        ensure!(engine_of(&site, "host-a")? == "uring" && engine_of(&site, "host-b")? == "epoll");
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        for (from, to) in [(a, b), (b, a)] {
            ensure!(
                once(&from.ns, to.address(Family::V6), LIMIT)?,
                "{from:?} does not reach {to:?}"
            );
        }
        Ok(())
    });
}

/// The cores that each worker of a daemon may run on, as the kernel lists them.
fn cores_of_workers(daemon: &Daemon) -> Result<Vec<String>> {
    let tasks = format!("/proc/{}/task", daemon.process().pid());
    let mut cores = Vec::new();
    for task in std::fs::read_dir(tasks)? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
        if field("Name:").is_some_and(|name| name.trim().starts_with("weft-worker")) {
            cores.extend(field("Cpus_allowed_list:").map(|list| list.trim().to_owned()));
        }
    }
    Ok(cores)
}

#[test]
fn workers_have_a_core_each_only_when_they_shall() {
    for (placement, pinned) in [("free", false), ("pinned", true)] {
        scenario(Load::Light, |world| {
            let plan = Plan::pair().lines(&format!("placement = \"{placement}\""));
            let site = Site::up(world, &plan)?;
            let cores = cores_of_workers(site.daemon("host-a")?)?;
            ensure!(cores.len() == 2, "{cores:?}");
            let single = |list: &String| list.parse::<u32>().is_ok();
            // On a machine with one core there is nothing to choose.
            let choice = std::thread::available_parallelism()?.get() > 1;
            ensure!(cores.iter().all(single) == (pinned || !choice), "{placement}: {cores:?}");
            ensure!(!pinned || !choice || cores[0] != cores[1], "{cores:?}");
            Ok(())
        });
    }
}

#[test]
fn with_low_latency_workers_look_while_somebody_talks_and_sleep_otherwise() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair().lines("latency = \"low\""))?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let daemon = site.daemon("host-a")?;
        let talk = Ping { count: 50, interval: Duration::from_millis(20), ..Ping::default() };
        let before = daemon.cpu_time()?;
        let pinged = ping(&a.ns, b.address(Family::V4), &talk)?;
        ensure!(pinged.complete(), "{}", pinged.text);
        let talking = daemon.cpu_time()? - before;
        ensure!(
            talking > Duration::from_millis(200),
            "{talking:?} of CPU during a second of pings"
        );
        pause(Duration::from_millis(500))?;
        let before = daemon.cpu_time()?;
        pause(Duration::from_secs(2))?;
        let silent = daemon.cpu_time()? - before;
        ensure!(silent < Duration::from_millis(200), "{silent:?} of CPU in two silent seconds");
        Ok(())
    });
}

/// Runs `work` in a thread, with everything that it starts, in which io_uring is forbidden.
fn where_io_uring_is_forbidden(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            forbid_io_uring(EPERM)?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn auto_runs_on_epoll_where_io_uring_is_forbidden() {
    scenario(Load::Light, |world| {
        where_io_uring_is_forbidden(|| {
            let site = Site::up(world, &with_engine("auto"))?;
            ensure!(engine_of(&site, "host-a")? == "epoll");
            Ok(())
        })
    });
}

#[test]
fn uring_does_not_start_where_it_is_forbidden_and_says_why() {
    scenario(Load::Light, |world| {
        where_io_uring_is_forbidden(|| {
            let site = Site::prepare(world, &with_engine("uring"))?;
            let file = site.write("host-a")?;
            let ns = &site.topology.host("host-a")?.ns;
            let log = file.with_extension("start.log");
            let mut daemon = Daemon::spawn(ns, &file, &site.socket("host-a"), &log)?;
            let status = wait_for("weftd ends", LIMIT, || daemon.ended())?;
            ensure!(status.code() == Some(1), "{status}");
            for word in ["engine", "uring", "forbidden", "io_uring_disabled", "seccomp"] {
                ensure!(daemon.log().contains(word), "not a word of {word:?}: {}", daemon.log());
            }
            ensure!(!site.socket("host-a").exists(), "left its socket");
            Ok(())
        })
    });
}
