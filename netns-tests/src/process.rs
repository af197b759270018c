//! Child processes that never outlive their test.
//!
//! Every wait has a limit, output is read by threads so that no pipe can block, and a dropped
//! [`Process`] is ended with SIGTERM, then SIGKILL. Children also carry a parent death signal
//! (see [`Namespace::command`](crate::Namespace::command)), so they end even when the test runner
//! is killed. That signal follows the *thread* that started them: start long-lived processes from
//! the thread that keeps them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a waiting loop looks again.
pub const POLL: Duration = Duration::from_millis(5);
/// Longest run of a command.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long something may take that a process does when it is told.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What a process gets between SIGTERM and SIGKILL.
pub const TERM_GRACE: Duration = Duration::from_secs(3);

/// Set by a signal handler to make every wait of this library fail, so that the guards unwind and
/// clean up (`make demo` and `make bench` install it for SIGINT and SIGTERM).
pub fn interrupt_flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// Makes SIGINT and SIGTERM set [`interrupt_flag`] instead of ending this process.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn clean_up_on_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(interrupt_flag()))?;
    }
    Ok(())
}

/// Sleeps, but not past an interrupt.
///
/// # Errors
/// When [`interrupt_flag`] is set.
pub fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        if interrupt_flag().load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        std::thread::sleep((end - now).min(POLL));
    }
}

/// Asks `ready` until it gives a value.
///
/// # Errors
/// After `limit`, naming `what` and the last reason that `ready` gave; or on an interrupt.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let last = match ready() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        if Instant::now() >= end {
            let limit = limit.as_secs_f32();
            return match last {
                Some(e) => Err(e.context(format!("{what}: not within {limit} s"))),
                None => bail!("{what}: not within {limit} s"),
            };
        }
        pause(POLL * 2)?;
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Everything that it printed.
    pub stdout: String,
    /// Everything that it complained.
    pub stderr: String,
}

impl Output {
    /// Its standard output.
    ///
    /// # Errors
    /// When it did not exit with 0; the message holds both streams.
    pub fn ok(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!("{}: {}{}", self.status, self.stdout.trim(), self.stderr.trim())
    }
}

/// Runs a command to its end, whatever its exit code.
///
/// # Errors
/// When it cannot be started, takes longer than `limit`, or on an interrupt (it is killed then).
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    run_heeding(command, limit, Interrupts::Heeded)
}

/// Like [`run`], but goes on after an interrupt: for cleaning up.
pub(crate) fn run_regardless(command: &mut Command, limit: Duration) -> Result<Output> {
    run_heeding(command, limit, Interrupts::Ignored)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupts {
    Heeded,
    Ignored,
}

fn run_heeding(command: &mut Command, limit: Duration, interrupts: Interrupts) -> Result<Output> {
    let name = describe(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let mut process = Process { child, name, log: None };
    let status = process.wait_heeding(limit, interrupts)?;
    let join = |reader: std::thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Output { status, stdout: join(stdout), stderr: join(stderr) })
}

/// Runs a command that has to succeed and gives its standard output.
///
/// # Errors
/// As [`run`], and when it does not exit with 0.
pub fn run_ok(command: &mut Command, limit: Duration) -> Result<String> {
    run(command, limit)?.ok().with_context(|| describe(command))
}

fn collect(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A read error ends the output; the exit status tells the rest.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|w| w.to_string_lossy()).collect();
    // The wrapper of `Namespace::command` says nothing to a reader.
    let start = words.iter().position(|w| w.starts_with("--net=")).map_or(0, |at| at + 2);
    words[start.min(words.len() - 1)..].join(" ")
}

/// A running child. Dropping it ends it.
pub struct Process {
    child: Child,
    name: String,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts a command whose output goes to the file `log`, or nowhere.
    ///
    /// # Errors
    /// When the file cannot be made or the program not be started.
    pub fn start(command: &mut Command, log: Option<&Path>) -> Result<Self> {
        let name = describe(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(path) = log {
            let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { child, name, log: log.map(Path::to_owned) })
    }

    /// Process id; the wrappers of [`Namespace::command`](crate::Namespace::command) exec, so it
    /// is the program's own.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |path: &PathBuf| std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&self.log.as_ref().map(read).unwrap_or_default()).into_owned()
    }

    /// Its exit status when it has ended.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// After `limit`, or on an interrupt; the process is killed then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.wait_heeding(limit, Interrupts::Heeded)
    }

    fn wait_heeding(&mut self, limit: Duration, interrupts: Interrupts) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            let waited = if Instant::now() >= end {
                Err(anyhow::anyhow!("still running after {limit:?}"))
            } else if interrupts == Interrupts::Ignored {
                std::thread::sleep(POLL);
                Ok(())
            } else {
                pause(POLL)
            };
            if let Err(e) = waited {
                self.kill();
                return Err(e.context(self.name.clone()));
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// As [`Process::signal`] and [`Process::wait`].
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(limit)
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it listens on a TCP port, seen from its own network namespace.
    #[must_use]
    pub fn listens_on(&self, port: u16) -> bool {
        let pid = self.pid();
        ["tcp", "tcp6"].iter().any(|table| {
            let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}"));
            table.unwrap_or_default().lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let local = fields.next().unwrap_or_default();
                let state = fields.nth(1).unwrap_or_default();
                local.ends_with(&format!(":{port:04X}")) && state == "0A"
            })
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.signal(Signal::SIGTERM);
            let end = Instant::now() + TERM_GRACE;
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(POLL);
            }
        }
        self.kill();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid())
    }
}
