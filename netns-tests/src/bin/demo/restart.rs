//! A daemon is killed, and containers hardly notice.

use std::net::SocketAddr;
use std::time::Duration;

use netns_tests::process::pause;
use netns_tests::traffic::heartbeat::{BEAT, Heartbeat};
use netns_tests::{ACME, Family, Result, Site, ensure};

use crate::screen::Screen;

/// Traffic before and after.
const AROUND: Duration = Duration::from_millis(500);
/// What every restart keeps.
const GAP_MAX: Duration = Duration::from_secs(2);

pub(crate) fn survive(screen: &Screen, site: &mut Site) -> Result<()> {
    screen.step("kill -9 of weftd");
    let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
    let to = SocketAddr::new(b.address(Family::V4), 0);
    let beats = screen.during("a TCP connection goes on all the time", 3.0, || {
        let heartbeat = Heartbeat::start(&a.ns, &b.ns, to)?;
        pause(AROUND)?;
        site.daemon_mut("host-a")?.kill()?;
        site.start_host("host-a")?;
        pause(AROUND)?;
        heartbeat.stop()
    })?;
    ensure!(beats.longest_gap < GAP_MAX, "{beats:?}");
    screen.check(&format!(
        "interface and connection are still there; of {} numbers, one each {} ms, the longest pause \
         was {} ms",
        beats.count,
        BEAT.as_millis(),
        beats.longest_gap.as_millis()
    ));
    Ok(())
}
