//! Clocks that are set while everything runs: by years forth and back, and an hour in which nothing ran.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use netns_tests::certificates::{Leaf, server_name};
use netns_tests::clock::Clock;
use netns_tests::fault::row;
use netns_tests::process::{pause, wait_for};
use netns_tests::relay::Kept;
use netns_tests::rogue::dial;
use netns_tests::seeded::seed;
use netns_tests::site::{Container, SETTLE_LIMIT, reach};
use netns_tests::status::number;
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::heartbeat::{Beats, Heartbeat};
use netns_tests::{ACME, Family, Load, Plan, Relay, Result, Site, Way, World, ensure, scenario};
use nix::sys::signal::Signal;

const HOUR: i64 = 3_600;
/// Certificates are made to be valid five minutes before: a daemon starts by a clock that is as far behind.
const SET_BACK: i64 = 200;
const YEAR: i64 = 365 * 24 * HOUR;
/// What a step of the wall clock may cost a connection.
const GAP_MAX: Duration = Duration::from_secs(1);
/// Traffic after each step.
const WATCHED: Duration = Duration::from_millis(700);
/// Datagrams that are kept to look at their counters.
const KEPT: usize = 60_000;

/// Two hosts with a relay between them; host-a's clocks can be set.
fn site(world: &World) -> Result<(Site, Relay, Clock)> {
    let clock = Clock::new(world.dir())?;
    let mut site = Site::prepare(world, &Plan::pair().relayed())?;
    site.variables.insert("host-a".into(), clock.variables());
    // This one tells host-a what day it is: it was made a moment ago.
    let mut fresh = Leaf::proper(ACME, "host-b");
    (fresh.valid_from, fresh.valid_until) = (-10, YEAR);
    let files = fresh.signed_by(&site.pki[ACME])?.write(&world.dir().join("fresh"))?;
    let environment = site.config("host-b").environment(ACME);
    (environment.cert, environment.key) = (files.cert, files.key);
    let relay = site.relay(seed())?;
    site.start()?;
    site.settle()?;
    site.calm()?;
    Ok((site, relay, clock))
}

fn peer(site: &Site, host: &str, of: &str, field: &str) -> Result<u64> {
    Ok(number(&site.daemon(host)?.status()?.peer(ACME, of)?[field]))
}

/// Runs connections and datagrams in both directions while `act` happens.
fn under_traffic(site: &Site, act: impl FnOnce() -> Result<()>) -> Result<[Beats; 2]> {
    let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
    let at = |c: &Container| SocketAddr::new(c.address(Family::V4), 0);
    let beats = [Heartbeat::start(&a.ns, &b.ns, at(b))?, Heartbeat::start(&b.ns, &a.ns, at(a))?];
    act()?;
    let flow = Flow { packets: 500, ..Flow::between(at(a).ip(), at(b).ip()) };
    let arrived = send(&a.ns, &b.ns, &flow)?;
    ensure!(arrived.complete(), "{arrived:?}");
    let [there, back] = beats;
    Ok([there.stop()?, back.stop()?])
}

/// No datagram of a lane and epoch has the number of another.
fn assert_counters_unique(kept: &[Kept]) -> Result<usize> {
    let mut seen = BTreeSet::new();
    for datagram in kept {
        // Epoch, receiver index, counter.
        let name = (datagram.payload[1], datagram.payload[4..16].to_vec());
        ensure!(seen.insert(name), "a counter recurs: {:02x?}", &datagram.payload[..16]);
    }
    Ok(seen.len())
}

#[test]
fn a_wall_clock_that_is_set_by_years_ends_no_session_and_revives_no_certificate() {
    scenario(Load::Heavy, |world| {
        let (mut site, relay, clock) = site(world)?;
        relay.record(Way::There, KEPT);
        let before = peer(&site, "host-a", "host-b", "handshakes_ok")?;
        let mut longest = Duration::ZERO;
        for years in [10, -10, 0] {
            let gaps = under_traffic(&site, || {
                clock.set_wall(years * YEAR)?;
                pause(WATCHED)
            })?;
            longest = gaps.iter().map(|beats| beats.longest_gap).fold(longest, Duration::max);
            ensure!(longest < GAP_MAX, "{years} years: {gaps:?}");
        }
        let after = peer(&site, "host-a", "host-b", "handshakes_ok")?;
        ensure!(after == before, "{} handshakes for a clock", after - before);
        // A certificate that was good a while ago, by a clock of that time.
        let mut old = Leaf::proper(ACME, "host-b");
        (old.valid_from, old.valid_until) = (-SET_BACK - 60, -SET_BACK / 2);
        let old = old.signed_by(&site.pki[ACME])?;
        let name = server_name(&site.pki[ACME])?;
        let (ns, to) = (site.topology.host("host-b")?.ns.clone(), site.endpoint("host-a")?);
        let refused = |site: &Site, when: &str| -> Result<()> {
            ensure!(!dial(&ns, to, &name, Some(&old))?.accepted(), "accepted {when}");
            let cause = [("cause", "certificate_expired")];
            wait_for(&format!("the reason {when}"), SETTLE_LIMIT, || {
                let metrics = site.daemon("host-a")?.metrics()?;
                Ok((metrics.sum("handshakes_rejected", &cause) > 0.0).then_some(()))
            })
        };
        clock.set_wall(-SET_BACK)?;
        refused(&site, "after the clock was set back")?;
        site.daemon_mut("host-a")?.kill()?;
        site.start_host("host-a")?;
        refused(&site, "by the next daemon")?;
        // Which serves, nevertheless.
        reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
        // In ten years it believes in nobody; that its clock said so changes nothing afterwards.
        clock.set_wall(10 * YEAR)?;
        site.daemon_mut("host-b")?.kill()?;
        site.start_host("host-b")?;
        pause(WATCHED)?;
        ensure!(!site.daemon("host-b")?.status()?.established(ACME, "host-a")?, "in ten years");
        clock.set_wall(0)?;
        reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
        let counters = assert_counters_unique(&relay.take(Way::There))?;
        row(
            "wall clock set 10 years forth and back",
            "no session lost, no counter reused, expired stays expired",
            format!(
                "longest pause {} ms, no handshake, {counters} counters once each; refused after it was set \
                 back, by the next daemon too",
                longest.as_millis()
            ),
        );
        site.assert_healthy()
    });
}

/// As when a machine is suspended: one host's clock has gone on by an hour, between two instructions.
#[test]
fn an_hour_in_which_nothing_ran_costs_no_connection() {
    scenario(Load::Heavy, |world| {
        let (mut site, relay, clock) = site(world)?;
        relay.record(Way::There, KEPT);
        let before = peer(&site, "host-a", "host-b", "handshakes_ok")?;
        let gaps = under_traffic(&site, || {
            clock.pass(HOUR)?;
            pause(WATCHED * 2)
        })?;
        let hour = gaps.iter().map(|beats| beats.longest_gap).max().unwrap_or_default();
        ensure!(hour < GAP_MAX, "{gaps:?}");
        // It is time for another session, and nothing is lost by that either.
        wait_for("another handshake", SETTLE_LIMIT, || {
            Ok((peer(&site, "host-a", "host-b", "handshakes_ok")? > before).then_some(()))
        })?;
        // Longer than a session may live: then there is none until the next handshake, at once.
        let gaps = under_traffic(&site, || {
            clock.pass(4 * HOUR)?;
            pause(WATCHED * 2)
        })?;
        let hours = gaps.iter().map(|beats| beats.longest_gap).max().unwrap_or_default();
        ensure!(hours < GAP_MAX * 2, "{gaps:?}");
        // And one that stands still for real.
        let process = site.daemon("host-a")?.process();
        let gaps = under_traffic(&site, || {
            process.signal(Signal::SIGSTOP)?;
            pause(GAP_MAX)?;
            process.signal(Signal::SIGCONT)
        })?;
        let stopped = gaps.iter().map(|beats| beats.longest_gap).max().unwrap_or_default();
        site.ping_all()?;
        let counters = assert_counters_unique(&relay.take(Way::There))?;
        row(
            "monotonic pause of 1 h",
            "no session lost, no counter reused",
            format!(
                "longest pause {} ms; {} ms when it was 3 h; {} ms when the process stood for 1 s; {counters} \
                 counters once each",
                hour.as_millis(),
                hours.as_millis(),
                stopped.as_millis()
            ),
        );
        site.assert_healthy()
    });
}
