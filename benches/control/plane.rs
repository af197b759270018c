//! The program that is measured.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long it may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);
const ADDRESS: &str = "127.0.0.1";
/// The first operator.
pub(crate) const OPERATOR: &str = "operator@weft.example";

/// A running control plane. It ends with this value.
pub(crate) struct Plane {
    child: Child,
    port: u16,
    anchor: String,
    /// What the first operator shows.
    pub(crate) invitation: String,
    folder: TempDir,
}

/// Resident memory, MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) most: f64,
}

impl Plane {
    pub(crate) async fn start(program: &Path, directory: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in(directory).context("--directory")?;
        let port = TcpListener::bind((ADDRESS, 0))?.local_addr()?.port();
        let at = folder.path().canonicalize()?;
        let at = at.display();
        let config = folder.path().join("control.toml");
        fs::write(
            &config,
            format!(
                "listen = \"{ADDRESS}:{port}\"\nserver_names = [\"{ADDRESS}\"]\n\
                 store = \"sqlite:{at}/control.db\"\nkeyring = \"sqlite:{at}/keyring.db\"\n\
                 master_key = \"{at}/master.key\"\n"
            ),
        )?;
        let run = |arguments: &[&str]| -> Result<String> {
            let output = Command::new(program)
                .arg("--config")
                .arg(&config)
                .args(arguments)
                .output()
                .with_context(|| format!("--program {}", program.display()))?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?)
        };
        let said = run(&["init", "--name", "weft", "--operator", OPERATOR])?;
        let invitation = said.lines().nth(1).context("no invitation")?.to_owned();
        let anchor = run(&["authority"])?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .arg("serve")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        let plane = Self { child, port, anchor, invitation, folder };
        let begun = Instant::now();
        while let Err(error) = plane.endpoint(None)?.connect().await {
            if begun.elapsed() > START_MAX {
                bail!("weft-control does not answer: {error}: {}", plane.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(plane)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How to connect, with a host's certificate and key or without.
    pub(crate) fn endpoint(&self, identity: Option<Identity>) -> Result<Endpoint> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.anchor))
            .domain_name(ADDRESS);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        Ok(Endpoint::from_shared(format!("https://{ADDRESS}:{}", self.port))?.tls_config(tls)?)
    }

    pub(crate) async fn connect(&self, identity: Option<Identity>) -> Result<Channel> {
        self.endpoint(identity)?.connect().await.with_context(|| self.log())
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next());
            Ok(kib.with_context(|| format!("no {name}"))?.parse::<f64>()? / 1024.0)
        };
        Ok(Memory { now: of("VmRSS:")?, most: of("VmHWM:")? })
    }

    /// Seconds of processor time that it has used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name in parentheses the state is field 3; utime and stime are fields 14 and 15 (proc_pid_stat(5)).
        let fields = stat.rsplit(')').next().context("stat")?.split_whitespace();
        let ticks: f64 =
            fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("CLK_TCK")?;
        #[expect(clippy::cast_precision_loss, reason = "a hundred or so")]
        Ok(ticks / second as f64)
    }

    /// Ends it as an operator would.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let status = tokio::task::spawn_blocking(move || {
            let status = self.child.wait();
            (status, self.log())
        });
        let (status, log) = status.await?;
        ensure!(status?.success(), "weft-control failed: {log}");
        if !log.is_empty() {
            eprintln!("weft-control said:\n{log}");
        }
        Ok(())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
