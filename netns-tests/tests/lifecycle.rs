//! Start, reload, stop, and what is left afterwards: nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use netns_tests::config::{Attachment, Peer};
use netns_tests::daemon::STOP_LIMIT;
use netns_tests::plan::PORT;
use netns_tests::process::{pause, wait_for};
use netns_tests::site::{OVERLAY_INTERFACE, SETTLE_LIMIT, reach};
use netns_tests::status::number;
use netns_tests::topology::UNDERLAY_INTERFACE;
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::ping::once;
use netns_tests::{ACME, BETA, Context, Family, Load, Plan, Result, Site, World, ensure, scenario};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(1);

#[test]
fn signals_end_it_with_code_0_and_the_interfaces_stay_or_go() {
    for (signal, stays) in [(Signal::SIGTERM, true), (Signal::SIGINT, false)] {
        scenario(Load::Light, |world| {
            let mut site = Site::up(world, &Plan::pair().two_each().with_beta())?;
            let containers = site.containers.clone();
            for container in &containers {
                ensure!(container.ns.interfaces()? == ["lo", OVERLAY_INTERFACE]);
            }
            for host in ["host-a", "host-b"] {
                let start = Instant::now();
                let status = site.daemon_mut(host)?.stop(signal, STOP_LIMIT)?;
                ensure!(status.code() == Some(0), "{signal}: {status}");
                println!("{signal}: ended after {:?}", start.elapsed());
                ensure!(!site.socket(host).exists(), "the API's socket is left");
                let left = site.topology.host(host)?.ns.interfaces()?;
                ensure!(left.len() == 2, "on the host: {left:?}");
            }
            for container in &containers {
                let left = container.ns.interfaces()?;
                let expected = if stays { &["lo", OVERLAY_INTERFACE][..] } else { &["lo"] };
                ensure!(left == expected, "{signal}: {:?} has {left:?}", container.ns);
            }
            if stays {
                // Nothing is left of containers that end while no daemon runs, nor of the helper.
                containers.iter().try_for_each(|container| world.remove(&container.ns))?;
            }
            for host in ["host-a", "host-b"] {
                let daemon = site.daemon(host)?;
                wait_for("the end of the helper", SETTLE_LIMIT, || {
                    Ok(daemon.helper()?.is_none().then_some(()))
                })?;
                let socket = site.socket(host);
                let begins = |name: &str| format!("{name}.").starts_with(&format!("{host}.sock."));
                let left = std::fs::read_dir(socket.parent().context("folder")?)?;
                let left = left.filter_map(|e| e.ok()?.file_name().into_string().ok());
                let left: Vec<_> = left.filter(|name| begins(name)).collect();
                // What is known of the time.
                let known = format!("{host}.sock.state");
                let expected = if stays { vec![known] } else { vec![] };
                ensure!(left == expected, "{signal}: {left:?}");
            }
            Ok(())
        });
    }
}

#[test]
fn it_ends_in_time_under_load_and_without_peers() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        std::thread::scope(|scope| {
            let flood = Flow {
                packets: 200_000,
                rate: Some(100_000),
                ..Flow::between(a.address(Family::V4), b.address(Family::V4))
            };
            scope.spawn(move || send(&a.ns, &b.ns, &flood));
            pause(Duration::from_millis(500))?;
            // The other one is killed: its peer is left with a session to nobody.
            site.daemon_mut("host-b")?.kill()?;
            let status = site.daemon_mut("host-a")?.stop(Signal::SIGTERM, STOP_LIMIT)?;
            ensure!(status.code() == Some(0), "{status}");
            Ok(())
        })
    });
}

/// Everything about a session that a reload must not touch.
fn sessions(site: &Site) -> Result<Vec<u64>> {
    let status = site.daemon("host-a")?.status()?;
    [ACME, BETA].iter().map(|id| Ok(number(&status.peer(id, "host-b")?["handshakes_ok"]))).collect()
}

/// Reloads with every kind of change, and gives the daemon time for each.
fn reload_in_all_ways(world: &World, site: &mut Site) -> Result<()> {
    let between = Duration::from_millis(500);
    // Nothing changed.
    for _ in 0..3 {
        site.reload("host-a")?;
        pause(between)?;
    }
    // A container, a peer and an environment come and go.
    let late = world.namespace("late")?;
    let before = site.configs["host-a"].clone();
    let config = site.config("host-a");
    config.environment(ACME).attachments.push(Attachment {
        name: "late".into(),
        netns: late.path(),
        interface: Some("eth7".into()),
        address: Some("10.40.7.7".into()),
        address6: None,
    });
    config.environment(ACME).peers.push(Peer {
        host: "host-z".into(),
        endpoint: "192.0.2.200:5820".into(),
        alternative_endpoints: Vec::new(),
        addresses: vec!["10.40.9.9".into()],
        keepalive_seconds: None,
    });
    site.reload("host-a")?;
    wait_for("the new attachment", SETTLE_LIMIT, || {
        Ok((late.interfaces()? == ["lo", "eth7"]).then_some(()))
    })?;
    *site.config("host-a") = before;
    site.reload("host-a")?;
    wait_for("the end of the new attachment", SETTLE_LIMIT, || {
        Ok((late.interfaces()? == ["lo"]).then_some(()))
    })?;
    // A mistake: the running configuration stays.
    std::fs::write(site.config_file("host-a"), "host = \"host-a\"\ncolour = \"red\"\n")?;
    site.daemon("host-a")?.reload()?;
    pause(between)?;
    site.reload("host-a")?;
    pause(between)
}

#[test]
fn reloads_keep_sessions_and_lose_no_packet() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair().two_each().with_beta())?;
        site.calm()?;
        let before = sessions(&site)?;
        let containers = site.containers.clone();
        let find = |id: &str, name: &str| {
            let found = containers.iter().find(|c| c.plan.environment == id && c.plan.name == name);
            found.cloned().context("container")
        };
        let flows = [
            (find(ACME, "a1")?, find(ACME, "b1")?),
            (find(ACME, "b2")?, find(ACME, "a2")?),
            (find(BETA, "a1")?, find(BETA, "b1")?),
            (find(ACME, "a2")?, find(ACME, "a1")?),
        ];
        let arrived = std::thread::scope(|scope| {
            let running: Vec<_> = flows
                .iter()
                .map(|(from, to)| {
                    let flow = Flow {
                        packets: 16_000,
                        rate: Some(2_000),
                        ..Flow::between(from.address(Family::V4), to.address(Family::V4))
                    };
                    scope.spawn(move || send(&from.ns, &to.ns, &flow))
                })
                .collect();
            pause(Duration::from_millis(500))?;
            reload_in_all_ways(world, &mut site)?;
            let join = |flow: std::thread::ScopedJoinHandle<'_, Result<_>>| {
                flow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            running.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        for flow in arrived {
            let whole = flow.complete() && flow.late == 0;
            ensure!(whole, "{flow:?}\n{}", site.all_drops()?);
        }
        ensure!(sessions(&site)? == before, "a session was replaced");
        site.assert_healthy()
    });
}

/// Names of everything that could be left on this machine.
fn machine(world: &World) -> Result<BTreeSet<String>> {
    let list = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    let mut found: BTreeSet<_> = list("/sys/class/net").into_iter().collect();
    let own = list("/run/netns").into_iter().filter(|name| name.starts_with(world.prefix()));
    found.extend(own);
    Ok(found)
}

#[test]
fn everything_is_gone_after_the_namespaces_are_deleted() {
    scenario(Load::Light, |world| {
        let before = machine(world)?;
        let mut site = Site::up(world, &Plan::pair().two_each())?;
        let witness = world.namespace("witness")?;
        let doomed = site.container(ACME, "a1")?.clone();
        world.remove_for_good(&doomed.ns, &witness, SETTLE_LIMIT)?;
        // The others do not notice, also while packets for the dead one keep coming.
        let (a2, b1) = (site.container(ACME, "a2")?, site.container(ACME, "b1")?);
        for _ in 0..3 {
            once(&b1.ns, doomed.address(Family::V4), Duration::from_millis(200))?;
        }
        reach(a2, b1)?;
        let fds = |site: &Site| -> Result<usize> {
            let pid = site.daemon("host-a")?.process().pid();
            Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
        };
        // A container of the same name comes back, ten times; nothing piles up.
        let mut counts = Vec::new();
        for round in 0..10 {
            let again = world.namespace(&format!("again{round}"))?;
            site.config("host-a").environment(ACME).attachments[0].netns = again.path();
            site.reload("host-a")?;
            wait_for("its interface", SETTLE_LIMIT, || {
                Ok((again.interfaces()? == ["lo", OVERLAY_INTERFACE]).then_some(()))
            })?;
            wait_for("an answer", SETTLE_LIMIT, || {
                Ok(once(&b1_of(&site)?, doomed.address(Family::V4), LIMIT)?.then_some(()))
            })?;
            counts.push(fds(&site)?);
            world.remove(&again)?;
        }
        let (first, last) = (counts[1], counts[counts.len() - 1]);
        ensure!(last <= first + 2, "open files: {counts:?}");
        site.assert_healthy()?;
        // Then all the rest, with the daemons still running.
        for container in &site.containers.clone() {
            if container.plan.name != "a1" {
                world.remove(&container.ns)?;
            }
        }
        pause(LIMIT)?;
        site.assert_healthy()?;
        for host in ["host-a", "host-b"] {
            let status = site.daemon_mut(host)?.stop(Signal::SIGTERM, STOP_LIMIT)?;
            ensure!(status.code() == Some(0), "{host}: {status}");
        }
        for host in &site.topology.hosts {
            world.remove(&host.ns)?;
        }
        world.remove(&witness)?;
        wait_for("nothing is left", SETTLE_LIMIT, || {
            let left = machine(world)?;
            ensure!(left == before, "{before:?} became {left:?}");
            Ok(Some(()))
        })
    });
}

fn b1_of(site: &Site) -> Result<netns_tests::Namespace> {
    Ok(site.container(ACME, "b1")?.ns.clone())
}

#[test]
fn a_host_does_not_talk_to_itself() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        // The listening address itself is refused by the configuration; another one of the same
        // host is not known to be its own before somebody answers there.
        let own = site.endpoint("host-a")?.to_string();
        site.config("host-a").environment(ACME).peers[0].endpoint = own;
        ensure!(site.start_host("host-a").is_err(), "a peer at its own address");
        let ns = site.topology.host("host-a")?.ns.clone();
        ns.ip(&format!("address add 192.0.2.77/24 dev {UNDERLAY_INTERFACE}"))?;
        let config = site.config("host-a");
        config.listen = format!("0.0.0.0:{PORT}");
        config.environment(ACME).peers[0].endpoint = format!("192.0.2.77:{PORT}");
        site.start_host("host-a")?;
        let a = site.container(ACME, "a1")?;
        let to = site.container(ACME, "b1")?.address(Family::V4);
        let daemon = site.daemon("host-a")?;
        let before = daemon.cpu_time()?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            ensure!(!once(&a.ns, to, Duration::from_millis(200))?, "somebody answered");
        }
        let used = daemon.cpu_time()? - before;
        ensure!(used < Duration::from_millis(800), "{used:?} of CPU in 4 s of talking to itself");
        let status = daemon.status()?;
        ensure!(!status.established(ACME, "host-b")?, "{:#}", status.0);
        let failed = number(&status.peer(ACME, "host-b")?["handshakes_failed"]);
        ensure!((1..40).contains(&failed), "{failed} failed handshakes in 4 s");
        site.assert_healthy()
    });
}

#[test]
fn a_packet_to_its_own_sender_goes_round_at_most_once() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let a = site.container(ACME, "a1")?;
        let own = std::net::SocketAddr::new(a.address(Family::V4), 5_000);
        let port = netns_tests::vnet::RawPort::open(&a.ns, OVERLAY_INTERFACE)?;
        let underlay = &site.topology.host("host-a")?.ns;
        pause(LIMIT)?;
        let (before, wire) = (a.received()?, underlay.link(UNDERLAY_INTERFACE)?);
        for _ in 0..100 {
            port.send(Default::default(), &netns_tests::packets::udp(own, own, b"loop"))?;
        }
        pause(LIMIT)?;
        let received = a.received()? - before;
        ensure!(received <= 200, "{received} packets of 100 came back");
        let after = underlay.link(UNDERLAY_INTERFACE)?;
        ensure!(after.tx_packets - wire.tx_packets < 50, "{wire:?} {after:?}");
        Ok(())
    });
}

/// The usual soft limit of 1,024 would end at some 500 attachments.
#[test]
fn a_daemon_opens_as_many_descriptors_as_its_hard_limit_allows() {
    // Alone: the limit is this whole process's.
    scenario(Load::Heavy, |world| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard)?;
        let site = Site::up(world, &Plan::pair());
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let site = site?;
        let pid = site.daemon("host-a")?.process().pid();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().next()).context("no such limit")?;
        ensure!(soft == hard.to_string(), "soft limit {soft}, hard limit {hard}");
        Ok(())
    });
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    scenario(Load::Light, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let ns = site.topology.host("host-a")?.ns.clone();
        let log = world.dir().join("second.log");
        let (file, socket) = (site.config_file("host-a"), site.socket("host-a"));
        let mut second = netns_tests::Daemon::spawn(&ns, &file, &socket, &log)?;
        let status = wait_for("the second daemon gives up", SETTLE_LIMIT, || second.ended())?;
        ensure!(!status.success() && !second.log().is_empty(), "{status}: {}", second.log());
        ensure!(Path::new(&socket).exists());
        site.ping_all()?;
        site.assert_healthy()
    });
}
