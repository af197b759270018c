//! The processes of a control plane on one host, and what they keep.
//!
//! ```text
//!  one process                      several
//!  ┌ control ────────────────┐      ┌ control ──────────────────────────────────────────┐
//!  │ weft-control 192.0.2.1  │      │ weft-control 192.0.2.1    weft-control 192.0.2.201 │
//!  │      └ SQLite           │      │      └──TLS── etcd 192.0.2.1 ──TLS──┘              │
//!  └─────────────────────────┘      └───────────────────────────────────────────────────┘
//! ```
//! Where there are several, hosts know them by one name, which is in a file `hosts` of their own.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::binaries::binary;
use crate::etcd::Etcd;
use crate::process::{COMMAND_LIMIT, PATIENCE, Process, run, wait_for};
use crate::topology::{Host, UNDERLAY_INTERFACE};

/// Port of every process.
const PORT: u16 = 7443;
/// What hosts call several processes.
const NAME: &str = "control.weft.test";
/// A server that listens accepts by then.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Addresses of processes but the first: their number is the last byte.
const ADDRESS_FROM: u8 = 200;
/// Most processes.
const PROCESSES_MAX: usize = 8;

/// A control plane.
#[derive(Debug)]
pub(crate) struct Plane {
    host: Host,
    dir: PathBuf,
    store: Option<Etcd>,
    addresses: Vec<Ipv4Addr>,
    processes: Vec<Option<Process>>,
    starts: u32,
}

impl Plane {
    /// Configures `count` processes on this host, whose files are in `dir`, and starts none of them.
    pub(crate) fn new(host: &Host, dir: &Path, count: usize) -> Result<Self> {
        ensure!((1..=PROCESSES_MAX).contains(&count), "1 to {PROCESSES_MAX} processes");
        let others = (ADDRESS_FROM + 1..).map(|n| Ipv4Addr::new(192, 0, 2, n));
        let addresses: Vec<_> = [host.v4].into_iter().chain(others).take(count).collect();
        for address in &addresses[1..] {
            host.ns.ip(&format!("address add {address}/24 dev {UNDERLAY_INTERFACE}"))?;
        }
        let processes = addresses.iter().map(|_| None).collect();
        let (host, dir) = (host.clone(), dir.to_owned());
        let mut plane = Self { host, dir, store: None, addresses, processes, starts: 0 };
        if count > 1 {
            let address = plane.host.v4.into();
            plane.store = Some(Etcd::start(&plane.host, address, &plane.dir.join("etcd"))?);
        }
        (0..count).try_for_each(|at| plane.configure(at))?;
        Ok(plane)
    }

    fn configure(&self, at: usize) -> Result<()> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let kept = |name: &str| match &self.store {
            Some(etcd) => etcd.url(name),
            None => format!("sqlite:{}", file(&format!("{name}.db"))),
        };
        let address = self.addresses[at];
        let config = format!(
            "listen = \"{address}:{PORT}\"\nserver_names = [\"{address}\", \"{NAME}\"]\n\
             store = \"{}\"\nkeyring = \"{}\"\nmaster_key = \"{}\"\n\
             audit = {{ folder = \"{}\", process = \"control-{at}\" }}\n{}",
            kept("store"),
            kept("keyring"),
            file("master.key"),
            file("audit"),
            self.store.as_ref().map(Etcd::table).unwrap_or_default(),
        );
        fs::write(self.config(at), config)?;
        let name = |address: &Ipv4Addr| format!("{address} {NAME}\n");
        let hosts: String = self.addresses.iter().map(name).collect();
        Ok(fs::write(self.hosts_file(), hosts)?)
    }

    fn config(&self, at: usize) -> PathBuf {
        self.dir.join(format!("control-{at}.toml"))
    }

    fn hosts_file(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// Runs `weft-control` as a process would, to its end. Not while the store is an open file of one that runs.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.host.ns.command(binary("weft-control")?);
        command.arg("--config").arg(self.config(0)).args(arguments);
        run(&mut command, COMMAND_LIMIT)?.ok()
    }

    /// Starts a process, which must not run.
    pub(crate) fn start(&mut self, at: usize, variables: &[(String, OsString)]) -> Result<()> {
        self.starts += 1;
        let log = self.dir.join(format!("control-{at}-{}.log", self.starts));
        let mut command = self.host.ns.command(binary("weft-control")?);
        command.arg("--config").arg(self.config(at)).arg("serve");
        command.envs(variables.iter().cloned());
        let process = Process::start(&mut command, Some(&log))?;
        self.listening(at).with_context(|| process.log())?;
        self.processes[at] = Some(process);
        Ok(())
    }

    /// Waits until somebody answers where this process is found: others are in the same namespace.
    fn listening(&self, at: usize) -> Result<()> {
        let address = SocketAddr::from((self.addresses[at], PORT));
        wait_for(&format!("a server at {address}"), PATIENCE, || {
            let connects = || Ok(TcpStream::connect_timeout(&address, ANSWER_MAX).is_ok());
            Ok(self.host.ns.enter(connects)?.then_some(()))
        })
    }

    /// Kills a process.
    pub(crate) fn kill(&mut self, at: usize) -> Result<()> {
        self.processes[at].take().context("no such process runs")?.kill();
        Ok(())
    }

    /// Sends a signal to a process.
    pub(crate) fn signal(&self, at: usize, signal: Signal) -> Result<()> {
        self.process(at)?.signal(signal)
    }

    /// Sends a signal to the store of several processes.
    pub(crate) fn signal_store(&self, signal: Signal) -> Result<()> {
        self.store.as_ref().context("the store is a file")?.signal(signal)
    }

    /// What a process wrote since it was started.
    pub(crate) fn log(&self, at: usize) -> Result<String> {
        Ok(self.process(at)?.log())
    }

    fn process(&self, at: usize) -> Result<&Process> {
        self.processes[at].as_ref().context("no such process runs")
    }

    /// Where people find a process.
    pub(crate) fn server(&self, at: usize) -> String {
        format!("{}:{PORT}", self.addresses[at])
    }

    /// Where hosts find it: an address, or a name for several.
    pub(crate) fn url(&self) -> String {
        match &self.addresses[..] {
            [only] => format!("https://{only}:{PORT}"),
            _ => format!("https://{NAME}:{PORT}"),
        }
    }

    /// The program that runs another one in such a way that it finds the name.
    pub(crate) fn finder(&self) -> Vec<String> {
        if self.addresses.len() == 1 {
            return Vec::new();
        }
        // Namespaces that are made later have to be seen, too: mounts come in, none goes out.
        let bind =
            format!("mount --bind {} /etc/hosts && exec \"$@\"", self.hosts_file().display());
        let words = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", &bind, "sh"];
        words.map(str::to_owned).to_vec()
    }

    /// Which processes this address has connections to.
    pub(crate) fn heard_by(&self, address: IpAddr) -> Result<Vec<usize>> {
        let list = format!("ss -Htn state established sport = :{PORT} and dst {address}");
        let list = self.host.ns.run_ok(&list, COMMAND_LIMIT)?;
        let of = |of: &Ipv4Addr| list.contains(&format!(" {of}:{PORT} "));
        Ok((0..self.addresses.len()).filter(|at| of(&self.addresses[*at])).collect())
    }
}
