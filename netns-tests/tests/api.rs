//! The local API, through the command line that people use.

use std::time::Duration;

use netns_tests::process::{Process, pause, wait_for};
use netns_tests::site::{OVERLAY_INTERFACE, SETTLE_LIMIT};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::ping::{once, ping};
use netns_tests::{ACME, BETA, Family, Load, Plan, Site, ensure, scenario};

const LIMIT: Duration = Duration::from_secs(1);

#[test]
fn containers_are_attached_and_detached_while_it_runs() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        // host-b knows where the newcomer will live.
        let addresses = &mut site.config("host-b").environment(ACME).peers[0].addresses;
        addresses.push("10.40.0.50".into());
        site.start()?;
        site.settle()?;
        let daemon = site.daemon("host-a")?;
        let newcomer = world.namespace("newcomer")?;
        let path = newcomer.path().display().to_string();
        let order = format!("attach --env {ACME} --name new --netns {path} --address 10.40.0.50");
        daemon.weft_net(&order)?.ok()?;
        ensure!(newcomer.interfaces()? == ["lo", OVERLAY_INTERFACE]);
        let b = site.container(ACME, "b1")?;
        let pinged = ping(&b.ns, "10.40.0.50".parse()?, &Default::default())?;
        ensure!(pinged.complete(), "{}", pinged.text);
        // Idempotent by name; another one under the same name or address is not.
        daemon.weft_net(&order)?.ok()?;
        for wrong in [
            format!("attach --env {ACME} --name new --netns {path} --address 10.40.0.51"),
            format!("attach --env {ACME} --name newer --netns {path} --address 10.40.0.50"),
            format!("attach --env {ACME} --name out --netns {path} --address 10.50.0.1"),
            format!("attach --env {ACME} --name gone --netns /run/netns/none --address 10.40.0.52"),
            format!("attach --env {ACME} --name file --netns /etc/passwd --address 10.40.0.53"),
            format!("attach --env {BETA} --name other --netns {path} --address 10.40.0.54"),
            format!("detach --env {ACME} --name nobody"),
            format!("detach --env {BETA} --name new"),
        ] {
            let refused = daemon.weft_net(&wrong)?;
            ensure!(!refused.status.success(), "accepted: {wrong}");
            ensure!(refused.stderr.len() > 10, "no reason for {wrong}");
        }
        daemon.weft_net(&format!("detach --env {ACME} --name new"))?.ok()?;
        ensure!(newcomer.interfaces()? == ["lo"]);
        ensure!(!once(&b.ns, "10.40.0.50".parse()?, LIMIT)?);
        site.ping_all()?;
        site.assert_healthy()
    });
}

#[test]
fn peers_are_added_and_removed_while_it_runs() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let peer = site.config("host-a").environment(ACME).peers.remove(0);
        site.start()?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let to = b.address(Family::V4);
        ensure!(!once(&a.ns, to, LIMIT)?, "a peer that was never configured");
        let addresses: Vec<_> = peer.addresses.iter().map(|a| format!("--address {a}")).collect();
        let daemon = site.daemon("host-a")?;
        daemon
            .weft_net(&format!(
                "peer add --env {ACME} --host {} --endpoint {} {}",
                peer.host,
                peer.endpoint,
                addresses.join(" ")
            ))?
            .ok()?;
        wait_for("the new peer", SETTLE_LIMIT, || Ok(once(&a.ns, to, LIMIT)?.then_some(())))?;
        daemon.weft_net(&format!("peer remove --env {ACME} --host {}", peer.host))?.ok()?;
        let before = b.received()?;
        let flow = Flow::between(a.address(Family::V4), to);
        ensure!(send(&a.ns, &b.ns, &flow)?.received == 0, "a removed peer");
        // Nor is anything taken from it.
        let back = Flow::between(to, a.address(Family::V4));
        ensure!(send(&b.ns, &a.ns, &back)?.received == 0, "from a removed peer");
        ensure!(b.received()? <= before + 20, "more than ICMP errors came back");
        site.assert_healthy()
    });
}

#[test]
fn rates_and_events_can_be_watched() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let log = world.dir().join("events.log");
        let ns = &site.topology.host("host-a")?.ns;
        let mut command = ns.command(netns_tests::binaries::binary("weft")?);
        command.args(["net", "events", "--json", "--socket"]).arg(site.socket("host-a"));
        let watching = Process::start(&mut command, Some(&log))?;
        pause(LIMIT)?;
        site.reload("host-a")?;
        wait_for("an event", SETTLE_LIMIT, || {
            Ok(watching.log().contains("reloaded").then_some(()))
        })?;
        let text = std::thread::scope(|scope| {
            let flow = Flow {
                packets: 20_000,
                ..Flow::between(a.address(Family::V4), b.address(Family::V4))
            };
            scope.spawn(move || send(&a.ns, &b.ns, &flow));
            site.daemon("host-a")?.weft_net("top --once")?.ok()
        })?;
        ensure!(text.contains(ACME), "{text}");
        Ok(())
    });
}
