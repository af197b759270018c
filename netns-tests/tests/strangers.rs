//! Strangers with certificates that nobody may accept, and handshakes that nobody goes on with.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use netns_tests::certificates::{Leaf, bad, server_name};
use netns_tests::fault::{extent, row};
use netns_tests::process::{pause, wait_for};
use netns_tests::rogue::{cut, dial};
use netns_tests::seeded::{Seeded, seed};
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::status::number;
use netns_tests::{ACME, BETA, Load, Plan, Result, Site, ensure, scenario};
use socket2::SockRef;

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

/// What a handshake may keep when nobody goes on with it.
const FREED_MAX: Duration = Duration::from_secs(10);
/// A source that is known has 500 handshakes a second.
const BETWEEN: Duration = Duration::from_millis(3);
/// Connections that stand still at a time: fewer than the daemon has room for.
const SILENT: usize = 200;

/// With the right certificate, up to every single byte, and then nothing, or a reset.
#[test]
fn a_handshake_that_breaks_off_anywhere_leaves_nothing() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        site.start_host("host-a")?;
        let ns = &site.topology.host("host-b")?.ns;
        let (to, name) = (site.endpoint("host-a")?, server_name(&site.pki[ACME])?);
        let identity = Leaf::proper(ACME, "host-b").signed_by(&site.pki[ACME])?;
        let daemon = site.daemon("host-a")?;
        let descriptors = || -> Result<usize> {
            Ok(std::fs::read_dir(format!("/proc/{}/fd", daemon.process().pid()))?.count())
        };
        let before = descriptors()?;
        let (first, length, done) = cut(ns, to, &name, &identity, usize::MAX)?;
        ensure!(done, "the whole handshake is done after {length} bytes");
        drop(first);
        let ok = || -> Result<u64> {
            let status = daemon.status()?;
            Ok(number(&status.peer(ACME, "host-b")?["handshakes_ok"]))
        };
        wait_for("the session", SETTLE_LIMIT, || Ok((ok()? == 1).then_some(())))?;
        let cuts: Vec<usize> = (0..length).step_by(extent(64, 1)).collect();
        // A signature is now and then a byte or two shorter, and so the whole.
        let mut whole = 1_u32;
        let mut break_off = |at: usize| -> Result<TcpStream> {
            pause(BETWEEN)?;
            let (tcp, sent, done) = cut(ns, to, &name, &identity, at)?;
            ensure!(if done { sent + 8 > length } else { sent == at }, "{sent} of {at}: {done}");
            whole += u32::from(done);
            Ok(tcp)
        };
        for at in &cuts {
            SockRef::from(&break_off(*at)?).set_linger(Some(Duration::ZERO))?;
        }
        for part in cuts.chunks(SILENT) {
            let mut open = Vec::new();
            let begun = Instant::now();
            for at in part {
                open.push(break_off(*at)?);
            }
            let opened = begun.elapsed();
            wait_for("all that they took is free", FREED_MAX + opened, || {
                let now = descriptors()?;
                ensure!(now <= before, "{now} descriptors, {before} before");
                Ok(Some(()))
            })?;
        }
        ensure!(ok()? == u64::from(whole), "a handshake that broke off was taken for done");
        let sessions = daemon.metrics()?.sum("weft_environment_sessions", &[]);
        ensure!(sessions <= f64::from(whole), "{sessions} sessions");
        let figure =
            format!("{} cuts of {length} bytes, each both ways: freed, 0 keys", cuts.len());
        let must = "freed in 10 s, no key installed";
        row("handshake cut at every byte, then silence or reset", must, figure);
        site.assert_healthy()
    });
}
