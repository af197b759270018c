//! Rows of the fault catalogue that no other test has: loss, disorder, restarts, moves, floods and limits.
//! See docs/faults.md.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use netns_tests::daemon::STOP_LIMIT;
use netns_tests::fault::{extent, p99, row};
use netns_tests::filter::{link_speed, lose};
use netns_tests::plan::PORT;
use netns_tests::process::{pause, run_ok, wait_for};
use netns_tests::seeded::{Seeded, seed};
use netns_tests::site::{Container, SETTLE_LIMIT, reach};
use netns_tests::topology::{Joined, Offloads, UNDERLAY_INTERFACE, Underlay};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::heartbeat::Heartbeat;
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::vxlan;
use netns_tests::{
    ACME, Context, Family, Faults, Load, Plan, Relay, Result, Site, Way, World, ensure, scenario,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};

const LIMIT: Duration = Duration::from_secs(1);
const STATUS_LIMIT: Duration = Duration::from_secs(10);

/// Most by which the inner loss may differ from that of the network, percentage points.
const LOSS_DIFFERENCE_MAX: f64 = 0.2;

#[expect(clippy::cast_precision_loss, reason = "shares to show")]
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Two hosts with a relay between them.
fn rough(world: &World) -> Result<(Site, Relay)> {
    let mut site = Site::prepare(world, &Plan::pair().relayed())?;
    let relay = site.relay(seed())?;
    site.start()?;
    site.settle()?;
    Ok((site, relay))
}

#[test]
fn what_the_network_loses_is_lost_and_nothing_else() {
    scenario(Load::Heavy, |world| {
        let (site, relay) = rough(world)?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        let packets = extent(20_000, 200_000);
        let mut figures = Vec::new();
        for share in [0.001, 0.01, 0.05, 0.2] {
            relay.faults_of(Way::There, Faults { drop: share, ..Faults::NONE });
            let before = relay.tally(Way::There);
            let flow = Flow {
                packets,
                payload: 200,
                rate: Some(10_000),
                ..Flow::between(a.address(Family::V4), b.address(Family::V4))
            };
            let arrived = send(&a.ns, &b.ns, &flow)?;
            let after = relay.tally(Way::There);
            ensure!(arrived.damaged == 0 && arrived.duplicates == 0, "{arrived:?}");
            let network = percent(after.dropped - before.dropped, after.received - before.received);
            let inner = percent(arrived.sent - arrived.received, arrived.sent);
            // On a busy machine a stream may serve for a moment.
            let passed = after.received - before.received;
            ensure!(passed >= packets - packets / 100, "only {passed} datagrams: {arrived:?}");
            ensure!((inner - network).abs() <= LOSS_DIFFERENCE_MAX, "{inner} % of {network} %");
            figures.push(format!("{network:.2} % → {inner:.2} %"));
        }
        let must = "inner loss equals the network's ± 0.2 points";
        row("loss 0.1, 1, 5, 20 %", must, format!("{} of {packets} each", figures.join(", ")));
        Ok(())
    });
}

#[test]
fn whatever_is_repeated_or_late_arrives_once() {
    scenario(Load::Heavy, |world| {
        let (site, relay) = rough(world)?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        relay.faults_of(Way::There, Faults { duplicate: 0.5, reorder: 0.5, ..Faults::NONE });
        let drops = |site: &Site| site.daemon("host-b")?.status()?.drops(Some(ACME));
        let before = drops(&site)?;
        let packets = extent(20_000, 200_000);
        let flow = Flow {
            packets,
            payload: 200,
            rate: Some(10_000),
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        let arrived = send(&a.ns, &b.ns, &flow)?;
        ensure!(arrived.complete() && arrived.late > 0, "{arrived:?}");
        let after = drops(&site)?;
        for (cause, count) in &after {
            let more = count - before.get(cause).copied().unwrap_or_default();
            ensure!(cause == "replay" || more == 0, "{more} drops by {cause}");
        }
        let repeated = relay.tally(Way::There).duplicated;
        let must = "each packet delivered at most once; no false drop";
        let figure =
            format!("{packets} packets, {repeated} repeated, {} late: each once", arrived.late);
        row("half repeated, half out of order", must, figure);
        Ok(())
    });
}

/// Runs a connection between a1 and b1 while `act` is done so often; gives its pauses, one for each.
fn pauses(
    site: &mut Site,
    times: usize,
    mut act: impl FnMut(&mut Site, usize) -> Result<()>,
) -> Result<Vec<Duration>> {
    let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
    let at = |c: &Container| SocketAddr::new(c.address(Family::V4), 0);
    let mut longest = Vec::with_capacity(times);
    for time in 0..times {
        let heartbeat = Heartbeat::start(&a.ns, &b.ns, at(&b))?;
        pause(Duration::from_millis(100))?;
        act(site, time)?;
        pause(Duration::from_millis(400))?;
        longest.push(heartbeat.stop()?.longest_gap);
    }
    Ok(longest)
}

fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[test]
fn a_daemon_that_is_killed_again_and_again_is_back_each_time() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let times = extent(5, 200);
        let gaps = pauses(&mut site, times, |site, _| {
            site.daemon_mut("host-a")?.kill()?;
            site.start_host("host-a")
        })?;
        ensure!(p99(&gaps) < Duration::from_secs(2), "{gaps:?}");
        let figure = |gaps: &[Duration]| format!("{} times: p99 {}", gaps.len(), ms(p99(gaps)));
        row("peer kill -9", "back in 2 s p99", figure(&gaps));
        let gaps = pauses(&mut site, times.min(20), |site, _| {
            let helper = site.daemon("host-a")?.helper()?.context("no helper")?;
            kill(helper, Signal::SIGKILL)?;
            site.daemon_mut("host-a")?.kill()?;
            site.start_host("host-a")
        })?;
        ensure!(p99(&gaps) < Duration::from_secs(5), "{gaps:?}");
        row("daemon and helper kill -9", "back in 5 s p99", figure(&gaps));
        let gaps = pauses(&mut site, times.min(50), |site, _| {
            site.daemon_mut("host-a")?.stop(Signal::SIGTERM, STOP_LIMIT)?;
            site.start_host("host-a")
        })?;
        // In a few restarts beside other work one may take longer; not in the whole catalogue.
        let limit = extent(Duration::from_secs(2), Duration::from_millis(100));
        ensure!(p99(&gaps) <= limit, "{gaps:?}");
        row("planned restart", "at most 100 ms", figure(&gaps));
        site.assert_healthy()
    });
}

#[test]
fn a_host_that_moves_again_and_again_is_followed() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        for host in ["host-a", "host-b"] {
            site.config(host).listen = format!("0.0.0.0:{PORT}");
        }
        site.start()?;
        site.settle()?;
        let address = |time: usize| format!("192.0.2.{}", 100 + time % 2);
        let own = site.topology.host("host-b")?.v4;
        let times = extent(4, 100);
        let gaps = pauses(&mut site, times, |site, time| {
            let ns = &site.topology.host("host-b")?.ns;
            ns.sysctl(&format!("net/ipv4/conf/{UNDERLAY_INTERFACE}/promote_secondaries"), "1")?;
            let (old, new) = match time {
                0 => (own.to_string(), address(0)),
                _ => (address(time - 1), address(time)),
            };
            ns.ip(&format!("address add {new}/24 dev {UNDERLAY_INTERFACE}"))?;
            ns.ip(&format!("address del {old}/24 dev {UNDERLAY_INTERFACE}")).map(drop)
        })?;
        ensure!(p99(&gaps) < LIMIT, "{gaps:?}");
        let figure = format!("{times} times: p99 {}", ms(p99(&gaps)));
        row("address change mid-transfer", "gap at most 1 s p99", figure);
        site.assert_healthy()
    });
}

/// Datagrams that one call sends.
const SEGMENTS: usize = 40;
/// What a datagram without payload has: the header, metadata and the tag.
const GUESS_LEN: usize = 60;

#[test]
fn guessed_session_indices_cost_little_and_change_nothing() {
    scenario(Load::Heavy, |world| {
        let mut plan = Plan::pair();
        plan.underlay = Underlay { joined: Joined::Bridge, ..Underlay::default() };
        plan.hosts.push("host-c".into());
        let site = Site::up(world, &plan)?;
        let evil = &site.topology.host("host-c")?.ns;
        let to = site.endpoint("host-a")?;
        let socket = evil.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        let len = i32::try_from(GUESS_LEN)?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &len)?;
        let mut random = Seeded::new(seed());
        let daemon = site.daemon("host-a")?;
        let unknown = || -> Result<u64> {
            let drops = daemon.status()?.drops(None)?;
            Ok(drops.get("unknown_session").copied().unwrap_or_default())
        };
        let (before, cpu) = (unknown()?, daemon.cpu_time()?);
        let wanted = extent(400_000, 10_000_000);
        let mut batch = vec![0; GUESS_LEN * SEGMENTS];
        let (mut seen, begun) = (0, Instant::now());
        while seen < wanted {
            ensure!(begun.elapsed() < LIMIT * extent(10, 120), "only {seen} guesses");
            for _ in 0..1_000 {
                for guess in batch.chunks_exact_mut(GUESS_LEN) {
                    random.fill(&mut guess[1..]);
                    // Version 1, data.
                    guess[0] = 0x11;
                    guess[2..4].copy_from_slice(&u16::try_from(GUESS_LEN)?.to_be_bytes());
                    guess[4] &= 1;
                }
                // What the receiver's queue does not take is lost, and counted as not seen.
                let _ = socket.send_to(&batch, to);
            }
            seen = unknown()? - before;
        }
        let used = daemon.cpu_time()? - cpu;
        let each = used.as_secs_f64() * 1e6 / f64::from(u32::try_from(seen)?);
        site.ping_all()?;
        let figure =
            format!("{seen} guesses, 0 accepted, {each:.2} µs each, the kernel's part included");
        ensure!(each < extent(10.0, 1.0), "{each} µs each");
        row("guessed session indices", "no state change, at most 1 µs each", figure);
        Ok(())
    });
}

#[test]
fn where_descriptors_run_out_the_rest_goes_on() {
    // Alone: the limit is this whole process's.
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let crowd = world.namespace("crowd")?;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let attachments = &mut site.config("host-a").environment(ACME).attachments;
        for number in 0..150_u32 {
            attachments.push(netns_tests::config::Attachment {
                name: format!("c{number}"),
                netns: crowd.path(),
                interface: Some(format!("w{number}")),
                address: Some(format!("10.40.7.{}", number + 2)),
                address6: None,
            });
        }
        // The hard limit of one process that starts the daemon, and of all that it starts.
        let ns = site.topology.host("host-a")?.ns.clone();
        let config = site.write("host-a")?;
        let log = world.dir().join("few.log");
        let command = format!(
            "prlimit --nofile=256:256 {} --config {}",
            netns_tests::binaries::binary("weftd")?.display(),
            config.display()
        );
        let process = netns_tests::process::Process::start(
            ns.command("sh").args(["-c", &format!("exec {command}")]),
            Some(&log),
        )?;
        site.start_host("host-b")?;
        let (a1, b1) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        reach(&a1, &b1)?;
        let status = wait_for("all have been tried", SETTLE_LIMIT, || {
            let text = run_ok(
                ns.command(netns_tests::binaries::binary("weft")?)
                    .args(["net", "status", "--json", "--socket"])
                    .arg(site.socket("host-a")),
                STATUS_LIMIT,
            )?;
            let status = netns_tests::status::Status(serde_json::from_str(&text)?);
            Ok((!status.is_waiting()).then_some(status))
        })?;
        let all =
            status.environment(ACME)?["attachments"].as_array().context("attachments")?.clone();
        let up = all.iter().filter(|a| a["state"] == "up").count();
        let failed: Vec<_> = all.iter().filter(|a| a["state"] == "failed").collect();
        ensure!(up > 80 && !failed.is_empty(), "{up} up, {} failed", failed.len());
        let why = failed[0]["last_error"].as_str().unwrap_or_default().to_owned();
        ensure!(why.contains("descriptor") || why.contains("open files"), "{why}");
        reach(&b1, &a1)?;
        drop(process);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        let figure = format!("{up} of {} attachments; the others: {why}", all.len());
        row("RLIMIT_NOFILE 256", "no exit; data plane alive; clear error", figure);
        Ok(())
    });
}

#[test]
fn a_full_disk_is_said_and_harms_nothing() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let disk = world.dir().join("disk");
        std::fs::create_dir(&disk)?;
        let path = disk.display().to_string();
        let mount = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", &path];
        run_ok(std::process::Command::new("mount").args(mount), STATUS_LIMIT)?;
        let unmount =
            || run_ok(std::process::Command::new("umount").args(["-l", &path]), STATUS_LIMIT);
        let socket = disk.join("a.sock");
        site.config("host-a").api = socket.clone();
        let ns = site.topology.host("host-a")?.ns.clone();
        let config = site.write("host-a")?;
        let log = world.dir().join("disk.log");
        let daemon = netns_tests::Daemon::start(&ns, &config, &socket, &log)?;
        site.start_host("host-b")?;
        let (a1, b1) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        reach(&a1, &b1)?;
        std::fs::write(disk.join("filler"), vec![0; 64 << 10]).ok();
        let newcomer = world.namespace("newcomer")?;
        let order = format!(
            "attach --env {ACME} --name new --netns {} --address 10.40.0.50",
            newcomer.path().display()
        );
        let refused = daemon.weft_net(&order)?;
        let left = newcomer.interfaces()?;
        reach(&b1, &a1)?;
        std::fs::remove_file(disk.join("filler"))?;
        let accepted = daemon.weft_net(&order)?.ok();
        drop(daemon);
        unmount()?;
        ensure!(!refused.status.success(), "attached although nothing can be kept");
        ensure!(refused.stderr.contains("No space left"), "{}", refused.stderr);
        ensure!(left == ["lo"], "{left:?}");
        accepted?;
        row("full disk", "no exit; data plane alive; clear error", refused.stderr.trim());
        Ok(())
    });
}

#[test]
fn tcp_loses_no_more_by_it_than_in_a_plain_tunnel() {
    scenario(Load::Heavy, |world| {
        let mut plan = Plan::pair();
        // What is lost is one packet, not a superpacket of many.
        plan.underlay = Underlay { offloads: Offloads::Off, ..Underlay::default() };
        let site = Site::up(world, &plan)?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        let (va, vb) = (world.namespace("va")?, world.namespace("vb")?);
        let hosts = &site.topology.hosts;
        vxlan::join(1, Family::V4, (&hosts[0], &va), (&hosts[1], &vb))?;
        let ways = [(&a.ns, &b.ns, b.address(Family::V4)), (&va, &vb, vxlan::address(1, 2))];
        let iperf_of = Iperf {
            time: Duration::from_secs(extent(2, 4)),
            congestion: "cubic",
            ..Iperf::default()
        };
        let figure = |loss| -> Result<String> {
            lose(&site, loss)?;
            let mut rates = [Vec::new(), Vec::new()];
            // One after the other, again and again: what else the machine does meets both.
            for _ in 0..extent(3, 5) {
                for ((from, to, address), rates) in ways.iter().zip(&mut rates) {
                    rates.push(iperf(to, from, *address, &iperf_of)?.bits_per_second);
                }
            }
            let [ours, plain] = rates.map(|mut rates| {
                rates.sort_by(f64::total_cmp);
                rates[rates.len() / 2]
            });
            let ratio = ours / plain;
            let word = if loss > 0.0 && ratio < 0.9 { "missed: " } else { "" };
            Ok(format!("{word}{ratio:.2} at {loss} % ({:.0} Mbit/s)", ours / 1e6))
        };
        let mut figures = Vec::new();
        // Without any loss it is how much two cores carry of each.
        for loss in [0.0, 0.1, 1.0, 5.0] {
            figures.push(figure(loss)?);
        }
        link_speed(&site, 1_000)?;
        let mut of_link = Vec::new();
        for loss in [0.0, 0.1, 1.0] {
            of_link.push(figure(loss)?);
        }
        lose(&site, 0.0)?;
        row(
            "TCP at a loss of 0, 0.1, 1, 5 %",
            "0.9 × a plain UDP tunnel (VXLAN)",
            format!("{}; on a link of 1 Gbit/s {}", figures.join(", "), of_link.join(", ")),
        );
        site.ping_all()
    });
}

#[test]
fn handshakes_come_through_a_network_that_loses_a_fifth() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        lose(&site, 20.0)?;
        let mut times = Vec::new();
        for _ in 0..extent(4, 100) {
            site.daemon_mut("host-b")?.kill()?;
            site.start_host("host-b")?;
            let begun = Instant::now();
            wait_for("a session", Duration::from_secs(30), || {
                let status = site.daemon("host-b")?.status()?;
                Ok(status.established(ACME, "host-a")?.then_some(()))
            })?;
            times.push(begun.elapsed());
        }
        lose(&site, 0.0)?;
        ensure!(p99(&times) < Duration::from_secs(10), "{times:?}");
        let figure = format!("{} handshakes: p99 {}", times.len(), ms(p99(&times)));
        row("handshakes at a loss of 20 %", "p99 at most 10 s", figure);
        site.ping_all()
    });
}
