//! An attacker on the path who records, changes, repeats and invents datagrams: nothing of it is
//! accepted.

use std::net::SocketAddr;
use std::time::Duration;

use netns_tests::fault::{extent, row};
use netns_tests::plan::PORT;
use netns_tests::process::{pause, wait_for};
use netns_tests::relay::Kept;
use netns_tests::seeded::{Seeded, seed};
use netns_tests::site::RELAY;
use netns_tests::status::number;
use netns_tests::traffic::datagrams::{Flow, send, socket};
use netns_tests::traffic::ping::{Ping, ping};
use netns_tests::{ACME, BETA, Family, Load, Plan, Relay, Result, Site, Way, ensure, scenario};

/// What every attack tries at least.
const TRIES: u64 = 100_000;
/// Sent on top, since a socket's queue on the way may lose a few.
const SPARE: u64 = TRIES / 20;
const BURST: u64 = 32;
const LIMIT: Duration = Duration::from_secs(1);
const STATUS_LIMIT: Duration = Duration::from_secs(10);
const RECORDED: usize = 2_000;
/// Datagrams that are taken off the wire.
const HELD: usize = 100;
/// A session that was replaced receives for ten seconds.
const FORGOTTEN: Duration = Duration::from_secs(11);
/// Byte of a datagram where the receiver's index begins; four bytes.
const INDEX_AT: usize = 4;
/// First bytes of a datagram that are not secret.
const HEADER_LEN: usize = 16;

/// Injects datagrams one after the other, not faster than a daemon takes them.
fn inject_all(relay: &Relay, way: Way, datagrams: impl Iterator<Item = Kept>) -> Result<()> {
    for (number, datagram) in (0..TRIES + SPARE).zip(datagrams) {
        relay.inject(way, &datagram)?;
        if number % BURST == 0 {
            pause(Duration::from_micros(500))?;
        }
    }
    Ok(())
}

/// Runs an attack on host-b and asserts that all of it was dropped and counted, that no container
/// noticed, and that honest traffic goes on.
fn attack(site: &mut Site, relay: &Relay, datagrams: impl Iterator<Item = Kept>) -> Result<()> {
    pause(LIMIT)?;
    let containers = site.containers.clone();
    let received = || containers.iter().map(|c| c.received()).collect::<Result<Vec<_>>>();
    let before = received()?;
    let drops = site.drops("host-b")?;
    inject_all(relay, Way::There, datagrams)?;
    wait_for("100,000 drops", STATUS_LIMIT, || {
        let more = site.drops("host-b")? - drops;
        ensure!(more >= TRIES, "{more}");
        Ok(Some(()))
    })?;
    let after = received()?;
    ensure!(after == before, "{before:?} became {after:?}");
    site.ping_all()?;
    site.assert_healthy()
}

/// Sends a flow and gives the datagrams in which it crossed the underlay.
fn record(site: &Site, relay: &Relay, environment: &str) -> Result<Vec<Kept>> {
    let (a, b) = (site.container(environment, "a1")?, site.container(environment, "b1")?);
    relay.record(Way::There, RECORDED);
    let flow = Flow::between(a.address(Family::V4), b.address(Family::V4));
    ensure!(send(&a.ns, &b.ns, &flow)?.complete());
    let recorded = relay.take(Way::There);
    ensure!(recorded.len() >= 1_000, "{} datagrams recorded", recorded.len());
    Ok(recorded)
}

#[test]
fn replayed_captures_are_dropped() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().with_beta().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        let recorded = record(&site, &relay, ACME)?;
        let replayed = site.drops_by("host-b", ACME, "replay")?;
        attack(&mut site, &relay, recorded.iter().cloned().cycle())?;
        let more = site.drops_by("host-b", ACME, "replay")? - replayed;
        ensure!(more >= TRIES, "only {more} were recognised as replays");
        // From another source port, and back to the host that sealed them.
        let moved = recorded.iter().map(|k| Kept { port: k.port ^ 0x55, ..k.clone() });
        attack(&mut site, &relay, moved.collect::<Vec<_>>().into_iter().cycle())?;
        let own = site.container(ACME, "a1")?.received()?;
        for datagram in &recorded {
            relay.inject(Way::Back, datagram)?;
        }
        pause(LIMIT)?;
        ensure!(site.container(ACME, "a1")?.received()? == own, "reflected to its sender");
        // After a restart of the receiver nothing of it is known.
        site.start_host("host-b")?;
        site.settle()?;
        attack(&mut site, &relay, recorded.iter().cloned().cycle())?;
        let figure = format!("0 of 3 × {TRIES} accepted");
        row(
            "replay of a capture: at once, from another port, after a restart",
            "0 accepted",
            figure,
        );
        Ok(())
    });
}

/// A capture that is played later, in a session that has taken the place of the one it is from, and from
/// elsewhere: whoever sees the network has it.
#[test]
fn a_capture_is_worth_nothing_later_or_elsewhere() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        for host in ["host-a", "host-b"] {
            site.config(host).listen = format!("0.0.0.0:{PORT}");
        }
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        site.calm()?;
        let recorded = record(&site, &relay, ACME)?;
        let reached = |site: &Site| -> Result<String> {
            Ok(site.daemon("host-b")?.status()?.peer(ACME, "host-a")?["reached_at"].to_string())
        };
        let before = reached(&site)?;
        // Some of it never arrived: it is new to host-b, and still it moves nobody.
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        relay.record(Way::There, 0);
        relay.hold(Way::There, HELD, 0);
        let flow =
            Flow { packets: 500, ..Flow::between(a.address(Family::V4), b.address(Family::V4)) };
        send(&a.ns, &b.ns, &flow)?;
        let held = relay.take(Way::There);
        ensure!(held.len() == HELD, "{} held", held.len());
        let elsewhere = site.topology.host(RELAY)?;
        let stranger = socket(&elsewhere.ns, SocketAddr::new(elsewhere.v4.into(), 0))?;
        let to = site.endpoint("host-b")?;
        let received = b.received()?;
        let drops = site.drops("host-b")?;
        let (mut sent, wanted) = (0, extent(TRIES / 5, TRIES));
        while sent < wanted {
            for datagram in &recorded {
                stranger.send_to(&datagram.payload, to)?;
                sent += 1;
                if sent % BURST == 0 {
                    pause(Duration::from_micros(500))?;
                }
            }
        }
        wait_for("all of it is dropped", STATUS_LIMIT, || {
            let more = site.drops("host-b")? - drops;
            ensure!(more >= wanted - wanted / 20, "{more}");
            Ok(Some(()))
        })?;
        ensure!(b.received()? == received, "a replay was accepted");
        for datagram in &held {
            stranger.send_to(&datagram.payload, to)?;
        }
        pause(LIMIT * extent(1, 3))?;
        let after = reached(&site)?;
        ensure!(after == before, "host-b believes that host-a is at {after}, not {before}");
        site.ping_all()?;
        // A session later, while the one before still receives, and when it does not any more.
        let handshakes = |site: &Site| -> Result<u64> {
            let status = site.daemon("host-b")?.status()?;
            Ok(number(&status.peer(ACME, "host-a")?["handshakes_ok"]))
        };
        let old = handshakes(&site)?;
        let files = site.pki[ACME].issue_into("host-a", &world.dir().join("renewed"))?;
        let environment = site.config("host-a").environment(ACME);
        (environment.cert, environment.key) = (files.cert, files.key);
        site.reload("host-a")?;
        wait_for("another session", STATUS_LIMIT, || Ok((handshakes(&site)? > old).then_some(())))?;
        attack(&mut site, &relay, recorded.iter().cloned().cycle())?;
        if extent(false, true) {
            pause(FORGOTTEN)?;
            attack(&mut site, &relay, recorded.iter().cloned().cycle())?;
        }
        ensure!(reached(&site)? == before, "the endpoint moved");
        row(
            "replay of a capture: after a rekey, from another address",
            "0 accepted, endpoint unmoved",
            format!(
                "0 of {} accepted; {HELD} that were new moved nothing either",
                wanted + TRIES * extent(1, 2)
            ),
        );
        site.assert_healthy()
    });
}

#[test]
fn forged_session_indices_are_dropped() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().with_beta().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        let acme = record(&site, &relay, ACME)?;
        let beta = record(&site, &relay, BETA)?;
        // Datagrams of one environment under the indices of the other, with fresh counters too.
        let mut random = Seeded::new(seed());
        let indices: Vec<[u8; 4]> = beta
            .iter()
            .filter_map(|k| k.payload.get(INDEX_AT..INDEX_AT + 4)?.try_into().ok())
            .collect();
        let mut forged = Vec::new();
        for (datagram, index) in acme.iter().zip(indices.iter().cycle()) {
            let mut crossed = datagram.clone();
            crossed.payload[INDEX_AT..INDEX_AT + 4].copy_from_slice(index);
            forged.push(crossed.clone());
            crossed.payload[12..16].copy_from_slice(&random.next_u64().to_be_bytes()[..4]);
            forged.push(crossed);
            let mut guessed = datagram.clone();
            let guess = random.next_u64().to_be_bytes();
            guessed.payload[INDEX_AT + 1..INDEX_AT + 4].copy_from_slice(&guess[..3]);
            forged.push(guessed);
        }
        attack(&mut site, &relay, forged.into_iter().cycle())
    });
}

#[test]
fn invented_datagrams_are_dropped() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        let recorded = record(&site, &relay, ACME)?;
        let mut random = Seeded::new(seed());
        // Right headers with fresh counters over noise, and noise altogether.
        let invented = (0..20_000_usize).map(|number| {
            let mut datagram = recorded[number % recorded.len()].clone();
            let keep = if number % 4 == 0 { 0 } else { HEADER_LEN };
            random.fill(&mut datagram.payload[keep..]);
            if keep > 0 {
                // An epoch now or soon, a counter not seen yet.
                let ahead = u8::try_from(random.below(9)).unwrap_or(0);
                datagram.payload[1] = datagram.payload[1].wrapping_add(ahead);
                datagram.payload[11] = 1;
            }
            if number % 16 == 1 {
                datagram.payload.truncate(random.below(60));
            }
            datagram
        });
        let invented: Vec<_> = invented.collect();
        attack(&mut site, &relay, invented.into_iter().cycle())
    });
}

#[test]
fn every_bit_of_a_datagram_is_protected() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let mut all = 0;
        for size in [0, 56, 1_380] {
            pause(LIMIT)?;
            // A datagram that the receiver has not seen, so that replay protection cannot help.
            let len_min = size + 28;
            relay.hold(Way::There, 1, len_min);
            let one = Ping { count: 1, size, ..Ping::default() };
            ensure!(ping(&a.ns, b.address(Family::V4), &one)?.received == 0, "it was held");
            let held = relay.take(Way::There);
            ensure!(held.len() == 1 && held[0].payload.len() >= len_min, "{held:?}");
            let before = b.received()?;
            let drops = site.drops("host-b")?;
            let mut flips = 0;
            for position in 0..held[0].payload.len() {
                for bit in 0..8 {
                    let mut flipped = held[0].clone();
                    flipped.payload[position] ^= 1 << bit;
                    relay.inject(Way::There, &flipped)?;
                    flips += 1;
                }
                pause(Duration::from_micros(200))?;
            }
            // Cut at every length and made longer, as well.
            for len in 0..held[0].payload.len() {
                let payload = held[0].payload[..len].to_vec();
                relay.inject(Way::There, &Kept { payload, ..held[0] })?;
                flips += 1;
            }
            let payload = [&held[0].payload[..], &[0]].concat();
            relay.inject(Way::There, &Kept { payload, ..held[0] })?;
            flips += 1;
            wait_for("every change is dropped and counted", STATUS_LIMIT, || {
                let more = site.drops("host-b")? - drops;
                // An empty datagram may not be counted.
                ensure!(more + 1 >= flips, "{more} of {flips}");
                Ok(Some(()))
            })?;
            ensure!(b.received()? == before, "a changed datagram was accepted");
            // And the unchanged one is accepted, once: nothing else was wrong with it.
            relay.inject(Way::There, &held[0])?;
            relay.inject(Way::There, &held[0])?;
            wait_for("the original", STATUS_LIMIT, || {
                Ok((b.received()? == before + 1).then_some(()))
            })?;
            pause(LIMIT)?;
            ensure!(b.received()? == before + 1, "the original was accepted twice");
            all += flips;
        }
        let must = "nothing accepted, state unchanged";
        row(
            "bit flip at every position, truncation at every length",
            must,
            format!("{all} changes"),
        );
        site.assert_healthy()
    });
}
