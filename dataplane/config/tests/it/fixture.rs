//! A folder with certificates of two environments and a configuration that is right.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use weft_config::{Config, Problem};
use weft_pki::{
    EnvironmentIdentity, KeyKind,
    issue::{Authority, HostRequest, HostUsages, Validity, new_authority},
};
use weft_types::{EnvironmentId, HostId, InstallationId};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Two environments with identical addresses, as the daemon's contract has it.
pub(crate) const GOOD: &str = r#"
host = "host-a"
listen = "192.0.2.1:5820"
api = "run/weftd.sock"
metrics = "127.0.0.1:9820"
workers = 2

[[environment]]
id = "acme"
subnet = "10.40.0.0/16"
ca = "acme/ca.pem"
cert = "acme/host-a.pem"
key = "acme/host-a.key"

  [[environment.attachment]]
  name = "web-1"
  netns = "/run/netns/web1"
  interface = "eth7"
  address = "10.40.0.2"

  [[environment.peer]]
  host = "host-b"
  endpoint = "192.0.2.2:5820"
  addresses = ["10.40.0.3", "10.40.0.4"]

[[environment]]
id = "globex"
subnet = "10.40.0.0/16"
subnet6 = "fd40::/64"
ca = "globex/ca.pem"
cert = "globex/host-a.pem"
key = "globex/host-a.key"

  [[environment.attachment]]
  name = "web-1"
  netns = "netns/web1"
  address = "10.40.0.2"
  address6 = "fd40::2"

  [[environment.attachment]]
  name = "db-1"
  netns = "netns/db1"
  address6 = "fd40::5"

  [[environment.peer]]
  host = "host-b"
  endpoint = "192.0.2.2:5820"
  addresses = ["10.40.0.3", "fd40::3"]
"#;

pub(crate) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture = Self { folder: TempDir::new().unwrap() };
        for environment in ["acme", "globex"] {
            let authority = fixture.authority(environment, environment);
            fixture.issue(&authority, environment, "host-a", validity());
        }
        fixture
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn base(&self) -> &Path {
        self.folder.path()
    }

    /// Makes an authority and writes its certificate to `folder/ca.pem`.
    pub(crate) fn authority(&self, folder: &str, environment: &str) -> Authority {
        let made = new_authority(&identity(environment), validity(), KeyKind::EcdsaP256).unwrap();
        fs::create_dir_all(self.path(folder)).unwrap();
        fs::write(self.path(folder).join("ca.pem"), &made.certificate_pem).unwrap();
        Authority::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes()).unwrap()
    }

    /// Issues to `folder/host-a.pem` and `.key`, whatever the host in the certificate is.
    pub(crate) fn issue(&self, by: &Authority, folder: &str, host: &str, validity: Validity) {
        self.issue_for(by, folder, host, validity, HostUsages::Both);
    }

    pub(crate) fn issue_for(
        &self,
        by: &Authority,
        folder: &str,
        host: &str,
        validity: Validity,
        usages: HostUsages,
    ) {
        let request = HostRequest {
            host: HostId::new(host).unwrap(),
            validity,
            key_kind: KeyKind::EcdsaP256,
            usages,
        };
        let made = by.issue_host_unchecked(&request).unwrap();
        fs::write(self.path(folder).join("host-a.pem"), &made.certificate_pem).unwrap();
        fs::write(self.path(folder).join("host-a.key"), made.key_pem.as_bytes()).unwrap();
    }

    pub(crate) fn load(&self, text: &str) -> Result<Config, Vec<Problem>> {
        let path = self.path("weftd.toml");
        fs::write(&path, text).unwrap();
        weft_config::load(&path)
    }

    /// Loads `text` and returns its problems as `LINE: field: message`, without the folder.
    pub(crate) fn problems(&self, text: &str) -> Vec<String> {
        let folder = format!("{}/", self.base().display());
        match self.load(text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems
                .iter()
                .map(|p| p.to_string().replace(&folder, "").replace("weftd.toml:", ""))
                .collect(),
        }
    }
}

pub(crate) fn identity(environment: &str) -> EnvironmentIdentity {
    EnvironmentIdentity {
        installation: InstallationId::new("weft").unwrap(),
        environment: EnvironmentId::new(environment).unwrap(),
    }
}

pub(crate) fn validity() -> Validity {
    Validity::days(SystemTime::now(), HOUR, 1)
}
