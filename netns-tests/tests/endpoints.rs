//! Hosts that reach each other by two networks.

use std::net::SocketAddr;
use std::time::Duration;

use netns_tests::fault::{extent, p99, row};
use netns_tests::filter::{cut, mend};
use netns_tests::plan::PORT;
use netns_tests::process::{pause, wait_for};
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::topology::UNDERLAY_INTERFACE;
use netns_tests::traffic::heartbeat::Heartbeat;
use netns_tests::{ACME, Family, Load, Plan, Result, Site, World, ensure, scenario};

/// A second of silence and the question after it, and what TCP inside makes of it.
const GAP_MAX: Duration = Duration::from_secs(4);
/// The way back is tried every ten seconds, and costs nothing.
const BACK_GAP_MAX: Duration = Duration::from_millis(500);
const SECOND: &str = "second";

fn second(host: &str) -> &'static str {
    if host == "host-a" { "198.51.100.1" } else { "198.51.100.2" }
}

/// Two hosts with two wires between them.
fn site(world: &World) -> Result<Site> {
    let mut site = Site::prepare(world, &Plan::pair())?;
    let (a, b) =
        (site.topology.host("host-a")?.ns.clone(), site.topology.host("host-b")?.ns.clone());
    a.ip(&format!("link add {SECOND} type veth peer name {SECOND} netns {}", b.name()))?;
    for (ns, host) in [(&a, "host-a"), (&b, "host-b")] {
        ns.ip(&format!("address add {}/24 dev {SECOND}", second(host)))?;
        ns.ip(&format!("link set {SECOND} up"))?;
    }
    for (host, other) in [("host-a", "host-b"), ("host-b", "host-a")] {
        let config = site.config(host);
        config.listen = format!("0.0.0.0:{PORT}");
        let peer = &mut config.environment(ACME).peers[0];
        peer.alternative_endpoints = vec![format!("{}:{PORT}", second(other))];
    }
    Ok(site)
}

/// Where each host reaches the other; empty for the first place.
fn reached(site: &Site) -> Result<[String; 2]> {
    let at = |host: &str, other: &str| -> Result<String> {
        let status = site.daemon(host)?.status()?;
        Ok(status.peer(ACME, other)?["reached_at"].as_str().unwrap_or_default().to_owned())
    };
    Ok([at("host-a", "host-b")?, at("host-b", "host-a")?])
}

fn await_places(site: &Site, wanted: [&str; 2]) -> Result<()> {
    let wanted =
        wanted.map(|ip| if ip.is_empty() { String::new() } else { format!("{ip}:{PORT}") });
    wait_for(&format!("peers at {wanted:?}"), SETTLE_LIMIT, || {
        Ok((reached(site)? == wanted).then_some(()))
    })
}

fn each(site: &Site, act: impl Fn(&netns_tests::Namespace) -> Result<()>) -> Result<()> {
    ["host-a", "host-b"].iter().try_for_each(|host| act(&site.topology.host(host)?.ns))
}

#[test]
fn where_one_network_fails_the_other_is_used_and_then_the_first_again() {
    scenario(Load::Heavy, |world| {
        let mut site = site(world)?;
        site.start()?;
        site.settle()?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        let (mut away, mut back) = (Vec::new(), Vec::new());
        for _ in 0..extent(1, 10) {
            let to = SocketAddr::new(b.address(Family::V4), 0);
            let beat = Heartbeat::start(&a.ns, &b.ns, to)?;
            pause(Duration::from_millis(500))?;
            each(&site, |ns| cut(ns, UNDERLAY_INTERFACE))?;
            await_places(&site, [second("host-b"), second("host-a")])?;
            pause(Duration::from_secs(2))?;
            away.push(beat.stop()?.longest_gap);
            let beat = Heartbeat::start(&a.ns, &b.ns, to)?;
            each(&site, mend)?;
            await_places(&site, ["", ""])?;
            pause(Duration::from_secs(1))?;
            back.push(beat.stop()?.longest_gap);
        }
        println!("{away:?} {back:?}");
        ensure!(p99(&away) < GAP_MAX && p99(&back) < BACK_GAP_MAX, "{away:?} {back:?}");
        let figure = format!(
            "{} times: gap p99 {:.1?}, {:.1?} on the way back",
            away.len(),
            p99(&away),
            p99(&back)
        );
        row("one of two networks fails", "the other within 4 s, and back", figure);
        site.assert_healthy()
    });
}

#[test]
fn a_host_that_starts_finds_its_peer_by_the_network_that_works() {
    scenario(Load::Heavy, |world| {
        let mut site = site(world)?;
        each(&site, |ns| cut(ns, UNDERLAY_INTERFACE))?;
        site.start()?;
        site.settle()?;
        await_places(&site, [second("host-b"), second("host-a")])?;
        each(&site, mend)?;
        await_places(&site, ["", ""])?;
        site.ping_all()?;
        site.assert_healthy()
    });
}
