//! Two processes of a control plane on one etcd, of which one, or etcd, stands still: connected, and silent.

use std::time::{Duration, Instant};

use netns_tests::fault::row;
use netns_tests::process::{PATIENCE, pause, wait_for};
use netns_tests::traffic::heartbeat::Heartbeat;
use netns_tests::{Context, Load, ManagedSite, Result, ensure, scenario};
use nix::sys::signal::Signal;

/// A host that nobody hears for so long is lost.
const LOST: Duration = Duration::from_secs(90);
/// Another process does background work by then.
const TURN_MAX: Duration = Duration::from_secs(20);
/// What would change something is refused by then while etcd does not answer. Said when it is missed: commands begin and
/// end on a busy machine, and the store's own test is strict.
const REFUSED_MAX: Duration = Duration::from_secs(5);
/// What a process writes that does background work.
const TURN: &str = "background work is done here from now on";

const HOSTS: [&str; 2] = ["host-a", "host-b"];

fn nobody_is_lost(site: &ManagedSite) -> Result<()> {
    let hosts = site.json("host list")?;
    let hosts = hosts.as_array().context("no list")?;
    ensure!(hosts.len() == HOSTS.len(), "{hosts:?}");
    ensure!(hosts.iter().all(|host| host["lost_ms"].is_null()), "{hosts:?}");
    Ok(())
}

fn has_turn(site: &ManagedSite, process: usize) -> Result<()> {
    wait_for(&format!("the turn of process {process}"), TURN_MAX, || {
        Ok(site.control_log(process)?.contains(TURN).then_some(()))
    })
}

#[test]
fn a_process_that_stands_still_takes_no_host_with_it() {
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start_several(world, &HOSTS, 2)?;
        // The first has the turn, and hears all hosts: the other comes when they are there.
        let (still, other) = (0, 1);
        site.kill_control(other)?;
        has_turn(&site, still)?;
        let (a, b, c) = (world.namespace("a")?, world.namespace("b")?, world.namespace("c")?);
        let shop = site.environment("shop")?;
        for host in HOSTS {
            site.start_host(host)?;
            site.connected(host)?;
            site.weft(&format!("env allow-host acme/shop {host}"))?.ok()?;
        }
        let web = site.attached("host-a", &shop, "web", &a)?;
        site.attached("host-b", &shop, "db", &b)?;
        let heartbeat = Heartbeat::start(&b, &a, (web, 0).into())?;

        site.start_control(other)?;
        ensure!(site.heard_by("host-a")? == [still], "{:?}", site.heard_by("host-a")?);
        site.signal_control(still, Signal::SIGSTOP)?;
        let begun = Instant::now();
        // Whoever asks the other one is answered, and nobody is lost meanwhile.
        site.ask(other)?;
        wait_for("the other process hears host-a", LOST, || {
            nobody_is_lost(&site)?;
            Ok((site.heard_by("host-a")?.contains(&other) && site.is_connected("host-a")?)
                .then_some(()))
        })?;
        let heard_after = begun.elapsed();
        has_turn(&site, other)?;
        let cache = site.attached("host-a", &shop, "cache", &c)?;

        // It comes back and knows what was decided.
        site.signal_control(still, Signal::SIGCONT)?;
        site.ask(still)?;
        nobody_is_lost(&site)?;
        let there = site.json("attachment list acme/shop")?;
        ensure!(there.as_array().is_some_and(|all| all.len() == 3), "{there}");
        ensure!(there.to_string().contains(&cache.to_string()), "{there}");
        pause(Duration::from_secs(2))?;
        ensure!(heartbeat.is_beating(), "the connection failed");
        let beats = heartbeat.stop()?;
        ensure!(beats.longest_gap < Duration::from_secs(1), "{beats:?}");
        row(
            "one of two processes of the control plane stands still",
            "its hosts are heard by the other before they are lost (90 s)",
            format!("after {heard_after:.1?}; longest gap of traffic {:?}", beats.longest_gap),
        );
        for host in HOSTS {
            site.daemon(host)?.assert_healthy()?;
        }
        Ok(())
    });
}

#[test]
fn without_their_store_processes_tell_what_they_saw_and_traffic_goes_on() {
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start_several(world, &HOSTS, 2)?;
        let (a, b, c) = (world.namespace("a")?, world.namespace("b")?, world.namespace("c")?);
        let shop = site.environment("shop")?;
        for host in HOSTS {
            site.start_host(host)?;
            site.connected(host)?;
            site.weft(&format!("env allow-host acme/shop {host}"))?.ok()?;
        }
        let web = site.attached("host-a", &shop, "web", &a)?;
        site.attached("host-b", &shop, "db", &b)?;
        let heartbeat = Heartbeat::start(&b, &a, (web, 0).into())?;

        site.signal_store(Signal::SIGSTOP)?;
        let begun = Instant::now();
        nobody_is_lost(&site)?;
        let told_after = begun.elapsed();
        let there = site.json("attachment list acme/shop")?;
        ensure!(there.as_array().is_some_and(|all| all.len() == 2), "{there}");
        let begun = Instant::now();
        let refused = site.weft("env suspend acme/shop")?.ok().unwrap_err().to_string();
        let refused_after = begun.elapsed();
        ensure!(refused.contains("nothing was changed"), "{refused}");
        let held = if refused_after < REFUSED_MAX { "" } else { ", missed" };
        ensure!(site.attach("host-a", &shop, "cache", &c)?.ok().is_err(), "an attachment was made");
        pause(Duration::from_secs(2))?;
        ensure!(heartbeat.is_beating(), "the connection failed");

        site.signal_store(Signal::SIGCONT)?;
        wait_for("an attachment", PATIENCE, || {
            Ok(site.attach("host-a", &shop, "cache", &c)?.ok().ok().map(drop))
        })?;
        let there = site.json("attachment list acme/shop")?;
        ensure!(there.as_array().is_some_and(|all| all.len() == 3), "{there}");
        let beats = heartbeat.stop()?;
        ensure!(beats.longest_gap < Duration::from_secs(1), "{beats:?}");
        row(
            "etcd does not answer the processes of the control plane",
            "they tell what they saw; changes are refused in 5 s; traffic goes on",
            format!(
                "told after {told_after:.1?}, refused after {refused_after:.1?}{held}; longest gap of traffic {:.0?}",
                beats.longest_gap
            ),
        );
        Ok(())
    });
}
