//! A policy as it is given to the data plane: rules about addresses.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use weft_types::RuleName;

/// Most rules of an environment; as many as the control plane gives.
pub const RULES_MAX: usize = 500;
/// Most ranges of ports of a rule.
pub const PORT_RANGES_MAX: usize = 16;
/// Most different addresses that rules may name: those of a /16. Each takes at most 200 bytes.
pub const ADDRESSES_MAX: usize = 1 << 16;

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too many rules.
    #[error("rules: {0} of them; expected at most {RULES_MAX}")]
    Rules(usize),
    /// Two rules with one name.
    #[error("rules: {0} is there twice; expected names that differ")]
    Name(RuleName),
    /// Too many ranges of ports.
    #[error("rule {rule}: {found} ranges of ports; expected at most {PORT_RANGES_MAX}")]
    Ranges {
        /// In which.
        rule: RuleName,
        /// How many.
        found: usize,
    },
    /// A range that holds nothing.
    #[error("rule {rule}: ports {first} to {last}; expected 1 to 65535, the lower one first")]
    Range {
        /// In which.
        rule: RuleName,
        /// Its first.
        first: u16,
        /// Its last.
        last: u16,
    },
    /// Ports of something that has none.
    #[error("rule {0}: ports without a protocol that has them; expected tcp or udp")]
    Ports(RuleName),
    /// Too many addresses.
    #[error("rules: more than {ADDRESSES_MAX} addresses; expected at most so many")]
    Addresses,
}

/// An environment's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What happens to what no rule is about.
    pub default: Verdict,
    /// The first that matches decides; at most [`RULES_MAX`].
    pub rules: Vec<Rule>,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It is dropped and counted.
    Deny,
}

impl Verdict {
    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What counters and logs call it, unique in the policy.
    pub name: RuleName,
    /// Who asks.
    pub from: Selector,
    /// Who is asked.
    pub to: Selector,
    /// Over what; anything without.
    pub protocol: Option<Transport>,
    /// Where; all ports without. Of TCP and UDP only, at most [`PORT_RANGES_MAX`].
    pub ports: Vec<PortRange>,
    /// What then.
    pub verdict: Verdict,
}

/// Addresses that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All, also those that nobody has.
    Any,
    /// These. Rules about one service share one list, which makes compiling fast.
    Addresses(Arc<[IpAddr]>),
}

/// What a rule can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 792 and RFC 4443; what tells of errors goes with what it is about, whatever the rules say.
    Icmp,
}

/// Ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// At least 1.
    pub first: u16,
    /// At least as high as the first.
    pub last: u16,
}

impl Rules {
    /// Nobody may talk to anybody.
    #[must_use]
    pub fn nothing() -> Self {
        Self { default: Verdict::Deny, rules: Vec::new() }
    }

    /// Whether they can be compiled, but for the number of addresses.
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        if self.rules.len() > RULES_MAX {
            return Err(PolicyError::Rules(self.rules.len()));
        }
        let mut names = HashSet::new();
        for rule in &self.rules {
            if !names.insert(&rule.name) {
                return Err(PolicyError::Name(rule.name.clone()));
            }
            rule.check()?;
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
            Some(&PortRange { first, last }) => {
                Err(PolicyError::Range { rule: rule(), first, last })
            }
        }
    }
}
