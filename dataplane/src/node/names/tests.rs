use std::net::IpAddr;

use weft_config::Share;
use weft_dns::{
    Asker, Handled, Health, Limits, Outside, Server, ServiceRecord, SlotRecord, Transport,
};

use super::*;

fn subnets() -> Vec<Subnet> {
    ["10.40.0.0/16", "fd40::/64"].map(|subnet| subnet.parse().unwrap()).to_vec()
}

fn attachment(name: &str, addresses: &[&str]) -> AttachSpec {
    AttachSpec {
        name: name.parse().unwrap(),
        netns: "/run/netns/x".into(),
        interface: "weft0".into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        share: Share::default(),
    }
}

fn service(name: &str, address: &str) -> ServiceRecord {
    let slot = SlotRecord {
        index: 0,
        name: None,
        addresses: vec![address.parse().unwrap()],
        health: Health::Healthy,
        roles: Vec::new(),
    };
    ServiceRecord { name: name.to_owned(), ports: Vec::new(), slots: vec![slot] }
}

/// The names of an environment with one service, and no thread on which they are answered.
fn named(services: Vec<ServiceRecord>) -> Named {
    let gateways = Gateways::prepare().unwrap();
    let names = Names { services, outside: Outside::Refuse };
    open(&gateways, &subnets(), names, Box::new(|_| true)).unwrap().0
}

/// The last bytes of the addresses that the zone has for `name.internal`.
fn found(named: &Named, name: &str) -> Option<u8> {
    let zone = named.answering.zone();
    let mut server = Server::new(zone, Outside::Refuse, Limits::default(), Box::new(|| 7)).unwrap();
    let asker = Asker {
        address: "10.40.0.99:4000".parse().unwrap(),
        asked: IpAddr::from([10, 40, 0, 1]),
        transport: Transport::Udp,
        connection: 0,
    };
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [name, "internal"] {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let handled = server.handle_query(asker, &query, std::time::Instant::now());
    let Handled::Answer(answer) = handled else { panic!("{handled:?}") };
    // Counts of answers; the only record ends with its address.
    (answer[6..8] == [0, 1]).then(|| *answer.last().unwrap())
}

#[test]
fn every_attachment_is_a_service_of_its_own() {
    let named = named(vec![service("db", "10.40.0.3")]);
    assert_eq!((found(&named, "db"), found(&named, "web-1")), (Some(3), None));
    let web = attachment("web-1", &["10.40.0.2", "fd40::2"]);
    // It is where the service's slot is.
    let other = attachment("db-1", &["10.40.0.3"]);
    named.refresh(&subnets(), [&web, &other].into_iter()).unwrap();
    assert_eq!(found(&named, "web-1"), Some(2));
    assert_eq!((found(&named, "db-1"), found(&named, "db")), (Some(3), Some(3)));
    named.refresh(&subnets(), std::iter::once(&other)).unwrap();
    assert_eq!((found(&named, "web-1"), found(&named, "db-1")), (None, Some(3)));
    assert_eq!(named.answering.zone().serial(), 3);
}

#[test]
fn a_service_goes_before_an_attachment_of_its_name() {
    let mut named = named(vec![service("web", "10.40.0.3")]);
    let web = attachment("web", &["10.40.0.2"]);
    named.refresh(&subnets(), std::iter::once(&web)).unwrap();
    assert_eq!(found(&named, "web"), Some(3));
    named.configure(Names::default());
    named.refresh(&subnets(), std::iter::once(&web)).unwrap();
    assert_eq!(found(&named, "web"), Some(2));
}

#[test]
fn a_zone_that_is_given_is_all_there_is() {
    let mut named = named(vec![service("db", "10.40.0.3")]);
    let web = attachment("web-1", &["10.40.0.2"]);
    named.refresh(&subnets(), std::iter::once(&web)).unwrap();
    let given = |serial, address| ZoneRecords {
        serial,
        subnets: subnets(),
        services: vec![service("cache", address)],
        aliases: Vec::new(),
    };
    named.give(given(70, "10.40.0.8")).unwrap();
    let all = |named: &Named| ["cache", "db", "web-1"].map(|name| found(named, name));
    assert_eq!(all(&named), [Some(8), None, None]);
    // Neither attachments nor the configuration change it.
    named.configure(Names { services: vec![service("db", "10.40.0.3")], outside: Outside::Absent });
    named.refresh(&subnets(), std::iter::once(&web)).unwrap();
    assert_eq!(all(&named), [Some(8), None, None]);
    named.give(given(71, "10.40.0.9")).unwrap();
    assert_eq!((found(&named, "cache"), named.answering.zone().serial()), (Some(9), 71));
}

#[test]
fn what_is_no_zone_of_this_environment_changes_nothing() {
    let mut named = named(vec![service("db", "10.40.0.3")]);
    let other =
        ZoneRecords { subnets: vec!["10.41.0.0/16".parse().unwrap()], ..Default::default() };
    let refused = named.give(other).unwrap_err().to_string();
    assert_eq!(refused, "subnets: found 10.41.0.0/16; expected 10.40.0.0/16 and fd40::/64");
    let services = vec![service("d.b", "10.40.0.3")];
    let wrong = ZoneRecords { subnets: subnets(), services, ..ZoneRecords::default() };
    let refused = named.give(wrong).unwrap_err().to_string();
    assert!(refused.starts_with("service \"d.b\" '.' is not allowed"), "{refused}");
    // It is still made here.
    let web = attachment("web-1", &["10.40.0.2"]);
    named.refresh(&subnets(), std::iter::once(&web)).unwrap();
    assert_eq!((found(&named, "db"), found(&named, "web-1")), (Some(3), Some(2)));
}

/// What the configuration takes, the gateway takes.
#[test]
fn a_gateway_is_not_its_own_server() {
    let gateways = Gateways::prepare().unwrap();
    let outside = Outside::Forward(vec!["10.40.0.1:53".parse().unwrap()]);
    let names = Names { services: Vec::new(), outside };
    let refused = open(&gateways, &subnets(), names, Box::new(|_| true)).err().unwrap();
    assert!(refused.to_string().contains("own gateway"), "{refused}");
}
