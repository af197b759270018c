//! `weft doctor` on hosts where something is wrong, each time one thing.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::time::Duration;

use netns_tests::binaries::binary;
use netns_tests::certificates::Leaf;
use netns_tests::plan::USER;
use netns_tests::process::{run, wait_for};
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::status::list;
use netns_tests::topology::UNDERLAY_INTERFACE;
use netns_tests::{ACME, Context, Load, Plan, Result, Site, ensure, scenario};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

/// What a doctor finds on host-a.
struct Findings(Vec<Value>);

impl Findings {
    fn of(site: &Site) -> Result<Self> {
        let config = site.write("host-a")?;
        let mut command = site.topology.host("host-a")?.ns.command(binary("weft")?);
        let report = run(command.args(["doctor", "--json", "--config"]).arg(config), LIMIT)?;
        let parsed: Value =
            serde_json::from_str(&report.stdout).with_context(|| report.stderr.clone())?;
        Ok(Self(list(&parsed["findings"]).to_vec()))
    }

    fn level(&self, check: &str) -> Result<&str> {
        let found = self.0.iter().find(|finding| finding["check"] == check);
        let level = found.with_context(|| format!("no {check} in {:#?}", self.0))?;
        level["level"].as_str().context("no level")
    }

    /// Fails unless a finding of this check has this level, these words, and says what to do.
    fn expect(&self, check: &str, level: &str, words: &str, remedy: &str) -> Result<()> {
        let is_it = |finding: &Value| {
            let has = |field: &str, words: &str| {
                finding[field].as_str().is_some_and(|text| text.contains(words))
            };
            finding["check"] == check
                && finding["level"] == level
                && has("finding", words)
                && has("remedy", remedy)
        };
        ensure!(self.0.iter().any(is_it), "{check}: not {words:?} in {:#?}", self.0);
        Ok(())
    }

    /// Fails when something is a problem.
    fn expect_no_problem(&self) -> Result<()> {
        let problem = self.0.iter().find(|finding| finding["level"] == "problem");
        ensure!(problem.is_none(), "{problem:#?}");
        Ok(())
    }
}

#[test]
fn a_host_that_is_right_is_found_right() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let ns = &site.topology.host("host-a")?.ns;
        // As a network card has it, unlike a pair of virtual interfaces.
        ns.run_ok(&format!("ethtool -K {UNDERLAY_INTERFACE} gro on"), LIMIT)?;
        let findings = Findings::of(&site)?;
        findings.expect_no_problem()?;
        for check in ["address", "offloads", "reserved ports", "ports", "folder", "helper"] {
            ensure!(findings.level(check)? == "good", "{check}: {:#?}", findings.0);
        }
        for check in ["peers", "known time", "buffers", "filters"] {
            ensure!(findings.level(check)? == "good", "{check}: {:#?}", findings.0);
        }
        Ok(())
    });
}

#[test]
fn offloads_and_ports_that_are_given_away_are_named() {
    scenario(Load::Light, |world| {
        let site = Site::prepare(world, &Plan::pair())?;
        let ns = &site.topology.host("host-a")?.ns;
        ns.run_ok(&format!("ethtool -K {UNDERLAY_INTERFACE} gso off gro off"), LIMIT)?;
        ns.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        let findings = Findings::of(&site)?;
        for (what, switch) in [("tx-generic-segmentation", "gso on"), ("rx-gro", "gro on")] {
            findings.expect("offloads", "advice", what, switch)?;
        }
        findings.expect("reserved ports", "advice", "5820", "ip_local_reserved_ports=5820-6332")?;
        findings.expect_no_problem()?;
        ns.run_ok(&format!("ethtool -K {UNDERLAY_INTERFACE} gso on gro on tx off"), LIMIT)?;
        ns.sysctl("net/ipv4/ip_local_reserved_ports", "5820-6332,9820")?;
        let findings = Findings::of(&site)?;
        findings.expect("offloads", "advice", "checksumming", "tx on")?;
        ensure!(findings.level("reserved ports")? == "good", "{:#?}", findings.0);
        Ok(())
    });
}

#[test]
fn an_underlay_that_carries_less_is_named() {
    scenario(Load::Light, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let ns = site.topology.host("host-a")?.ns.clone();
        ns.ip(&format!("link set {UNDERLAY_INTERFACE} mtu 1300"))?;
        let findings = Findings::of(&site)?;
        findings.expect("address", "advice", "MTU of 1300 bytes", "raise the MTU")?;
        findings.expect("mtu", "advice", "attachment a1 of environment acme", "restart weftd")?;
        // A host that listens everywhere is judged by the way to its peers.
        site.config("host-a").listen = "0.0.0.0:5820".into();
        Findings::of(&site)?.expect("address", "advice", "MTU of 1300 bytes", "raise the MTU")
    });
}

#[test]
fn users_and_what_they_cannot_read_are_named() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let key = site.config("host-a").environment(ACME).key.clone();
        chown(&key, Some(0), None)?;
        let denied = format!("cannot be read by user {USER}");
        Findings::of(&site)?.expect("configuration", "problem", &denied, "chown")?;
        site.config("host-a").user = None;
        Findings::of(&site)?.expect("user", "advice", "stays root", "useradd")?;
        // A user whom nobody else is, and one who runs something else.
        site.config("host-a").user = Some("3000000007".into());
        chown(&key, Some(3_000_000_007), None)?;
        ensure!(Findings::of(&site)?.level("user")? == "good");
        let ns = &site.topology.host("host-a")?.ns;
        let mut other = ns.command("setpriv");
        other.args(["--reuid=3000000007", "--clear-groups", "sleep", "60"]);
        let _sleeping = netns_tests::process::Process::start(&mut other, None)?;
        wait_for("somebody else", SETTLE_LIMIT, || {
            let findings = Findings::of(&site)?;
            Ok(findings.expect("user", "advice", "as whom sleep runs", "of its own").ok())
        })?;
        site.config("host-a").user = Some("weft-has-no-account".into());
        Findings::of(&site)?.expect("configuration", "problem", "is no user of this host", "")
    });
}

#[test]
fn certificates_that_the_clock_does_not_allow_are_named() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        for (validity, words, remedy) in [
            ((-2_000, -60), "expired at", "weft pki issue"),
            ((3_600, 7_200), "is not valid before", "clock is behind"),
        ] {
            let mut leaf = Leaf::proper(ACME, "host-a");
            (leaf.valid_from, leaf.valid_until) = validity;
            let files = leaf.signed_by(&site.pki[ACME])?.write(&world.dir().join("spoilt"))?;
            let environment = site.config("host-a").environment(ACME);
            (environment.cert, environment.key) = (files.cert, files.key);
            Findings::of(&site)?.expect("configuration", "problem", words, remedy)?;
        }
        Ok(())
    });
}

#[test]
fn a_helper_that_is_gone_is_a_problem() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let helper = site.daemon("host-a")?.helper()?.context("no helper")?;
        kill(helper, Signal::SIGKILL)?;
        wait_for("the end of the helper", SETTLE_LIMIT, || {
            Ok(site.daemon("host-a")?.helper()?.is_none().then_some(()))
        })?;
        Findings::of(&site)?.expect("helper", "problem", "is gone", "restart weftd")
    });
}

#[test]
fn folders_of_others_and_clocks_that_are_behind_are_named() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let folder = world.dir().join("run");
        std::fs::create_dir(&folder)?;
        site.config("host-a").api = folder.join("weftd.sock");
        ensure!(Findings::of(&site)?.level("folder")? == "good");
        let set_mode =
            |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode));
        set_mode(0o777)?;
        Findings::of(&site)?.expect("folder", "problem", "others than root", "chmod go-w")?;
        set_mode(0o1777)?;
        Findings::of(&site)?.expect("folder", "advice", "anybody can put files", "/run/weft")?;
        set_mode(0o755)?;
        chown(&folder, Some(USER), None)?;
        Findings::of(&site)?.expect("folder", "problem", "belongs to user 65534", "chown root")?;
        chown(&folder, Some(0), None)?;
        // As a daemon keeps what certificates have proved.
        let state = folder.join("weftd.sock.state");
        std::fs::create_dir(&state)?;
        std::fs::write(state.join("acme.time"), "4102444800")?;
        Findings::of(&site)?.expect("known time", "problem", "environment acme", "timedatectl")
    });
}
