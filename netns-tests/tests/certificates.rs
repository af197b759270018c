//! Only the right certificate opens a session, whichever side it is on.

use std::time::Duration;

use netns_tests::certificates::{Identity, Leaf, server_name, uri};
use netns_tests::plan::PORT;
use netns_tests::process::{pause, wait_for};
use netns_tests::rogue::{Imposter, dial};
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::status::number;
use netns_tests::traffic::ping::once;
use netns_tests::{ACME, BETA, Family, Load, Plan, Result, Site, ensure, scenario};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

const HOUR: i64 = 3_600;
/// The daemon takes 20 handshakes per second from one address after a burst of 5.
const BETWEEN_DIALS: Duration = Duration::from_millis(120);
const LIMIT: Duration = Duration::from_millis(300);

/// What is wrong, and the certificate that has it.
fn wrong_certificates(site: &Site) -> Result<Vec<(&'static str, Identity)>> {
    let (acme, beta) = (&site.pki[ACME], &site.pki[BETA]);
    let proper = Leaf::proper(ACME, "host-b");
    let spoilt = |what, change: &dyn Fn(&mut Leaf)| -> Result<(&'static str, Identity)> {
        let mut leaf = proper.clone();
        change(&mut leaf);
        Ok((what, leaf.signed_by(acme)?))
    };
    Ok(vec![
        spoilt("expired", &|l| (l.valid_from, l.valid_until) = (-2_000, -60))?,
        spoilt("not yet valid", &|l| (l.valid_from, l.valid_until) = (HOUR, 2 * HOUR))?,
        spoilt("for clients only", &|l| l.usages = vec![ClientAuth])?,
        spoilt("for servers only", &|l| l.usages = vec![ServerAuth])?,
        spoilt("for nothing", &|l| l.usages.clear())?,
        spoilt("no name at all", &|l| l.uris.clear())?,
        spoilt("the name of a host that is no peer", &|l| l.uris = vec![uri(ACME, "host-c")])?,
        spoilt("the daemon's own name", &|l| l.uris = vec![uri(ACME, "host-a")])?,
        spoilt("a name in another environment", &|l| l.uris = vec![uri(BETA, "host-b")])?,
        spoilt("a name of another form", &|l| l.uris = vec!["spiffe://weft/host-b".into()])?,
        spoilt("another installation", &|l| {
            l.uris = vec![uri(ACME, "host-b").replace("//weft/", "//other/")];
        })?,
        spoilt("two names", &|l| l.uris.push(uri(ACME, "host-d")))?,
        spoilt("a DNS name besides", &|l| l.dns_names = vec!["host-b.example".into()])?,
        spoilt("an authority's", &|l| l.authority = true)?,
        ("signed by itself", proper.self_signed()?),
        ("signed by another environment", proper.signed_by(beta)?),
        ("another environment's", Leaf::proper(BETA, "host-b").signed_by(beta)?),
    ])
}

/// host-a with both environments; nobody on host-b.
fn alone(world: &netns_tests::World) -> Result<Site> {
    Site::prepare(world, &Plan::pair().with_beta())
}

#[test]
fn a_client_needs_the_right_certificate() {
    scenario(Load::Light, |world| {
        let mut site = alone(world)?;
        site.start_host("host-a")?;
        let ns = &site.topology.host("host-b")?.ns;
        let (to, name) = (site.endpoint("host-a")?, server_name(&site.pki[ACME])?);
        for (what, identity) in wrong_certificates(&site)? {
            let verdict = dial(ns, to, &name, Some(&identity))?;
            ensure!(!verdict.accepted(), "{what} was accepted");
            pause(BETWEEN_DIALS)?;
        }
        ensure!(!dial(ns, to, &name, None)?.accepted(), "no certificate was accepted");
        let status = site.daemon("host-a")?.status()?;
        ensure!(!status.established(ACME, "host-b")?);
        // The same client with the right one is let in.
        let proper = Leaf::proper(ACME, "host-b").signed_by(&site.pki[ACME])?;
        let verdict = dial(ns, to, &name, Some(&proper))?;
        ensure!(verdict.accepted(), "{verdict:?}");
        // Failures are counted, and the log names no secret.
        let metrics = site.daemon("host-a")?.metrics()?;
        ensure!(metrics.sum("handshake", &[]) >= 10.0, "failures are counted");
        ensure!(!site.daemon("host-a")?.log().contains("PRIVATE"));
        site.assert_healthy()
    });
}

#[test]
fn a_server_needs_the_right_certificate() {
    scenario(Load::Light, |world| {
        let mut site = alone(world)?;
        // Only acme is dialled, so every connection at the imposter is meant for it.
        site.config("host-a").environments.retain(|e| e.id == ACME);
        let proper = Leaf::proper(ACME, "host-b").signed_by(&site.pki[ACME])?;
        let mut cases = wrong_certificates(&site)?;
        cases.push(("right", proper));
        for (what, identity) in cases {
            let ns = site.topology.host("host-b")?.ns.clone();
            let address = site.topology.host("host-b")?.v4;
            let imposter = Imposter::listen(&ns, (address, PORT).into(), &identity)?;
            site.start_host("host-a")?;
            let a = site.container(ACME, "a1")?;
            let peer = site.container(ACME, "b1")?.address(Family::V4);
            let verdicts = wait_for(&format!("host-a dials ({what})"), SETTLE_LIMIT, || {
                once(&a.ns, peer, LIMIT)?;
                let verdicts = imposter.verdicts();
                Ok((!verdicts.is_empty()).then_some(verdicts))
            })?;
            let accepted = verdicts.iter().any(|verdict| verdict.accepted());
            ensure!(accepted == (what == "right"), "{what}: {verdicts:?}");
            if what != "right" {
                let status = site.daemon("host-a")?.status()?;
                let failed = number(&status.peer(ACME, "host-b")?["handshakes_failed"]);
                ensure!(failed > 0, "{what}: not counted as failed");
            }
            drop(imposter);
            site.daemons.clear();
        }
        Ok(())
    });
}
