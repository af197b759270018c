//! What is refused, and which name is what.

use super::*;
use proptest::prelude::*;

pub(crate) fn slot(index: u32, address: &str, health: Health) -> SlotRecord {
    SlotRecord {
        index,
        name: None,
        addresses: vec![address.parse().unwrap()],
        health,
        roles: Vec::new(),
    }
}

fn service(name: &str, slots: Vec<SlotRecord>) -> ServiceRecord {
    ServiceRecord { name: name.to_owned(), ports: Vec::new(), slots }
}

fn records(services: Vec<ServiceRecord>) -> ZoneRecords {
    let subnets = ["10.40.0.0/16", "fd40::/64"].map(|s| s.parse().unwrap()).to_vec();
    ZoneRecords { serial: 7, subnets, services, aliases: Vec::new() }
}

fn refused(services: Vec<ServiceRecord>) -> String {
    Zone::new(records(services)).unwrap_err().to_string()
}

fn find(zone: &Zone, name: &str) -> String {
    let labels: Vec<&[u8]> =
        name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes).collect();
    let text = |slots: Vec<&Slot>| {
        slots.iter().flat_map(|s| &s.v4).map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    match zone.find(&labels) {
        Node::Absent => "absent".to_owned(),
        Node::Empty => "empty".to_owned(),
        Node::Apex => "apex".to_owned(),
        Node::Slots(slots) => text(slots),
        Node::Ports(port, slots) => format!("{port}: {}", text(slots)),
    }
}

#[test]
fn names_of_services_slots_and_roles() {
    let mut web = service(
        "web",
        vec![
            slot(0, "10.40.0.2", Health::Healthy),
            slot(1, "10.40.0.3", Health::Healthy),
            slot(12, "10.40.0.4", Health::Unhealthy),
        ],
    );
    web.slots[1].name = Some("blue".to_owned());
    web.slots[0].roles = vec!["primary".to_owned()];
    web.slots[2].roles = vec!["canary".to_owned()];
    let port = |name: &str, protocol| PortRecord { name: name.to_owned(), protocol, port: 8080 };
    web.ports = vec![port("http", Protocol::Tcp)];
    let zone = Zone::new(records(vec![web, service("idle", vec![])])).unwrap();
    for (name, expected) in [
        ("", "apex"),
        ("web", "10.40.0.2 10.40.0.3"),
        ("0.web", "10.40.0.2"),
        ("1.web", "10.40.0.3"),
        ("12.web", "10.40.0.4"),
        ("blue.web", "10.40.0.3"),
        ("primary.web", "10.40.0.2"),
        ("canary.web", "10.40.0.4"),
        ("_tcp.web", "empty"),
        ("_http._tcp.web", "8080: 10.40.0.2 10.40.0.3"),
        ("idle", "empty"),
        ("2.web", "absent"),
        ("00.web", "absent"),
        ("01.web", "absent"),
        ("99999999999.web", "absent"),
        ("green.web", "absent"),
        ("_udp.web", "absent"),
        ("_tcp.idle", "absent"),
        ("_http._udp.web", "absent"),
        ("http._tcp.web", "absent"),
        ("x.0.web", "absent"),
        ("x._http._tcp.web", "absent"),
        ("0.nope", "absent"),
        ("nope", "absent"),
    ] {
        assert_eq!(find(&zone, name), expected, "{name}");
    }
}

#[test]
fn addresses_are_known_backwards() {
    let zone =
        Zone::new(records(vec![service("web", vec![slot(3, "10.40.0.2", Health::Leaving)])]));
    let zone = zone.unwrap();
    let reverse = |range: &str| match zone.find_reverse(&range.parse().unwrap()) {
        Reverse::Absent => "absent".to_owned(),
        Reverse::Empty => "empty".to_owned(),
        Reverse::Name(name) => name.to_ascii(),
    };
    assert_eq!(reverse("10.40.0.2/32"), "3.web.internal.");
    assert_eq!(reverse("10.40.0.1/32"), "internal.");
    assert_eq!(reverse("fd40::1/128"), "internal.");
    assert_eq!(reverse("10.40.0.3/32"), "absent");
    assert_eq!(reverse("10.40.0.0/24"), "empty");
    assert_eq!(reverse("10.40.1.0/24"), "absent");
    assert_eq!(reverse("10.0.0.0/8"), "empty");
    assert_eq!(reverse("fd40::/60"), "empty");
}

#[test]
fn an_alias_is_a_service_of_its_own_and_no_slot_s_name() {
    let alias = |name: &str, addresses: &[&str]| AliasRecord {
        name: name.to_owned(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let web = service("web", vec![slot(3, "10.40.0.2", Health::Healthy)]);
    let with = |aliases| Zone::new(ZoneRecords { aliases, ..records(vec![web.clone()]) });
    let zone = with(vec![
        alias("web-1", &["10.40.0.2", "fd40::2"]),
        alias("7", &["10.40.0.3"]),
        alias("gone", &[]),
    ])
    .unwrap();
    for (name, expected) in [
        ("web-1", "10.40.0.2"),
        ("0.web-1", "10.40.0.2"),
        ("1.web-1", "absent"),
        ("web", "10.40.0.2"),
        ("7", "10.40.0.3"),
        ("gone", ""),
    ] {
        assert_eq!(find(&zone, name), expected, "{name}");
    }
    for (address, name) in [
        // A slot's name goes before.
        ("10.40.0.2/32", "3.web.internal."),
        ("fd40::2/128", "web-1.internal."),
        ("10.40.0.3/32", "7.internal."),
    ] {
        let found = zone.find_reverse(&address.parse().unwrap());
        assert_eq!(found, Reverse::Name(&Name::from_ascii(name).unwrap()));
    }
    let refused = |aliases| with(aliases).unwrap_err().to_string();
    assert_eq!(refused(vec![alias("web", &["10.40.0.3"])]), "service web is there twice");
    assert_eq!(
        refused(vec![alias("a", &["10.40.0.1"])]),
        "slot a: address 10.40.0.1 is not one of this environment's for slots"
    );
    assert!(refused(vec![alias("a.b", &[])]).starts_with("alias \"a.b\" '.' is not allowed"));
    let many = (0..=ALIASES_MAX).map(|n| alias(&format!("a{n}"), &[])).collect();
    assert!(refused(many).contains("expected at most 4096"));
}

#[test]
fn who_is_answered() {
    use Health::{Healthy, Leaving, Starting, Unhealthy};
    for (healths, expected) in [
        (vec![Healthy, Unhealthy, Starting, Leaving], "10.40.0.2"),
        (vec![Starting, Unhealthy, Leaving, Unhealthy], "10.40.0.3 10.40.0.5"),
        (vec![Starting, Leaving], "empty"),
    ] {
        let slots = healths.iter().zip(2u32..).map(|(health, at)| {
            let mut slot = slot(at, &format!("10.40.0.{at}"), *health);
            slot.roles = vec!["all".to_owned()];
            slot
        });
        let zone = Zone::new(records(vec![service("db", slots.collect())])).unwrap();
        assert_eq!(find(&zone, "db"), expected);
        assert_eq!(find(&zone, "all.db"), expected);
        for at in 2..2 + healths.len() {
            assert_eq!(find(&zone, &format!("{at}.db")), format!("10.40.0.{at}"), "by its index");
        }
    }
}

#[test]
fn what_is_ambiguous_is_refused() {
    let healthy = |index, address: &str| slot(index, address, Health::Healthy);
    let named = |mut slot: SlotRecord, name: &str| {
        slot.name = Some(name.to_owned());
        slot
    };
    let holds = |mut slot: SlotRecord, role: &str| {
        slot.roles.push(role.to_owned());
        slot
    };
    let (a, b) = (healthy(0, "10.40.0.2"), healthy(1, "10.40.0.3"));
    let of = |slots| refused(vec![service("web", slots)]);
    let both = "service web: \"x\" names a slot and something else";
    assert_eq!(of(vec![named(a.clone(), "x"), named(b.clone(), "x")]), both);
    assert_eq!(of(vec![named(a.clone(), "x"), holds(b.clone(), "x")]), both);
    assert_eq!(of(vec![holds(a.clone(), "x"), named(b.clone(), "x")]), both);
    assert_eq!(of(vec![holds(named(a.clone(), "x"), "x")]), both);
    assert!(of(vec![named(a.clone(), "7")]).starts_with("name of a slot \"7\" consists of digits"));
    assert!(of(vec![holds(a.clone(), "7")]).starts_with("role \"7\" consists of digits"));
    assert!(of(vec![holds(a.clone(), "_tcp")]).starts_with("role \"_tcp\" '_' is not allowed"));
    let twice = of(vec![holds(holds(a.clone(), "x"), "x")]);
    assert_eq!(twice, "role x of slot 0.web.internal. is there twice");
    assert_eq!(
        of(vec![a.clone(), healthy(0, "10.40.0.9")]),
        "slot 0 of service web is there twice"
    );
    assert_eq!(
        of(vec![a.clone(), healthy(1, "10.40.0.2")]),
        "address 10.40.0.2 (slot 1.web) is there twice"
    );
    let services = refused(vec![service("web", vec![]), service("web", vec![])]);
    assert_eq!(services, "service web is there twice");
    assert!(
        refused(vec![service("Web", vec![])]).starts_with("service \"Web\" 'W' is not allowed")
    );
}

#[test]
fn only_addresses_that_slots_can_have_are_taken() {
    for address in ["10.40.0.0", "10.40.0.1", "10.40.255.255", "10.41.0.2", "fd40::", "fd40::1"] {
        let error = refused(vec![service("web", vec![slot(0, address, Health::Healthy)])]);
        assert!(error.starts_with(&format!("slot 0.web: address {address} is not")), "{error}");
    }
}

#[test]
fn ports_and_bounds_are_checked() {
    let port = |port| PortRecord { name: "http".to_owned(), protocol: Protocol::Tcp, port };
    let with = |ports| refused(vec![ServiceRecord { ports, ..service("web", vec![]) }]);
    assert_eq!(with(vec![port(0)]), "service web: port \"http\" is 0; expected 1 to 65535");
    assert_eq!(with(vec![port(1), port(2)]), "port http of service web is there twice");
    assert_eq!(with(vec![port(1); 33]), "service web has 33 ports; expected at most 32");
    let many = (0..=SERVICES_MAX).map(|n| service(&format!("s{n}"), vec![])).collect();
    assert_eq!(refused(many), "the environment has 4097 services; expected at most 4096");
    let slots = vec![slot(0, "10.40.0.2", Health::Healthy); SLOTS_MAX + 1];
    let many = refused(vec![service("web", slots)]);
    assert_eq!(many, "the environment has 16385 slots; expected at most 16384");
    let mut wide = slot(0, "10.40.0.2", Health::Healthy);
    wide.addresses = (2..7).map(|n| IpAddr::from([10, 40, 0, n])).collect();
    let wide = refused(vec![service("web", vec![wide])]);
    assert_eq!(wide, "slot 0.web has 5 addresses; expected at most 4");
    let mut busy = slot(0, "10.40.0.2", Health::Healthy);
    busy.roles = (0..9).map(|n| format!("r{n}")).collect();
    let busy = refused(vec![service("web", vec![busy])]);
    assert_eq!(busy, "0.web.internal. has 9 roles; expected at most 8");
}

#[test]
fn subnets_must_have_a_gateway() {
    for subnets in [
        &[][..],
        &["10.0.0.0/16", "10.1.0.0/16"],
        &["fd40::/64", "fd41::/64"],
        &["10.0.0.0/32"],
        &["224.0.0.0/8"],
        &["fd40::/64", "10.0.0.0/16", "fd41::/64"],
    ] {
        let subnets = subnets.iter().map(|s| s.parse().unwrap()).collect();
        let zone = Zone::new(ZoneRecords { subnets, ..ZoneRecords::default() });
        assert!(matches!(zone, Err(ZoneError::Subnets(_))), "{zone:?}");
    }
}

proptest! {
    /// Every name that the records give is found, and everything else is not.
    #[test]
    fn equals_the_plain_model(
        slots in proptest::collection::btree_map(0u32..30, (any::<bool>(), 0usize..3), 0..20),
        asked in "[a-z0-9]{1,2}",
    ) {
        let roles = ["ro", "rw", "x1"];
        let slots: Vec<SlotRecord> = slots.iter().map(|(index, (healthy, role))| {
            let health = if *healthy { Health::Healthy } else { Health::Unhealthy };
            let mut slot = slot(*index, &format!("10.40.1.{index}"), health);
            slot.roles = vec![roles[*role].to_owned()];
            slot
        }).collect();
        let zone = Zone::new(records(vec![service("db", slots.clone())])).unwrap();
        let named: Vec<&SlotRecord> = slots.iter().filter(|slot| {
            slot.index.to_string() == asked || slot.roles.contains(&asked)
        }).collect();
        let is_index = asked.bytes().all(|b| b.is_ascii_digit());
        let healthy: Vec<&SlotRecord> =
            named.iter().filter(|slot| slot.health == Health::Healthy).copied().collect();
        let expected = if is_index || healthy.is_empty() { named } else { healthy };
        let expected: Vec<String> =
            expected.iter().map(|slot| slot.addresses[0].to_string()).collect();
        let found = find(&zone, &format!("{asked}.db"));
        if expected.is_empty() {
            prop_assert_eq!(found, "absent");
        } else {
            prop_assert_eq!(found, expected.join(" "));
        }
    }
}
