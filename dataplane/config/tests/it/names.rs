//! Services of an environment, and what is said of names that are not its own.

use weft_config::Names;
use weft_dns::{Health, Outside, PortRecord, Protocol, ServiceRecord, SlotRecord};

use crate::{fixture::Fixture, load::with};

/// A service with everything that one can have.
const SERVICE: &str = r#"
  [[environment.service]]
  name = "db"

    [[environment.service.slot]]
    index = 3
    name = "db-blue"
    addresses = ["10.40.0.2"]
    roles = ["primary"]

    [[environment.service.slot]]
    index = 0
    addresses = ["10.40.0.3", "10.40.0.200"]

    [[environment.service.port]]
    name = "sql"
    protocol = "tcp"
    port = 5432

  [[environment.attachment]]"#;

fn with_service(change: (&str, &str)) -> String {
    assert!(SERVICE.contains(change.0), "{:?} is not in the service", change.0);
    with("\n  [[environment.attachment]]", &SERVICE.replacen(change.0, change.1, 1))
}

#[test]
fn services_are_read() {
    let config = Fixture::new().load(&with_service(("db", "db"))).unwrap();
    let Names { services, outside } = &config.environments[0].names;
    assert_eq!(*outside, Outside::Refuse);
    assert_eq!(config.environments[1].names, Names::default());
    let slot = |index, name: Option<&str>, addresses: &[&str], roles: &[&str]| SlotRecord {
        index,
        name: name.map(str::to_owned),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        health: Health::Healthy,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let expected = ServiceRecord {
        name: "db".to_owned(),
        ports: vec![PortRecord { name: "sql".to_owned(), protocol: Protocol::Tcp, port: 5432 }],
        slots: vec![
            slot(3, Some("db-blue"), &["10.40.0.2"], &["primary"]),
            slot(0, None, &["10.40.0.3", "10.40.0.200"], &[]),
        ],
    };
    assert_eq!(*services, [expected]);
}

#[test]
fn what_is_said_of_other_names_is_read() {
    for (lines, outside) in [
        ("other_names = \"refuse\"", Outside::Refuse),
        ("other_names = \"absent\"", Outside::Absent),
        (
            "other_names = \"forward\"\nname_servers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]",
            Outside::Forward(vec![
                "192.0.2.53:53".parse().unwrap(),
                "[2001:db8::53]:5353".parse().unwrap(),
            ]),
        ),
    ] {
        let text = with("subnet = ", &format!("{lines}\nsubnet = "));
        assert_eq!(Fixture::new().load(&text).unwrap().environments[0].names.outside, outside);
    }
}

/// Each change to the service, and the one problem that it must give.
#[rustfmt::skip]
const WRONG_SERVICES: &[(&str, &str, &str)] = &[
    ("\"db\"", "\"d_b\"",
     "16: environment[0].service[0].name: \"d_b\": '_' is not allowed; expected a-z, 0-9 and '-' (not first or last)"),
    ("  name = \"db\"\n", "", "15: environment[0].service[0].name: is missing; expected a name"),
    ("index = 3\n", "", "18: environment[0].service[0].slot[0].index: is missing; expected a number of 0 to 4294967295"),
    ("index = 3", "index = -1",
     "19: environment[0].service[0].slot[0].index: -1 is out of range; expected 0 to 4294967295"),
    ("index = 3", "index = 0", "15: environment[0].service[0]: slot 0 of service db is there twice"),
    ("db-blue", "7",
     "20: environment[0].service[0].slot[0].name: \"7\": consists of digits; expected a letter, because a number is a slot's index"),
    ("db-blue", "primary",
     "15: environment[0].service[0]: service db: \"primary\" names a slot and something else"),
    ("[\"primary\"]", "\"primary\"",
     "22: environment[0].service[0].slot[0].roles: is a string; expected an array of names"),
    ("10.40.0.3", "10.40.0.2",
     "26: environment[0].service[0].slot[1].addresses[0]: 10.40.0.2 is already environment[0].service[0].slot[0].addresses[0]; expected each address in one place"),
    ("10.40.0.3", "10.41.0.3",
     "26: environment[0].service[0].slot[1].addresses[0]: 10.41.0.3 is outside; expected one of 10.40.0.0/16"),
    ("10.40.0.3", "10.40.0.1",
     "26: environment[0].service[0].slot[1].addresses[0]: 10.40.0.1 is the gateway address of 10.40.0.0/16; expected another"),
    ("\"10.40.0.2\"", "\"10.40.0.10\", \"10.40.0.11\", \"10.40.0.12\", \"10.40.0.13\", \"10.40.0.14\"",
     "21: environment[0].service[0].slot[0].addresses: has 5 entries; expected at most 4"),
    ("\"tcp\"", "\"sctp\"", "30: environment[0].service[0].port[0].protocol: \"sctp\": expected tcp or udp"),
    ("5432", "0", "31: environment[0].service[0].port[0].port: 0 is out of range; expected 1 to 65535"),
    ("\"sql\"", "\"a-name-that-is-too-long\"",
     "29: environment[0].service[0].port[0].name: \"a-name-that-is-too-long\": has 23 characters; expected 1 to 15"),
    ("  [[environment.attachment]]", "[[environment.service]]\nname = \"db\"\n[[environment.attachment]]",
     "34: environment[0].service[1].name: db is already environment[0].service[0].name; expected each service once"),
    ("    name = \"sql\"", "    weight = 1\n    name = \"sql\"",
     "29: environment[0].service[0].port[0].weight: unknown field; expected one of name, protocol, port"),
];

#[test]
fn each_fault_of_a_service_is_said_once_with_its_line() {
    let fixture = Fixture::new();
    for (from, to, expected) in WRONG_SERVICES {
        assert_eq!(fixture.problems(&with_service((from, to))), [*expected], "{from:?} -> {to:?}");
    }
}
