//! Paths that carry less than their ends take, and say nothing about it.

use std::thread;
use std::time::{Duration, Instant};

use netns_tests::fault::{extent, row};
use netns_tests::process::{pause, wait_for};
use netns_tests::seeded::seed;
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, Family, Faults, Load, Plan, Site, ensure, scenario};

/// Some seconds of traffic through a relay.
const BYTES: u64 = 512 << 20;
/// How long it goes well.
const GOOD: Duration = Duration::from_millis(300);
/// Until the length is found.
const FOUND_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of the underlay's IPv4 and UDP headers.
const HEADERS: usize = 28;
/// A search ends that close to what the path carries, bytes.
const PRECISION: f64 = 8.0;

/// What IPv6 takes for granted arrives on a path that does not carry it, and what may be fragmented;
/// what may not be is answered. UDP superpackets and TCP in both directions as well.
#[test]
fn what_every_link_must_carry_arrives_on_a_path_that_does_not() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        relay.faults(Faults { payload_max: 1_200, ..Faults::NONE });
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let ping =
            |line: &str, family: Family| a.ns.run(&format!("{line} {}", b.address(family)), PING);
        // Until the hosts know; 48 and 28 bytes are headers.
        for (family, payload) in [(Family::V6, 1_280 - 48), (Family::V4, 1_408 - 28)] {
            wait_for("the length is found", FOUND_LIMIT, || {
                let line = format!("ping -n -c 1 -W 1 -M dont -s {payload}");
                Ok(ping(&line, family)?.ok().is_ok().then_some(()))
            })?;
            let line = format!("ping -n -c 50 -i 0.01 -W 2 -M dont -s {payload}");
            let answers = ping(&line, family)?.ok()?;
            ensure!(answers.contains(" 0% packet loss"), "{answers}");
        }
        // Before the containers learn what goes otherwise.
        for family in [Family::V4, Family::V6] {
            let flow = Flow {
                packets: 2_000,
                payload: 1_180,
                segments: 10,
                ..Flow::between(a.address(family), b.address(family))
            };
            let arrived = send(&a.ns, &b.ns, &flow)?;
            ensure!(arrived.complete(), "{family:?}: {arrived:?}");
        }
        let refused = ping("ping -n -c 1 -W 1 -M do -s 1380", Family::V4)?;
        ensure!(refused.ok().is_err(), "it may not be cut");
        for family in [Family::V4, Family::V6] {
            let to = (b.address(family), 0).into();
            transfer(&a.ns, &b.ns, to, 4 << 20, seed())?.assert_equal(4 << 20)?;
        }
        site.assert_healthy()
    });
}

/// A transfer goes on after so long at most.
fn recovered_max() -> Duration {
    // TCP inside doubles its pauses; beside other tests it may need one more.
    Duration::from_secs(extent(10, 5))
}

const PING: Duration = Duration::from_secs(10);

/// The relay drops what is too long, as a tunnel in the way does whose ICMP is filtered.
#[test]
fn a_path_that_shrinks_in_the_middle_of_a_transfer() {
    for (family, mtu) in [(Family::V4, 1_280), (Family::V6, 1_360), (Family::V4, 1_420)] {
        scenario(Load::Heavy, |world| {
            let mut site = Site::prepare(world, &Plan::pair().relayed())?;
            let relay = site.relay(seed())?;
            site.start()?;
            site.settle()?;
            let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
            let to = (b.address(family), 0).into();
            let payload_max = mtu - HEADERS;
            let run = thread::scope(|scope| {
                let run = scope.spawn(|| transfer(&a.ns, &b.ns, to, BYTES, seed()));
                pause(GOOD)?;
                relay.faults(Faults { payload_max, ..Faults::NONE });
                run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            run.assert_equal(BYTES)?;
            ensure!(run.longest_gap < recovered_max(), "nothing for {:?}", run.longest_gap);
            let start = Instant::now();
            let found = wait_for("the length is found", FOUND_LIMIT, || {
                let found = site
                    .daemon("host-a")?
                    .metrics()?
                    .sum("datagram_max_bytes", &[("environment", ACME)]);
                #[expect(clippy::cast_precision_loss, reason = "a length below 2^16")]
                let carried = payload_max as f64;
                Ok((found <= carried && found + PRECISION > carried).then_some(found))
            })?;
            row(
                &format!("underlay MTU shrinks to {mtu} mid-flow, {family:?}, no ICMP"),
                "the transfer completes; recovery at most 5 s",
                format!(
                    "nothing for {} ms; {found} bytes found, {:.1} s after the end",
                    run.longest_gap.as_millis(),
                    start.elapsed().as_secs_f64(),
                ),
            );
            site.assert_healthy()
        });
    }
}
