//! Drivers and cards that damage segmented sends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netns_tests::fault::row;
use netns_tests::filter::{damage, repair};
use netns_tests::process::{pause, wait_for};
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, Family, Load, Plan, Result, Site, ensure, scenario};

/// Longer than any single datagram.
const SEGMENTED: u32 = 2_000;

fn is_segmented(site: &Site) -> Result<bool> {
    let status = site.daemon("host-a")?.status()?;
    Ok(status.peer(ACME, "host-b")?["segmented"] == true)
}

fn refused(site: &Site) -> Result<u64> {
    site.drops_by("host-b", ACME, "authentication")
}

/// Runs TCP from a1 to b1 while `act` happens.
fn under_load(site: &Site, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
    let load = Iperf { time: Duration::from_secs(12), ..Iperf::default() };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| iperf(&b.ns, &a.ns, b.address(Family::V4), &load));
        let happened = act();
        let report = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(report.bits_per_second > 1e6, "the load was flowing");
        happened
    })
}

#[test]
fn segmented_sends_stop_where_they_arrive_damaged_and_nowhere_else() {
    scenario(Load::Heavy, |world| {
        let site = Site::up(world, &Plan::pair().with_beta())?;
        let ns = &site.topology.host("host-a")?.ns;
        damage(ns, SEGMENTED, 1)?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let begun = Instant::now();
        let mut noticed = Duration::ZERO;
        under_load(&site, || {
            wait_for("no segmented sends", SETTLE_LIMIT, || {
                Ok((!is_segmented(&site)?).then_some(()))
            })?;
            noticed = begun.elapsed();
            Ok(())
        })?;
        // Nothing is damaged any more, though all that is segmented would be.
        pause(Duration::from_secs(1))?;
        let before = refused(&site)?;
        ensure!(before > 0, "nothing was damaged");
        let to = SocketAddr::new(b.address(Family::V4), 0);
        transfer(&a.ns, &b.ns, to, 30_000_000, 1)?.assert_equal(30_000_000)?;
        ensure!(refused(&site)? == before, "{before} and then {}", refused(&site)?);
        // The other environment has its own link and its own judgement.
        let status = site.daemon("host-a")?.status()?;
        ensure!(status.peer("beta", "host-b")?["segmented"] == true);
        let metrics = site.daemon("host-a")?.metrics()?;
        ensure!((metrics.sum("weft_peer_gso_enabled", &[]) - 1.0).abs() < 0.1, "one of two");
        let figure =
            format!("noticed after {noticed:.1?}; {before} damaged until then, none after");
        row(
            "segmented sends are damaged",
            "switched off for that peer, nothing damaged after",
            figure,
        );
        repair(ns)
    });
}

#[test]
fn segmentation_is_not_blamed_for_damage_that_goes_on_without_it() {
    scenario(Load::Heavy, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let ns = &site.topology.host("host-a")?.ns;
        damage(ns, 500, 15)?;
        under_load(&site, || {
            wait_for("no segmented sends", SETTLE_LIMIT, || {
                Ok((!is_segmented(&site)?).then_some(()))
            })?;
            wait_for("segmented sends again", SETTLE_LIMIT, || {
                Ok(is_segmented(&site)?.then_some(()))
            })?;
            pause(Duration::from_secs(2))?;
            ensure!(is_segmented(&site)?, "and no more than once");
            Ok(())
        })?;
        repair(ns)
    });
}
