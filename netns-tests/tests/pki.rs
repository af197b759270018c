//! `weft pki`: files, modes, refusals.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netns_tests::binaries::binary;
use netns_tests::certificates::{Identity, uri};
use netns_tests::pki::Pki;
use netns_tests::process::{Output, run};
use netns_tests::{ACME, Load, Result, ensure, scenario};

const LIMIT: Duration = Duration::from_secs(20);

fn weft(arguments: &[&str]) -> Result<Output> {
    run(Command::new(binary("weft")?).args(arguments), LIMIT)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[test]
fn keys_are_private_and_nothing_is_overwritten() {
    scenario(Load::Light, |world| {
        let pki = Pki::init(world.dir(), ACME)?;
        let host = pki.issue("host-a")?;
        for key in [pki.ca_key(), host.key.clone()] {
            let mode = std::fs::metadata(&key)?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{} has mode {mode:o}", key.display());
        }
        let files = [pki.ca_cert(), pki.ca_key(), host.cert.clone(), host.key.clone()];
        let before = files.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
        let dir = world.dir().join(ACME);
        let dir = text(&dir);
        for again in [
            &["pki", "init", "--env", ACME, "--out", dir][..],
            &["pki", "issue", "--env", ACME, "--host", "host-a", "--ca", dir, "--out", dir],
        ] {
            let output = weft(again)?;
            ensure!(!output.status.success(), "{again:?} overwrote something");
            ensure!(output.stderr.contains("exist"), "{}", output.stderr);
        }
        let after = files.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
        ensure!(before == after, "a file changed");
        ensure!(std::fs::read_dir(dir)?.count() == files.len(), "something half-written is left");
        Ok(())
    });
}

#[test]
fn certificates_say_who_they_are() {
    scenario(Load::Light, |world| {
        let pki = Pki::init(world.dir(), ACME)?;
        let host = pki.issue("host-a")?;
        let shown = weft(&["pki", "show", text(&host.cert)])?.ok()?;
        ensure!(shown.contains(&uri(ACME, "host-a")), "{shown}");
        let shown = weft(&["pki", "show", text(&pki.ca_cert())])?.ok()?;
        ensure!(shown.contains(ACME), "{shown}");
        ensure!(!Identity::read(&host)?.chain.is_empty());
        let nothing = weft(&["pki", "show", "/nowhere.pem"])?;
        ensure!(!nothing.status.success() && nothing.stderr.contains("/nowhere.pem"));
        Ok(())
    });
}

#[test]
fn wrong_orders_are_refused() {
    scenario(Load::Light, |world| {
        let pki = Pki::init(world.dir(), ACME)?;
        let ca = world.dir().join(ACME);
        let (ca, out) = (text(&ca), world.dir().join("out"));
        let out = text(&out);
        let issue = |env, host, days| {
            weft(&[
                "pki", "issue", "--env", env, "--host", host, "--ca", ca, "--out", out, "--days",
                days,
            ])
        };
        ensure!(issue(ACME, "host-a", "30")?.status.success());
        for (what, order) in [
            ("another environment", issue("beta", "host-b", "30")?),
            ("a name that is no label", issue(ACME, "Host B", "30")?),
            ("no days", issue(ACME, "host-b", "0")?),
            ("longer than the authority", issue(ACME, "host-b", "36500")?),
        ] {
            ensure!(!order.status.success(), "{what} was accepted");
            ensure!(order.stderr.len() > 10, "{what}: no reason");
        }
        ensure!(std::fs::read_dir(out)?.count() == 2, "a refused order left a file");
        ensure!(pki.environment() == ACME);
        Ok(())
    });
}
