//! What `weft net status --json` says, by the names of the local API's `StatusResponse`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// A parsed status.
#[derive(Debug, Clone)]
pub struct Status(pub Value);

/// Bytes and packets of one attachment or peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets received.
    pub rx_packets: u64,
    /// Inner IP bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Inner IP bytes sent.
    pub tx_bytes: u64,
}

impl Status {
    /// One environment.
    ///
    /// # Errors
    /// When the host does not have it.
    pub fn environment(&self, id: &str) -> Result<&Value> {
        entry(&self.0["environments"], "id", id)
    }

    /// One peer of an environment.
    ///
    /// # Errors
    /// When the host does not have it.
    pub fn peer(&self, environment: &str, host: &str) -> Result<&Value> {
        entry(&self.environment(environment)?["peers"], "host", host)
    }

    /// One attachment of an environment.
    ///
    /// # Errors
    /// When the host does not have it.
    pub fn attachment(&self, environment: &str, name: &str) -> Result<&Value> {
        entry(&self.environment(environment)?["attachments"], "name", name)
    }

    /// Whether interfaces are still to be made.
    pub fn is_waiting(&self) -> bool {
        let environments = list(&self.0["environments"]);
        environments.iter().flat_map(|e| list(&e["attachments"])).any(|a| a["state"] == "waiting")
    }

    /// Whether the session with this peer carries data.
    ///
    /// # Errors
    /// When there is no such peer.
    pub fn established(&self, environment: &str, host: &str) -> Result<bool> {
        let state = &self.peer(environment, host)?["state"];
        Ok(state.to_string().to_lowercase().contains("established"))
    }

    /// Drops by cause: of one environment, or those that belonged to none.
    ///
    /// # Errors
    /// When the host does not have the environment.
    pub fn drops(&self, environment: Option<&str>) -> Result<BTreeMap<String, u64>> {
        let drops = match environment {
            Some(id) => &self.environment(id)?["drops"],
            None => &self.0["drops"],
        };
        let counted = |d: &Value| Some((d["cause"].as_str()?.to_owned(), number(&d["packets"])));
        Ok(match drops {
            Value::Array(list) => list.iter().filter_map(counted).collect(),
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), number(v))).collect(),
            _ => BTreeMap::new(),
        })
    }

    /// All drops of the host: of every environment and of none.
    ///
    /// # Errors
    /// Never for a complete status.
    pub fn drops_total(&self) -> Result<u64> {
        let ids = list(&self.0["environments"]).iter().filter_map(|e| e["id"].as_str());
        let mut total: u64 = self.drops(None)?.values().sum();
        for id in ids {
            total += self.drops(Some(id))?.values().sum::<u64>();
        }
        Ok(total)
    }
}

/// The traffic of an attachment or a peer.
#[must_use]
pub fn traffic(t: &Value) -> Traffic {
    Traffic {
        rx_packets: number(&t["rx_packets"]),
        rx_bytes: number(&t["rx_bytes"]),
        tx_packets: number(&t["tx_packets"]),
        tx_bytes: number(&t["tx_bytes"]),
    }
}

/// A count; JSON of 64-bit numbers may be text.
#[must_use]
pub fn number(value: &Value) -> u64 {
    let text = || value.as_str()?.parse().ok();
    value.as_u64().or_else(text).unwrap_or(0)
}

/// The entries of a list; none when it is absent.
#[must_use]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entry<'a>(entries: &'a Value, key: &str, name: &str) -> Result<&'a Value> {
    let found = list(entries).iter().find(|e| e[key].as_str() == Some(name));
    found.with_context(|| format!("status has no {key} {name} in {entries}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_maps_and_texts() {
        let text = r#"{
            "drops": {"unknown_index": "7"},
            "environments": [{
                "id": "acme",
                "peers": [{"host": "host-b", "state": "established",
                           "rx_bytes": "84", "rx_packets": 1}],
                "drops": [{"cause": "replayed", "packets": 3}]
            }]
        }"#;
        let status = Status(serde_json::from_str(text).unwrap());
        assert!(status.established("acme", "host-b").unwrap());
        assert_eq!(status.drops_total().unwrap(), 10);
        assert_eq!(traffic(status.peer("acme", "host-b").unwrap()).rx_bytes, 84);
        assert!(status.environment("beta").is_err());
    }
}
