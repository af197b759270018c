//! Daemons that have become another user: what they are, and that nothing is missing. All other tests run
//! with such daemons, too.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netns_tests::daemon::STOP_LIMIT;
use netns_tests::plan::{PORT, USER};
use netns_tests::process::{run_ok, wait_for};
use netns_tests::site::{SETTLE_LIMIT, reach};
use netns_tests::traffic::ping::once;
use netns_tests::{ACME, BETA, Context, Daemon, Load, Plan, Result, Site, ensure, scenario};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(1);
const ENGINES: [&str; 2] = ["epoll", "uring"];
/// `CAP_IPC_LOCK`, which stays where locked memory is limited.
const IPC_LOCK: u64 = 1 << 14;

fn with_engine(engine: &str) -> Plan {
    Plan { engine: Some(engine.into()), ..Plan::pair().with_beta() }
}

/// Fails unless every thread of a process is this user's, without privileges, and confined.
fn assert_unprivileged(pid: i32, uid: u32) -> Result<()> {
    let mut threads = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("status"))?;
        let field = |name: &str| -> Result<&str> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.with_context(|| format!("no {name} in {text}"))?.trim())
        };
        for name in ["Uid", "Gid"] {
            let ids = field(name)?;
            ensure!(ids.split_whitespace().all(|id| id == uid.to_string()), "{name}: {ids}");
        }
        ensure!(uid == 0 || field("Groups")?.is_empty(), "{text}");
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let held = u64::from_str_radix(field(name)?, 16)?;
            ensure!(held & !IPC_LOCK == 0, "{name}: {held:x}");
        }
        ensure!((field("NoNewPrivs")?, field("Seccomp")?) == ("1", "2"), "{text}");
        threads += 1;
    }
    ensure!(threads > 2, "{threads} threads");
    Ok(())
}

#[test]
fn every_thread_is_unprivileged_and_the_helper_is_roots() {
    for engine in ENGINES {
        scenario(Load::Light, |world| {
            let mut site = Site::up(world, &with_engine(engine))?;
            let daemon = site.daemon("host-a")?;
            assert_unprivileged(daemon.process().pid().as_raw(), USER)?;
            ensure!(daemon.log().contains("privileges are given up"), "{}", daemon.log());
            let helper = daemon.helper()?.context("no helper")?;
            let status = std::fs::read_to_string(format!("/proc/{helper}/status"))?;
            ensure!(status.contains("\nUid:\t0\t0\t0\t0\n"), "{status}");
            site.assert_healthy()
        });
    }
}

/// Restarts, reloads and attachments, as they come in the life of a host.
#[test]
fn nothing_is_missing_in_the_life_of_a_host() {
    for engine in ENGINES {
        scenario(Load::Light, |world| {
            let mut site = Site::prepare(world, &with_engine(engine).two_each())?;
            let late = site.config("host-a").environment(ACME).attachments.remove(1);
            let beta = site.config("host-a").environments.remove(1);
            site.config("host-b").environment(ACME).peers[0].addresses.push("10.40.0.50".into());
            site.start()?;
            let [a1, b1, a2] = ["a1", "b1", "a2"].map(|name| site.container(ACME, name).cloned());
            let (a1, b1, a2) = (a1?, b1?, a2?);
            reach(&a1, &b1)?;
            // A reload with another attachment and another environment, whose files are read now.
            site.config("host-a").environment(ACME).attachments.push(late);
            site.config("host-a").environments.push(beta);
            site.reload("host-a")?;
            reach(&a2, &b1)?;
            reach(site.container(BETA, "a1")?, site.container(BETA, "b1")?)?;
            let newcomer = world.namespace("newcomer")?;
            let order = format!(
                "attach --env {ACME} --name new --netns {} --address 10.40.0.50",
                newcomer.path().display()
            );
            site.daemon("host-a")?.weft_net(&order)?.ok()?;
            let answers = || Ok(once(&b1.ns, "10.40.0.50".parse()?, LIMIT)?.then_some(()));
            wait_for("an answer of the newcomer", SETTLE_LIMIT, answers)?;
            for signal in [Signal::SIGKILL, Signal::SIGTERM] {
                site.daemon_mut("host-a")?.stop(signal, STOP_LIMIT)?;
                site.start_host("host-a")?;
                reach(&a1, &b1)?;
                wait_for("an answer of the newcomer", SETTLE_LIMIT, answers)?;
            }
            site.assert_healthy()
        });
    }
}

/// What only root may open is open before the daemon is somebody else.
#[test]
fn a_port_of_roots_is_listened_on() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        for (host, other) in [("host-a", "host-b"), ("host-b", "host-a")] {
            let low = |endpoint: &str| endpoint.replace(&format!(":{PORT}"), ":443");
            let there = low(&site.endpoint(other)?.to_string());
            let config = site.config(host);
            config.listen = low(&config.listen);
            config.metrics = Some("127.0.0.1:80".into());
            config.environment(ACME).peers[0].endpoint = there;
        }
        site.start()?;
        site.settle()?;
        ensure!(site.daemon("host-a")?.process().listens_on(80));
        site.assert_healthy()
    });
}

/// From root to a user, to another one, and back: what is kept goes with it.
#[test]
fn the_user_may_change_from_one_start_to_the_next() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan { user: None, ..Plan::pair() })?;
        site.config("host-b").environment(ACME).peers[0].addresses.push("10.40.0.50".into());
        site.start()?;
        site.settle()?;
        let daemon = site.daemon("host-a")?;
        assert_unprivileged(daemon.process().pid().as_raw(), 0)?;
        ensure!(daemon.log().contains("stays root"), "{}", daemon.log());
        let newcomer = world.namespace("newcomer")?;
        let order = format!(
            "attach --env {ACME} --name new --netns {} --address 10.40.0.50",
            newcomer.path().display()
        );
        daemon.weft_net(&order)?.ok()?;
        let b1 = site.container(ACME, "b1")?.clone();
        let key = site.config("host-a").environment(ACME).key.clone();
        for user in [Some(USER), Some(3_000_000_001), None, Some(USER)] {
            chown(&key, user.or(Some(0)), None)?;
            site.config("host-a").user = user.map(|user| user.to_string());
            site.daemon_mut("host-a")?.stop(Signal::SIGTERM, STOP_LIMIT)?;
            site.start_host("host-a")?;
            wait_for("an answer of the newcomer", SETTLE_LIMIT, || {
                Ok(once(&b1.ns, "10.40.0.50".parse()?, LIMIT)?.then_some(()))
            })?;
            let pid = site.daemon("host-a")?.process().pid().as_raw();
            assert_unprivileged(pid, user.unwrap_or(0))?;
        }
        site.assert_healthy()
    });
}

/// What packaging/weftd.service leaves to the daemon and its helper is enough for all that they do.
#[test]
fn the_capabilities_of_the_unit_suffice() {
    const UNIT: &str = include_str!("../../packaging/weftd.service");
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let kept: Vec<_> = line.context("no capabilities")?.split(' ').collect();
        let known = run_ok(Command::new("setpriv").arg("--list-caps"), LIMIT)?;
        let is_kept = |name: &str| kept.contains(&&*format!("CAP_{}", name.to_uppercase()));
        let dropped: Vec<_> =
            known.lines().filter(|name| !is_kept(name)).map(|name| format!("-{name}")).collect();
        ensure!(dropped.len() > 20, "{dropped:?}");
        let bounds = format!("--bounding-set={}", dropped.join(","));
        let program = ["setpriv", "--no-new-privs", &bounds].map(str::to_owned);
        for round in 0..2 {
            for host in ["host-a", "host-b"] {
                drop(site.daemons.remove(host));
                let (file, socket) = (site.write(host)?, site.socket(host));
                let ns = &site.topology.host(host)?.ns;
                let log = world.dir().join(format!("{host}-{round}.log"));
                let daemon = Daemon::start_by(&program, ns, &file, &socket, &log, &[])?;
                assert_unprivileged(daemon.process().pid().as_raw(), USER)?;
                site.daemons.insert(host.into(), daemon);
            }
            site.settle()?;
        }
        site.assert_healthy()
    });
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

#[test]
fn files_that_the_user_cannot_read_are_named_before_anything_is_made() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let ns = site.topology.host("host-a")?.ns.clone();
        let file = site.write("host-a")?;
        let environment = site.config("host-a").environment(ACME).clone();
        chown(&environment.key, Some(0), None)?;
        let checked = Daemon::check(&ns, &file)?;
        let expected = format!(
            "environment[0].key: {}: cannot be read by user {USER}: Permission denied",
            environment.key.display()
        );
        ensure!(!checked.status.success() && checked.stderr.contains(&expected), "{checked:?}");
        let started = site.start_host("host-a");
        let error = format!("{:#}", started.err().context("it started")?);
        ensure!(error.contains(&expected), "{error}");
        ensure!(!site.socket("host-a").exists(), "it left its socket");
        chown(&environment.key, Some(USER), None)?;
        site.start()?;
        site.settle()?;
        // A daemon that runs says it, too, and goes on.
        set_mode(&environment.cert, 0o600)?;
        site.reload("host-a")?;
        let daemon = site.daemon("host-a")?;
        wait_for("a complaint", SETTLE_LIMIT, || {
            let said = format!("cannot be read by user {USER}");
            Ok(daemon.log().contains(&said).then_some(()))
        })?;
        site.settle()?;
        // Nor does it start where what it keeps would be out of its reach.
        set_mode(&environment.cert, 0o644)?;
        let closed = world.dir().join("closed");
        std::fs::create_dir(&closed)?;
        set_mode(&closed, 0o700)?;
        site.config("host-a").api = closed.join("weftd.sock");
        site.daemons.clear();
        let error = format!("{:#}", site.start_host("host-a").err().context("it started")?);
        ensure!(error.contains(&format!("user {USER} does not reach")), "{error}");
        let left: Vec<_> = std::fs::read_dir(&closed)?.flatten().map(|e| e.file_name()).collect();
        ensure!(!left.contains(&"weftd.sock".into()), "{left:?}");
        site.assert_healthy()
    });
}
