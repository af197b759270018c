//! A policy as large as policies may be.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use weft_proto::policy::{
    PORT_RANGES_MAX, PortRange, RULES_MAX, Rule, Rules, Selector, Transport, Verdict,
};

/// Addresses that rules name.
pub const ADDRESSES: usize = 10_000;
/// Services that they are of.
const SERVICES: usize = 250;
const FIRST: u32 = 0x0a00_0002;

/// The address at this place of [`ADDRESSES`].
///
/// # Panics
/// When there is none.
#[must_use]
pub fn address(n: usize) -> IpAddr {
    assert!(n < ADDRESSES, "address {n}; expected less than {ADDRESSES}");
    IpAddr::V4(Ipv4Addr::from(FIRST + u32::try_from(n).expect("below")))
}

/// Rules between services with ports that differ, of which only the last, about all, is on port 443.
///
/// # Panics
/// Never: its rules are fine.
#[must_use]
pub fn largest() -> Rules {
    let service = |number: usize| -> Arc<[IpAddr]> {
        let number = number % SERVICES;
        (0..ADDRESSES / SERVICES).map(|n| address(n * SERVICES + number)).collect()
    };
    let services: Vec<_> = (0..SERVICES).map(service).collect();
    let of = |number: usize| Selector::Addresses(Arc::clone(&services[number % SERVICES]));
    let port = |rule: usize, n: usize| {
        let first = u16::try_from(1_000 + rule * 64 + n * 4).expect("below 65,536");
        PortRange { first, last: first + 2 }
    };
    let one = |number: usize| Rule {
        name: format!("rule-{number}").parse().expect("a name"),
        from: of(number),
        to: of(number * 7 + 1),
        protocol: Some(if number.is_multiple_of(2) { Transport::Tcp } else { Transport::Udp }),
        ports: (0..PORT_RANGES_MAX).map(|n| port(number, n)).collect(),
        verdict: Verdict::Allow,
    };
    let mut rules: Vec<_> = (0..RULES_MAX - 1).map(one).collect();
    rules.push(Rule {
        name: "last".parse().expect("a name"),
        from: Selector::Any,
        to: Selector::Any,
        protocol: Some(Transport::Udp),
        ports: vec![PortRange { first: 443, last: 443 }],
        verdict: Verdict::Allow,
    });
    Rules { default: Verdict::Deny, rules }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_large_as_it_may_be() {
        let rules = largest();
        assert_eq!(rules.rules.len(), RULES_MAX);
        assert!(rules.compile().is_ok());
        assert!(!rules.compile().expect("rules").is_open());
    }
}
