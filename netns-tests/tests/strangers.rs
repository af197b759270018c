//! Strangers with certificates that nobody may accept.

use std::time::Duration;

use netns_tests::certificates::{Leaf, bad, server_name};
use netns_tests::fault::{extent, row};
use netns_tests::process::wait_for;
use netns_tests::rogue::dial;
use netns_tests::seeded::{Seeded, seed};
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::status::number;
use netns_tests::{ACME, BETA, Load, Plan, Site, ensure, scenario};

/// What one may cost the daemon.
const CPU_MAX: Duration = Duration::from_millis(50);

#[test]
fn bad_certificates_are_refused_and_cost_little() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().with_beta())?;
        site.start_host("host-a")?;
        let ns = &site.topology.host("host-b")?.ns;
        let (to, name) = (site.endpoint("host-a")?, server_name(&site.pki[ACME])?);
        let mut random = Seeded::new(seed());
        let count = extent(40, 200);
        let all = bad::generate(&site.pki[ACME], &site.pki[BETA], &mut random, count)?;
        let daemon = site.daemon("host-a")?;
        let begun = daemon.run_time()?;
        let mut worst = (Duration::ZERO, "");
        for (what, identity) in &all {
            let before = daemon.run_time()?;
            let verdict = dial(ns, to, &name, Some(identity))?;
            ensure!(!verdict.accepted(), "{what} was accepted");
            worst = worst.max((daemon.run_time()? - before, what));
        }
        let mean = (daemon.run_time()? - begun) / u32::try_from(count)?;
        let status = daemon.status()?;
        ensure!(!status.established(ACME, "host-b")?);
        ensure!(number(&status.peer(ACME, "host-b")?["handshakes_ok"]) == 0);
        // They came as far as the certificate, and the right one does more.
        wait_for("all are counted", SETTLE_LIMIT, || {
            let refused = daemon.metrics()?.sum("handshakes_rejected", &[]);
            ensure!(refused >= f64::from(u32::try_from(count)?), "{refused} are counted");
            Ok(Some(()))
        })?;
        let proper = Leaf::proper(ACME, "host-b").signed_by(&site.pki[ACME])?;
        let verdict = dial(ns, to, &name, Some(&proper))?;
        ensure!(verdict.accepted(), "{verdict:?}");
        ensure!(worst.0 <= CPU_MAX, "{worst:?}");
        let figure = format!(
            "0 of {count} accepted; CPU {:.1} ms each, at most {:.1} ms ({})",
            mean.as_secs_f64() * 1e3,
            worst.0.as_secs_f64() * 1e3,
            worst.1
        );
        row("generated bad certificates", "0 accepted, at most 50 ms of CPU each", figure);
        site.assert_healthy()
    });
}
