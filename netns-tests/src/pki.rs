//! Certificates of the hosts, made by the program that an operator uses: `weft pki`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::binaries::binary;
use crate::plan::USER;
use crate::process::run_ok;

const PKI_LIMIT: Duration = Duration::from_secs(20);

/// One environment's CA directory and the host certificates beside it.
#[derive(Debug, Clone)]
pub struct Pki {
    environment: String,
    dir: PathBuf,
}

/// Where a host's certificate and key are.
#[derive(Debug, Clone)]
pub struct HostFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl Pki {
    /// `weft pki init --env ENVIRONMENT --out DIR`, in a new directory under `parent`.
    ///
    /// # Errors
    /// When `weft` is missing or refuses.
    pub fn init(parent: &Path, environment: &str) -> Result<Self> {
        let pki = Self { environment: environment.to_owned(), dir: parent.join(environment) };
        std::fs::create_dir_all(&pki.dir)?;
        let mut command = Command::new(binary("weft")?);
        command.args(["pki", "init", "--env", environment, "--out"]).arg(&pki.dir);
        run_ok(&mut command, PKI_LIMIT).context("weft pki init")?;
        Ok(pki)
    }

    /// `weft pki issue --env ENVIRONMENT --host HOST --ca DIR --out DIR`.
    ///
    /// # Errors
    /// When `weft` refuses.
    pub fn issue(&self, host: &str) -> Result<HostFiles> {
        self.issue_into(host, &self.dir)
    }

    /// Like [`Pki::issue`], into another directory: a second certificate of the same host.
    ///
    /// # Errors
    /// When `weft` refuses.
    pub fn issue_into(&self, host: &str, out: &Path) -> Result<HostFiles> {
        std::fs::create_dir_all(out)?;
        let mut command = Command::new(binary("weft")?);
        command.args(["pki", "issue", "--env", &self.environment, "--host", host, "--ca"]);
        command.arg(&self.dir).arg("--out").arg(out);
        run_ok(&mut command, PKI_LIMIT).context("weft pki issue")?;
        let file = |extension| out.join(format!("{host}.{extension}"));
        let files = HostFiles { cert: file("pem"), key: file("key") };
        // As an operator does it: only the daemon reads its key.
        std::os::unix::fs::chown(&files.key, Some(USER), None)?;
        Ok(files)
    }

    /// The environment's id.
    #[must_use]
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca_cert(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The CA's key.
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }
}
