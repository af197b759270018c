//! What is counted is what happened, to the byte.

use std::time::Duration;

use netns_tests::process::wait_for;
use netns_tests::site::OVERLAY_INTERFACE;
use netns_tests::status::{Traffic, number, traffic};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::ping::{Ping, ping};
use netns_tests::{ACME, BETA, Family, Load, Plan, Site, ensure, scenario};

const LIMIT: Duration = Duration::from_secs(5);
/// Clear header, metadata and tag of a datagram, bytes.
const OVERHEAD: u64 = 16 + 12 + 16;

fn difference(after: Traffic, before: Traffic) -> Traffic {
    Traffic {
        rx_packets: after.rx_packets - before.rx_packets,
        rx_bytes: after.rx_bytes - before.rx_bytes,
        tx_packets: after.tx_packets - before.tx_packets,
        tx_bytes: after.tx_bytes - before.tx_bytes,
    }
}

#[test]
fn ten_pings_are_counted_exactly_everywhere() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair().with_beta())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let counted = |host, peer, name| -> netns_tests::Result<[Traffic; 2]> {
            let status = site.daemon(host)?.status()?;
            let attachment = status.attachment(ACME, name)?;
            Ok([traffic(attachment), traffic(status.peer(ACME, peer)?)])
        };
        let ends = [("host-a", "host-b", "a1"), ("host-b", "host-a", "b1")];
        let before = ends.map(|(host, peer, name)| counted(host, peer, name));
        let links = [a, b].map(|c| c.ns.link(OVERLAY_INTERFACE));
        let pinged = ping(&a.ns, b.address(Family::V4), &Ping::default())?;
        ensure!(pinged.complete(), "{}", pinged.text);
        // 20 bytes IPv4, 8 bytes ICMP, 56 bytes payload.
        let expected = Traffic { rx_packets: 10, rx_bytes: 840, tx_packets: 10, tx_bytes: 840 };
        // A peer's counters are those of sealed datagrams: each packet costs 44 bytes more, and an
        // empty one, which confirms a new key, has nothing but these.
        let sealed = |packets: u64, bytes: u64| {
            (10..=12).contains(&packets)
                && bytes == 10 * (84 + OVERHEAD) + (packets - 10) * OVERHEAD
        };
        for ((before, (host, peer, name)), link) in before.into_iter().zip(ends).zip(links) {
            let [attachment, session] = before?;
            // Counters of workers are published now and then.
            wait_for(&format!("{host} counts 10 packets"), LIMIT, || {
                let [now, through] = counted(host, peer, name)?;
                let found = [difference(now, attachment), difference(through, session)];
                let [inner, outer] = found;
                ensure!(inner == expected, "{found:?}");
                ensure!(sealed(outer.rx_packets, outer.rx_bytes), "{found:?}");
                ensure!(sealed(outer.tx_packets, outer.tx_bytes), "{found:?}");
                Ok(Some(()))
            })?;
            let (old, now) = (link?, site.container(ACME, name)?.ns.link(OVERLAY_INTERFACE)?);
            ensure!(now.rx_packets - old.rx_packets == 10 && now.rx_bytes - old.rx_bytes == 840);
            ensure!(now.tx_packets - old.tx_packets == 10 && now.tx_bytes - old.tx_bytes == 840);
        }
        Ok(())
    });
}

#[test]
fn superpackets_count_as_the_packets_that_they_stand_for() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let read = || -> netns_tests::Result<Traffic> {
            let status = site.daemon("host-b")?.status()?;
            Ok(traffic(status.attachment(ACME, "b1")?))
        };
        let interface = || b.ns.link(OVERLAY_INTERFACE);
        let (before, link) = (read()?, interface()?);
        let flow = Flow {
            packets: 5_000,
            segments: 50,
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        let arrived = send(&a.ns, &b.ns, &flow)?;
        ensure!(arrived.complete(), "{arrived:?}");
        // Bytes are those that the container's interface has seen: a superpacket has one header.
        let bytes = interface()?.rx_bytes - link.rx_bytes;
        ensure!((5_000_000..5_140_000).contains(&bytes), "{bytes} bytes: no superpackets");
        wait_for("5,000 packets are counted", LIMIT, || {
            let found = difference(read()?, before);
            ensure!((found.rx_packets, found.rx_bytes) == (5_000, bytes), "{found:?}, {bytes}");
            Ok(Some(()))
        })
    });
}

#[test]
fn environments_are_counted_apart() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair().with_beta())?;
        let read = |id| -> netns_tests::Result<Traffic> {
            let status = site.daemon("host-a")?.status()?;
            Ok(traffic(status.attachment(id, "a1")?))
        };
        let (acme, beta) = (read(ACME)?, read(BETA)?);
        let (a, b) = (site.container(BETA, "a1")?, site.container(BETA, "b1")?);
        let arrived =
            send(&a.ns, &b.ns, &Flow::between(a.address(Family::V4), b.address(Family::V4)))?;
        ensure!(arrived.complete(), "{arrived:?}");
        wait_for("beta's packets are counted", LIMIT, || {
            let sent = difference(read(BETA)?, beta);
            ensure!(sent.tx_packets == 1_000, "{sent:?}");
            Ok(Some(()))
        })?;
        ensure!(read(ACME)? == acme, "acme's counters moved");
        Ok(())
    });
}

#[test]
fn status_and_metrics_tell_of_sessions() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair())?;
        for (host, peer) in [("host-a", "host-b"), ("host-b", "host-a")] {
            let daemon = site.daemon(host)?;
            let status = daemon.status()?;
            ensure!(status.established(ACME, peer)?, "{:#}", status.0);
            ensure!(number(&status.peer(ACME, peer)?["handshakes_ok"]) >= 1);
            ensure!(status.0["host"] == host);
            let metrics = daemon.metrics()?;
            for part in ["bytes", "packets", "sessions", "epoch", "handshake", "batch"] {
                let found = metrics.0.iter().any(|sample| sample.name.contains(part));
                ensure!(found, "no metric of {part}");
            }
            let labelled =
                metrics.0.iter().any(|s| s.labels.get("environment").is_some_and(|e| e == ACME));
            ensure!(labelled, "no metric of environment {ACME}");
            // A person's view works too, and the socket is for root alone.
            let text = daemon.weft_net("status")?.ok()?;
            ensure!(text.contains(ACME) && text.contains(peer), "{text}");
            let mode = std::fs::metadata(site.socket(host))?;
            ensure!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777 == 0o600);
        }
        Ok(())
    });
}
