//! The engine that the configuration names, and hosts where io_uring is forbidden.

use std::time::Duration;

use netns_tests::process::wait_for;
use netns_tests::traffic::ping::once;
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
