//! What is left of a session's keys when it is over: in memory, in files, in a core, in swap.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use memchr::memmem;
use netns_tests::binaries::binary;
use netns_tests::certificates::{Identity, server_name};
use netns_tests::config::KeyLimits;
use netns_tests::daemon::STOP_LIMIT;
use netns_tests::fault::row;
use netns_tests::packets;
use netns_tests::process::{Process, pause, wait_for};
use netns_tests::rogue::{Metadata, Parties, Session};
use netns_tests::secrets::{KEY_LEN, aes_keys, occurrences};
use netns_tests::site::{SETTLE_LIMIT, reach};
use netns_tests::status::list;
use netns_tests::traffic::datagrams::socket;
use netns_tests::{ACME, Context, Family, Load, Plan, Result, Site, World, ensure, scenario};
use nix::sys::signal::Signal;

/// What the end of a session may take until nothing of it is there.
const WIPED: Duration = Duration::from_secs(2);
/// Datagrams under one key, and flows that send more: all lanes are theirs.
const EPOCH_DATAGRAMS: u64 = 64;
const FLOWS: u16 = 32;
/// A file is read if it is no larger, bytes.
const FILE_MAX: u64 = 64 << 20;
const MUST: &str = "0 hits of any secret in memory, logs, files, core, swap";

/// The daemon on a host and its helper.
fn processes(site: &Site, host: &str) -> Result<[i32; 2]> {
    let daemon = site.daemon(host)?;
    let helper = daemon.helper()?.context("no helper")?;
    Ok([daemon.process().pid().as_raw(), helper.as_raw()])
}

/// How often any of these is in memory, over all processes.
fn hits(processes: &[i32], secrets: &[&[u8]]) -> Result<usize> {
    let mut hits = 0;
    for pid in processes {
        hits += occurrences(*pid, secrets)?.iter().sum::<usize>();
    }
    Ok(hits)
}

fn remove_peer(site: &mut Site, host: &str, peer: &str) -> Result<()> {
    site.config(host).environment(ACME).peers.retain(|known| known.host != peer);
    site.reload(host)?;
    wait_for("the end of the session", SETTLE_LIMIT, || {
        let status = site.daemon(host)?.status()?;
        let peers = list(&status.environment(ACME)?["peers"]);
        Ok(peers.is_empty().then_some(()))
    })?;
    pause(WIPED)
}

/// Every file below a directory, but for certificates and keys of hosts.
fn files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type()))?;
        let kind = kind?;
        if kind.is_dir() {
            files(&path, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Logs, what is kept, configurations: no secret, neither as it is nor in hexadecimal.
fn assert_in_no_file(world: &World, secrets: &[&[u8]]) -> Result<usize> {
    let mut all = Vec::new();
    files(world.dir(), &mut all)?;
    for path in &all {
        ensure!(path.metadata()?.len() <= FILE_MAX, "{} is too long", path.display());
        let bytes = std::fs::read(path)?.to_ascii_lowercase();
        for secret in secrets {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let raw = secret.to_ascii_lowercase();
            for form in [raw.as_slice(), hex.as_bytes()] {
                ensure!(memmem::find(&bytes, form).is_none(), "a secret is in {}", path.display());
            }
        }
    }
    Ok(all.len())
}

/// Nothing of the daemon can be in swap: it is locked.
fn assert_not_swapped(pid: i32) -> Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| -> Result<u64> {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.split_whitespace().next().context("no number")?.parse()?)
    };
    ensure!(kib("VmLck:")? > 0, "memory is not locked");
    ensure!(kib("VmSwap:")? == 0, "{} KiB are in swap", kib("VmSwap:")?);
    Ok(())
}

/// The test is host-b, so it knows every secret of the session.
#[test]
fn nothing_of_a_session_is_left_when_it_is_over() {
    scenario(Load::Heavy, |world| {
        let keys = KeyLimits { epoch_datagrams_max: Some(EPOCH_DATAGRAMS), ..KeyLimits::default() };
        let mut site = Site::prepare(world, &Plan::pair().keys(keys))?;
        site.start_host("host-a")?;
        let files = site.pki[ACME].issue_into("host-b", &world.dir().join("rogue"))?;
        let identity = Identity::read(&files)?;
        let parties = Parties { environment: ACME, client: "host-b", server: "host-a" };
        let name = server_name(&site.pki[ACME])?;
        let ns = &site.topology.host("host-b")?.ns;
        let to = site.endpoint("host-a")?;
        let mut session = Session::open(ns, to, &name, parties, &identity)?;
        let (a1, b1) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let end = |c: &netns_tests::Container, port| SocketAddr::new(c.address(Family::V4), port);
        let packet = packets::udp(end(b1, 6_000), end(a1, 6_001), b"alive");
        let before = a1.received()?;
        // Again and again: the daemon says that it is ready before all of its workers are.
        wait_for("the session carries data", SETTLE_LIMIT, || {
            session.send(&packet, &[], Metadata::PLAIN)?;
            Ok((a1.received()? > before).then_some(()))
        })?;
        let secrets = session.secrets.clone();
        let all = processes(&site, "host-a")?;
        // What is in use is found: the search works.
        for [secret, key] in &secrets.lanes {
            ensure!(hits(&all[..1], &[key])? > 0, "a key in use was not found");
            ensure!(hits(&all[1..], &[secret, key])? == 0, "the helper has a key");
        }
        // With it all epochs could be had: it is gone already.
        ensure!(hits(&all, &[&secrets.exported])? == 0, "the exported secret is still there");
        // The daemon's own lanes go on to other keys, and nothing tells of those before.
        for port in 0..FLOWS {
            let from = socket(&a1.ns, end(a1, 7_000 + port))?;
            for _ in 0..2 * EPOCH_DATAGRAMS {
                from.send_to(b"on and on", end(b1, 6_000))?;
            }
        }
        let before: Vec<&[u8]> = secrets.lanes[1..].iter().flatten().map(Vec::as_slice).collect();
        wait_for("the keys of the first epoch are gone", SETTLE_LIMIT, || {
            let left = hits(&all, &before)?;
            ensure!(left == 0, "{left} hits of {} secrets of the epoch before", before.len());
            Ok(Some(()))
        })?;
        let mut every: Vec<&[u8]> = secrets.lanes.iter().flatten().map(Vec::as_slice).collect();
        every.push(&secrets.exported);
        remove_peer(&mut site, "host-a", "host-b")?;
        let left = hits(&all, &every)?;
        ensure!(left == 0, "{left} hits of {} secrets", every.len());
        let files = assert_in_no_file(world, &every)?;
        assert_not_swapped(all[0])?;
        let figure = format!(
            "0 of {} secrets in 2 processes, {files} files; no swap; of an epoch before none either",
            every.len()
        );
        row("memory and files after a session's end, the secrets known", MUST, figure);
        site.assert_healthy()
    });
}

/// Two daemons: the keys that both have expanded are those of their sessions.
#[test]
fn no_key_is_left_when_two_daemons_have_parted() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        site.calm()?;
        let (a, b) = (processes(&site, "host-a")?, processes(&site, "host-b")?);
        let of_a = aes_keys(a[0])?;
        let shared: BTreeSet<[u8; KEY_LEN]> =
            aes_keys(b[0])?.intersection(&of_a).copied().collect();
        // Two lanes each way.
        ensure!(shared.len() >= 4, "only {} keys found, {} in host-a", shared.len(), of_a.len());
        let keys: Vec<&[u8]> = shared.iter().map(<[u8; KEY_LEN]>::as_slice).collect();
        remove_peer(&mut site, "host-a", "host-b")?;
        wait_for("the other end has forgotten, too", SETTLE_LIMIT, || {
            Ok((!site.daemon("host-b")?.status()?.established(ACME, "host-a")?).then_some(()))
        })?;
        pause(WIPED)?;
        let left = hits(&[a, b].concat(), &keys)?;
        ensure!(left == 0, "{left} hits of {} keys", keys.len());
        let files = assert_in_no_file(world, &keys)?;
        assert_not_swapped(a[0])?;
        assert_not_swapped(b[0])?;
        let figure = format!("0 of {} keys in 4 processes, {files} files; no swap", keys.len());
        row("memory and files when two daemons have parted", MUST, figure);
        site.assert_healthy()
    });
}

/// A daemon that aborts leaves no core, where another program would.
#[test]
fn an_abort_leaves_no_core() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let dir = world.dir().join("cores");
        std::fs::create_dir(&dir)?;
        let dumping =
            |program: &str| format!("ulimit -c unlimited; cd {}; {program}", dir.display());
        let control = Command::new("sh").args(["-c", &dumping("kill -ABRT $$")]).status()?;
        let log = world.dir().join("aborted.log");
        let config = site.write("host-a")?;
        let run = format!("exec {} --config {}", binary("weftd")?.display(), config.display());
        let ns = site.topology.host("host-a")?.ns.clone();
        let mut daemon = Process::start(ns.command("sh").args(["-c", &dumping(&run)]), Some(&log))?;
        site.start_host("host-b")?;
        reach(site.container(ACME, "b1")?, site.container(ACME, "a1")?)?;
        let ended = daemon.stop(Signal::SIGABRT, STOP_LIMIT)?;
        ensure!(ended.signal() == Some(Signal::SIGABRT as i32), "{ended}");
        ensure!(!ended.core_dumped(), "the daemon left a core");
        let cores = std::fs::read_dir(&dir)?.count();
        let of_control = usize::from(control.core_dumped());
        ensure!(cores <= of_control, "{cores} files, one of them the control's");
        let control = if control.core_dumped() { "a shell does" } else { "nor does a shell here" };
        row("abort", "no core", format!("the daemon leaves none; {control}"));
        Ok(())
    });
}
