//! Keys change without anybody noticing: epochs, handshakes, certificates, restarts.

use std::time::{Duration, Instant};

use netns_tests::config::KeyLimits;
use netns_tests::daemon::STOP_LIMIT;
use netns_tests::plan::PORT;
use netns_tests::process::{pause, wait_for};
use netns_tests::seeded::seed;
use netns_tests::site::{SETTLE_LIMIT, reach};
use netns_tests::status::number;
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::ping::{Ping, ping};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, Family, Faults, Load, Plan, Result, Site, ensure, scenario};
use nix::sys::signal::Signal;

/// Datagrams per epoch: few enough to see hundreds of changes in seconds.
const EPOCH_DATAGRAMS: u64 = 300;
/// Epochs of a session.
const EPOCHS: u64 = 256;
const SHORT_EPOCHS: KeyLimits = KeyLimits {
    epoch_datagrams_max: Some(EPOCH_DATAGRAMS),
    epoch_seconds_max: None,
    rehandshake_seconds: None,
};

/// A number of the session between host-a and host-b in acme, as host-a tells it.
fn session(site: &Site, field: &str) -> Result<u64> {
    let status = site.daemon("host-a")?.status()?;
    Ok(number(&status.peer(ACME, "host-b")?[field]))
}

#[test]
fn epochs_change_every_300_datagrams_without_loss() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair().keys(SHORT_EPOCHS))?;
        site.calm()?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let flow = Flow {
            packets: 40_000,
            rate: Some(15_000),
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        let arrived = send(&a.ns, &b.ns, &flow)?;
        let whole = arrived.complete() && arrived.late == 0;
        ensure!(whole, "{arrived:?}\n{}", site.all_drops()?);
        let epoch = session(&site, "epoch")?;
        ensure!(epoch >= 40_000 / EPOCH_DATAGRAMS / 2, "epoch {epoch} after 40,000 datagrams");
        // Superpackets do not straddle two epochs.
        let arrived = send(&a.ns, &b.ns, &Flow { segments: 45, packets: 20_000, ..flow })?;
        let whole = arrived.complete() && arrived.late == 0;
        ensure!(whole, "{arrived:?}\n{}", site.all_drops()?);
        site.assert_healthy()
    });
}

#[test]
fn a_session_that_runs_out_of_epochs_is_replaced_without_loss() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair().keys(SHORT_EPOCHS))?;
        site.calm()?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let before = session(&site, "handshakes_ok")?;
        // More than two sessions' worth on one lane, at a rate that leaves time for handshakes.
        let flow = Flow {
            packets: 5 * EPOCHS * EPOCH_DATAGRAMS / 2,
            rate: Some(20_000),
            payload: 400,
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        let arrived = send(&a.ns, &b.ns, &flow)?;
        let whole = arrived.complete() && arrived.late == 0;
        ensure!(whole, "{arrived:?}\n{}", site.all_drops()?);
        let more = session(&site, "handshakes_ok")? - before;
        ensure!(more >= 2, "{more} handshakes");
        site.assert_healthy()
    });
}

#[test]
fn epochs_change_on_a_rough_network() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().keys(SHORT_EPOCHS).relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        relay.faults(Faults::rough(0.01));
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let bytes = 96 << 20;
        let run = transfer(&a.ns, &b.ns, (b.address(Family::V4), 0).into(), bytes, seed())?;
        run.assert_equal(bytes)?;
        site.assert_healthy()
    });
}

#[test]
fn handshakes_every_five_seconds_lose_nothing() {
    scenario(Load::Heavy, |world| {
        let keys = KeyLimits { rehandshake_seconds: Some(5), ..KeyLimits::default() };
        let mut site = Site::up(world, &Plan::pair().keys(keys))?;
        let before = session(&site, "handshakes_ok")?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let there = Flow {
            packets: 60_000,
            rate: Some(5_000),
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        let back = Flow { from: there.to, to: there.from, ..there };
        let (one, two) = std::thread::scope(|scope| {
            let one = scope.spawn(|| send(&a.ns, &b.ns, &there));
            let two = scope.spawn(|| send(&b.ns, &a.ns, &back));
            (one.join(), two.join())
        });
        for arrived in [one, two] {
            let arrived = arrived.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let whole = arrived.complete() && arrived.late == 0;
            ensure!(whole, "{arrived:?}\n{}", site.all_drops()?);
        }
        let more = session(&site, "handshakes_ok")? - before;
        ensure!((1..=4).contains(&more), "{more} handshakes in 12 s");
        let age = session(&site, "session_age_ms")?;
        ensure!(age < 8_000, "the session is {age} ms old");
        site.assert_healthy()
    });
}

#[test]
fn a_new_certificate_is_taken_at_once() {
    scenario(Load::Light, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        site.calm()?;
        let before = session(&site, "handshakes_ok")?;
        for (host, dir) in [("host-b", "renewed-b"), ("host-a", "renewed-a")] {
            let files = site.pki[ACME].issue_into(host, &world.dir().join(dir))?;
            let environment = site.config(host).environment(ACME);
            (environment.cert, environment.key) = (files.cert, files.key);
        }
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        let lossless = Ping { count: 400, ..Ping::default() };
        let pinged = std::thread::scope(|scope| {
            let pinging = scope.spawn(|| ping(&a.ns, b.address(Family::V4), &lossless));
            pause(Duration::from_millis(500))?;
            for host in ["host-b", "host-a"] {
                let handshakes = session(&site, "handshakes_ok")?;
                site.reload(host)?;
                wait_for("a handshake with the new certificate", SETTLE_LIMIT, || {
                    Ok((session(&site, "handshakes_ok")? > handshakes).then_some(()))
                })?;
            }
            pinging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        ensure!(pinged.complete(), "{}", pinged.text.lines().last().unwrap_or_default());
        ensure!(session(&site, "handshakes_ok")? >= before + 2);
        site.assert_healthy()
    });
}

#[test]
fn an_authority_can_be_exchanged() {
    scenario(Load::Light, |world| {
        // What netns.sh calls a change of the private key: other keys on both sides, at once.
        let mut site = Site::up(world, &Plan::pair())?;
        site.calm()?;
        let other = netns_tests::pki::Pki::init(&world.dir().join("other"), ACME)?;
        for host in ["host-a", "host-b"] {
            let files = other.issue(host)?;
            let environment = site.config(host).environment(ACME);
            environment.ca = other.ca_cert();
            (environment.cert, environment.key) = (files.cert, files.key);
        }
        site.reload("host-a")?;
        // One side alone trusts nobody: it may serve on for a while, but no new session comes.
        let before = session(&site, "handshakes_ok")?;
        pause(Duration::from_secs(2))?;
        ensure!(session(&site, "handshakes_ok")? == before, "a handshake across authorities");
        site.reload("host-b")?;
        wait_for("a session under the new authority", SETTLE_LIMIT, || {
            Ok((session(&site, "handshakes_ok")? > before).then_some(()))
        })?;
        reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
        site.assert_healthy()
    });
}

#[test]
fn a_restarted_peer_is_back_soon() {
    scenario(Load::Light, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            for host in ["host-b", "host-a"] {
                site.daemon_mut(host)?.stop(signal, STOP_LIMIT)?;
                pause(Duration::from_millis(300))?;
                site.start_host(host)?;
                let start = Instant::now();
                reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
                reach(site.container(ACME, "b1")?, site.container(ACME, "a1")?)?;
                let took = start.elapsed();
                ensure!(took < Duration::from_secs(5), "{host} {signal}: back after {took:?}");
            }
        }
        site.assert_healthy()
    });
}

/// The peer that restarts cannot call: whoever sends to it finds out, says so, and calls.
#[test]
fn a_peer_that_has_forgotten_and_cannot_call_is_called() {
    scenario(Load::Light, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let silent = |site: &Site| -> Result<f64> {
            let metrics = site.daemon("host-a")?.metrics()?;
            Ok(metrics.sum("silent_seconds", &[("environment", ACME)]))
        };
        ensure!(silent(&site)? == 0.0);
        site.daemon_mut("host-b")?.kill()?;
        let mute = [
            "nft add table inet mute".to_owned(),
            "nft add chain inet mute out { type filter hook output priority 0 ; }".to_owned(),
            format!("nft add rule inet mute out tcp dport {PORT} drop"),
        ];
        for line in &mute {
            site.topology.host("host-b")?.ns.run_ok(line, STOP_LIMIT)?;
        }
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let ping = format!("ping -n -c 1 -W 1 {}", b.address(Family::V4));
        wait_for("the silence is seen", SETTLE_LIMIT, || {
            ensure!(a.ns.run(&ping, STOP_LIMIT)?.ok().is_err(), "nobody is there");
            Ok((silent(&site)? >= 2.0).then_some(()))
        })?;
        site.start_host("host-b")?;
        let start = Instant::now();
        reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
        println!("back after {:.1} s", start.elapsed().as_secs_f64());
        wait_for(
            "the silence is over",
            SETTLE_LIMIT,
            || Ok((silent(&site)? == 0.0).then_some(())),
        )?;
        site.assert_healthy()
    });
}
