//! What a test wants to exist: hosts, environments, who lives where.
//!
//! ```text
//!            acme 10.40.0.0/16, fd40::/64          beta: the same ranges, the same addresses
//!
//!  host-a    a1  10.40.0.2  fd40::2                a1  10.40.0.2  fd40::2
//!            a2  10.40.0.4  fd40::4                a2  10.40.0.4  fd40::4
//!  host-b    b1  10.40.0.3  fd40::3                b1  10.40.0.3  fd40::3
//!            b2  10.40.0.5  fd40::5                b2  10.40.0.5  fd40::5
//! ```
//!
//! [`Plan::pair`] has `a1` and `b1` in `acme`; the rest is added by the methods below.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::KeyLimits;
use crate::topology::{Family, Joined, Underlay};

/// Port on which every daemon listens.
pub const PORT: u16 = 5820;
/// The environment that every plan has.
pub const ACME: &str = "acme";
/// The second environment, with identical ranges and addresses.
pub const BETA: &str = "beta";
/// Worker threads of each daemon, so that tests exercise several lanes on every machine.
pub const WORKERS: u8 = 2;

/// The environment variable that names the engine of all daemons, so that the same tests run on
/// every engine; without it the daemons choose.
pub const ENGINE_VARIABLE: &str = "WEFT_ENGINE";

/// Whom every daemon becomes; a number needs no account. It owns the keys that [`Pki`](crate::pki::Pki)
/// issues.
pub const USER: u32 = 65_534;

/// The environment variable that, when it is there and empty, lets daemons stay root, so that the same
/// tests run with both.
pub const USER_VARIABLE: &str = "WEFT_USER";

/// Everything that a [`Site`](crate::Site) is made from.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Host ids.
    pub hosts: Vec<String>,
    /// Wires between the hosts.
    pub underlay: Underlay,
    /// Which addresses the daemons use among themselves.
    pub family: Family,
    /// Worker threads of each daemon.
    pub workers: u8,
    /// `engine` of every daemon.
    pub engine: Option<String>,
    /// `user` of every daemon; root without.
    pub user: Option<String>,
    /// `[keys]` of every daemon.
    pub keys: Option<KeyLimits>,
    /// Further top-level lines of every configuration.
    pub lines: String,
    /// Environment ids; all have the same ranges.
    pub environments: Vec<String>,
    /// Containers.
    pub containers: Vec<ContainerPlan>,
    /// Whether the two hosts know each other only through a [`Relay`](crate::Relay).
    pub relayed: bool,
}

/// One container to make.
#[derive(Debug, Clone)]
pub struct ContainerPlan {
    /// Environment id.
    pub environment: String,
    /// Name, unique in the environment.
    pub name: String,
    /// Host id.
    pub host: String,
    /// Last byte of its overlay addresses, 2 to 254.
    pub number: u8,
}

impl ContainerPlan {
    /// 10.40.0.*number*.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 40, 0, self.number)
    }

    /// fd40::*number*.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd40, 0, 0, 0, 0, 0, 0, self.number.into())
    }
}

fn user() -> Option<String> {
    let stays_root = std::env::var(USER_VARIABLE).is_ok_and(|name| name.is_empty());
    (!stays_root).then(|| USER.to_string())
}

impl Plan {
    /// Two hosts, one environment, one container on each: `a1` on host-a and `b1` on host-b.
    #[must_use]
    pub fn pair() -> Self {
        let plan = Self {
            hosts: vec!["host-a".into(), "host-b".into()],
            underlay: Underlay::default(),
            family: Family::V4,
            workers: WORKERS,
            engine: std::env::var(ENGINE_VARIABLE).ok().filter(|name| !name.is_empty()),
            user: user(),
            keys: None,
            lines: String::new(),
            environments: vec![ACME.into()],
            containers: Vec::new(),
            relayed: false,
        };
        plan.container(ACME, "a1", "host-a", 2).container(ACME, "b1", "host-b", 3)
    }

    /// Adds a second container on each host: `a2` and `b2`.
    #[must_use]
    pub fn two_each(self) -> Self {
        self.container(ACME, "a2", "host-a", 4).container(ACME, "b2", "host-b", 5)
    }

    /// Adds the environment `beta` with everything that `acme` has so far.
    #[must_use]
    pub fn with_beta(mut self) -> Self {
        let twins = self.containers.clone();
        let twins = twins.into_iter().map(|c| ContainerPlan { environment: BETA.into(), ..c });
        self.environments.push(BETA.into());
        self.containers.extend(twins);
        self
    }

    /// Adds a container.
    #[must_use]
    pub fn container(mut self, environment: &str, name: &str, host: &str, number: u8) -> Self {
        self.containers.push(ContainerPlan {
            environment: environment.into(),
            name: name.into(),
            host: host.into(),
            number,
        });
        self
    }

    /// Lets the daemons talk over this version of IP.
    #[must_use]
    pub fn over(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Takes other wires.
    #[must_use]
    pub fn underlay(mut self, underlay: Underlay) -> Self {
        self.underlay = underlay;
        self
    }

    /// Puts a third host between the two, where [`Site::relay`](crate::Site::relay) runs.
    #[must_use]
    pub fn relayed(mut self) -> Self {
        self.relayed = true;
        self.underlay.joined = Joined::Bridge;
        self
    }

    /// Writes `[keys]` into every configuration.
    #[must_use]
    pub fn keys(mut self, keys: KeyLimits) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Writes further top-level lines into every configuration.
    #[must_use]
    pub fn lines(mut self, lines: &str) -> Self {
        self.lines = lines.to_owned();
        self
    }
}
