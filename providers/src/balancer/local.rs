//! Load balancers that the edge proxy of this installation is: their desired state, which it follows.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{BalancerInfo, BalancerProtocol, BalancerSpec, LoadBalancer};
use crate::{LIST_LEN_MAX, Page, error::ProviderError, name::ResourceName};

/// What all load balancers are to be, at one moment.
pub type Balancers = Arc<BTreeMap<ResourceName, BalancerSpec>>;

/// Most load balancers. Each is copied when one changes.
const BALANCERS_MAX: usize = 10_000;

/// Keeps what load balancers are to be in memory and tells who follows. All are reached at the same addresses, so a
/// port belongs to one of them. Whoever owns the desired state applies it again after a restart.
#[derive(Debug)]
pub struct LocalBalancers {
    addresses: Vec<IpAddr>,
    state: watch::Sender<Balancers>,
}

impl LocalBalancers {
    /// None yet; all will be reached at `addresses`.
    #[must_use]
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, state: watch::Sender::new(Balancers::default()) }
    }

    /// Tells everything, and every change from now on.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let mut state = self.state.subscribe();
        state.mark_changed();
        Follower { state }
    }

    fn info(&self, name: &ResourceName, spec: &BalancerSpec) -> BalancerInfo {
        BalancerInfo { name: name.clone(), spec: spec.clone(), addresses: self.addresses.clone() }
    }
}

/// Who follows. One that is slow misses states in between, never the last.
#[derive(Debug)]
pub struct Follower {
    state: watch::Receiver<Balancers>,
}

impl Follower {
    /// The newest state that was not told yet; waits for it. `None`: there will be no other. May be dropped and called
    /// again without losing anything.
    pub async fn next(&mut self) -> Option<Balancers> {
        self.state.changed().await.ok()?;
        Some(self.state.borrow_and_update().clone())
    }
}

#[async_trait]
impl LoadBalancer for LocalBalancers {
    async fn apply(
        &self,
        name: &ResourceName,
        spec: &BalancerSpec,
    ) -> Result<BalancerInfo, ProviderError> {
        spec.check()?;
        let mut result = Ok(());
        self.state.send_if_modified(|balancers| {
            if balancers.get(name) == Some(spec) {
                return false;
            }
            result = check_room(balancers, name, spec);
            if result.is_err() {
                return false;
            }
            Arc::make_mut(balancers).insert(name.clone(), spec.clone());
            true
        });
        result.map(|()| self.info(name, spec))
    }

    async fn describe(&self, name: &ResourceName) -> Result<BalancerInfo, ProviderError> {
        match self.state.borrow().get(name) {
            Some(spec) => Ok(self.info(name, spec)),
            None => Err(ProviderError::Absent(format!("load balancer {name}"))),
        }
    }

    async fn list(
        &self,
        after: Option<&ResourceName>,
        len_max: usize,
    ) -> Result<Page<BalancerInfo>, ProviderError> {
        let len_max = len_max.min(LIST_LEN_MAX);
        let balancers = self.state.borrow().clone();
        let later = |name: &&ResourceName| after.is_none_or(|after| *name > after);
        let mut wanted = balancers.iter().filter(|(name, _)| later(name));
        let entries = wanted.by_ref().take(len_max).map(|(name, spec)| self.info(name, spec));
        let entries = entries.collect();
        Ok(Page { entries, more: wanted.next().is_some() })
    }

    async fn delete(&self, name: &ResourceName) -> Result<(), ProviderError> {
        self.state.send_if_modified(|balancers| {
            balancers.contains_key(name) && Arc::make_mut(balancers).remove(name).is_some()
        });
        Ok(())
    }
}

fn check_room(
    balancers: &BTreeMap<ResourceName, BalancerSpec>,
    name: &ResourceName,
    spec: &BalancerSpec,
) -> Result<(), ProviderError> {
    if balancers.len() >= BALANCERS_MAX && !balancers.contains_key(name) {
        let text = format!("there are {BALANCERS_MAX} load balancers");
        return Err(ProviderError::Full(text));
    }
    let ports = |spec: &BalancerSpec| -> Vec<(BalancerProtocol, u16)> {
        spec.listeners.iter().map(|listener| (listener.protocol, listener.port)).collect()
    };
    let wanted = ports(spec);
    for (other, spec) in balancers.iter().filter(|(other, _)| *other != name) {
        if let Some((protocol, port)) = ports(spec).into_iter().find(|port| wanted.contains(port)) {
            return Err(ProviderError::Conflict(format!(
                "{protocol:?} port {port} belongs to load balancer {other}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{balancer::Listener, conformance};

    fn name(text: &str) -> ResourceName {
        ResourceName::new(text).unwrap()
    }

    fn spec(port: u16) -> BalancerSpec {
        let listener = Listener {
            protocol: BalancerProtocol::Tcp,
            port,
            targets: ["10.0.0.2:443".parse().unwrap()].into(),
            proxy_protocol: true,
        };
        BalancerSpec { listeners: vec![listener] }
    }

    fn balancers() -> LocalBalancers {
        LocalBalancers::new(vec!["192.0.2.1".parse().unwrap()])
    }

    #[tokio::test]
    async fn conforms() {
        conformance::load_balancer(&balancers()).await;
    }

    #[tokio::test]
    async fn a_port_belongs_to_one() {
        let balancers = balancers();
        balancers.apply(&name("a"), &spec(443)).await.unwrap();
        let taken = balancers.apply(&name("b"), &spec(443)).await.unwrap_err();
        assert_eq!(taken.to_string(), "Tcp port 443 belongs to load balancer a");
        assert!(matches!(taken, ProviderError::Conflict(_)));
        balancers.delete(&name("a")).await.unwrap();
        balancers.apply(&name("b"), &spec(443)).await.unwrap();
    }

    #[tokio::test]
    async fn who_follows_is_told_the_state_and_every_last_change() {
        let balancers = balancers();
        balancers.apply(&name("a"), &spec(443)).await.unwrap();
        let mut follower = balancers.follow();
        let names = |state: Balancers| state.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(follower.next().await.unwrap()), ["a"]);
        balancers.apply(&name("b"), &spec(444)).await.unwrap();
        balancers.apply(&name("c"), &spec(445)).await.unwrap();
        assert_eq!(names(follower.next().await.unwrap()), ["a", "b", "c"]);
        balancers.apply(&name("c"), &spec(445)).await.unwrap();
        balancers.delete(&name("nobody")).await.unwrap();
        assert!(!follower.state.has_changed().unwrap(), "nothing has changed");
        balancers.delete(&name("a")).await.unwrap();
        assert_eq!(names(follower.next().await.unwrap()), ["b", "c"]);
        drop(balancers);
        assert!(follower.next().await.is_none());
    }
}
