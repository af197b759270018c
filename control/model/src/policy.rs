//! Who may talk to whom inside an environment.
//!
//! Rules name services, not addresses. They are tried in their order and the first that matches decides; the
//! default decides when none does. Answers belong to what they answer: who may be asked may answer. Hosts get the rules
//! as they are, and for every service the addresses that it has at the moment, so that a container that comes or
//! goes changes one service and no rule.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use weft_types::EnvironmentId;

use crate::{id::ServiceName, record::Record};

/// Most rules of an environment.
pub const RULES_MAX: usize = 500;
/// Most ranges of ports of a rule.
pub const PORT_RANGES_MAX: usize = 16;
/// Most ranges of ports of all rules of an environment: a policy is one record of a store. 500 rules with the longest
/// names are 137 kB, these 120 kB.
pub const ALL_PORT_RANGES_MAX: usize = 4_000;

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too many rules.
    #[error("rules: {0} of them; expected at most {RULES_MAX}")]
    Rules(usize),
    /// Two rules with one name.
    #[error("rules: {0} is there twice; expected names that differ")]
    Name(ServiceName),
    /// Too many ranges of ports.
    #[error("rule {rule}: {found} ranges of ports; expected at most {PORT_RANGES_MAX}")]
    Ranges {
        /// In which.
        rule: ServiceName,
        /// How many.
        found: usize,
    },
    /// Too many ranges of ports in all.
    #[error("rules: {0} ranges of ports in all; expected at most {ALL_PORT_RANGES_MAX}")]
    AllRanges(usize),
    /// A range that holds nothing.
    #[error("rule {rule}: ports {first} to {last}; expected 1 to 65535, the lower one first")]
    Range {
        /// In which.
        rule: ServiceName,
        /// Its first.
        first: u16,
        /// Its last.
        last: u16,
    },
    /// Ports of something that has none.
    #[error("rule {0}: ports without a protocol that has them; expected tcp or udp")]
    Ports(ServiceName),
}

/// An environment's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whose.
    pub environment: EnvironmentId,
    /// Counted from 1; grows with every change.
    pub version: u64,
    /// What happens to what no rule is about.
    pub default: Verdict,
    /// The first that matches decides.
    pub rules: Vec<Rule>,
}

impl Record for Policy {
    const KIND: &'static str = "policy";

    fn path(&self) -> String {
        self.environment.to_string()
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It is dropped, counted and logged.
    Deny,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What counters and logs call it, unique in the policy.
    pub name: ServiceName,
    /// Who asks.
    pub from: Selector,
    /// Who is asked.
    pub to: Selector,
    /// Over what; anything without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Transport>,
    /// Where; all ports without. Of TCP and UDP only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    /// What then.
    pub verdict: Verdict,
}

/// Containers that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// All.
    Any,
    /// Those of one service, which need not be there yet.
    Service(ServiceName),
}

/// What a rule can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 792 and RFC 4443; what tells of errors goes with what it is about, whatever the rules say.
    Icmp,
}

/// Ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// At least 1.
    pub first: u16,
    /// At least as high as the first.
    pub last: u16,
}

impl Policy {
    /// What an environment has that nobody has given any: everything inside it is allowed.
    #[must_use]
    pub fn open(environment: EnvironmentId) -> Self {
        Self { environment, version: 0, default: Verdict::Allow, rules: Vec::new() }
    }

    /// Whether it can be given to hosts.
    ///
    /// # Errors
    /// [`PolicyError`] names the rule and what was expected.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.rules.len() > RULES_MAX {
            return Err(PolicyError::Rules(self.rules.len()));
        }
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            if !names.insert(&rule.name) {
                return Err(PolicyError::Name(rule.name.clone()));
            }
            rule.check()?;
        }
        let ranges = self.rules.iter().map(|rule| rule.ports.len()).sum();
        if ranges > ALL_PORT_RANGES_MAX {
            return Err(PolicyError::AllRanges(ranges));
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), PolicyError> {
        let rule = || self.name.clone();
        if self.ports.len() > PORT_RANGES_MAX {
            return Err(PolicyError::Ranges { rule: rule(), found: self.ports.len() });
        }
        let has_ports = matches!(self.protocol, Some(Transport::Tcp | Transport::Udp));
        if !self.ports.is_empty() && !has_ports {
            return Err(PolicyError::Ports(rule()));
        }
        match self.ports.iter().find(|ports| ports.first == 0 || ports.first > ports.last) {
            None => Ok(()),
            Some(PortRange { first, last }) => {
                Err(PolicyError::Range { rule: rule(), first: *first, last: *last })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.parse().unwrap(),
            from: Selector::Service("web".parse().unwrap()),
            to: Selector::Service("db".parse().unwrap()),
            protocol: Some(Transport::Tcp),
            ports: vec![PortRange { first: 5432, last: 5432 }],
            verdict: Verdict::Allow,
        }
    }

    #[test]
    fn the_largest_policy_is_one_record() {
        let name = |n: usize| format!("{n:x>63}").parse::<ServiceName>().unwrap();
        let mut rules: Vec<_> = (0..RULES_MAX)
            .map(|n| Rule {
                name: name(n),
                from: Selector::Service(name(n)),
                to: Selector::Service(name(n)),
                ports: vec![
                    PortRange { first: 65_534, last: 65_535 };
                    ALL_PORT_RANGES_MAX / RULES_MAX
                ],
                ..rule("one")
            })
            .collect();
        let id = weft_types::EnvironmentId::new(&format!("env-{:a>59}", "")).unwrap();
        let policy = Policy { rules: rules.clone(), ..Policy::open(id) };
        policy.check().unwrap();
        let len = policy.encode().unwrap().len();
        assert!(len <= weft_store::VALUE_LEN_MAX, "{len}");
        rules[0].ports.push(PortRange { first: 1, last: 1 });
        let expected = "rules: 4001 ranges of ports in all; expected at most 4000";
        assert_eq!(refusal(rules), expected);
    }

    fn refusal(rules: Vec<Rule>) -> String {
        let policy = Policy { rules, ..Policy::open("env-a".parse().unwrap()) };
        policy.check().map_or_else(|refused| refused.to_string(), |()| "fine".into())
    }

    #[test]
    fn what_is_refused_is_named() {
        assert_eq!(refusal(vec![rule("web-db")]), "fine");
        let twice = vec![rule("a"), rule("b"), rule("a")];
        assert_eq!(refusal(twice), "rules: a is there twice; expected names that differ");
        let icmp = Rule { protocol: Some(Transport::Icmp), ..rule("a") };
        assert!(refusal(vec![icmp]).starts_with("rule a: ports without a protocol"));
        let anything = Rule { protocol: None, ..rule("a") };
        assert!(refusal(vec![anything]).starts_with("rule a: ports without a protocol"));
        for (first, last) in [(0, 1), (9, 8)] {
            let ports = vec![PortRange { first, last }];
            let refused = refusal(vec![Rule { ports, ..rule("a") }]);
            assert!(
                refused.starts_with(&format!("rule a: ports {first} to {last}; expected")),
                "{refused}"
            );
        }
        let ports = vec![PortRange { first: 1, last: 2 }; PORT_RANGES_MAX + 1];
        assert!(refusal(vec![Rule { ports, ..rule("a") }]).contains("expected at most 16"));
        let many = (0..=RULES_MAX).map(|n| rule(&format!("r{n}"))).collect();
        assert_eq!(refusal(many), "rules: 501 of them; expected at most 500");
    }
}
