//! The daemon's configuration as data, so that a test can bend any field before it is written.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

/// A configuration file of `weftd`. Numbers and addresses that a test may want wrong are strings.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Config {
    /// Further lines of the top level, as they are written: keys that this type has no field for.
    #[serde(skip)]
    pub lines: String,
    /// Host id.
    pub host: String,
    /// Whom the daemon becomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `address:port`.
    pub listen: String,
    /// Path of the API socket.
    pub api: PathBuf,
    /// `address:port` of the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Worker threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u8>,
    /// How workers move packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Limits of key use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyLimits>,
    /// The control plane that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Environments.
    #[serde(rename = "environment", skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<Environment>,
}

/// `[control]`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Control {
    /// Where it is.
    pub url: String,
    /// File with a join token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_token: Option<PathBuf>,
    /// What the host keeps.
    pub state: PathBuf,
    /// With what it is sealed.
    pub seal: String,
}

/// How long keys serve.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct KeyLimits {
    /// Datagrams under one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch_datagrams_max: Option<u64>,
    /// Seconds of use of one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch_seconds_max: Option<u64>,
    /// Seconds between handshakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehandshake_seconds: Option<u64>,
}

/// One `[[environment]]`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Environment {
    /// Environment id.
    pub id: String,
    /// IPv4 subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// IPv6 subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<String>,
    /// CA certificate.
    pub ca: PathBuf,
    /// Own certificate.
    pub cert: PathBuf,
    /// Own key.
    pub key: PathBuf,
    /// What it may send compared with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// What it may send at most, Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_mbit_max: Option<u32>,
    /// What is said of other names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_names: Option<String>,
    /// Who is asked for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<String>,
    /// Containers of this host.
    #[serde(rename = "attachment", skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Other hosts.
    #[serde(rename = "peer", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Services.
    #[serde(rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
}

/// One `[[environment.service]]`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its ports.
    #[serde(rename = "port", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Its slots.
    #[serde(rename = "slot", skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
}

/// One `[[environment.service.port]]`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ServicePort {
    /// Its name.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// One `[[environment.service.slot]]`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Slot {
    /// Its index.
    pub index: u32,
    /// Overlay addresses.
    pub addresses: Vec<String>,
    /// Roles that it holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// One `[[environment.attachment]]`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Attachment {
    /// Unique in its environment.
    pub name: String,
    /// Path of the container's network namespace.
    pub netns: PathBuf,
    /// Name that the interface gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address6: Option<String>,
}

/// One `[[environment.peer]]`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Peer {
    /// Host id.
    pub host: String,
    /// `address:port`.
    pub endpoint: String,
    /// Further ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternative_endpoints: Vec<String>,
    /// Overlay addresses that live there.
    pub addresses: Vec<String>,
    /// After so long without traffic it is asked whether it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_seconds: Option<u32>,
}

impl Config {
    /// As TOML.
    ///
    /// # Errors
    /// Never for these types.
    pub fn to_toml(&self) -> Result<String> {
        // Before everything else: behind a table they would belong to it.
        Ok(format!("{}\n{}", self.lines, toml::to_string(self)?))
    }

    /// The environment of this id. Panics when a test asks for one that it did not make.
    pub fn environment(&mut self, id: &str) -> &mut Environment {
        let found = self.environments.iter_mut().find(|e| e.id == id);
        found.unwrap_or_else(|| panic!("no environment {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_documented_schema() {
        let environment = Environment {
            id: "acme".into(),
            subnet: Some("10.40.0.0/16".into()),
            attachments: vec![Attachment { name: "web-1".into(), ..Attachment::default() }],
            peers: vec![Peer { host: "host-b".into(), ..Peer::default() }],
            ..Environment::default()
        };
        let keys = KeyLimits { epoch_datagrams_max: Some(300), ..KeyLimits::default() };
        let config = Config {
            host: "host-a".into(),
            keys: Some(keys),
            environments: vec![environment],
            ..Config::default()
        };
        let text = config.to_toml().unwrap();
        for line in
            ["[keys]", "[[environment]]", "[[environment.attachment]]", "[[environment.peer]]"]
        {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("workers"), "absent options are not written:\n{text}");
        let config = Config { lines: "answer = 42".into(), ..config };
        let written: toml::Table = config.to_toml().unwrap().parse().unwrap();
        assert_eq!(written["answer"].as_integer(), Some(42));
    }
}
