//! The library itself: what it builds works, what it measures is true, nothing stays behind.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netns_tests::plan::PORT;
use netns_tests::process::{Process, run_ok, wait_for};
use netns_tests::relay::alias;
use netns_tests::topology::{Joined, Offloads, Topology, UNDERLAY_INTERFACE, Underlay};
use netns_tests::traffic::datagrams::{Flow, send, socket};
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::traffic::ping::{Ping, once, ping};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{Capture, Family, Faults, Load, Relay, Result, Way, World, ensure, scenario};

const LIMIT: Duration = Duration::from_secs(2);
const SEED: u64 = 42;
const HOSTS: [&str; 2] = ["host-a", "host-b"];

fn direct(world: &World) -> Result<Topology> {
    Topology::new(world, Underlay::default(), &HOSTS)
}

/// Two hosts that know each other through a relay.
fn relayed(world: &World, seed: u64) -> Result<(Topology, Relay)> {
    let underlay = Underlay { joined: Joined::Bridge, ..Underlay::default() };
    let topology = Topology::new(world, underlay, &["host-a", "host-b", "relay"])?;
    let [a, b, host] = [0, 1, 2].map(|n| &topology.hosts[n]);
    let relay = Relay::start(host, a, b, Family::V4, seed)?;
    Ok((topology, relay))
}

/// `count` datagrams from the first host to the relay's name for the second, as a daemon would
/// send them, and how many of them came out at the second.
fn through(topology: &Topology, count: usize) -> Result<Vec<Vec<u8>>> {
    let [a, b] = [0, 1].map(|n| &topology.hosts[n]);
    let receiver = socket(&b.ns, (b.v4, PORT).into())?;
    let sender = socket(&a.ns, (a.v4, 40_000).into())?;
    for number in 0..count {
        let mut payload = vec![0; 200];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        sender.send_to(&payload, (alias(Family::V4, 0), PORT))?;
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    receiver.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut arrived = Vec::new();
    let mut buffer = [0; 300];
    while let Ok((len, from)) = receiver.recv_from(&mut buffer) {
        let expected = SocketAddr::new(alias(Family::V4, 1), 40_000);
        ensure!(from == expected, "the source port is kept: {from}");
        arrived.push(buffer[..len].to_vec());
    }
    Ok(arrived)
}

#[test]
fn hosts_reach_each_other_in_every_shape() {
    for joined in [Joined::Direct, Joined::Bridge] {
        for offloads in [Offloads::On, Offloads::Receive, Offloads::Off] {
            scenario(Load::Light, |world| {
                let underlay = Underlay { joined, offloads, ..Underlay::default() };
                let topology = Topology::new(world, underlay, &HOSTS)?;
                let [a, b] = [&topology.hosts[0], &topology.hosts[1]];
                for family in [Family::V4, Family::V6] {
                    let pinged = ping(&a.ns, b.address(family), &Ping::default())?;
                    ensure!(pinged.complete(), "{}", pinged.text);
                    ensure!(pinged.round_trips.len() == 10, "{}", pinged.text);
                }
                let line = format!("ethtool -k {UNDERLAY_INTERFACE}");
                let features = a.ns.run_ok(&line, LIMIT)?;
                let on = features.contains("tx-udp-segmentation: on");
                ensure!(on == (offloads == Offloads::On), "{features}");
                let aggregates = features.contains("generic-receive-offload: on");
                ensure!(offloads == Offloads::On || aggregates == (offloads == Offloads::Receive));
                Ok(())
            });
        }
    }
}

#[test]
fn namespaces_have_no_way_to_the_machine() {
    scenario(Load::Light, |world| {
        let container = world.namespace("alone")?;
        ensure!(container.interfaces()? == ["lo"]);
        ensure!(!once(&container, "192.0.2.1".parse()?, LIMIT)?);
        ensure!(container.command("true").get_program() == "setpriv");
        Ok(())
    });
}

/// Everything of a world, seen from outside.
fn traces(prefix: &str, dir: &Path) -> bool {
    let namespaces = run_ok(Command::new("ip").args(["netns", "list"]), LIMIT).expect("ip netns");
    namespaces.contains(prefix) || dir.exists()
}

/// Whether the wrappers around a command have become the shell that they were to start.
fn exec_done(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sh")
}

#[test]
fn a_world_goes_with_everything_in_it() {
    let world = World::new(Load::Light).unwrap();
    let topology = direct(&world).unwrap();
    let (prefix, dir) = (world.prefix().to_owned(), world.dir().to_owned());
    assert!(traces(&prefix, &dir));
    // A process that nobody keeps a guard for, deaf to SIGTERM.
    let ns = &topology.hosts[0].ns;
    let mut command = ns.command("sh");
    let deaf = command.args(["-c", "trap '' TERM; while :; do sleep 1; done"]).spawn();
    let pid = deaf.unwrap().id();
    wait_for("the shell runs", LIMIT, || Ok(exec_done(pid).then_some(()))).unwrap();
    drop(world);
    assert!(!traces(&prefix, &dir));
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "still running: {state}");
}

#[test]
fn a_world_goes_by_a_panic_too() {
    let mut seen = None;
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        scenario(Load::Light, |world| {
            world.namespace("doomed")?;
            seen = Some((world.prefix().to_owned(), world.dir().to_owned()));
            anyhow::bail!("on purpose: this test wants a failure")
        });
    }));
    assert!(result.is_err());
    let (prefix, dir) = seen.unwrap();
    assert!(!traces(&prefix, &dir));
}

#[test]
fn processes_end_with_their_guard_and_keep_to_their_limit() {
    scenario(Load::Light, |world| {
        let ns = world.namespace("p")?;
        let log = world.dir().join("p.log");
        let process = Process::start(ns.command("sleep").arg("1000"), Some(&log))?;
        let proc = format!("/proc/{}", process.pid());
        wait_for("exec", LIMIT, || {
            let name = std::fs::read_to_string(format!("{proc}/comm"))?;
            Ok((name.trim() == "sleep").then_some(()))
        })?;
        drop(process);
        ensure!(!Path::new(&proc).exists());
        let start = std::time::Instant::now();
        let endless = ns.run("sleep 1000", Duration::from_millis(200));
        ensure!(endless.is_err() && start.elapsed() < LIMIT, "{endless:?}");
        Ok(())
    });
}

#[test]
fn counters_and_captures_are_exact() {
    scenario(Load::Light, |world| {
        let underlay = Underlay { offloads: Offloads::Off, ..Underlay::default() };
        let topology = Topology::new(world, underlay, &HOSTS)?;
        let [a, b] = [&topology.hosts[0], &topology.hosts[1]];
        let dir = world.dir();
        let capture = Capture::start(&b.ns, UNDERLAY_INTERFACE, "udp port 7", dir, "b")?;
        let sender = socket(&a.ns, (a.v4, 40_000).into())?;
        let receiver = socket(&b.ns, (b.v4, 7).into())?;
        let before = b.ns.link(UNDERLAY_INTERFACE)?;
        sender.send_to(b"first canary in the coal mine", receiver.local_addr()?)?;
        sender.send_to(&[0; 1472], receiver.local_addr()?)?;
        let caught = capture.finish()?;
        let datagrams: Vec<_> = caught.datagrams().collect();
        ensure!(datagrams.len() == 2, "{datagrams:?}");
        ensure!(datagrams[0].payload == b"first canary in the coal mine");
        ensure!(datagrams[0].from == sender.local_addr()?);
        ensure!(datagrams[1].payload.len() == 1472);
        // The proof that a missing canary means something.
        ensure!(caught.containing(b"canary") == 1 && caught.containing(b"parrot") == 0);
        let after = b.ns.link(UNDERLAY_INTERFACE)?;
        ensure!(after.rx_packets >= before.rx_packets + 2);
        Ok(())
    });
}

#[test]
fn flows_tell_loss_from_arrival() {
    scenario(Load::Light, |world| {
        let topology = direct(world)?;
        let [a, b] = [0, 1].map(|n: usize| &topology.hosts[n].ns);
        let [from, to] = [0, 1].map(|n: usize| topology.hosts[n].v6.into());
        let flow = Flow { packets: 5_000, rate: Some(20_000), ..Flow::between(from, to) };
        let arrived = send(a, b, &flow)?;
        ensure!(arrived.complete() && arrived.late == 0, "{arrived:?}");
        let took = arrived.elapsed.as_secs_f64();
        ensure!((0.2..0.6).contains(&took), "5,000 at 20,000 per second in {took} s");
        let batched = send(a, b, &Flow { segments: 50, ..flow })?;
        ensure!(batched.complete() && batched.late == 0, "{batched:?}");
        // A receiver that cannot be reached receives nothing.
        b.ip("link set eth0 down")?;
        let cut = send(a, b, &Flow { packets: 10, ..flow });
        ensure!(cut.is_err() || cut?.received == 0);
        Ok(())
    });
}

#[test]
fn transfers_and_iperf_run_between_hosts() {
    scenario(Load::Light, |world| {
        let topology = direct(world)?;
        let [a, b] = [&topology.hosts[0], &topology.hosts[1]];
        let bytes = 8 << 20;
        let transfer = transfer(&a.ns, &b.ns, (b.v4, 0).into(), bytes, SEED)?;
        transfer.assert_equal(bytes)?;
        for udp in [false, true] {
            let run = Iperf { udp, rate: Some(50_000_000), streams: 2, ..Iperf::default() };
            let report = iperf(&b.ns, &a.ns, b.v6.into(), &run)?;
            let rate = report.bits_per_second;
            ensure!((5e7..2e8).contains(&rate), "{rate} of 2 × 50 Mbit/s, {}", report.json["end"]);
        }
        Ok(())
    });
}

#[test]
fn a_relay_without_faults_is_a_wire() {
    scenario(Load::Light, |world| {
        let (topology, relay) = relayed(world, SEED)?;
        let arrived = through(&topology, 2_000)?;
        ensure!(arrived.len() == 2_000);
        ensure!(arrived.is_sorted(), "in order");
        let tally = relay.tally(Way::There);
        ensure!((tally.received, tally.sent, tally.dropped) == (2_000, 2_000, 0), "{tally:?}");
        // TCP passes through as well.
        let [a, b] = [&topology.hosts[0], &topology.hosts[1]];
        let listener = b.ns.enter(|| Ok(std::net::TcpListener::bind((b.v4, PORT))?))?;
        let to = SocketAddr::new(alias(Family::V4, 0), PORT);
        let mut stream = a.ns.enter(|| Ok(std::net::TcpStream::connect(to)?))?;
        std::io::Write::write_all(&mut stream, b"hello")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let (mut peer, _) = listener.accept()?;
        let text = std::io::read_to_string(&mut peer)?;
        ensure!(text == "hello", "{text}");
        Ok(())
    });
}

#[test]
fn a_relay_does_what_its_faults_say() {
    scenario(Load::Light, |world| {
        let (topology, relay) = relayed(world, SEED)?;
        relay.faults(Faults::rough(0.05));
        let arrived = through(&topology, 4_000)?;
        let tally = relay.tally(Way::There);
        let plausible = 120..280;
        for share in [tally.dropped, tally.duplicated, tally.reordered] {
            ensure!(plausible.contains(&share), "{tally:?}");
        }
        let expected = tally.received - tally.dropped + tally.duplicated;
        ensure!(arrived.len() as u64 == expected, "{} of {expected}", arrived.len());
        ensure!(!arrived.is_sorted(), "nothing was reordered");
        Ok(())
    });
}

#[test]
fn a_relay_holds_and_injects() {
    scenario(Load::Light, |world| {
        let (topology, relay) = relayed(world, SEED)?;
        relay.hold(Way::There, 3, 100);
        ensure!(through(&topology, 10)?.len() == 7);
        let held = relay.take(Way::There);
        ensure!(held.len() == 3 && held[0].port == 40_000 && held[0].payload.len() == 200);
        let receiver = socket(&topology.hosts[1].ns, (topology.hosts[1].v4, PORT).into())?;
        receiver.set_read_timeout(Some(LIMIT))?;
        relay.inject(Way::There, &held[1])?;
        let mut buffer = [0; 300];
        let (len, from) = receiver.recv_from(&mut buffer)?;
        ensure!(buffer[..len] == held[1].payload && from.port() == 40_000);
        Ok(())
    });
}
