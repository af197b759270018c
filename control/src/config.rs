//! The configuration file of `weft-control`.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};
use weft_audit::TextError;
use weft_pki::installation::ServerName;
use weft_store::{EtcdTls, StoreUrl};

use crate::audit::{AuditPlace, BlobPlace, BlobUrl, S3Access, machine};

/// Where the API is unless the file says otherwise.
const LISTEN_DEFAULT: &str = "0.0.0.0:7443";

/// The audit's folder beside the store, unless the file says otherwise.
const AUDIT_FOLDER: &str = "audit";
/// Whose log it is unless the file says otherwise.
const AUDIT_PROCESS: &str = "control";

/// Everything that the control plane needs to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API is.
    pub listen: SocketAddr,
    /// What clients call this server: names and addresses in its certificate.
    pub server_names: Vec<ServerName>,
    /// Where records are kept.
    pub store: StoreUrl,
    /// Where wrapped keys are kept, apart from records, so that a copy of these opens nothing.
    pub keyring: StoreUrl,
    /// By what members of etcd and this process know each other; without it only members on this machine are used.
    pub etcd: Option<EtcdFiles>,
    /// The file with the master key.
    pub master_key: PathBuf,
    /// Where the audit is written.
    pub audit: AuditPlace,
}

/// Files by which members of etcd and this process know each other, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdFiles {
    /// The authority of the members' certificates.
    pub authority: PathBuf,
    /// The chain of this process, its own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl EtcdFiles {
    /// What is in them.
    ///
    /// # Errors
    /// [`ConfigError::Io`] names the file.
    pub fn read(&self) -> Result<EtcdTls, ConfigError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| ConfigError::Io { path: path.clone(), source })
        };
        Ok(EtcdTls {
            authority: read(&self.authority)?,
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default = "listen_default")]
    listen: SocketAddr,
    server_names: Vec<String>,
    store: String,
    keyring: String,
    master_key: PathBuf,
    etcd: Option<EtcdFiles>,
    s3: Option<S3Table>,
    #[serde(default)]
    audit: AuditTable,
}

/// Its table `s3`. A key that stands here is refused without being shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct S3Table {
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<PathBuf>,
    access_key_id: Option<IgnoredAny>,
    secret_access_key: Option<IgnoredAny>,
}

impl S3Table {
    fn access(self) -> Result<S3Access, (&'static str, String)> {
        if self.access_key_id.is_some() || self.secret_access_key.is_some() {
            let problem =
                "is in the configuration; expected it in the file that s3.credentials names";
            return Err(("s3.secret_access_key", problem.to_owned()));
        }
        let missing = || ("s3.credentials", "is missing; expected a file".to_owned());
        let credentials = self.credentials.ok_or_else(missing)?;
        if let Some(endpoint) = self.endpoint.as_ref().filter(|url| !url.starts_with("https://")) {
            return Err(("s3.endpoint", format!("{endpoint:?}; expected https://HOST")));
        }
        Ok(S3Access { endpoint: self.endpoint, region: self.region, credentials })
    }
}

/// Its table `audit`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditTable {
    folder: Option<PathBuf>,
    replica: Option<PathBuf>,
    process: Option<String>,
    blobs: Option<String>,
}

impl AuditTable {
    /// The place; what is wrong with which field otherwise.
    fn place(
        self,
        store: &StoreUrl,
        s3: Option<S3Table>,
    ) -> Result<AuditPlace, (&'static str, String)> {
        let beside = match store {
            StoreUrl::Sqlite(path) => path.parent().map(|folder| folder.join(AUDIT_FOLDER)),
            StoreUrl::Etcd { .. } => None,
        };
        let folder = self.folder.or(beside).ok_or_else(|| {
            ("audit.folder", "is missing; expected a folder, for the store has none".to_owned())
        })?;
        if self.replica.as_ref() == Some(&folder) {
            let problem = "is the same as audit.folder; expected a folder of a second host";
            return Err(("audit.replica", problem.to_owned()));
        }
        let process = self.process.as_deref().unwrap_or(AUDIT_PROCESS).parse();
        let process =
            process.map_err(|problem: TextError| ("audit.process", problem.to_string()))?;
        let s3 = s3.map(S3Table::access).transpose()?;
        let blobs = self.blobs.map(|text| blob_place(&text, s3.clone())).transpose()?;
        if s3.is_some() && blobs.as_ref().is_none_or(|blobs| blobs.s3.is_none()) {
            let problem = "is there, but audit.blobs is not s3://BUCKET/PREFIX";
            return Err(("s3", problem.to_owned()));
        }
        let replica = self.replica;
        Ok(AuditPlace { folder, replica, machine: machine(), process, blobs })
    }
}

fn blob_place(text: &str, s3: Option<S3Access>) -> Result<BlobPlace, (&'static str, String)> {
    let url = text.parse().map_err(|problem| ("audit.blobs", problem))?;
    match (&url, s3) {
        (BlobUrl::Folder(_), _) => Ok(BlobPlace { url, s3: None }),
        (BlobUrl::S3 { .. }, None) => {
            let problem =
                "is missing; expected the table with credentials, for audit.blobs is s3://";
            Err(("s3", problem.to_owned()))
        }
        (BlobUrl::S3 { .. }, s3) => Ok(BlobPlace { url, s3 }),
    }
}

fn listen_default() -> SocketAddr {
    #[expect(clippy::expect_used, reason = "a constant")]
    LISTEN_DEFAULT.parse().expect("a constant")
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Not the document that is expected.
    #[error("{}: {source}", path.display())]
    Document {
        /// Which.
        path: PathBuf,
        /// What is wrong, with its line.
        source: Box<toml::de::Error>,
    },
    /// A value is not as expected.
    #[error("{}: {field}: {problem}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which field.
        field: &'static str,
        /// What was expected.
        problem: String,
    },
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and what was expected.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io { path: path.to_owned(), source };
        Self::parse(path, &fs::read_to_string(path).map_err(io)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let document: Document = toml::from_str(text).map_err(|source| ConfigError::Document {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let value =
            |field, problem: String| ConfigError::Value { path: path.to_owned(), field, problem };
        let url = |field, text: &str| {
            text.parse::<StoreUrl>().map_err(|problem| value(field, problem.to_string()))
        };
        if document.server_names.is_empty() {
            let problem = "is empty; expected the names and addresses by which clients connect";
            return Err(value("server_names", problem.to_owned()));
        }
        let names = document.server_names.iter().map(|name| name.parse());
        let names: Result<Vec<ServerName>, _> = names.collect();
        let (store, keyring) = (url("store", &document.store)?, url("keyring", &document.keyring)?);
        if store == keyring {
            let problem = "is the same as store; expected another place, so that a copy of the records opens nothing";
            return Err(value("keyring", problem.to_owned()));
        }
        let is_etcd = |url: &StoreUrl| matches!(url, StoreUrl::Etcd { .. });
        if document.etcd.is_some() && !is_etcd(&store) && !is_etcd(&keyring) {
            let problem = "is there, but neither store nor keyring is etcd://HOST:PORT/PREFIX";
            return Err(value("etcd", problem.to_owned()));
        }
        let audit = document.audit.place(&store, document.s3);
        Ok(Self {
            listen: document.listen,
            server_names: names.map_err(|problem| value("server_names", problem.to_string()))?,
            store,
            keyring,
            etcd: document.etcd,
            master_key: document.master_key,
            audit: audit.map_err(|(field, problem)| value(field, problem))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        listen = "127.0.0.1:7443"
        server_names = ["control.example", "192.0.2.1"]
        store = "sqlite:/var/lib/weft-control/control.db"
        keyring = "sqlite:/var/lib/weft-control/keyring.db"
        master_key = "/etc/weft-control/master.key"
    "#;

    fn refusal(text: &str) -> String {
        Config::parse(Path::new("control.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = Config::parse(Path::new("control.toml"), GOOD).unwrap();
        assert_eq!((good.listen.port(), good.server_names.len()), (7443, 2));
        let without = GOOD.replace("listen = \"127.0.0.1:7443\"", "");
        assert_eq!(
            Config::parse(Path::new("control.toml"), &without).unwrap().listen,
            listen_default()
        );
        assert_eq!(good.audit.own(), Path::new("/var/lib/weft-control/audit/control"));
        assert_eq!(good.audit.blobs, None);
        let with = format!(
            "{GOOD}\n[s3]\nendpoint = \"https://h\"\ncredentials = \"/c\"\n[audit]\nblobs = \"s3://bucket/a\""
        );
        let blobs = Config::parse(Path::new("control.toml"), &with).unwrap().audit.blobs.unwrap();
        assert_eq!(blobs.url.to_string(), "s3://bucket/a");
        assert_eq!(blobs.s3.unwrap().endpoint.as_deref(), Some("https://h"));
        for (from, to, said) in [
            (
                "master.key\"",
                "master.key\"\n[audit]\nprocess = \"A\"",
                "audit.process: the id of a process is wrong",
            ),
            (
                "master.key\"",
                "master.key\"\n[audit]\nreplica = \"/var/lib/weft-control/audit\"",
                "audit.replica: is the same as audit.folder",
            ),
            (
                "master.key\"",
                "master.key\"\n[etcd]\nauthority = \"a\"\ncertificate = \"c\"\nkey = \"k\"",
                "etcd: is there, but neither store nor keyring",
            ),
            (
                "master.key\"",
                "master.key\"\n[etcd]\nauthority = \"a\"\ncertificate = \"c\"",
                "missing field `key`",
            ),
            ("sqlite:/var/lib/weft-control/control.db", "etcd://h:1/p", "audit.folder: is missing"),
            (
                "master.key\"",
                "master.key\"\n[audit]\nblobs = \"/mnt/blobs\"",
                "audit.blobs: \"/mnt/blobs\"; expected folder:PATH or s3://BUCKET/PREFIX",
            ),
            (
                "master.key\"",
                "master.key\"\n[audit]\nblobs = \"s3://bucket/a\"",
                "s3: is missing; expected the table with credentials",
            ),
            (
                "master.key\"",
                "master.key\"\n[s3]\ncredentials = \"c\"\n[audit]\nblobs = \"folder:/mnt/blobs\"",
                "s3: is there, but audit.blobs is not s3://BUCKET/PREFIX",
            ),
            (
                "master.key\"",
                "master.key\"\n[s3]\nsecret_access_key = \"SECRET\"\n[audit]\nblobs = \"s3://bucket\"",
                "s3.secret_access_key: is in the configuration; expected it in the file",
            ),
            (
                "master.key\"",
                "master.key\"\n[s3]\nendpoint = \"http://h\"\ncredentials = \"c\"\n[audit]\nblobs = \"s3://bucket\"",
                "s3.endpoint: \"http://h\"; expected https://HOST",
            ),
            (
                "control.example",
                "not a name",
                "server_names: \"not a name\" is no name of a server",
            ),
            ("[\"control.example\", \"192.0.2.1\"]", "[]", "server_names: is empty"),
            ("sqlite:/var/lib/weft-control/control.db", "mysql:x", "control.toml: store: "),
            ("keyring.db", "control.db", "keyring: is the same as store"),
            ("master_key", "masterkey", "unknown field `masterkey`"),
            ("127.0.0.1:7443", "127.0.0.1", "invalid socket address"),
        ] {
            let refused = refusal(&GOOD.replacen(from, to, 1));
            assert!(refused.contains(said), "{from} → {to}: {refused}");
            assert!(!refused.contains("SECRET"), "{refused}");
        }
    }
}
