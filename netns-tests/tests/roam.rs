//! Hosts that change their address, and address translation on the way.

use std::net::SocketAddr;
use std::time::Duration;

use netns_tests::fault::row;
use netns_tests::plan::PORT;
use netns_tests::process::{pause, wait_for};
use netns_tests::site::{Container, SETTLE_LIMIT};
use netns_tests::topology::UNDERLAY_INTERFACE;
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::heartbeat::{Beats, Heartbeat};
use netns_tests::{ACME, Family, Load, Plan, Result, Site, World, ensure, scenario};

/// What a host that moves may cost.
const GAP_MAX: Duration = Duration::from_secs(1);
const OTHER: [&str; 2] = ["192.0.2.101", "192.0.2.102"];

/// Two hosts that send from whatever address they have.
fn site(world: &World) -> Result<Site> {
    let mut site = Site::prepare(world, &Plan::pair())?;
    for host in ["host-a", "host-b"] {
        site.config(host).listen = format!("0.0.0.0:{PORT}");
    }
    site.start()?;
    site.settle()?;
    Ok(site)
}

/// Gives a host another address and takes the one that it had.
fn move_to(site: &Site, host: &str, address: &str) -> Result<()> {
    let ns = &site.topology.host(host)?.ns;
    let old = ns.ip_json(&format!("-4 address show dev {UNDERLAY_INTERFACE}"))?;
    let old = old[0]["addr_info"][0]["local"].as_str().unwrap_or_default().to_owned();
    // Otherwise the second address would go with the first.
    ns.sysctl(&format!("net/ipv4/conf/{UNDERLAY_INTERFACE}/promote_secondaries"), "1")?;
    ns.ip(&format!("address add {address}/24 dev {UNDERLAY_INTERFACE}"))?;
    ns.ip(&format!("address del {old}/24 dev {UNDERLAY_INTERFACE}"))?;
    Ok(())
}

/// Beats in both directions between a1 and b1 while `act` happens.
fn beats(site: &Site, act: impl FnOnce(&Site) -> Result<()>) -> Result<[Beats; 2]> {
    let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
    let at = |c: &Container| SocketAddr::new(c.address(Family::V4), 0);
    let forth = Heartbeat::start(&a.ns, &b.ns, at(b))?;
    let back = Heartbeat::start(&b.ns, &a.ns, at(a))?;
    pause(Duration::from_millis(500))?;
    act(site)?;
    pause(Duration::from_secs(2))?;
    Ok([forth.stop()?, back.stop()?])
}

#[test]
fn a_host_takes_its_connections_with_it_to_another_address() {
    scenario(Load::Heavy, |world| {
        let mut site = site(world)?;
        for (host, address) in
            [("host-a", OTHER[0]), ("host-b", OTHER[1]), ("host-a", "192.0.2.103")]
        {
            let gaps = beats(&site, |site| move_to(site, host, address))?;
            println!("{host} at {address}: {gaps:?}");
            ensure!(gaps.iter().all(|beats| beats.longest_gap < GAP_MAX), "{gaps:?}");
            let other = if host == "host-a" { "host-b" } else { "host-a" };
            let status = site.daemon(other)?.status()?;
            let at = &status.peer(ACME, host)?["reached_at"];
            ensure!(*at == format!("{address}:{PORT}"), "{at}");
        }
        // A daemon that starts knows nothing of that; the other one does, and calls.
        site.start_host("host-b")?;
        wait_for("a session", SETTLE_LIMIT, || {
            let status = site.daemon("host-b")?.status()?;
            Ok(status.established(ACME, "host-a")?.then_some(()))
        })?;
        site.ping_all()?;
        site.assert_healthy()
    });
}

/// Who has nothing to say must still be found: only the host that stays sends.
#[test]
fn a_host_that_only_listens_is_found_at_its_new_address() {
    scenario(Load::Heavy, |world| {
        let site = site(world)?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        let flow = Flow {
            packets: 4_000,
            rate: Some(1_000),
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        let arrived = std::thread::scope(|scope| {
            let sending = scope.spawn(|| send(&a.ns, &b.ns, &flow));
            pause(Duration::from_secs(1))?;
            move_to(&site, "host-b", OTHER[1])?;
            sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        println!("{arrived:?}");
        ensure!(arrived.longest_gap < GAP_MAX, "{arrived:?}");
        ensure!(arrived.received > 3_000, "{arrived:?}");
        Ok(())
    });
}

/// host-b is behind a router that translates its addresses, as a home router does it.
#[test]
fn a_host_behind_address_translation_keeps_its_connections_when_the_translation_changes() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let router = &site.topology.host("host-b")?.ns.clone();
        // The translation is in host-b's own namespace: whatever leaves has another address and port.
        let translate = |ports: &str| -> Result<()> {
            router.run_ok("nft flush ruleset", GAP_MAX)?;
            for line in [
                "nft add table ip weft-nat",
                "nft add chain ip weft-nat out { type nat hook postrouting priority 100 ; }",
                &format!(
                    "nft add rule ip weft-nat out oifname {UNDERLAY_INTERFACE} meta l4proto udp snat to \
                     {}:{ports}",
                    OTHER[1]
                ),
                // Nothing comes in but answers.
                "nft add chain ip weft-nat in { type filter hook input priority 0 ; }",
                &format!(
                    "nft add rule ip weft-nat in iifname {UNDERLAY_INTERFACE} meta l4proto udp ct state \
                     new drop"
                ),
            ] {
                router.run_ok(line, GAP_MAX)?;
            }
            Ok(())
        };
        router.ip(&format!("address add {}/24 dev {UNDERLAY_INTERFACE}", OTHER[1]))?;
        translate("20000-20999")?;
        site.start()?;
        site.settle()?;
        let status = site.daemon("host-a")?.status()?;
        println!("{}", status.peer(ACME, "host-b")?["reached_at"]);
        let gaps = beats(&site, |_| {
            translate("30000-30999")?;
            router.run_ok("conntrack -F", GAP_MAX).map(drop)
        })?;
        ensure!(gaps.iter().all(|beats| beats.longest_gap < GAP_MAX), "{gaps:?}");
        let [there, back] = gaps.map(|beats| beats.longest_gap.as_millis());
        let figure = format!("{there} ms there, {back} ms back");
        row("port change behind address translation, mid-transfer", "gap at most 1 s", figure);
        site.assert_healthy()
    });
}
