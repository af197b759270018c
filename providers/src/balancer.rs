//! Public addresses and where what comes to them goes.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use async_trait::async_trait;

use crate::{Page, error::ProviderError, name::ResourceName};

mod local;

pub use self::local::{Balancers, Follower, LocalBalancers};

/// Most listeners of a load balancer: what the smallest cloud takes.
pub const LISTENERS_MAX: usize = 30;
/// Most targets of a load balancer.
pub const TARGETS_MAX: usize = 500;

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BalancerProtocol {
    /// Connections are handed on as they are; nothing is decrypted.
    Tcp,
    /// Datagrams of one flow go to one target.
    Udp,
}

/// A public port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Its transport.
    pub protocol: BalancerProtocol,
    /// Its number, at least 1.
    pub port: u16,
    /// Where what comes to it goes; nobody answers while it is empty.
    pub targets: BTreeSet<SocketAddr>,
    /// Whether targets are told the client's address (PROXY protocol, version 2); only for TCP.
    pub proxy_protocol: bool,
}

/// What a load balancer is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BalancerSpec {
    /// At most [`LISTENERS_MAX`], each port of a protocol once, with [`TARGETS_MAX`] targets together.
    pub listeners: Vec<Listener>,
}

impl BalancerSpec {
    /// Whether every provider takes it.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] names the field.
    pub fn check(&self) -> Result<(), ProviderError> {
        let invalid = |text: String| Err(ProviderError::Invalid(text));
        if self.listeners.len() > LISTENERS_MAX {
            let found = self.listeners.len();
            return invalid(format!("listeners: {found}; expected at most {LISTENERS_MAX}"));
        }
        let mut ports = BTreeSet::new();
        let mut targets = 0;
        for listener in &self.listeners {
            let Listener { protocol, port, .. } = listener;
            if *port == 0 {
                return invalid("listeners: port 0; expected 1 to 65535".to_owned());
            }
            if !ports.insert((*protocol, *port)) {
                return invalid(format!("listeners: {protocol:?} port {port} is there twice"));
            }
            if listener.proxy_protocol && *protocol == BalancerProtocol::Udp {
                return invalid(format!(
                    "listeners: port {port}: the PROXY protocol is for TCP only"
                ));
            }
            if let Some(target) = listener.targets.iter().find(|target| target.port() == 0) {
                return invalid(format!(
                    "listeners: target {target} has port 0; expected 1 to 65535"
                ));
            }
            targets += listener.targets.len();
        }
        if targets > TARGETS_MAX {
            return invalid(format!(
                "listeners: {targets} targets; expected at most {TARGETS_MAX}"
            ));
        }
        Ok(())
    }
}

/// What is known of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerInfo {
    /// Its name.
    pub name: ResourceName,
    /// What it is to be.
    pub spec: BalancerSpec,
    /// Where it is reached: what names of the environment point at. May be empty while it is made.
    pub addresses: Vec<IpAddr>,
}

/// Load balancers by name.
#[async_trait]
pub trait LoadBalancer: fmt::Debug + Send + Sync {
    /// Makes a load balancer, or changes it to this: what `spec` does not name is not there any more. Its addresses
    /// stay. Connections that are open stay where they are.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`]; [`ProviderError::Conflict`] if another one has a port at the same address.
    async fn apply(
        &self,
        name: &ResourceName,
        spec: &BalancerSpec,
    ) -> Result<BalancerInfo, ProviderError>;

    /// What is known of a load balancer.
    ///
    /// # Errors
    /// [`ProviderError::Absent`].
    async fn describe(&self, name: &ResourceName) -> Result<BalancerInfo, ProviderError>;

    /// Load balancers after `after`, in the order of their names: at most `len_max`, and never more than
    /// [`crate::LIST_LEN_MAX`].
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn list(
        &self,
        after: Option<&ResourceName>,
        len_max: usize,
    ) -> Result<Page<BalancerInfo>, ProviderError>;

    /// Removes a load balancer, if it is there. Its addresses may go to somebody else.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn delete(&self, name: &ResourceName) -> Result<(), ProviderError>;
}
