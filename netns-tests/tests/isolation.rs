//! Two environments with identical ranges and addresses on the same hosts: nothing crosses, and
//! nobody sends under an address that is not his.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns_tests::certificates::{Identity, server_name};
use netns_tests::fault::{extent, row};
use netns_tests::packets;
use netns_tests::process::{pause, wait_for};
use netns_tests::rogue::{Metadata, Parties, Session, dial};
use netns_tests::site::{OVERLAY_INTERFACE, SETTLE_LIMIT, reach};
use netns_tests::topology::{UNDERLAY_INTERFACE, Underlay};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::ping::once;
use netns_tests::vnet::{RawPort, Virtio};
use netns_tests::{
    ACME, BETA, Capture, Container, Context, Family, Load, Plan, Result, Site, World, ensure,
    scenario,
};

/// What every attack tries at least.
fn tries() -> u64 {
    extent(100_000, 1_000_000)
}
/// Packets between two pauses, so that no queue on the way is what drops them.
const BURST: u64 = 32;
const LIMIT: Duration = Duration::from_secs(1);
const STATUS_LIMIT: Duration = Duration::from_secs(10);

/// A flow of as many packets.
fn flood(from: IpAddr, to: IpAddr) -> Flow {
    let rate = Some(50_000);
    Flow { packets: tries(), payload: 200, rate, segments: 20, ..Flow::between(from, to) }
}

/// Sends the given packets out of a container's interface in turn, as many of them.
fn storm(from: &Container, packets: &[Vec<u8>]) -> Result<()> {
    let port = RawPort::open(&from.ns, OVERLAY_INTERFACE)?;
    for (number, packet) in (0..tries()).zip(packets.iter().cycle()) {
        port.send(Virtio::default(), packet)?;
        if number % BURST == 0 {
            pause(Duration::from_micros(500))?;
        }
    }
    Ok(())
}

fn twins(world: &World) -> Result<Site> {
    Site::up(world, &Plan::pair().two_each().with_beta())
}

#[test]
fn identical_addresses_do_not_meet() {
    scenario(Load::Heavy, |world| {
        let site = twins(world)?;
        for (own, other) in [(ACME, BETA), (BETA, ACME)] {
            let untouched = site.received(other)?;
            // To the other host and within the host.
            for to in ["b1", "a2"] {
                let (a, to) = (site.container(own, "a1")?, site.container(own, to)?);
                let flow = flood(a.address(Family::V4), to.address(Family::V4));
                let arrived = send(&a.ns, &to.ns, &flow)?;
                ensure!(arrived.received > tries() * 9 / 10, "{arrived:?}");
                ensure!(arrived.damaged == 0, "{arrived:?}");
            }
            ensure!(site.received(other)? == untouched, "{other} received packets of {own}");
        }
        Ok(())
    });
}

/// Packets from `a1` with sources that it does not own, to everybody who could be reached.
fn forged(site: &Site) -> Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    for (family, sources) in [(Family::V4, NOT_ITS_OWN_V4), (Family::V6, NOT_ITS_OWN_V6)] {
        for source in sources {
            let from = SocketAddr::new(source.parse()?, 4_000);
            for to in ["b1", "a2"] {
                let to = SocketAddr::new(site.container(ACME, to)?.address(family), 4_001);
                packets.push(packets::udp(from, to, b"forged"));
            }
        }
    }
    Ok(packets)
}

/// What is neither a1's nor at home on host-b but for the second: neighbours, the own host's and the other's,
/// nobody, the gateway, the other host, loopback, a group, everybody, no address.
const NOT_ITS_OWN_V4: [&str; 9] = [
    "10.40.0.4",
    "10.40.0.3",
    "10.40.0.99",
    "10.40.0.1",
    "192.0.2.2",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
];
const NOT_ITS_OWN_V6: [&str; 9] =
    ["fd40::4", "fd40::3", "fd40::99", "fd40::1", "2001:db8::2", "::1", "ff02::1", "ff05::2", "::"];

#[test]
fn forged_sources_arrive_nowhere() {
    scenario(Load::Heavy, |world| {
        let site = twins(world)?;
        let everybody = || Ok::<_, anyhow::Error>([site.received(ACME)?, site.received(BETA)?]);
        let a1 = site.container(ACME, "a1")?;
        let port = RawPort::open(&a1.ns, OVERLAY_INTERFACE)?;
        // The same packet with the container's own address does arrive.
        let to = SocketAddr::new(site.container(ACME, "b1")?.address(Family::V4), 4_001);
        let honest = SocketAddr::new(a1.address(Family::V4), 4_000);
        let before = site.container(ACME, "b1")?.received()?;
        port.send(Virtio::default(), &packets::udp(honest, to, b"honest"))?;
        wait_for("the honest packet", SETTLE_LIMIT, || {
            Ok((site.container(ACME, "b1")?.received()? > before).then_some(()))
        })?;
        drop(port);
        pause(LIMIT)?;
        let before = everybody()?;
        storm(a1, &forged(&site)?)?;
        wait_for("100,000 drops of forged sources", STATUS_LIMIT, || {
            let drops = site.drops_by("host-a", ACME, "source_not_owned")?;
            ensure!(drops >= tries(), "{drops}");
            Ok(Some(()))
        })?;
        let after = everybody()?;
        ensure!(after[1] == before[1], "{:?} became {:?}", before[1], after[1]);
        let others = |of: &BTreeMap<String, u64>| -> u64 {
            of.iter().filter(|(name, _)| *name != "a1").map(|(_, n)| n).sum()
        };
        // b1 answered the honest packet to a1 with "port unreachable" before; nothing came since.
        ensure!(others(&after[0]) == others(&before[0]), "{:?} became {:?}", before[0], after[0]);
        let figure = format!("0 of {} delivered", tries());
        row(
            "inner source of another container, host, group, from a container",
            "0 delivered",
            figure,
        );
        Ok(())
    });
}

/// The other direction: a peer with the right certificate, and sources that do not live there.
#[test]
fn a_hostile_peer_s_forged_sources_arrive_nowhere() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().two_each().with_beta())?;
        site.start_host("host-a")?;
        let files = site.pki[ACME].issue_into("host-b", &world.dir().join("rogue"))?;
        let identity = Identity::read(&files)?;
        let parties = Parties { environment: ACME, client: "host-b", server: "host-a" };
        let name = server_name(&site.pki[ACME])?;
        let (ns, to) = (&site.topology.host("host-b")?.ns, site.endpoint("host-a")?);
        let mut session = Session::open(ns, to, &name, parties, &identity)?;
        let (a1, b1) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let goal = |family| SocketAddr::new(a1.address(family), 4_001);
        // From an address that lives there it does arrive.
        let from = SocketAddr::new(b1.address(Family::V4), 4_000);
        let before = a1.received()?;
        let honest = packets::udp(from, goal(Family::V4), b"honest");
        // Again and again: the daemon says that it is ready before all of its workers are.
        wait_for("the honest packet", SETTLE_LIMIT, || {
            session.send(&honest, &[], Metadata::PLAIN)?;
            Ok((a1.received()? > before).then_some(()))
        })?;
        pause(LIMIT)?;
        let mut forged = Vec::new();
        for (family, sources) in [(Family::V4, NOT_ITS_OWN_V4), (Family::V6, NOT_ITS_OWN_V6)] {
            // The second is at home there.
            for (_, source) in sources.iter().enumerate().filter(|(number, _)| *number != 1) {
                let from = SocketAddr::new(source.parse()?, 4_000);
                forged.push(packets::udp(from, goal(family), b"forged"));
            }
            // The victim's own.
            forged.push(packets::udp(goal(family), goal(family), b"forged"));
        }
        let here = site.containers.iter().filter(|c| c.plan.host == "host-a");
        let here: Vec<_> = here.cloned().collect();
        let everybody = || here.iter().map(Container::received).collect::<Result<Vec<_>>>();
        let before = everybody()?;
        let drops = || site.drops_by("host-a", ACME, "source_not_owned");
        let dropped = drops()?;
        let spare = tries() / 20;
        for (number, packet) in (0..tries() + spare).zip(forged.iter().cycle()) {
            session.send(packet, &[], Metadata::PLAIN)?;
            if number % BURST == 0 {
                pause(Duration::from_micros(300))?;
            }
        }
        wait_for("as many drops of forged sources", STATUS_LIMIT, || {
            let more = drops()? - dropped;
            ensure!(more >= tries(), "{more}: {}", site.all_drops()?);
            Ok(Some(()))
        })?;
        let after = everybody()?;
        ensure!(after == before, "{before:?} became {after:?}");
        let figure = format!("0 of {} delivered", tries());
        row("inner source of another peer, host, group, from a peer", "0 delivered", figure);
        site.assert_healthy()
    });
}

#[test]
fn a_peer_cannot_send_for_addresses_that_are_not_his() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().two_each())?;
        // host-a runs a container that host-b has never heard of.
        let attachments = &mut site.config("host-a").environment(ACME).attachments;
        let hidden = attachments.iter_mut().find(|a| a.name == "a2").context("a2")?;
        (hidden.address, hidden.address6) = (Some("10.40.0.77".into()), Some("fd40::77".into()));
        site.start()?;
        let (a1, a2) = (site.container(ACME, "a1")?, site.container(ACME, "a2")?);
        let (b1, b2) = (site.container(ACME, "b1")?, site.container(ACME, "b2")?);
        reach(a1, b1)?;
        let before = [b1.received()?, b2.received()?];
        for (source, family) in [("10.40.0.77", Family::V4), ("fd40::77", Family::V6)] {
            let flow = flood(source.parse()?, b1.address(family));
            ensure!(send(&a2.ns, &b1.ns, &flow)?.received == 0);
        }
        ensure!([b1.received()?, b2.received()?] == before);
        wait_for("drops at the receiver", STATUS_LIMIT, || {
            let drops = site.drops_by("host-b", ACME, "source_not_owned")?;
            ensure!(drops >= tries(), "{drops}");
            Ok(Some(()))
        })
    });
}

#[test]
fn traffic_from_a_peer_never_goes_to_a_peer() {
    scenario(Load::Light, |world| {
        // Both hosts believe that 10.40.0.9 lives at the other.
        let mut site = Site::prepare(world, &Plan::pair())?;
        for host in ["host-a", "host-b"] {
            site.config(host).environment(ACME).peers[0].addresses.push("10.40.0.9".into());
        }
        site.start()?;
        site.settle()?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let hosts = ["host-a", "host-b"].map(|host| site.topology.host(host).map(|h| &h.ns));
        let [near, far] = hosts;
        let (near, far) = (near?, far?);
        pause(LIMIT)?;
        let before = [near.link(UNDERLAY_INTERFACE)?, far.link(UNDERLAY_INTERFACE)?];
        let received = b.received()?;
        let sink = world.namespace("sink")?;
        sink.ip("address add 10.40.0.9/32 dev lo")?;
        let flow = Flow::between(a.address(Family::V4), "10.40.0.9".parse()?);
        ensure!(send(&a.ns, &sink, &flow)?.received == 0);
        let after = [near.link(UNDERLAY_INTERFACE)?, far.link(UNDERLAY_INTERFACE)?];
        let there = after[0].tx_packets - before[0].tx_packets;
        let back = after[1].tx_packets - before[1].tx_packets;
        ensure!(there <= flow.packets + 50, "{there} underlay packets for {}", flow.packets);
        ensure!(back < 50, "{back} underlay packets came back");
        ensure!(b.received()? == received);
        // An ICMP error may go back; what is asserted is that the loop was cut at the peer.
        let drops = site.drops("host-b")?;
        ensure!(drops >= flow.packets, "{drops}");
        Ok(())
    });
}

#[test]
fn a_host_with_the_other_environments_certificate_gets_nothing() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().with_beta())?;
        // host-b was never given acme; host-a still has it as a peer there.
        site.config("host-b").environments.retain(|e| e.id == BETA);
        site.start()?;
        reach(site.container(BETA, "a1")?, site.container(BETA, "b1")?)?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(BETA, "b1")?);
        ensure!(!once(&a.ns, b.address(Family::V4), LIMIT)?);
        pause(LIMIT)?;
        let before = site.received(BETA)?;
        let flow = flood(a.address(Family::V4), b.address(Family::V4));
        // The receiver waits in beta, under the very address that acme sends to.
        ensure!(send(&a.ns, &b.ns, &flow)?.received == 0);
        ensure!(site.received(BETA)? == before, "beta received packets of acme");
        let status = site.daemon("host-a")?.status()?;
        ensure!(!status.established(ACME, "host-b")?, "{:#}", status.0);
        ensure!(status.established(BETA, "host-b")?, "{:#}", status.0);
        // It cannot talk its way in either: every pairing of certificate and name but the right one.
        let names = [ACME, BETA].map(|id| server_name(&site.pki[id]));
        let identity =
            Identity::read(&site.pki[BETA].issue_into("host-b", &world.dir().join("2"))?)?;
        let [acme, beta] = names;
        let ns = &site.topology.host("host-b")?.ns;
        let to = site.endpoint("host-a")?;
        ensure!(dial(ns, to, &beta?, Some(&identity))?.accepted(), "its own environment");
        ensure!(!dial(ns, to, &acme?, Some(&identity))?.accepted(), "another environment");
        let unknown = format!("w{}.weft.invalid", "0".repeat(40));
        ensure!(!dial(ns, to, &unknown, Some(&identity))?.accepted(), "an unknown tag");
        ensure!(!dial(ns, to, "acme.example", Some(&identity))?.accepted(), "any name");
        Ok(())
    });
}

#[test]
fn the_name_of_an_environment_is_not_on_the_wire() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair().underlay(Underlay::default()))?;
        let host = &site.topology.host("host-b")?.ns;
        let capture = Capture::start(host, UNDERLAY_INTERFACE, "", world.dir(), "names")?;
        site.start()?;
        site.settle()?;
        let caught = capture.finish()?;
        ensure!(caught.containing(b".weft.invalid") > 0, "no ClientHello was caught");
        for name in [ACME, "spiffe", "host-a", "host-b"] {
            ensure!(caught.containing(name.as_bytes()) == 0, "{name} is readable");
        }
        Ok(())
    });
}
