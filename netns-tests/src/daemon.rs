//! One running `weftd`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::binaries::binary;
use crate::metrics::Metrics;
use crate::namespace::Namespace;
use crate::process::{Output, Process, run, wait_for};
use crate::status::Status;

/// How long a daemon may take until its API answers.
pub const START_LIMIT: Duration = Duration::from_secs(10);
/// The contract: SIGTERM and SIGINT end it within this time.
pub const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long the kernel may take to end one that is killed, on a machine that has much else to do.
const KILL_LIMIT: Duration = Duration::from_secs(60);
/// Where its metrics are, inside its own namespace.
pub const METRICS: &str = "127.0.0.1:9820";

/// A daemon on a host. Dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    ns: Namespace,
    socket: PathBuf,
    process: Process,
}

impl Daemon {
    /// Starts `weftd --config FILE` in a host's namespace and waits until its interfaces are made.
    ///
    /// # Errors
    /// When it ends or is not ready within [`START_LIMIT`]; the message holds its log.
    pub fn start(ns: &Namespace, config: &Path, socket: &Path, log: &Path) -> Result<Self> {
        Self::start_with(ns, config, socket, log, &[])
    }

    /// Like [`Daemon::start`], with these variables in its environment.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(
        ns: &Namespace,
        config: &Path,
        socket: &Path,
        log: &Path,
        variables: &[(String, OsString)],
    ) -> Result<Self> {
        Self::start_by(&[], ns, config, socket, log, variables)
    }

    /// The same by a program that takes `weftd` and its arguments after its own; by none if it is empty.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_by(
        program: &[String],
        ns: &Namespace,
        config: &Path,
        socket: &Path,
        log: &Path,
        variables: &[(String, OsString)],
    ) -> Result<Self> {
        let weftd = binary("weftd")?;
        let mut command = match program {
            [] => ns.command(weftd),
            [program, arguments @ ..] => {
                let mut command = ns.command(program);
                command.args(arguments).arg(weftd);
                command
            }
        };
        command.envs(variables.iter().cloned());
        Self::run(command, ns, config, socket, log)?.ready()
    }

    /// Waits until its interfaces are made.
    fn ready(mut self) -> Result<Self> {
        let daemon = &mut self;
        let answered = wait_for("weftd's interfaces", START_LIMIT, || {
            if let Some(status) = daemon.process.ended()? {
                bail!("weftd ended: {status}");
            }
            let status = daemon.status()?;
            Ok((!status.is_waiting()).then_some(status))
        });
        answered.with_context(|| daemon.process.log())?;
        Ok(self)
    }

    /// Like [`Daemon::start`] without the wait.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn spawn(ns: &Namespace, config: &Path, socket: &Path, log: &Path) -> Result<Self> {
        Self::run(ns.command(binary("weftd")?), ns, config, socket, log)
    }

    fn run(
        mut command: Command,
        ns: &Namespace,
        config: &Path,
        socket: &Path,
        log: &Path,
    ) -> Result<Self> {
        let process = Process::start(command.arg("--config").arg(config), Some(log))?;
        Ok(Self { ns: ns.clone(), socket: socket.to_owned(), process })
    }

    /// `weftd --config FILE --check`.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn check(ns: &Namespace, config: &Path) -> Result<Output> {
        let mut command = ns.command(binary("weftd")?);
        run(command.arg("--config").arg(config).arg("--check"), START_LIMIT)
    }

    /// `weft net …` with this daemon's socket; any exit code.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn weft_net(&self, arguments: &str) -> Result<Output> {
        let mut command = self.ns.command(binary("weft")?);
        command.arg("net").args(arguments.split_whitespace());
        run(command.arg("--socket").arg(&self.socket), START_LIMIT)
    }

    /// `weft net status --json`.
    ///
    /// # Errors
    /// When the daemon does not answer, or not with JSON.
    pub fn status(&self) -> Result<Status> {
        let text = self.weft_net("status --json")?.ok().context("weft net status")?;
        Ok(Status(serde_json::from_str(&text).with_context(|| text.clone())?))
    }

    /// Scrapes its metrics.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn metrics(&self) -> Result<Metrics> {
        let address: SocketAddr = METRICS.parse()?;
        Metrics::scrape(&self.ns, address)
    }

    /// SIGHUP: read the configuration again.
    ///
    /// # Errors
    /// When it is gone.
    pub fn reload(&self) -> Result<()> {
        self.process.signal(Signal::SIGHUP)
    }

    /// Sends a signal and waits up to `limit` for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.process.stop(signal, limit)
    }

    /// Kills it, as the kernel would for want of memory, and waits for its end.
    ///
    /// # Errors
    /// When the kernel does not end it within [`KILL_LIMIT`].
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::SIGKILL, KILL_LIMIT)
    }

    /// The process that keeps this daemon's interfaces, if it runs.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn helper(&self) -> Result<Option<Pid>> {
        let mut socket = self.socket.clone().into_os_string().into_encoded_bytes();
        socket.extend(b".helper\0");
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has ended meanwhile is not it.
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_it = line.windows(socket.len()).any(|part| part == socket);
            if is_it && line.ends_with(b"--foreground\0") {
                return Ok(Some(Pid::from_raw(pid)));
            }
        }
        Ok(None)
    }

    /// Its exit status when it has ended.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Fails when the daemon has ended or panicked.
    ///
    /// # Errors
    /// With its log.
    pub fn assert_healthy(&mut self) -> Result<()> {
        let log = self.process.log();
        if let Some(status) = self.process.ended()? {
            bail!("weftd ended: {status}\n{log}");
        }
        ensure!(!log.contains("panicked at"), "weftd panicked:\n{log}");
        Ok(())
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// User and system time that it has used.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.process.pid().as_raw())
    }

    /// Like [`Daemon::cpu_time`], to the nanosecond, over the threads that live.
    ///
    /// # Errors
    /// When it is gone.
    pub fn run_time(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.pid()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().context("an empty schedstat")?;
            total += Duration::from_nanos(first.parse()?);
        }
        Ok(total)
    }

    /// Resident memory, bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.pid());
        let text = std::fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }
}

/// User and system time of a process.
///
/// # Errors
/// When it is gone.
pub fn cpu_time(pid: i32) -> Result<Duration> {
    /// `USER_HZ`: what `/proc` counts in on every Linux architecture that we build for.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses and may hold blanks.
    let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat without a name")?;
    let field = |number: usize| -> Result<u64> {
        let text = rest.split_whitespace().nth(number - 3).context("/proc/PID/stat is short")?;
        Ok(text.parse()?)
    };
    let ticks = field(14)? + field(15)?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cpu_time_is_counted() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let before = cpu_time(pid).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            std::hint::black_box(0);
        }
        assert!(cpu_time(pid).unwrap() > before);
    }
}
