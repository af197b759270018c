//! What rules say, and which rules there can be.

use proptest::prelude::*;

use super::*;

const ADDRESSES: [&str; 6] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "fd00::1", "fd00::2"];
/// Around every edge of a range that [`ranges`] makes.
const PORTS: [u16; 12] = [0, 1, 2, 3, 79, 80, 81, 443, 1_024, 32_768, 65_534, 65_535];

fn selector() -> impl Strategy<Value = Selector> {
    let some = proptest::sample::subsequence(ADDRESSES.to_vec(), 0..ADDRESSES.len());
    prop_oneof![
        1 => Just(Selector::Any),
        3 => some.prop_map(|addresses| these(&addresses)),
    ]
}

fn range() -> impl Strategy<Value = PortRange> {
    let port = proptest::sample::select(&PORTS[1..]);
    (port.clone(), port).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
}

fn rules() -> impl Strategy<Value = Rules> {
    let verdict = || prop_oneof![Just(Verdict::Allow), Just(Verdict::Deny)];
    let about = prop_oneof![
        Just((None, vec![])),
        Just((Some(Transport::Icmp), vec![])),
        (
            prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)],
            proptest::collection::vec(range(), 0..5)
        )
            .prop_map(|(transport, ranges)| (Some(transport), ranges)),
    ];
    // More than two words of a set.
    let one = (selector(), selector(), about, verdict());
    let many = proptest::collection::vec(one, 0..150);
    (many, verdict()).prop_map(|(parts, default)| {
        let made = |(i, (from, to, (protocol, ports), verdict))| Rule {
            from,
            to,
            protocol,
            ports,
            ..rule(&format!("r{i}"), verdict)
        };
        Rules { default, rules: parts.into_iter().enumerate().map(made).collect() }
    })
}

fn tuple() -> impl Strategy<Value = Tuple> {
    let address = || proptest::sample::select(&ADDRESSES[..]).prop_map(addr);
    let protocol = prop_oneof![
        3 => Just(Protocol::Tcp),
        3 => Just(Protocol::Udp),
        1 => Just(Protocol::Icmp),
        1 => Just(Protocol::Other(50)),
    ];
    let port = || proptest::sample::select(&PORTS[..]);
    let ports = prop_oneof![4 => (port(), port()).prop_map(Some), 1 => Just(None)];
    (address(), address(), protocol, ports).prop_map(|(source, destination, protocol, ports)| {
        let has_ports = matches!(protocol, Protocol::Tcp | Protocol::Udp);
        Tuple { source, destination, protocol, ports: ports.filter(|_| has_ports) }
    })
}

/// The first that matches decides, one after the other.
fn plain(rules: &Rules, tuple: &Tuple) -> Decision {
    let selects = |selector: &Selector, address| match selector {
        Selector::Any => true,
        Selector::Addresses(list) => list.contains(&address),
    };
    for (number, rule) in (0..).zip(&rules.rules) {
        let is_about = match rule.protocol {
            None => true,
            Some(Transport::Tcp) => tuple.protocol == Protocol::Tcp,
            Some(Transport::Udp) => tuple.protocol == Protocol::Udp,
            Some(Transport::Icmp) => tuple.protocol == Protocol::Icmp,
        };
        if !is_about || !selects(&rule.from, tuple.source) || !selects(&rule.to, tuple.destination)
        {
            continue;
        }
        let in_range = |port| rule.ports.iter().any(|r| (r.first..=r.last).contains(&port));
        match tuple.ports {
            None if !rule.ports.is_empty() => {
                return Decision { verdict: Verdict::Deny, ground: Ground::NoPorts };
            }
            Some((_, port)) if !rule.ports.is_empty() && !in_range(port) => {}
            _ => return Decision { verdict: rule.verdict, ground: Ground::Rule(number) },
        }
    }
    Decision { verdict: rules.default, ground: Ground::Default }
}

proptest! {
    #[test]
    fn equals_the_plain_model(
        rules in rules(),
        tuples in proptest::collection::vec(tuple(), 1..60),
    ) {
        let policy = rules.compile().unwrap();
        for tuple in &tuples {
            prop_assert_eq!(policy.decide(tuple), plain(&rules, tuple), "{:?}", tuple);
        }
    }
}

#[test]
fn the_last_of_many_rules_decides_as_the_first() {
    let list: Vec<_> = (0..=255).map(|n| format!("10.1.0.{n}")).collect();
    let list = these(&list.iter().map(String::as_str).collect::<Vec<_>>());
    let one = |number: usize| Rule {
        from: list.clone(),
        protocol: Some(Transport::Tcp),
        ports: vec![port(u16::try_from(1_000 + number).unwrap())],
        ..rule(&format!("r{number}"), Verdict::Allow)
    };
    let rules = Rules { default: Verdict::Deny, rules: (0..RULES_MAX).map(one).collect() };
    let policy = rules.compile().unwrap();
    let mut tuple = *tcp("10.1.0.77", DB, (1, 1), SYN).tuple();
    for number in 0..RULES_MAX {
        tuple.ports = Some((1, u16::try_from(1_000 + number).unwrap()));
        let ground = Ground::Rule(u16::try_from(number).unwrap());
        assert_eq!(policy.decide(&tuple), Decision { verdict: Verdict::Allow, ground });
    }
    tuple.ports = Some((1, 999));
    let default = Decision { verdict: Verdict::Deny, ground: Ground::Default };
    assert_eq!(policy.decide(&tuple), default);
}

fn refusal(rules: Vec<Rule>) -> String {
    let compiled = Rules { default: Verdict::Deny, rules }.compile();
    compiled.map_or_else(|refused| refused.to_string(), |_| "fine".into())
}

#[test]
fn what_is_refused_is_named() {
    let one = |name: &str| Rule {
        protocol: Some(Transport::Tcp),
        ports: vec![port(443)],
        ..rule(name, Verdict::Allow)
    };
    assert_eq!(refusal(vec![one("web-db")]), "fine");
    let twice = vec![one("a"), one("b"), one("a")];
    assert_eq!(refusal(twice), "rules: a is there twice; expected names that differ");
    for protocol in [Some(Transport::Icmp), None] {
        let refused = refusal(vec![Rule { protocol, ..one("a") }]);
        assert!(refused.starts_with("rule a: ports without a protocol"), "{refused}");
    }
    for (first, last) in [(0, 1), (9, 8)] {
        let refused = refusal(vec![Rule { ports: vec![PortRange { first, last }], ..one("a") }]);
        assert!(refused.starts_with(&format!("rule a: ports {first} to {last}")), "{refused}");
    }
    let many = vec![port(1); PORT_RANGES_MAX + 1];
    assert!(refusal(vec![Rule { ports: many, ..one("a") }]).contains("expected at most 16"));
    let many = (0..=RULES_MAX).map(|n| one(&format!("r{n}"))).collect();
    assert_eq!(refusal(many), "rules: 501 of them; expected at most 500");
}

#[test]
fn so_many_addresses_may_be_named_and_no_more() {
    let all = |count: usize| -> Vec<IpAddr> {
        let nth = |n| std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap()).into();
        (0..count).map(nth).collect()
    };
    let with = |list: Vec<IpAddr>| {
        refusal(vec![Rule { to: Selector::Addresses(list.into()), ..rule("a", Verdict::Allow) }])
    };
    assert_eq!(with(all(ADDRESSES_MAX)), "fine");
    assert!(with(all(ADDRESSES_MAX + 1)).starts_with("rules: more than 65536 addresses"));
}
