//! `make demo`: Weft on this machine, from nothing to encrypted traffic and back to nothing.
//!
//! ```text
//!  ┌ host-a ───────────────┐     veth, MTU 1500     ┌ host-b ───────────────┐
//!  │ weftd                 ├────────────────────────┤ weftd                 │
//!  └─┬───────────────────┬─┘                        └─┬───────────────────┬─┘
//!   acme: a1 a2    beta: a1 a2                       acme: b1 b2    beta: b1 b2
//! ```
//! Both environments have the same ranges and the same addresses. Everything lives in network
//! namespaces that are removed at the end, after a failure, and on ctrl-c.

mod capture;
mod crossing;
mod managed;
mod restart;
mod screen;
mod traffic;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::daemon::STOP_LIMIT;
use netns_tests::process::{clean_up_on_signals, interrupt_flag, run_ok};
use netns_tests::topology::{Offloads, Underlay};
use netns_tests::{ACME, BETA, Family, Load, Plan, Site, World};
use nix::sys::signal::Signal;

use crate::screen::Screen;

/// Exit code after ctrl-c, as shells have it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let screen = Screen::new();
    let shown = clean_up_on_signals().and_then(|()| show(&screen));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt_flag().load(std::sync::atomic::Ordering::Relaxed) => {
            screen.failure("interrupted; everything was removed");
            ExitCode::from(INTERRUPTED)
        }
        Err(e) => {
            screen.failure(&format!("{e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn show(screen: &Screen) -> Result<()> {
    screen.title("Weft: two hosts, two environments, one machine");
    let prefix;
    {
        let world = World::new(Load::Heavy)?;
        prefix = world.prefix().to_owned();
        if let Err(e) = play(screen, &world) {
            if !interrupt_flag().load(std::sync::atomic::Ordering::Relaxed) {
                world.show_logs();
            }
            return Err(e);
        }
    }
    screen.step("Nothing is left");
    let namespaces = run_ok(std::process::Command::new("ip").args(["netns", "list"]), LIMIT)?;
    ensure!(!namespaces.contains(&prefix), "a namespace is left");
    screen.check("namespaces, interfaces, processes and files are gone");
    screen.title("All of it worked.");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(10);

fn play(screen: &Screen, world: &World) -> Result<()> {
    screen.step("Hosts, containers and certificates");
    let plan = Plan::pair()
        .two_each()
        .with_beta()
        .underlay(Underlay { offloads: Offloads::On, ..Underlay::default() });
    let mut site = screen
        .during("namespaces, veth pair, certificates", 3.0, || Site::prepare(world, &plan))?;
    for host in &site.topology.hosts {
        screen.note(&format!("{}  {}  {}", host.name, host.v4, host.v6));
    }
    for container in &site.containers {
        let of = &container.plan;
        let (v4, v6) = (container.address(Family::V4), container.address(Family::V6));
        let line = format!("{:5} {:3} on {}  {v4}  {v6}", of.environment, of.name, of.host);
        screen.note(&line);
    }
    screen.check("two environments with identical addresses; no container has any wire");

    screen.step("weftd on both hosts");
    screen.during("start, TLS 1.3 handshakes, first packets", 3.0, || {
        site.start()?;
        site.settle()
    })?;
    let status = site.daemon("host-a")?.weft_net("status")?.ok()?;
    screen.quote("weft net status", &status);
    for id in [ACME, BETA] {
        let established = site.daemon("host-a")?.status()?.established(id, "host-b")?;
        ensure!(established, "no session of {id}");
        screen.check(&format!("{id} has a session of its own between the hosts"));
    }

    traffic::pings(screen, &site)?;
    traffic::throughput(screen, world, &site)?;
    capture::prove(screen, world, &site)?;
    crossing::attempts(screen, world, &site)?;
    restart::survive(screen, &mut site)?;

    screen.step("Stop");
    for host in ["host-a", "host-b"] {
        let daemon = site.daemon_mut(host)?;
        let status = daemon.stop(Signal::SIGINT, STOP_LIMIT).context("weftd does not stop")?;
        ensure!(status.code() == Some(0), "{host}: {status}");
    }
    screen.check("both daemons ended with code 0");
    for container in &site.containers {
        let left = container.ns.interfaces()?;
        ensure!(left == ["lo"], "{:?} still has {left:?}", container.ns);
    }
    screen.check("no container has an interface any more");
    drop(site);
    managed::follow(screen, &world.beside()?)
}
