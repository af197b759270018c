//! What may be changed about an environment after it was made, and by whom.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
};

use weft_types::Subnet;

use crate::{
    access::Action,
    record::{Environment, OtherNames, UnixMs},
};

/// Shortest and longest life of a host's leaf, seconds: an hour to 7 days.
pub const LEAF_SECONDS: RangeInclusive<u32> = 3_600..=7 * 24 * 3_600;
/// Most servers that other names are forwarded to: as many as a gateway asks.
pub const NAME_SERVERS_MAX: usize = 4;
/// The port of name servers unless it is said (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;
/// What is shown of what is no server, characters.
const SHOWN_LEN_MAX: usize = 64;

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Leaves that would be valid for too long, or not long enough.
    #[error("{0}; expected {least} to {most}", least = LEAF_SECONDS.start(), most = LEAF_SECONDS.end())]
    LeafSeconds(u32),
    /// Too few or too many servers to forward to.
    #[error("{0} servers; expected 1 to {NAME_SERVERS_MAX}")]
    NameServers(usize),
    /// Servers that nobody asks.
    #[error("are asked by nobody; expected them with forward only")]
    Unasked,
    /// What is no server.
    #[error("{found}: {problem}")]
    NameServer {
        /// What was given, as far as it is shown.
        found: String,
        /// What was expected.
        problem: &'static str,
    },
}

impl SettingsError {
    /// Which field of a request it is about.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::LeafSeconds(_) => "leaf_seconds",
            Self::NameServers(_) | Self::Unasked | Self::NameServer { .. } => {
                "other_names.name_servers"
            }
        }
    }
}

/// Goes on if leaves may be valid for so many seconds.
///
/// # Errors
/// [`SettingsError::LeafSeconds`].
pub fn check_leaf_seconds(seconds: u32) -> Result<(), SettingsError> {
    if LEAF_SECONDS.contains(&seconds) { Ok(()) } else { Err(SettingsError::LeafSeconds(seconds)) }
}

/// Reads a server as an environment's gateways take it: ADDRESS, ADDRESS:PORT or [IPv6]:PORT.
///
/// # Errors
/// [`SettingsError::NameServer`].
pub fn name_server(text: &str) -> Result<SocketAddr, SettingsError> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let server = address.or_else(|_| text.parse());
    let refused = |problem| {
        let found = text.chars().take(SHOWN_LEN_MAX).collect();
        SettingsError::NameServer { found, problem }
    };
    let server: SocketAddr =
        server.map_err(|_| refused("expected ADDRESS, ADDRESS:PORT or [IPv6]:PORT"))?;
    let ip = server.ip();
    if server.port() == 0 {
        return Err(refused("port 0 is not usable; expected 1 to 65535"));
    }
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(refused("is no single host; expected a unicast address"));
    }
    if ip.is_unspecified() {
        return Err(refused("names no host; expected a server's address"));
    }
    Ok(server)
}

fn check_other_names(other: &OtherNames, subnets: &[Subnet]) -> Result<(), SettingsError> {
    let OtherNames::Forward(servers) = other else { return Ok(()) };
    if servers.is_empty() || servers.len() > NAME_SERVERS_MAX {
        return Err(SettingsError::NameServers(servers.len()));
    }
    let is_gateway =
        |server: &&SocketAddr| subnets.iter().any(|subnet| subnet.gateway() == server.ip());
    match servers.iter().find(is_gateway) {
        Some(gateway) => Err(SettingsError::NameServer {
            found: gateway.to_string(),
            problem: "is the gateway that asks; expected a server outside",
        }),
        None => Ok(()),
    }
}

/// What is to be otherwise; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// For how many seconds leaves are valid, from each host's next renewal on.
    pub leaf_seconds: Option<u32>,
    /// What is said of other names.
    pub other_names: Option<OtherNames>,
}

impl Change {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether somebody may do this who may do what `may` says in the environment. Hosts ask servers outside from their own
    /// network, which is the operators' to open; they may close it again, too.
    #[must_use]
    pub fn is_allowed(&self, may: impl Fn(Action) -> bool) -> bool {
        let is_admin = may(Action::ManageEnvironment);
        let is_operator = may(Action::ManageInstallation);
        let names = match &self.other_names {
            None => true,
            Some(OtherNames::Refuse | OtherNames::Absent) => is_admin || is_operator,
            Some(OtherNames::Forward(_)) => is_operator,
        };
        names && (self.leaf_seconds.is_none() || is_admin)
    }

    /// What an environment is after it, from `now` on.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn of(&self, before: &Environment, now: UnixMs) -> Result<Environment, SettingsError> {
        let mut after = before.clone();
        if let Some(seconds) = self.leaf_seconds {
            check_leaf_seconds(seconds)?;
            after.lifetimes = before.lifetimes.changed(seconds, now);
        }
        if let Some(other_names) = &self.other_names {
            check_other_names(other_names, &before.subnets)?;
            after.other_names = other_names.clone();
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests;
