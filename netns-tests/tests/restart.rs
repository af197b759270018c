//! A daemon that ends, in whatever way, and the next one: containers keep their interfaces, addresses
//! and connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netns_tests::daemon::STOP_LIMIT;
use netns_tests::process::{pause, wait_for};
use netns_tests::site::{Container, OVERLAY_INTERFACE, SETTLE_LIMIT, reach};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::heartbeat::Heartbeat;
use netns_tests::traffic::ping::once;
use netns_tests::{ACME, Context, Family, Load, Plan, Result, Site, ensure, scenario};
use nix::sys::signal::{Signal, kill};

const LIMIT: Duration = Duration::from_secs(1);
/// Traffic is back after the daemon alone was killed.
const KILLED_MAX: Duration = Duration::from_secs(2);
/// Traffic is back after the daemon and its helper were killed.
const BOTH_KILLED_MAX: Duration = Duration::from_secs(5);

/// What a restart did to a connection and to datagrams that went on all the time.
#[derive(Debug)]
struct Gaps {
    tcp: Duration,
    udp: Duration,
}

/// Runs traffic in both directions through host-a while `restart` restarts its daemon.
fn gaps(site: &mut Site, restart: impl FnOnce(&mut Site) -> Result<()>) -> Result<Gaps> {
    let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
    let at = |c: &Container| SocketAddr::new(c.address(Family::V4), 0);
    let beats = [(&a, &b), (&b, &a)];
    let beats = beats.map(|(from, to)| Heartbeat::start(&from.ns, &to.ns, at(to)));
    let flow =
        Flow { packets: 3_000, rate: Some(1_000), ..Flow::between(at(&a).ip(), at(&b).ip()) };
    let arrived = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(&a.ns, &b.ns, &flow));
        pause(Duration::from_millis(500))?;
        let restarted = restart(site);
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        restarted.and(sent)
    })?;
    ensure!(arrived.damaged == 0 && arrived.duplicates == 0, "{arrived:?}");
    let mut gaps = Gaps { tcp: Duration::ZERO, udp: arrived.longest_gap };
    for beat in beats {
        gaps.tcp = gaps.tcp.max(beat?.stop()?.longest_gap);
    }
    Ok(gaps)
}

fn index(container: &Container) -> Result<u64> {
    let link = container.ns.ip_json(&format!("link show {OVERLAY_INTERFACE}"))?;
    link[0]["ifindex"].as_u64().context("no ifindex")
}

fn kill_helper(site: &Site, host: &str) -> Result<()> {
    let helper = site.daemon(host)?.helper()?.context("no helper")?;
    Ok(kill(helper, Signal::SIGKILL)?)
}

#[test]
fn a_killed_daemon_leaves_interfaces_and_connections() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let a = site.container(ACME, "a1")?.clone();
        a.ns.ip(&format!("route add 198.51.100.0/24 dev {OVERLAY_INTERFACE}"))?;
        let before = index(&a)?;
        for round in 0..3 {
            let gaps = gaps(&mut site, |site| {
                site.daemon_mut("host-a")?.kill()?;
                site.start_host("host-a")
            })?;
            println!("killed, round {round}: {gaps:?}");
            ensure!(gaps.tcp < KILLED_MAX && gaps.udp < KILLED_MAX, "{gaps:?}");
        }
        ensure!(index(&a)? == before, "another interface");
        let routes = a.ns.ip("route")?;
        ensure!(routes.contains("198.51.100.0/24"), "{routes}");
        site.assert_healthy()
    });
}

#[test]
fn a_planned_restart_is_hardly_noticed() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let gaps = gaps(&mut site, |site| {
            site.daemon_mut("host-a")?.stop(Signal::SIGTERM, STOP_LIMIT)?;
            site.start_host("host-a")
        })?;
        println!("restarted: {gaps:?}");
        ensure!(gaps.tcp < KILLED_MAX && gaps.udp < KILLED_MAX, "{gaps:?}");
        site.assert_healthy()
    });
}

#[test]
fn daemon_and_helper_may_be_killed_together_or_one_after_the_other() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let a = site.container(ACME, "a1")?.clone();
        let before = index(&a)?;
        let both = gaps(&mut site, |site| {
            kill_helper(site, "host-a")?;
            site.daemon_mut("host-a")?.kill()?;
            site.start_host("host-a")
        })?;
        println!("both killed: {both:?}");
        ensure!(both.tcp < BOTH_KILLED_MAX && both.udp < BOTH_KILLED_MAX, "{both:?}");
        // The daemon does not notice that the helper is gone, and the next one finds the interface.
        let after = gaps(&mut site, |site| kill_helper(site, "host-a"))?;
        println!("helper killed: {after:?}");
        ensure!(after.udp < Duration::from_millis(500), "{after:?}");
        let after = gaps(&mut site, |site| {
            site.daemon_mut("host-a")?.kill()?;
            site.start_host("host-a")
        })?;
        println!("then the daemon: {after:?}");
        ensure!(after.tcp < BOTH_KILLED_MAX && after.udp < BOTH_KILLED_MAX, "{after:?}");
        ensure!(index(&a)? == before, "another interface");
        site.assert_healthy()
    });
}

/// Queues that were opened inside the namespace keep it alive.
#[test]
fn an_adopted_interface_does_not_outlive_its_container() {
    scenario(Load::Light, |world| {
        let mut site = Site::up(world, &Plan::pair().two_each())?;
        kill_helper(&site, "host-a")?;
        site.daemon_mut("host-a")?.kill()?;
        site.start_host("host-a")?;
        let doomed = site.container(ACME, "a1")?.clone();
        let b1 = site.container(ACME, "b1")?.clone();
        reach(&b1, &doomed)?;
        let witness = world.namespace("witness")?;
        world.remove_for_good(&doomed.ns, &witness, SETTLE_LIMIT)?;
        let status = site.daemon("host-a")?.status()?;
        ensure!(status.attachment(ACME, "a1")?["state"] == "gone", "{:#}", status.0);
        reach(&b1, site.container(ACME, "a2")?)?;
        site.assert_healthy()
    });
}

#[test]
fn what_the_api_made_is_there_again_and_what_nobody_wants_is_not() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair().two_each())?;
        let peer = site.config("host-a").environment(ACME).peers.remove(0);
        let addresses = &mut site.config("host-b").environment(ACME).peers[0].addresses;
        addresses.push("10.40.0.50".into());
        site.start()?;
        let newcomer = world.namespace("newcomer")?;
        let path = newcomer.path().display().to_string();
        let addresses: Vec<_> = peer.addresses.iter().map(|a| format!("--address {a}")).collect();
        let order = format!(
            "peer add --env {ACME} --host {} --endpoint {} {}",
            peer.host,
            peer.endpoint,
            addresses.join(" ")
        );
        let daemon = site.daemon("host-a")?;
        daemon.weft_net(&order)?.ok()?;
        let order = format!("attach --env {ACME} --name new --netns {path} --address 10.40.0.50");
        daemon.weft_net(&order)?.ok()?;
        let b = site.container(ACME, "b1")?.clone();
        let answers = || Ok(once(&b.ns, "10.40.0.50".parse()?, LIMIT)?.then_some(()));
        wait_for("an answer of the newcomer", SETTLE_LIMIT, answers)?;
        // While the daemon is away an attachment leaves the file.
        site.daemon_mut("host-a")?.kill()?;
        site.config("host-a").environment(ACME).attachments.retain(|a| a.name != "a2");
        let start = Instant::now();
        site.start_host("host-a")?;
        wait_for("an answer of the newcomer", SETTLE_LIMIT, answers)?;
        println!("all is back after {:?}", start.elapsed());
        let unwanted = site.container(ACME, "a2")?.ns.clone();
        wait_for("the end of what nobody wants", SETTLE_LIMIT, || {
            Ok((unwanted.interfaces()? == ["lo"]).then_some(()))
        })?;
        // What is taken away does not come back.
        let daemon = site.daemon("host-a")?;
        daemon.weft_net(&format!("detach --env {ACME} --name new"))?.ok()?;
        daemon.weft_net(&format!("peer remove --env {ACME} --host host-b"))?.ok()?;
        site.daemon_mut("host-a")?.stop(Signal::SIGTERM, STOP_LIMIT)?;
        site.start_host("host-a")?;
        let status = site.daemon("host-a")?.status()?;
        ensure!(status.attachment(ACME, "new").is_err() && newcomer.interfaces()? == ["lo"]);
        ensure!(status.peer(ACME, "host-b").is_err(), "{:#}", status.0);
        site.assert_healthy()
    });
}
