//! Hostile offload headers: from a container with `CAP_NET_RAW`, which Docker gives by default,
//! and from a peer with a valid certificate.
//!
//! Nothing may be rewritten behind the source and destination checks, nothing may panic, and the
//! other attachments must not feel it.

#[path = "virtio/hostile.rs"]
mod hostile;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netns_tests::certificates::{Identity, server_name};
use netns_tests::packets;
use netns_tests::process::{pause, wait_for};
use netns_tests::rogue::{Metadata, Parties, Session};
use netns_tests::site::OVERLAY_INTERFACE;
use netns_tests::traffic::ping::{Ping, Pinged, ping};
use netns_tests::vnet::{NEEDS_CSUM, RawPort, Virtio};
use netns_tests::{
    ACME, BETA, Container, Context, Family, Load, Plan, Result, Site, ensure, scenario,
};

/// How often each hostile packet is sent.
const ROUNDS: usize = 100;
const POLL: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(5);
/// Round trip that neighbours must have at the median while somebody else misbehaves. Both cores
/// are busy with the attack itself, so this is far from idle; a stall would be seconds.
const NEIGHBOUR_MEDIAN: Duration = Duration::from_millis(10);

/// Offset and protocol of the transport header, as far as these tests send it.
fn transport(packet: &[u8]) -> Option<(usize, u8)> {
    match packet.first()? >> 4 {
        4 => Some((usize::from(packet[0] & 15) * 4, *packet.get(9)?)),
        6 if packet.get(6) == Some(&packets::DESTINATION_OPTIONS) => {
            Some((40 + 8 + usize::from(*packet.get(41)?) * 8, *packet.get(40)?))
        }
        6 => Some((40, *packet.get(6)?)),
        _ => None,
    }
}

fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| -> Option<IpAddr> {
        Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
    };
    let v6 = |at: usize| -> Option<IpAddr> {
        Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into())
    };
    match packet.first()? >> 4 {
        4 => Some((v4(12)?, v4(16)?)),
        6 => Some((v6(8)?, v6(24)?)),
        _ => None,
    }
}

/// What must be true of everything that comes out of a container's interface.
fn judge(owner: &Container, senders: &[IpAddr], virtio: Virtio, packet: &[u8]) -> Result<()> {
    let (from, to) = addresses(packet).context("no IP packet")?;
    let own = [owner.address(Family::V4), owner.address(Family::V6)];
    if own.contains(&from) {
        // The container's own packet on its way out.
        return Ok(());
    }
    ensure!(own.contains(&to), "destination {to}");
    ensure!(senders.contains(&from), "source {from}");
    let length = match packet[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
    };
    ensure!(length == packet.len(), "length field {length} of {} bytes", packet.len());
    if virtio.flags & NEEDS_CSUM == 0 {
        ensure!(virtio.gso_type == 0, "segmentation without a checksum: {virtio:?}");
        return Ok(());
    }
    let (start, protocol) = transport(packet).context("no transport header")?;
    let place = if protocol == packets::TCP { 16 } else { 6 };
    ensure!(matches!(protocol, packets::TCP | packets::UDP), "checksum of protocol {protocol}");
    let claimed = (usize::from(virtio.csum_start), usize::from(virtio.csum_offset));
    ensure!(claimed == (start, place), "{virtio:?} on a header at {start}");
    Ok(())
}

/// Watches a container's interface until told to stop; fails at the first packet that must not be.
fn watch(owner: &Container, senders: &[IpAddr], stop: &AtomicBool) -> Result<u64> {
    let port = RawPort::open(&owner.ns, OVERLAY_INTERFACE)?;
    let mut seen = 0;
    loop {
        match port.receive(POLL)? {
            Some((virtio, packet)) => {
                let verdict = judge(owner, senders, virtio, &packet);
                let start = &packet[..packet.len().min(64)];
                verdict.with_context(|| format!("{virtio:?} {start:02x?}"))?;
                seen += 1;
            }
            None if stop.load(Ordering::Relaxed) => return Ok(seen),
            None => {}
        }
    }
}

fn both(of: &Container) -> [IpAddr; 2] {
    [of.address(Family::V4), of.address(Family::V6)]
}

/// Runs an attack while the given containers are watched and two neighbours ping each other.
fn under_watch(
    victims: &[(&Container, Vec<IpAddr>)],
    neighbours: [&Container; 2],
    attack: impl FnOnce() -> Result<()>,
) -> Result<Pinged> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watchers: Vec<_> = victims
            .iter()
            .map(|(victim, senders)| scope.spawn(|| watch(victim, senders, &stop)))
            .collect();
        let [from, to] = neighbours;
        let steady = Ping { count: 400, interval: Duration::from_millis(5), ..Ping::default() };
        let pinging = scope.spawn(move || ping(&from.ns, to.address(Family::V4), &steady));
        pause(POLL * 2)?;
        let attacked = attack();
        pause(POLL * 4)?;
        stop.store(true, Ordering::Relaxed);
        for watcher in watchers {
            watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        attacked?;
        pinging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn assert_not_slowed(pinged: &Pinged) -> Result<()> {
    ensure!(pinged.complete(), "{}", pinged.text.lines().last().unwrap_or_default());
    let mut times = pinged.round_trips.clone();
    times.sort();
    let median = times[times.len() / 2];
    ensure!(median < NEIGHBOUR_MEDIAN, "neighbours waited {median:?}");
    Ok(())
}

#[test]
fn a_container_cannot_have_anything_rewritten() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair().two_each().with_beta())?;
        let attacker = site.container(ACME, "a1")?;
        let neighbours = [site.container(BETA, "a2")?, site.container(BETA, "b2")?];
        let senders = both(attacker).to_vec();
        let victims: Vec<_> = ["b1", "a2"]
            .into_iter()
            .map(|name| Ok((site.container(ACME, name)?, senders.clone())))
            .collect::<Result<_>>()?;
        let before = site.received(BETA)?;
        let port = RawPort::open(&attacker.ns, OVERLAY_INTERFACE)?;
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        let pinged = under_watch(&victims, neighbours, || {
            for (victim, _) in &victims {
                for family in [Family::V4, Family::V6] {
                    let from = SocketAddr::new(attacker.address(family), 6_000);
                    let to = SocketAddr::new(victim.address(family), 6_001);
                    for (what, virtio, packet) in hostile::from_container(from, to) {
                        for _ in 0..ROUNDS {
                            // Some are refused by the container's own kernel already.
                            if port.send(virtio, &packet).is_ok() {
                                *taken.entry(what).or_default() += 1;
                            }
                        }
                        pause(Duration::from_millis(2))?;
                    }
                }
            }
            Ok(())
        })?;
        println!("{taken:#?}");
        ensure!(taken.contains_key("checksum over the destination port"), "the kernel took it");
        assert_not_slowed(&pinged)?;
        let after = site.received(BETA)?;
        for name in ["a1", "b1"] {
            ensure!(after[name] == before[name], "{name} of {BETA} received something");
        }
        for cause in ["checksum_offload", "segments", "length"] {
            let drops = site.drops_by("host-a", ACME, cause)?;
            ensure!(drops > 0, "nothing dropped for {cause}: {}", site.all_drops()?);
        }
        site.ping_all()?;
        site.assert_healthy()
    });
}

#[test]
fn a_peer_cannot_have_anything_rewritten() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().two_each().with_beta())?;
        site.start_host("host-a")?;
        // Where host-b should be, somebody with its certificate and no manners.
        let host = &site.topology.host("host-b")?.ns;
        let to = site.endpoint("host-a")?;
        let files = site.pki[ACME].issue_into("host-b", &world.dir().join("rogue"))?;
        let identity = Identity::read(&files)?;
        let parties = Parties { environment: ACME, client: "host-b", server: "host-a" };
        let name = server_name(&site.pki[ACME])?;
        let mut session = Session::open(host, to, &name, parties, &identity)?;
        let (a1, b1) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let from = SocketAddr::new(b1.address(Family::V4), 6_000);
        let goal = SocketAddr::new(a1.address(Family::V4), 6_001);
        let honest = packets::udp(from, goal, b"honest");
        let arrives = |session: &mut Session| -> Result<()> {
            let before = a1.received()?;
            session.send(&honest, &[], Metadata::PLAIN)?;
            wait_for("an honest datagram of the rogue", LIMIT, || {
                Ok((a1.received()? == before + 1).then_some(()))
            })
        };
        arrives(&mut session)?;
        let b2 = site.container(ACME, "b2")?;
        let senders = [both(b1), both(b2)].concat();
        // Neighbours in acme know each other, too.
        let local = |own: &str| -> Result<Vec<IpAddr>> {
            Ok([senders.clone(), both(site.container(ACME, own)?).to_vec()].concat())
        };
        let victims = [
            (a1, local("a2")?),
            (site.container(ACME, "a2")?, local("a1")?),
            (site.container(BETA, "a1")?, both(site.container(BETA, "a2")?).to_vec()),
        ];
        let neighbours = [site.container(BETA, "a1")?, site.container(BETA, "a2")?];
        let drops = site.drops("host-a")?;
        let received = a1.received()?;
        let mut sent = 0;
        let pinged = under_watch(&victims, neighbours, || {
            for family in [Family::V4, Family::V6] {
                let from = SocketAddr::new(b1.address(family), 6_000);
                let to = SocketAddr::new(a1.address(family), 6_001);
                for case in hostile::from_peer(from, to) {
                    for _ in 0..ROUNDS {
                        session.send(&case.payload, &case.inner_header, case.metadata)?;
                        sent += 1;
                    }
                    pause(Duration::from_millis(3))?;
                    ensure!(a1.received()? == received, "{}: it was delivered", case.what);
                }
            }
            Ok(())
        })?;
        wait_for("every hostile datagram is counted", LIMIT, || {
            let more = site.drops("host-a")? - drops;
            ensure!(more >= sent, "{more} of {sent}");
            Ok(Some(()))
        })?;
        // Superpackets whose chunks do not belong together: the watchers judge what comes out.
        under_watch(&victims, neighbours, || {
            for _ in 0..ROUNDS {
                for case in hostile::mixed_chunks(from, goal) {
                    session.send(&case.payload, &case.inner_header, case.metadata)?;
                }
            }
            pause(Duration::from_millis(200))
        })?;
        assert_not_slowed(&pinged)?;
        arrives(&mut session)?;
        site.assert_healthy()
    });
}
