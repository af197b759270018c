//! Certificates for many environments, made in this process: a program started for each would
//! take longer than everything that is measured.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use weft_pki::issue::{Authority, HostRequest, HostUsages, Validity, new_authority};
use weft_pki::{EnvironmentIdentity, KeyKind};
use weft_types::{EnvironmentId, HostId, InstallationId};

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 100;
const HOST_DAYS: u32 = 10;

/// A directory with one directory for each environment.
pub(crate) struct Authorities(PathBuf);

impl Authorities {
    /// Makes `count` environments with a certificate for each host.
    pub(crate) fn make(parent: &Path, count: usize, hosts: &[&str]) -> Result<Self> {
        let all = Self(parent.join("pki"));
        let validity = |days| Validity::days(SystemTime::now(), DAY, days);
        for environment in 0..count {
            let identity = EnvironmentIdentity {
                installation: InstallationId::new("weft")?,
                environment: EnvironmentId::new(&format!("e{environment}"))?,
            };
            let ca = new_authority(&identity, validity(AUTHORITY_DAYS), KeyKind::EcdsaP256)?;
            let authority =
                Authority::from_pem(ca.certificate_pem.as_bytes(), ca.key_pem.as_bytes())?;
            let dir = all.dir(environment);
            std::fs::create_dir_all(&dir)?;
            std::fs::write(dir.join("ca.pem"), &ca.certificate_pem)?;
            for host in hosts {
                let issued = authority.issue_host(&HostRequest {
                    host: HostId::new(host)?,
                    validity: validity(HOST_DAYS),
                    key_kind: KeyKind::EcdsaP256,
                    usages: HostUsages::Both,
                })?;
                std::fs::write(dir.join(format!("{host}.pem")), &issued.certificate_pem)?;
                write_key(&dir.join(format!("{host}.key")), &issued.key_pem)?;
            }
        }
        Ok(all)
    }

    fn dir(&self, environment: usize) -> PathBuf {
        self.0.join(format!("e{environment}"))
    }

    /// Authority, chain and key of a host.
    pub(crate) fn files(&self, environment: usize, host: &str) -> (PathBuf, PathBuf, PathBuf) {
        let dir = self.dir(environment);
        let of = |extension: &str| dir.join(format!("{host}.{extension}"));
        (dir.join("ca.pem"), of("pem"), of("key"))
    }
}

/// Only its owner may read a key.
fn write_key(path: &Path, pem: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(pem.as_bytes())?)
}
