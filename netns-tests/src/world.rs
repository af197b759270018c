//! The guard that owns everything a test makes on this machine.
//!
//! Names carry the test process's id, so tests run side by side. When a [`World`] goes, in order
//! or by a panic, so do its processes, namespaces and files; what a killed test runner left behind
//! is swept by the next one. Heavy tests have the machine to themselves: they hold a file lock
//! alone that light ones share, which also works between processes.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::Namespace;
use crate::process::{POLL, TERM_GRACE, run_regardless, wait_for};

/// Prefix of every namespace's name; the maker's process id follows.
const PREFIX: &str = "wt";
const DIR_PREFIX: &str = "weft-test-";
const LOCK_FILE: &str = "weft-netns-tests.lock";
/// Lines of each log that are printed when a test fails.
const LOG_LINES_SHOWN: usize = 40;
const IP_LIMIT: Duration = Duration::from_secs(10);

/// Whether a test may share the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Pings and a few thousand packets: runs beside other light tests.
    Light,
    /// Moves gigabytes or measures: runs alone.
    Heavy,
}

/// Everything that one test made. Keep it until the end of the test, below what uses it.
pub struct World {
    prefix: String,
    dir: PathBuf,
    namespaces: Mutex<Vec<Namespace>>,
    _turn: Option<Flock<File>>,
}

impl World {
    /// Waits for its turn, then gives an empty world.
    ///
    /// # Errors
    /// Without root, or when the temporary directory cannot be written.
    pub fn new(load: Load) -> Result<Self> {
        static SWEEP: Once = Once::new();
        ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root: run as root");
        let lock = std::env::temp_dir().join(LOCK_FILE);
        let file = OpenOptions::new().create(true).append(true).open(&lock);
        let file = file.with_context(|| format!("open {}", lock.display()))?;
        let how = match load {
            Load::Light => FlockArg::LockShared,
            Load::Heavy => FlockArg::LockExclusive,
        };
        let turn = Flock::lock(file, how).map_err(|(_, e)| e).context("lock")?;
        SWEEP.call_once(sweep);
        Self::empty(Some(turn))
    }

    /// A second world in the turn of this one, for a test that needs the same names twice.
    ///
    /// # Errors
    /// When the temporary directory cannot be written.
    pub fn beside(&self) -> Result<Self> {
        Self::empty(None)
    }

    fn empty(turn: Option<Flock<File>>) -> Result<Self> {
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}x{}", std::process::id(), SEQUENCE.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("{DIR_PREFIX}{id}"));
        std::fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        let prefix = format!("{PREFIX}{id}-");
        Ok(Self { prefix, dir, namespaces: Mutex::default(), _turn: turn })
    }

    /// A new namespace with nothing but its loopback; `label` tells it apart in this world.
    ///
    /// # Errors
    /// When it exists already or the kernel refuses.
    pub fn namespace(&self, label: &str) -> Result<Namespace> {
        let ns = Namespace::create(&format!("{}{label}", self.prefix))?;
        self.lock().push(ns.clone());
        ns.prepare()?;
        Ok(ns)
    }

    /// Removes a namespace now, with the processes in it.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn remove(&self, ns: &Namespace) -> Result<()> {
        self.lock().retain(|other| other != ns);
        end_processes(std::slice::from_ref(&ns.name().to_owned()));
        delete(ns.name())
    }

    /// Removes a namespace and waits until it is really gone, not only its name. A wire to `witness`
    /// tells: it ends with the namespace.
    ///
    /// # Errors
    /// When something keeps the namespace alive for longer than `limit`.
    pub fn remove_for_good(
        &self,
        ns: &Namespace,
        witness: &Namespace,
        limit: Duration,
    ) -> Result<()> {
        let name = ns.name();
        witness.ip(&format!("link add w0 type veth peer name w1 netns {name}"))?;
        self.remove(ns)?;
        wait_for("the end of the namespace", limit, || {
            Ok((!witness.interfaces()?.contains(&"w0".into())).then_some(()))
        })
    }

    /// Temporary directory; goes with the world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Prints the end of each log in [`World::dir`]; also done when a test panics.
    pub fn show_logs(&self) {
        show_logs(&self.dir);
    }

    /// What all namespaces of this world begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Namespace>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(&self.dir);
        }
        let names: Vec<String> = self.lock().drain(..).map(|ns| ns.name().to_owned()).collect();
        remove_namespaces(&names);
        // Nothing to do about a failure here; the next sweep tries again.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Removes what test runners that are gone have left.
fn sweep() {
    let gone = |name: &str, prefix: &str| {
        let pid = name.strip_prefix(prefix).and_then(|rest| rest.split_once('x'));
        let pid = pid.filter(|(pid, _)| pid.parse::<u32>().is_ok());
        pid.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
    };
    let names: Vec<_> = list(Path::new("/run/netns")).filter(|n| gone(n, PREFIX)).collect();
    remove_namespaces(&names);
    let temp = std::env::temp_dir();
    for name in list(&temp).filter(|n| gone(n, DIR_PREFIX)) {
        let _ = std::fs::remove_dir_all(temp.join(name));
    }
}

fn list(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn remove_namespaces(names: &[String]) {
    end_processes(names);
    for name in names {
        if let Err(e) = delete(name) {
            eprintln!("left behind: namespace {name}: {e:#}");
        }
    }
}

fn delete(name: &str) -> Result<()> {
    let mut command = Command::new("ip");
    run_regardless(command.args(["netns", "del", name]), IP_LIMIT)?.ok().map(drop)
}

/// Ends the processes inside these namespaces: SIGTERM, a while, SIGKILL.
fn end_processes(names: &[String]) {
    let signal_all = |signal| {
        let pids: Vec<i32> = names.iter().flat_map(|name| pids_in(name)).collect();
        for &pid in &pids {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        !pids.is_empty()
    };
    if !signal_all(Signal::SIGTERM) {
        return;
    }
    wait_until_empty(names);
    if signal_all(Signal::SIGKILL) {
        wait_until_empty(names);
    }
}

fn wait_until_empty(names: &[String]) {
    let end = Instant::now() + TERM_GRACE;
    while Instant::now() < end && names.iter().any(|name| !pids_in(name).is_empty()) {
        std::thread::sleep(POLL);
    }
}

fn pids_in(name: &str) -> Vec<i32> {
    let mut command = Command::new("ip");
    let pids = run_regardless(command.args(["netns", "pids", name]), IP_LIMIT);
    let pids = pids.map(|output| output.stdout).unwrap_or_default();
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn show_logs(dir: &Path) {
    for name in list(dir).filter(|n| Path::new(n).extension().is_some_and(|e| e == "log")) {
        let bytes = std::fs::read(dir.join(&name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        eprintln!("---- {name}, the last of {} lines", lines.len());
        for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
            eprintln!("{line}");
        }
    }
}
