//! Environments' policies: compiled here, handed to all workers, and what they deny told.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use weft_proto::{
    Denial, Direction,
    policy::{Guard, Rules},
};
use weft_types::EnvironmentId;

use super::{EventKind, Node, NodeEvent, RequestError};
use crate::worker::Command;

impl Node {
    /// Judges the packets of these environments by these rules from now on, also of those that are not here yet, and
    /// those of all others by none.
    ///
    /// All of them are done; the first error is returned. Rules that are no policy deny everything.
    pub(super) fn set_policies(
        &mut self,
        policies: BTreeMap<EnvironmentId, Rules>,
    ) -> Result<(), RequestError> {
        let before = std::mem::replace(&mut self.policies, policies);
        let here: Vec<_> = self.environments.keys().cloned().collect();
        let mut result = Ok(());
        for id in here {
            if before.get(&id) != self.policies.get(&id) {
                result = result.and(self.enforce(&id));
            }
        }
        result
    }

    /// Judges an environment that is here by what it is to be judged by.
    pub(super) fn enforce(&mut self, id: &EnvironmentId) -> Result<(), RequestError> {
        let rules = self.policies.get(id).cloned();
        let enforced = self.set_policy(id, rules.as_ref());
        if let Err(error) = &enforced {
            tracing::error!(environment = %id, %error, "its policy is no use: everything is denied");
            self.set_policy(id, Some(&Rules::nothing()))?;
        }
        enforced
    }

    /// Judges an environment's packets by these rules from now on; without any everything is allowed. What
    /// runs and is allowed goes on.
    pub(super) fn set_policy(
        &mut self,
        id: &EnvironmentId,
        rules: Option<&Rules>,
    ) -> Result<(), RequestError> {
        let workers = self.workers.len();
        let state = self.environment_mut(id)?;
        let guard = match rules {
            Some(rules) => Some(Arc::new(next_guard(state.guard.as_deref(), rules, workers)?)),
            None => None,
        };
        state.guard.clone_from(&guard);
        let slot = state.place.slot;
        self.command_all(|_| Command::SetPolicy(slot, guard.clone()));
        self.publish(NodeEvent::new(EventKind::EnvironmentChanged, "policy changed").of(id));
        Ok(())
    }

    /// A worker has denied a packet. It says so of few, and counts all.
    pub(super) fn handle_denied(&self, denial: &Denial) {
        let mut environments = self.environments.iter();
        let denier = environments.find(|(_, state)| state.place.slot == denial.environment);
        let Some((id, state)) = denier else { return };
        let guard = state.guard.as_ref().filter(|g| g.generation() == denial.generation);
        let (source, destination) = endpoints(denial);
        tracing::info!(
            environment = id.as_str(),
            rule = guard.map(|guard| guard.name(denial.ground)),
            %source,
            %destination,
            protocol = %denial.tuple.protocol,
            direction = match denial.direction {
                Direction::Out => "out",
                Direction::In => "in",
            },
            "a packet is denied by policy"
        );
    }
}

/// What workers judge by from now on, after what they judge by now.
fn next_guard(
    present: Option<&Guard>,
    rules: &Rules,
    workers: usize,
) -> Result<Guard, RequestError> {
    let policy = rules.compile().map_err(|error| RequestError::Invalid(error.to_string()))?;
    if let Some(present) = present {
        return Ok(present.replaced_by(policy));
    }
    let no_random = |error| RequestError::Precondition(format!("no random number: {error}"));
    let seed = getrandom::u64().map_err(no_random)?;
    Ok(Guard::new(Instant::now(), policy, workers, seed))
}

/// Source and destination, with ports where there are any.
fn endpoints(denial: &Denial) -> (String, String) {
    let tuple = &denial.tuple;
    match tuple.ports {
        Some((from, to)) => (
            std::net::SocketAddr::new(tuple.source, from).to_string(),
            std::net::SocketAddr::new(tuple.destination, to).to_string(),
        ),
        None => (tuple.source.to_string(), tuple.destination.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::{
        EnvironmentSlot,
        policy::{Ground, PortRange, Protocol, Rule, Selector, Transport, Tuple, Verdict},
    };

    use super::*;

    fn rules(name: &str) -> Rules {
        let rule = Rule {
            name: name.parse().unwrap(),
            from: Selector::Any,
            to: Selector::Any,
            protocol: Some(Transport::Tcp),
            ports: vec![PortRange { first: 443, last: 443 }],
            verdict: Verdict::Allow,
        };
        Rules { default: Verdict::Deny, rules: vec![rule] }
    }

    #[test]
    fn a_policy_follows_another_and_a_wrong_one_is_refused() {
        let first = next_guard(None, &rules("web"), 2).unwrap();
        let second = next_guard(Some(&first), &rules("web-2"), 2).unwrap();
        assert_eq!((first.generation(), second.generation()), (0, 1));
        assert_eq!(second.name(Ground::Rule(0)), "web-2");
        let mut wrong = rules("web");
        wrong.rules[0].protocol = None;
        let refused = next_guard(Some(&second), &wrong, 2).err().map(|error| error.to_string());
        let refused = refused.unwrap();
        assert!(refused.starts_with("rule web: ports without a protocol"), "{refused}");
    }

    #[test]
    fn a_denial_is_told_with_ports_where_there_are_any() {
        let tuple = |ports| Tuple {
            source: "10.0.0.2".parse().unwrap(),
            destination: "fd00::9".parse().unwrap(),
            protocol: Protocol::Udp,
            ports,
        };
        let denial = |ports| Denial {
            environment: EnvironmentSlot(0),
            generation: 0,
            ground: Ground::Default,
            tuple: tuple(ports),
            direction: Direction::In,
        };
        let told = |ports| endpoints(&denial(ports));
        assert_eq!(told(Some((1, 53))), ("10.0.0.2:1".into(), "[fd00::9]:53".into()));
        assert_eq!(told(None), ("10.0.0.2".into(), "fd00::9".into()));
    }
}
