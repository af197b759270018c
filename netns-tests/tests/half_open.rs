//! Five thousand connections that hardly say anything.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns_tests::certificates::server_name;
use netns_tests::fault::{extent, p99, row};
use netns_tests::flood;
use netns_tests::process::pause;
use netns_tests::rogue::client_hello;
use netns_tests::site::reach;
use netns_tests::topology::{Joined, Underlay};
use netns_tests::{ACME, Load, Plan, Result, Site, ensure, scenario};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const LIMIT: Duration = Duration::from_secs(1);
/// Connections that are opened, from an address each.
const HALF_OPEN: u32 = 5_000;

#[test]
fn half_open_connections_keep_no_good_peer_waiting() {
    scenario(Load::Heavy, |world| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let mut plan = Plan::pair();
        plan.underlay = Underlay { joined: Joined::Bridge, ..Underlay::default() };
        plan.hosts.push("host-c".into());
        let mut site = Site::up(world, &plan)?;
        flood::prepare(site.topology.host("host-c")?, site.topology.host("host-a")?)?;
        let evil = site.topology.host("host-c")?.ns.clone();
        let to = site.endpoint("host-a")?;
        let hello = client_hello(&server_name(&site.pki[ACME])?)?;
        let mut open = evil.enter(|| {
            let connections = (0..HALF_OPEN).map(|from| flood::connect_from(from, to, LIMIT));
            Ok(connections.filter_map(Result::ok).collect::<Vec<_>>())
        })?;
        let count = open.len();
        ensure!(count > 4_900, "{count} connections");
        let stop = AtomicBool::new(false);
        let mut times = Vec::new();
        std::thread::scope(|scope| {
            // Each says what a client says, a byte a second; whoever was closed meanwhile calls again.
            let dripping = scope.spawn(|| -> Result<()> {
                for byte in &hello {
                    for (from, connection) in (0..).zip(&mut open) {
                        if connection.write_all(&[*byte]).is_err() {
                            let again = evil.enter(|| flood::connect_from(from, to, LIMIT));
                            *connection = again?;
                        }
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    pause(LIMIT)?;
                }
                Ok(())
            });
            let restarted = (0..extent(5, 50)).try_for_each(|_| {
                site.daemon_mut("host-b")?.kill()?;
                let begun = Instant::now();
                site.start_host("host-b")?;
                reach(site.container(ACME, "b1")?, site.container(ACME, "a1")?)?;
                times.push(begun.elapsed());
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            let dripped = dripping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            restarted.and(dripped)
        })?;
        let resident = site.daemon("host-a")?.resident_bytes()?;
        ensure!(p99(&times) < LIMIT, "{times:?}");
        ensure!(resident < 100 << 20, "{resident} bytes");
        let figure = format!(
            "{count} open, p99 {} ms from the start of the process, {} MiB",
            p99(&times).as_millis(),
            resident >> 20
        );
        row(
            "5,000 half-open connections at 1 byte/s",
            "a good peer within 1 s p99, at most 100 MiB",
            figure,
        );
        site.assert_healthy()
    });
}
