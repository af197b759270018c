//! One network namespace: commands, sockets and counters inside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::process::{Output, run, run_ok};

const IP_LIMIT: Duration = Duration::from_secs(10);

/// A network namespace that a [`World`](crate::World) made and removes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace {
    name: Arc<str>,
}

/// Counters of one interface, as its namespace sees them: `rx` is what came *into* the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Packets received (a superpacket counts once).
    pub rx_packets: u64,
    /// Bytes received; for a TUN these are IP bytes.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that were to be sent and were dropped instead.
    pub tx_dropped: u64,
}

impl Namespace {
    /// Creates it. [`Namespace::prepare`] is a step of its own, so that a namespace whose
    /// preparation fails is already known to the world that removes it.
    pub(crate) fn create(name: &str) -> Result<Self> {
        run_ok(Command::new("ip").args(["netns", "add", name]), IP_LIMIT)?;
        Ok(Self { name: name.into() })
    }

    /// Loopback up, no IPv6 duplicate address detection.
    pub(crate) fn prepare(&self) -> Result<()> {
        self.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        self.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        self.ip("link set lo up").map(drop)
    }

    /// Its unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds it, for `netns = …` of an attachment.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&*self.name)
    }

    /// A command that will run in this namespace and ends with the calling thread.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a command line (split at blanks) in here; any exit code.
    ///
    /// # Errors
    /// When it cannot be started or takes longer than `limit`.
    pub fn run(&self, line: &str, limit: Duration) -> Result<Output> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or("true"));
        run(command.args(words), limit).with_context(|| format!("{}: {line}", self.name))
    }

    /// Runs a command line (split at blanks) in here that has to succeed.
    ///
    /// # Errors
    /// As [`Namespace::run`], and on any other exit code than 0.
    pub fn run_ok(&self, line: &str, limit: Duration) -> Result<String> {
        self.run(line, limit)?.ok().with_context(|| format!("{}: {line}", self.name))
    }

    /// Runs `ip` with these arguments (split at blanks) on this namespace.
    ///
    /// # Errors
    /// When `ip` refuses; its message is kept.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(arguments.split_whitespace());
        run_ok(&mut command, IP_LIMIT)
    }

    /// Runs `ip -json` and parses what it prints.
    ///
    /// # Errors
    /// When `ip` refuses or does not print JSON.
    pub fn ip_json(&self, arguments: &str) -> Result<Value> {
        let text = self.ip(&format!("-json {arguments}"))?;
        let text = if text.trim().is_empty() { "[]" } else { &text };
        serde_json::from_str(text).with_context(|| format!("ip -json {arguments}"))
    }

    /// Calls `f` on a thread that is inside this namespace; sockets made there stay in it.
    ///
    /// # Errors
    /// When the namespace is gone, or `f` fails.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = std::fs::File::open(self.path())
            .with_context(|| format!("open namespace {}", self.name))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                f()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes a sysctl of this namespace; `key` with slashes, as under `/proc/sys`.
    ///
    /// # Errors
    /// When it does not exist or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.enter(|| std::fs::write(&path, value).with_context(|| path.display().to_string()))
    }

    /// Names of the interfaces in here, in the kernel's order.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        Ok(self.counters()?.into_iter().map(|(name, _)| name).collect())
    }

    /// Counters of one interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn link(&self, interface: &str) -> Result<LinkCounters> {
        let found = self.counters()?.into_iter().find(|(name, _)| name == interface);
        let (_, counters) =
            found.with_context(|| format!("{}: no interface {interface}", self.name))?;
        Ok(counters)
    }

    fn counters(&self) -> Result<Vec<(String, LinkCounters)>> {
        // "self" would be the main thread's namespace.
        let table = self.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
        table.lines().skip(2).map(parse_counters).collect()
    }
}

fn parse_counters(line: &str) -> Result<(String, LinkCounters)> {
    let (name, rest) = line.split_once(':').context("interface counters without a name")?;
    let fields: Vec<u64> = rest.split_whitespace().map_while(|f| f.parse().ok()).collect();
    ensure!(fields.len() >= 12, "interface counters of {name}: {rest}");
    let counters = LinkCounters {
        rx_bytes: fields[0],
        rx_packets: fields[1],
        tx_bytes: fields[8],
        tx_packets: fields[9],
        tx_dropped: fields[11],
    };
    Ok((name.trim().to_owned(), counters))
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_parsed() {
        let line = "  eth0: 1372      14    0    0    0     0          0         0     1460      15 0 2 0 0 0 0";
        let (name, c) = parse_counters(line).unwrap();
        assert_eq!(name, "eth0");
        assert_eq!(
            c,
            LinkCounters {
                rx_bytes: 1372,
                rx_packets: 14,
                tx_bytes: 1460,
                tx_packets: 15,
                tx_dropped: 2
            }
        );
        assert!(parse_counters("eth0: nothing").is_err());
    }
}
