//! No plaintext on the underlay, at no time.
//!
//! A container sends a canary without pause, 1,000 bytes of it every few milliseconds and over
//! TCP as well, while sessions come and go. Everything on the wire is captured and searched; the
//! same search finds the canary where it may be.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns_tests::certificates::{Identity, server_name};
use netns_tests::config::KeyLimits;
use netns_tests::fault::row;
use netns_tests::filter::block_udp_to;
use netns_tests::process::{pause, wait_for};
use netns_tests::rogue::{Parties, Session};
use netns_tests::seeded::seed;
use netns_tests::site::{OVERLAY_INTERFACE, SETTLE_LIMIT, reach};
use netns_tests::status::number;
use netns_tests::topology::{Offloads, UNDERLAY_INTERFACE, Underlay};
use netns_tests::traffic::datagrams::socket;
use netns_tests::{
    ACME, Capture, Container, Family, Faults, Load, Plan, Result, Site, World, ensure, scenario,
};

/// Nothing else on earth looks like this, and any 64 bytes of the payload hold it whole.
const CANARY: &[u8; 32] = b"weft-canary-9f27c1d04be88a35e6b7";
const PORT: u16 = 7_777;
const PAUSE: Duration = Duration::from_millis(3);
const LIMIT: Duration = Duration::from_secs(2);
/// `.weft.invalid` ends the server name. A ClientHello with a post-quantum key takes two segments,
/// and its extensions come in any order: the name may be cut anywhere, and then one half is whole.
const SERVER_NAME_HALVES: [&[u8]; 2] = [b".weft.i", b"invalid"];
/// Sessions that one peer makes; eight are kept.
const SESSIONS: usize = 40;
/// Packets on the wire when there was a session.
const DATA_LEAST: usize = 20;

/// Sends the canary over UDP, in single packets and superpackets, and over TCP, until told to stop.
fn sing(from: &Container, to: &Container, stop: &AtomicBool) -> Result<()> {
    let song = CANARY.repeat(1_300 / CANARY.len());
    // The container's own address is not there yet, or not any more, at times.
    let single = socket(&from.ns, (Ipv4Addr::UNSPECIFIED, 0).into())?;
    let goal = SocketAddr::new(to.address(Family::V4), PORT);
    let mut stream: Option<TcpStream> = None;
    while !stop.load(Ordering::Relaxed) {
        // No route, no session: it goes on regardless.
        let _ = single.send_to(&song, goal);
        if stream.is_none() {
            let short = Duration::from_millis(20);
            stream = from.ns.enter(|| Ok(TcpStream::connect_timeout(&goal, short).ok()))?;
            if let Some(stream) = &stream {
                stream.set_nonblocking(true)?;
            }
        }
        if let Some(open) = &mut stream {
            let _ = open.write(&song.repeat(20));
        }
        pause(PAUSE)?;
    }
    Ok(())
}

/// Reads and forgets whatever is sent over TCP.
fn listen(to: &Container, stop: &AtomicBool) -> Result<()> {
    let listener = to.ns.enter(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
    listener.set_nonblocking(true)?;
    let mut open = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            open.push(stream);
        }
        for stream in &mut open {
            while std::io::Read::read(stream, &mut buffer).is_ok_and(|len| len > 0) {}
        }
        pause(PAUSE)?;
    }
    Ok(())
}

/// Runs `events` while the canary sings from `a1` to `b1`, and searches every wire, on which more
/// than `least` packets and a handshake must be.
fn no_canary(
    world: &World,
    site: &mut Site,
    least: usize,
    events: impl FnOnce(&mut Site) -> Result<()>,
) -> Result<()> {
    let (from, to) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
    let captures: Vec<Capture> = ["host-a", "host-b"]
        .iter()
        .map(|name| {
            let ns = &site.topology.host(name)?.ns;
            Capture::start(ns, UNDERLAY_INTERFACE, "", world.dir(), name)
        })
        .collect::<Result<_>>()?;
    let stop = AtomicBool::new(false);
    let happened = std::thread::scope(|scope| {
        let singing = scope.spawn(|| sing(&from, &to, &stop));
        let listening = scope.spawn(|| listen(&to, &stop));
        let happened = events(site);
        stop.store(true, Ordering::Relaxed);
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        happened.and(join(singing)).and(join(listening))
    });
    happened?;
    let status = site.daemon("host-a")?.status()?;
    let offered = number(&status.attachment(ACME, "a1")?["tx_packets"]);
    ensure!(offered > 100, "the canary sang: {offered} packets");
    for capture in captures {
        let caught = capture.finish()?;
        ensure!(caught.count() > least, "only {} packets were captured", caught.count());
        let hellos = SERVER_NAME_HALVES.map(|half| caught.containing(half));
        ensure!(hellos.iter().any(|count| *count > 0), "no ClientHello was captured");
        let found = caught.containing(CANARY);
        ensure!(found == 0, "{found} of {} packets hold the canary", caught.count());
    }
    Ok(())
}

fn plan() -> Plan {
    Plan::pair().underlay(Underlay { offloads: Offloads::Off, ..Underlay::default() })
}

/// How many packets with the canary come out at the receiver within a while.
fn heard(world: &World, site: &Site, label: &str) -> Result<usize> {
    let b = &site.container(ACME, "b1")?.ns;
    let capture = Capture::start(b, OVERLAY_INTERFACE, "", world.dir(), label)?;
    pause(Duration::from_millis(500))?;
    Ok(capture.finish()?.containing(CANARY))
}

#[test]
fn not_at_the_start_and_not_in_a_session() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &plan())?;
        no_canary(world, &mut site, DATA_LEAST, |site| {
            // Before there is a daemon, while only one runs, and with both.
            pause(Duration::from_millis(300))?;
            site.start_host("host-a")?;
            pause(Duration::from_secs(1))?;
            site.start_host("host-b")?;
            reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
            let heard = heard(world, site, "heard")?;
            ensure!(heard > 50, "the canary is heard where it belongs: {heard}");
            Ok(())
        })
    });
}

#[test]
fn not_while_a_handshake_is_pending() {
    scenario(Load::Heavy, |world| {
        let mut relayed = plan().relayed();
        relayed.underlay.offloads = Offloads::Off;
        let mut site = Site::prepare(world, &relayed)?;
        let relay = site.relay(seed())?;
        relay.stall_handshakes(true);
        no_canary(world, &mut site, 0, |site| {
            site.start()?;
            pause(Duration::from_secs(4))?;
            let status = site.daemon("host-a")?.status()?;
            ensure!(!status.established(ACME, "host-b")?, "the relay stalls all handshakes");
            Ok(())
        })?;
        let ns = site.topology.hosts[0].ns.clone();
        ensure!(ns.link(UNDERLAY_INTERFACE)?.tx_packets > 0);
        row("encryption path broken: no handshake gets through", "0 cleartext bytes", "0 in 4 s");
        Ok(())
    });
}

/// Filters on a host, each a rule of a chain; the last one takes all of them away.
fn filter(site: &Site, host: &str, hook: &str, rule: Option<&str>) -> Result<()> {
    let ns = &site.topology.host(host)?.ns;
    ns.run_ok("nft flush ruleset", LIMIT)?;
    let Some(rule) = rule else { return Ok(()) };
    ns.run_ok("nft add table inet broken", LIMIT)?;
    ns.run_ok(
        &format!("nft add chain inet broken c {{ type filter hook {hook} priority -300 ; }}"),
        LIMIT,
    )?;
    ns.run_ok(&format!("nft add rule inet broken c {rule}"), LIMIT).map(drop)
}

#[test]
fn not_when_datagrams_cannot_be_sent() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &plan())?;
        let mut errors = 0.0;
        no_canary(world, &mut site, DATA_LEAST, |site| {
            site.start()?;
            site.settle()?;
            // The kernel refuses every datagram, with an error, and streams; the peer forgets the session.
            let refused =
                format!("oifname {UNDERLAY_INTERFACE} meta l4proto {{ tcp, udp }} reject");
            filter(site, "host-a", "output", Some(&refused))?;
            pause(LIMIT)?;
            site.daemon_mut("host-b")?.kill()?;
            site.start_host("host-b")?;
            pause(LIMIT)?;
            errors = site.daemon("host-a")?.metrics()?.sum("send_errors", &[]);
            let quiet = heard(world, site, "quiet")?;
            ensure!(quiet == 0, "{quiet} packets came through");
            filter(site, "host-a", "output", None)?;
            reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
            let again = heard(world, site, "again")?;
            ensure!(again > 50, "the canary is heard again: {again}");
            Ok(())
        })?;
        ensure!(errors > 0.0, "nothing was refused");
        let figure = format!("0 while {errors} sends were refused");
        row("encryption path broken: the kernel refuses datagrams", "0 cleartext bytes", figure);
        Ok(())
    });
}

/// Keys are installed on both sides and nothing that they seal arrives: the session is never proven.
#[test]
fn not_in_a_session_that_is_never_proven() {
    scenario(Load::Heavy, |world| {
        let mut relayed = plan().relayed();
        relayed.underlay.offloads = Offloads::Off;
        let mut site = Site::prepare(world, &relayed)?;
        let relay = site.relay(seed())?;
        relay.faults(Faults { drop: 1.0, ..Faults::NONE });
        // One handshake, and no stream, which would carry what datagrams do.
        relay.pass_handshakes(1);
        no_canary(world, &mut site, 0, |site| {
            site.start()?;
            let pairs = [("host-a", "host-b"), ("host-b", "host-a")];
            for (host, peer) in pairs {
                wait_for("a handshake", SETTLE_LIMIT, || {
                    let status = site.daemon(host)?.status()?;
                    Ok((number(&status.peer(ACME, peer)?["handshakes_ok"]) > 0).then_some(()))
                })?;
            }
            pause(LIMIT * 2)?;
            for (host, peer) in pairs {
                let status = site.daemon(host)?.status()?;
                ensure!(!status.established(ACME, peer)?, "{host} takes it for proven");
            }
            relay.faults(Faults::NONE);
            relay.stall_handshakes(false);
            reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)
        })?;
        row("encryption path broken: no session is ever proven", "0 cleartext bytes", "0 in 4 s");
        Ok(())
    });
}

/// The peer's sessions are full: more are made than are kept, all the time.
#[test]
fn not_when_more_sessions_are_made_than_are_kept() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &plan())?;
        let mut made = 0;
        no_canary(world, &mut site, DATA_LEAST, |site| {
            site.start()?;
            site.settle()?;
            let files = site.pki[ACME].issue_into("host-b", &world.dir().join("rogue"))?;
            let identity = Identity::read(&files)?;
            let parties = Parties { environment: ACME, client: "host-b", server: "host-a" };
            let name = server_name(&site.pki[ACME])?;
            let (ns, to) = (site.topology.host("host-b")?.ns.clone(), site.endpoint("host-a")?);
            // With host-b's own certificate, and none of them ever proven.
            for _ in 0..SESSIONS {
                made += usize::from(Session::open(&ns, to, &name, parties, &identity).is_ok());
            }
            reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)
        })?;
        ensure!(made > SESSIONS / 2, "{made} of {SESSIONS} sessions were made");
        let figure = format!("0 while {made} sessions were made, of which 8 are kept");
        row("encryption path broken: session table full", "0 cleartext bytes", figure);
        Ok(())
    });
}

#[test]
fn not_at_a_change_of_keys() {
    scenario(Load::Heavy, |world| {
        let keys = KeyLimits {
            epoch_datagrams_max: Some(64),
            epoch_seconds_max: Some(1),
            rehandshake_seconds: Some(5),
        };
        let mut site = Site::prepare(world, &plan().keys(keys))?;
        no_canary(world, &mut site, DATA_LEAST, |site| {
            site.start()?;
            site.settle()?;
            // Long enough for many epochs and a handshake from either side.
            let end = Instant::now() + Duration::from_secs(13);
            while Instant::now() < end {
                pause(Duration::from_millis(200))?;
            }
            let status = site.daemon("host-a")?.status()?;
            let handshakes = number(&status.peer(ACME, "host-b")?["handshakes_ok"]);
            ensure!(handshakes >= 2, "{handshakes} handshakes in 13 s");
            Ok(())
        })
    });
}

#[test]
fn not_after_the_peer_is_gone() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &plan())?;
        no_canary(world, &mut site, DATA_LEAST, |site| {
            site.start()?;
            site.settle()?;
            // host-b dies, comes back, is removed from host-a's configuration, and added again.
            let other = site.daemon_mut("host-b")?;
            other.kill()?;
            pause(LIMIT)?;
            site.start_host("host-b")?;
            reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
            let config = site.config("host-a").environment(ACME);
            let peers = std::mem::take(&mut config.peers);
            site.reload("host-a")?;
            wait_for("the peer is gone", SETTLE_LIMIT, || {
                let status = site.daemon("host-a")?.status()?;
                Ok(status.peer(ACME, "host-b").is_err().then_some(()))
            })?;
            pause(LIMIT)?;
            let quiet = heard(world, site, "quiet")?;
            ensure!(quiet == 0, "{quiet} packets after the peer was removed");
            site.config("host-a").environment(ACME).peers = peers;
            site.reload("host-a")?;
            reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)?;
            let again = heard(world, site, "again")?;
            ensure!(again > 50, "the canary is heard again: {again}");
            Ok(())
        })
    });
}

/// Where UDP does not get through, what goes over TCP is as sealed, also while the way changes.
#[test]
fn not_over_tcp() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &plan())?;
        no_canary(world, &mut site, DATA_LEAST, |site| {
            pause(Duration::from_millis(300))?;
            for host in ["host-a", "host-b"] {
                block_udp_to(&site.topology.host(host)?.ns)?;
            }
            wait_for("datagrams go over TCP", SETTLE_LIMIT, || {
                let status = site.daemon("host-a")?.status()?;
                Ok((status.peer(ACME, "host-b")?["transport"] == "tcp").then_some(()))
            })?;
            // Until they are opened again the first time.
            site.daemon_mut("host-b")?.kill()?;
            site.start_host("host-b")?;
            reach(site.container(ACME, "a1")?, site.container(ACME, "b1")?)
        })
    });
}
