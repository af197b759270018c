//! Peers that are programs in `benches/peers`; its README has the contract.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use netns_tests::Family;
use netns_tests::process::{run, run_ok};
use netns_tests::topology::{Topology, UNDERLAY_INTERFACE};

const ASK_LIMIT: Duration = Duration::from_secs(10);
const START_LIMIT: Duration = Duration::from_secs(60);

/// A peer's file.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) name: String,
    path: PathBuf,
}

/// A peer whose daemons run. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Started {
    stop: Command,
    /// Process ids on host a and host b.
    pub(crate) daemons: [Vec<i32>; 2],
    /// Addresses of host a and host b inside the tunnel.
    pub(crate) addresses: [IpAddr; 2],
}

impl Script {
    /// All of a directory, by name.
    pub(crate) fn find(dir: &Path) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        let entries = std::fs::read_dir(dir);
        for entry in entries.with_context(|| format!("--peers {}", dir.display()))? {
            let entry = entry?;
            let (path, about) = (std::path::absolute(entry.path())?, entry.metadata()?);
            if about.is_file() && about.permissions().mode() & 0o111 != 0 {
                found.push(Self { name: entry.file_name().to_string_lossy().into_owned(), path });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Why it cannot run, and what would install it.
    pub(crate) fn missing(&self) -> Result<Option<String>> {
        let output = run(Command::new(&self.path).arg("available"), ASK_LIMIT)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        Ok((!output.status.success()).then(|| said.trim().replace('\n', "; ")))
    }

    /// What it says about its version.
    pub(crate) fn version(&self) -> Result<String> {
        let said = run_ok(Command::new(&self.path).arg("version"), ASK_LIMIT)?;
        Ok(said.trim().to_owned())
    }

    /// Starts its daemons on both hosts; `dir` is for its files.
    pub(crate) fn start(
        &self,
        hosts: &Topology,
        family: Family,
        mtu: u32,
        dir: &Path,
    ) -> Result<Started> {
        std::fs::create_dir_all(dir)?;
        let [a, b] = [&hosts.hosts[0], &hosts.hosts[1]];
        let command = |verb: &str| {
            let mut command = Command::new(&self.path);
            command.arg(verb).env("PEER_DIR", dir).env("PEER_MTU", mtu.to_string());
            command.env("PEER_LINK", UNDERLAY_INTERFACE);
            command.env("PEER_NS_A", a.ns.name()).env("PEER_NS_B", b.ns.name());
            command.env("PEER_UNDERLAY_A", a.address(family).to_string());
            command.env("PEER_UNDERLAY_B", b.address(family).to_string());
            command
        };
        // What a start that fails half way has started is ended by the guard, too.
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        let daemons = [Vec::new(), Vec::new()];
        let mut started = Started { stop: command("stop"), daemons, addresses: [nowhere; 2] };
        run_ok(&mut command("start"), START_LIMIT)?;
        started.daemons = [pids(&dir.join("a.pid"))?, pids(&dir.join("b.pid"))?];
        started.addresses = addresses(&run_ok(&mut command("address"), ASK_LIMIT)?)?;
        Ok(started)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Also after an interrupt. What it leaves, the end of the namespaces ends.
        if let Err(e) = self.stop.status() {
            eprintln!("{:?}: {e}", self.stop);
        }
    }
}

fn pids(path: &Path) -> Result<Vec<i32>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .map(|line| {
            line.parse().with_context(|| format!("{}: expected a process id", path.display()))
        })
        .collect()
}

fn addresses(text: &str) -> Result<[IpAddr; 2]> {
    let words: Vec<_> = text.split_whitespace().collect();
    match words[..] {
        [a, b] => Ok([a.parse()?, b.parse()?]),
        _ => bail!("address: expected two addresses, found {text:?}"),
    }
}
