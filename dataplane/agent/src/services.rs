//! Services of an environment: what they are called, and who may talk to whom.

use std::{
    collections::BTreeMap,
    net::{AddrParseError, IpAddr},
    sync::Arc,
};

use weft_control_api::v1;
use weft_dns::{Health, PortRecord, Protocol, ServiceRecord, SlotRecord};
use weft_proto::policy::{PortRange, Rule, Rules, Selector, Transport, Verdict};

/// What a slot for a while is called; it has a number, too.
const SURGE: &str = "surge-";
/// Numbers of slots are below this (`SlotName` in attachments.proto); those of slots for a while follow.
const SURGE_INDEX: u32 = 10_000;

/// What a service is called.
pub(crate) fn record(service: &v1::ServiceState) -> ServiceRecord {
    let ports = service.ports.iter().filter_map(port).collect();
    let slots = service.instances.iter().filter_map(|instance| slot(service, instance)).collect();
    ServiceRecord { name: service.name.clone(), ports, slots }
}

fn port(port: &v1::ServicePort) -> Option<PortRecord> {
    let protocol = match port.protocol() {
        v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
        v1::Protocol::Unspecified => return None,
    };
    let number = u16::try_from(port.port).ok().filter(|number| *number > 0)?;
    Some(PortRecord { name: port.name.clone(), protocol, port: number })
}

fn slot(service: &v1::ServiceState, instance: &v1::ServiceInstance) -> Option<SlotRecord> {
    let (index, name) = match instance.slot.strip_prefix(SURGE) {
        None => (instance.slot.parse().ok()?, None),
        Some(number) => {
            let index = SURGE_INDEX.checked_add(number.parse().ok()?)?;
            (index, Some(instance.slot.clone()))
        }
    };
    let roles = service.roles.iter().filter(|role| role.slot == instance.slot);
    Some(SlotRecord {
        index,
        name,
        addresses: addresses(instance).ok()?,
        health: match instance.state() {
            v1::InstanceState::Starting => Health::Starting,
            v1::InstanceState::Healthy => Health::Healthy,
            v1::InstanceState::Unhealthy => Health::Unhealthy,
            v1::InstanceState::Drained => Health::Leaving,
            // One that this version does not know.
            v1::InstanceState::Unspecified if instance.healthy => Health::Healthy,
            v1::InstanceState::Unspecified => Health::Unhealthy,
        },
        roles: roles.map(|role| role.role.clone()).collect(),
    })
}

fn addresses(instance: &v1::ServiceInstance) -> Result<Vec<IpAddr>, AddrParseError> {
    instance.addresses.iter().map(|address| address.parse()).collect()
}

/// By what an environment is judged; `None` when everything is allowed. What cannot be understood denies everything.
pub(crate) fn rules<'a>(
    policy: &v1::Policy,
    services: impl Iterator<Item = &'a v1::ServiceState>,
) -> Option<Rules> {
    let addresses = services
        .map(|service| {
            let all = service.instances.iter().map(addresses).collect::<Result<Vec<_>, _>>();
            Some((service.name.as_str(), Arc::from(all.ok()?.concat())))
        })
        .collect::<Option<BTreeMap<_, _>>>();
    let default = verdict(policy.default());
    let rules = addresses.and_then(|addresses| {
        policy.rules.iter().map(|said| rule(said, &addresses)).collect::<Option<Vec<_>>>()
    });
    match (default, rules) {
        (Some(Verdict::Allow), Some(rules)) if rules.is_empty() => None,
        (Some(default), Some(rules)) => Some(Rules { default, rules }),
        _ => {
            let environment = &policy.environment;
            tracing::error!(environment, "its policy is not understood: everything is denied");
            Some(Rules::nothing())
        }
    }
}

fn verdict(verdict: v1::Verdict) -> Option<Verdict> {
    match verdict {
        v1::Verdict::Allow => Some(Verdict::Allow),
        v1::Verdict::Deny => Some(Verdict::Deny),
        v1::Verdict::Unspecified => None,
    }
}

fn rule(said: &v1::Rule, addresses: &BTreeMap<&str, Arc<[IpAddr]>>) -> Option<Rule> {
    // A service that nothing fills is nobody.
    let selector = |service: &str| match service {
        "" => Selector::Any,
        name => Selector::Addresses(addresses.get(name).cloned().unwrap_or_default()),
    };
    // One that this version does not know must not pass for *any*.
    let protocol = match v1::Transport::try_from(said.protocol).ok()? {
        v1::Transport::Unspecified => None,
        v1::Transport::Tcp => Some(Transport::Tcp),
        v1::Transport::Udp => Some(Transport::Udp),
        v1::Transport::Icmp => Some(Transport::Icmp),
    };
    let ports = said.ports.iter().map(|range| {
        let first = u16::try_from(range.first).ok()?;
        let last = if range.last == 0 { first } else { u16::try_from(range.last).ok()? };
        Some(PortRange { first, last })
    });
    Some(Rule {
        name: said.name.parse().ok()?,
        from: selector(&said.from),
        to: selector(&said.to),
        protocol,
        ports: ports.collect::<Option<_>>()?,
        verdict: verdict(v1::Verdict::try_from(said.verdict).ok()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, slots: &[(&str, &str, v1::InstanceState)]) -> v1::ServiceState {
        let instances = slots.iter().map(|(slot, address, state)| v1::ServiceInstance {
            slot: (*slot).to_owned(),
            addresses: vec![(*address).to_owned()],
            healthy: *state == v1::InstanceState::Healthy,
            state: (*state).into(),
        });
        v1::ServiceState {
            environment: "acme".to_owned(),
            name: name.to_owned(),
            ports: vec![v1::ServicePort {
                name: "sql".to_owned(),
                protocol: v1::Protocol::Tcp.into(),
                port: 5432,
            }],
            instances: instances.collect(),
            roles: vec![v1::ServiceRole {
                role: "primary".to_owned(),
                slot: "1".to_owned(),
                epoch: 7,
            }],
        }
    }

    fn policy(rules: Vec<v1::Rule>) -> v1::Policy {
        let default = v1::Verdict::Deny.into();
        v1::Policy { environment: "acme".to_owned(), version: 1, default, rules }
    }

    fn web_to_db() -> v1::Rule {
        v1::Rule {
            name: "web-db".to_owned(),
            from: "web".to_owned(),
            to: "db".to_owned(),
            protocol: v1::Transport::Tcp.into(),
            ports: vec![v1::PortRange { first: 5432, last: 0 }],
            verdict: v1::Verdict::Allow.into(),
        }
    }

    #[test]
    fn a_service_has_its_slots_roles_and_ports() {
        let slots = [
            ("0", "10.40.0.2", v1::InstanceState::Healthy),
            ("1", "10.40.0.3", v1::InstanceState::Unhealthy),
            ("2", "10.40.0.5", v1::InstanceState::Drained),
            ("surge-4", "10.40.0.4", v1::InstanceState::Starting),
        ];
        let record = record(&service("db", &slots));
        let slots: Vec<_> = record
            .slots
            .iter()
            .map(|slot| (slot.index, slot.name.as_deref(), slot.health, slot.roles.len()))
            .collect();
        let expected = [
            (0, None, Health::Healthy, 0),
            (1, None, Health::Unhealthy, 1),
            (2, None, Health::Leaving, 0),
            (10_004, Some("surge-4"), Health::Starting, 0),
        ];
        assert_eq!(slots, expected);
        assert_eq!((record.ports[0].port, record.ports[0].protocol), (5432, Protocol::Tcp));
    }

    #[test]
    fn rules_are_about_the_addresses_that_services_have() {
        let services = [service(
            "db",
            &[
                ("0", "10.40.0.2", v1::InstanceState::Healthy),
                ("1", "10.40.0.3", v1::InstanceState::Unhealthy),
            ],
        )];
        let rules = rules(&policy(vec![web_to_db()]), services.iter()).unwrap();
        assert_eq!(rules.default, Verdict::Deny);
        let Selector::Addresses(to) = &rules.rules[0].to else { panic!("anybody") };
        assert_eq!(to.len(), 2, "healthy or not");
        let Selector::Addresses(from) = &rules.rules[0].from else { panic!("anybody") };
        assert!(from.is_empty(), "there is no web yet");
        assert_eq!(rules.rules[0].ports, [PortRange { first: 5432, last: 5432 }]);
    }

    #[test]
    fn what_allows_everything_judges_nothing_and_what_is_not_understood_denies_everything() {
        let open = v1::Policy { default: v1::Verdict::Allow.into(), ..policy(Vec::new()) };
        assert_eq!(rules(&open, std::iter::empty()), None);
        let spoil: [fn(&mut v1::Policy); 6] = [
            |p| p.default = 77,
            |p| p.default = 0,
            |p| p.rules[0].protocol = 77,
            |p| p.rules[0].verdict = 0,
            |p| p.rules[0].ports[0].first = 65_536,
            |p| p.rules[0].name.clear(),
        ];
        for spoil in spoil {
            let mut bad = policy(vec![web_to_db()]);
            spoil(&mut bad);
            assert_eq!(rules(&bad, std::iter::empty()), Some(Rules::nothing()), "{bad:?}");
        }
        let nowhere = [service("db", &[("0", "10.40.0", v1::InstanceState::Healthy)])];
        let denied = rules(&policy(vec![web_to_db()]), nowhere.iter());
        assert_eq!(denied, Some(Rules::nothing()), "whose addresses these are is not known");
    }
}
