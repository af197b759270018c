//! Attempts to get from one environment into the other. All of them have to fail.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::certificates::{Identity, server_name};
use netns_tests::packets::udp;
use netns_tests::process::pause;
use netns_tests::rogue::{Verdict, dial};
use netns_tests::site::OVERLAY_INTERFACE;
use netns_tests::traffic::datagrams::{Flow, send, socket};
use netns_tests::vnet::{RawPort, Virtio};
use netns_tests::{ACME, BETA, Capture, Family, Site, World};

use crate::screen::Screen;

const TRIES: u64 = 10_000;

pub(crate) fn attempts(screen: &Screen, world: &World, site: &Site) -> Result<()> {
    screen.step("Attempts to cross from acme into beta");
    let before = site.received(BETA)?;
    same_address(screen, site)?;
    forged_sources(screen, site)?;
    replays(screen, world, site)?;
    wrong_certificate(screen, world, site)?;
    let after = site.received(BETA)?;
    ensure!(after == before, "beta received something: {before:?} became {after:?}");
    screen.check("beta's containers received nothing in all that time: 0 packets");
    let drops = site.daemon("host-a")?.status()?.drops(Some(ACME))?;
    for (cause, count) in drops {
        screen.note(&format!("dropped and counted on host-a, acme: {cause} {count}"));
    }
    Ok(())
}

/// The address exists in both environments; a listener waits under it in the other one.
fn same_address(screen: &Screen, site: &Site) -> Result<()> {
    let (from, target) = (site.container(ACME, "a1")?, site.container(BETA, "b1")?);
    let flow = Flow {
        packets: TRIES,
        rate: Some(20_000),
        ..Flow::between(from.address(Family::V4), target.address(Family::V4))
    };
    let arrived = send(&from.ns, &target.ns, &flow)?;
    ensure!(arrived.received == 0, "{} packets crossed", arrived.received);
    let to = target.address(Family::V4);
    screen.check(&format!("{TRIES} packets to {to}, which exists in both: 0 crossed"));
    Ok(())
}

fn forged_sources(screen: &Screen, site: &Site) -> Result<()> {
    let from = site.container(ACME, "a1")?;
    let victims = site.received(ACME)?;
    let port = RawPort::open(&from.ns, OVERLAY_INTERFACE)?;
    let to = SocketAddr::new(site.container(ACME, "b1")?.address(Family::V4), 6_001);
    let sources = ["10.40.0.3", "10.40.0.4", "10.40.0.5", "10.40.0.99", "192.0.2.2"];
    for (number, source) in (0..TRIES).zip(sources.iter().cycle()) {
        let source = SocketAddr::new(source.parse()?, 6_000);
        port.send(Virtio::default(), &udp(source, to, b"I am somebody else"))?;
        if number % 32 == 0 {
            pause(Duration::from_micros(500))?;
        }
    }
    pause(Duration::from_millis(300))?;
    ensure!(site.received(ACME)?["b1"] == victims["b1"], "a forged packet arrived");
    screen.check(&format!("{TRIES} packets with forged source addresses: 0 arrived"));
    Ok(())
}

/// Sealed datagrams, caught on the wire and sent once more by a neighbour of the host.
fn replays(screen: &Screen, world: &World, site: &Site) -> Result<()> {
    let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
    let wire = Capture::start(&site.topology.hosts[1].ns, "eth0", "udp", world.dir(), "replay")?;
    let flow = Flow { packets: 200, ..Flow::between(a.address(Family::V4), b.address(Family::V4)) };
    ensure!(send(&a.ns, &b.ns, &flow)?.complete(), "nothing to replay");
    let caught = wire.finish()?;
    let target = site.endpoint("host-b")?;
    let sealed: Vec<_> = caught.datagrams().filter(|d| d.to == target).collect();
    sealed.first().context("no datagram was caught")?;
    let before = site.container(ACME, "b1")?.received()?;
    let own = SocketAddr::new(site.topology.hosts[0].address(Family::V4), 0);
    let sender = socket(&site.topology.hosts[0].ns, own)?;
    for (number, datagram) in (0..TRIES).zip(sealed.iter().cycle()) {
        // With offloads a capture holds several datagrams in one; each says how long it is.
        let length = datagram.payload.get(2..4).map_or(0, |l| u16::from_be_bytes([l[0], l[1]]));
        let one = datagram.payload.get(..usize::from(length)).unwrap_or(datagram.payload);
        sender.send_to(one, target)?;
        if number % 32 == 0 {
            pause(Duration::from_micros(500))?;
        }
    }
    pause(Duration::from_millis(300))?;
    ensure!(site.container(ACME, "b1")?.received()? == before, "a replay arrived");
    screen.check(&format!("{TRIES} sealed datagrams sent once more: 0 accepted"));
    Ok(())
}

fn wrong_certificate(screen: &Screen, world: &World, site: &Site) -> Result<()> {
    let files = site.pki[ACME].issue_into("host-b", &world.dir().join("borrowed"))?;
    let identity = Identity::read(&files)?;
    let ns = &site.topology.hosts[1].ns;
    let to = site.endpoint("host-a")?;
    let verdict = dial(ns, to, &server_name(&site.pki[BETA])?, Some(&identity))?;
    let Verdict::Refused(_) = verdict else {
        anyhow::bail!("a certificate of acme opened a session of beta");
    };
    screen.check("a handshake for beta with a certificate of acme: refused");
    Ok(())
}
