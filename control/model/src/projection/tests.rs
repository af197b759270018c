//! Whoever applies what it is told, whenever it asks, knows what there is to know.

mod services;

use proptest::prelude::*;
use weft_store::{Change, Entry, Key};

use super::*;
use crate::{
    id::{OrganisationId, ServiceName, SlotName},
    policy::{Policy, Verdict},
    record::{
        Attachment, Authority, AuthorityState, Basis, Capacity, Drain, Endpoint, Environment,
        EnvironmentState, Health, HealthState, Interface, Lifetimes, OtherNames, Place, Port,
        Protocol, Quotas, Record, Role, Service, Share, SlotKey, UnixMs,
    },
};

const HOSTS: [&str; 3] = ["host-a", "host-b", "host-c"];
const ENVIRONMENTS: [&str; 2] = ["env-a", "env-b"];
const ATTACHMENTS: [&str; 4] = ["web-0", "web-1", "db-0", "db-1"];

fn host(n: usize, state: HostState, pod: &str, port: u16) -> Host {
    let public = Endpoint { address: format!("192.0.2.{n}:{port}").parse().unwrap(), pod: None };
    let inside =
        Endpoint { address: format!("10.0.0.{n}:{port}").parse().unwrap(), pod: Some(pod.into()) };
    Host {
        id: HOSTS[n].parse().unwrap(),
        state,
        place: Place { pod: pod.into(), ..Place::default() },
        labels: BTreeMap::new(),
        endpoints: vec![inside, public],
        capacity: Capacity::default(),
        key_hash: String::new(),
        next_key_hash: None,
        created: UnixMs(0),
    }
}

fn environment(n: usize, state: EnvironmentState) -> Environment {
    Environment {
        id: ENVIRONMENTS[n].parse().unwrap(),
        organisation: OrganisationId::from_random(&[0; 10]),
        name: "shop".parse().unwrap(),
        state,
        subnets: vec!["10.9.0.0/24".parse().unwrap()],
        quotas: Quotas::default(),
        held: false,
        lifetimes: Lifetimes::default(),
        other_names: OtherNames::default(),
        created: UnixMs(0),
    }
}

fn attachment(environment: usize, n: usize, host: usize, generation: u64) -> Attachment {
    let (service, index) = ATTACHMENTS[n].split_once('-').unwrap();
    let slot = SlotKey {
        service: service.parse().unwrap(),
        slot: SlotName::Stable(index.parse().unwrap()),
    };
    Attachment {
        environment: ENVIRONMENTS[environment].parse().unwrap(),
        name: ATTACHMENTS[n].parse().unwrap(),
        slot,
        addresses: vec![format!("10.9.0.{}", n + 2).parse().unwrap()],
        host: HOSTS[host].parse().unwrap(),
        generation,
        basis: Basis::Binding,
        share: Share::default(),
        created: UnixMs(0),
    }
}

fn put(record: &impl Record) -> Change {
    let (key, value) = (record.key().unwrap(), record.encode().unwrap().into());
    Change::Put(Entry { key, value, modified: Revision(1), created: Revision(1), lease: None })
}

fn deleted<R: Record>(path: &str) -> Change {
    Change::Deleted(R::key_at(path).unwrap())
}

fn fact(change: &Change) -> Fact {
    Fact::of(change).unwrap().unwrap()
}

/// What a host has of what it was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Replica {
    known: BTreeMap<DocumentId, Document>,
}

impl Replica {
    fn apply(&mut self, updates: Vec<Update>) {
        for update in updates {
            match update {
                Update::Put(document) => {
                    let id = document.id();
                    let environment = DocumentId::Environment(id.environment().clone());
                    let is_known = id == environment || self.known.contains_key(&environment);
                    assert!(is_known, "{id:?} comes before its environment");
                    self.known.insert(id, document);
                }
                Update::Remove(DocumentId::Environment(environment)) => {
                    self.known.retain(|id, _| *id.environment() != environment);
                }
                Update::Remove(id) => {
                    self.known.remove(&id);
                }
            }
        }
    }

    fn of(projection: &Projection, host: &HostId) -> Self {
        let mut replica = Self::default();
        replica.apply(projection.snapshot(host));
        replica
    }
}

fn told(projection: &Projection, host: &str) -> Vec<DocumentId> {
    Replica::of(projection, &host.parse().unwrap()).known.into_keys().collect()
}

fn ids(text: &[(&str, &str)]) -> Vec<DocumentId> {
    let environment = || ENVIRONMENTS[0].parse().unwrap();
    let mut ids: Vec<DocumentId> = text
        .iter()
        .map(|(kind, name)| match *kind {
            "environment" => DocumentId::Environment(environment()),
            "policy" => DocumentId::Policy(environment()),
            "attachment" => DocumentId::Attachment(environment(), name.parse().unwrap()),
            "peer" => DocumentId::Peer(environment(), name.parse().unwrap()),
            _ => DocumentId::Service(environment(), name.parse().unwrap()),
        })
        .collect();
    ids.sort();
    ids
}

#[test]
fn a_host_knows_an_environment_while_it_has_an_attachment_there() {
    let mut projection = Projection::of(Revision(0), []);
    let facts = [
        put(&host(0, HostState::Active, "p", 1)),
        put(&host(1, HostState::Active, "p", 1)),
        put(&host(2, HostState::Active, "p", 1)),
        put(&environment(0, EnvironmentState::Active)),
        put(&environment(1, EnvironmentState::Active)),
        put(&attachment(0, 0, 0, 1)),
        put(&attachment(0, 2, 1, 1)),
        put(&attachment(1, 0, 2, 1)),
    ];
    projection.apply(Revision(1), facts.iter().map(fact));
    let environment = [("environment", ""), ("policy", "")];
    let services = [("service", "web"), ("service", "db")];
    let of_a = [("attachment", "web-0"), ("peer", "host-b")];
    assert_eq!(told(&projection, "host-a"), ids(&[&environment[..], &services, &of_a].concat()));
    let b = "host-b".parse().unwrap();
    let told_of = projection.apply(Revision(2), [fact(&deleted::<Attachment>("env-a/db-0"))]);
    assert_eq!(told_of.into_iter().collect::<Vec<_>>(), ["host-a".parse().unwrap(), b]);
    assert_eq!(told(&projection, "host-b"), []);
    let gone = vec![Update::Remove(DocumentId::Environment("env-a".parse().unwrap()))];
    assert_eq!(projection.changes(&"host-b".parse().unwrap(), Revision(1)), Ok(gone));
    let left = [("service", "web"), ("attachment", "web-0")];
    assert_eq!(told(&projection, "host-a"), ids(&[&environment[..], &left].concat()));
    // The other environment's host was told of nothing.
    assert_eq!(projection.changes(&"host-c".parse().unwrap(), Revision(1)), Ok(Vec::new()));
}

#[test]
fn what_is_said_of_other_names_is_told_where_it_is_said() {
    let mut projection = Projection::of(Revision(0), []);
    let facts = [
        put(&host(0, HostState::Active, "p", 1)),
        put(&host(1, HostState::Active, "p", 1)),
        put(&environment(0, EnvironmentState::Active)),
        put(&environment(1, EnvironmentState::Active)),
        put(&attachment(0, 0, 0, 1)),
        put(&attachment(1, 0, 1, 1)),
    ];
    projection.apply(Revision(1), facts.iter().map(fact));
    let other_names = OtherNames::Forward(vec!["192.0.2.53:53".parse().unwrap()]);
    let changed = Environment {
        other_names: other_names.clone(),
        ..environment(0, EnvironmentState::Active)
    };
    let told_of = projection.apply(Revision(2), [fact(&put(&changed))]);
    assert_eq!(told_of.into_iter().collect::<Vec<_>>(), ["host-a".parse().unwrap()]);
    let changes = projection.changes(&"host-a".parse().unwrap(), Revision(1)).unwrap();
    let [Update::Put(Document::Environment(told))] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(told.other_names, other_names);
    assert_eq!(projection.changes(&"host-b".parse().unwrap(), Revision(1)), Ok(Vec::new()));
}

#[test]
fn endpoints_of_another_pod_are_not_told() {
    let mut projection = Projection::of(Revision(0), []);
    let mut facts = vec![put(&environment(0, EnvironmentState::Active))];
    for (n, pod) in ["p", "p", "q"].into_iter().enumerate() {
        facts.push(put(&host(n, HostState::Active, pod, 1)));
        facts.push(put(&attachment(0, n, n, 1)));
    }
    projection.apply(Revision(1), facts.iter().map(fact));
    let endpoints = |projection: &Projection, of: &str, to: &str| {
        let known = Replica::of(projection, &to.parse().unwrap()).known;
        match &known[&DocumentId::Peer("env-a".parse().unwrap(), of.parse().unwrap())] {
            Document::Peer(peer) => peer.endpoints.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(endpoints(&projection, "host-a", "host-b"), 2);
    assert_eq!(endpoints(&projection, "host-a", "host-c"), 1);
    // It moves to that pod: it begins anew, since what others told it was for another.
    let moved = projection.apply(Revision(2), [fact(&put(&host(2, HostState::Active, "p", 1)))]);
    assert!(moved.contains("host-c"));
    let forgotten = projection.changes(&"host-c".parse().unwrap(), Revision(1));
    assert_eq!(forgotten, Err(Forgotten { oldest: Revision(2) }));
    assert_eq!(endpoints(&projection, "host-a", "host-c"), 2);
}

#[test]
fn only_what_answers_is_healthy() {
    let mut projection = Projection::of(Revision(0), []);
    let facts = [
        put(&host(0, HostState::Active, "p", 1)),
        put(&environment(0, EnvironmentState::Active)),
        put(&attachment(0, 0, 0, 7)),
    ];
    projection.apply(Revision(1), facts.iter().map(fact));
    let said = |state, interface| Health {
        environment: "env-a".parse().unwrap(),
        attachment: "web-0".parse().unwrap(),
        generation: 7,
        state,
        interface,
        since: UnixMs(0),
    };
    let health = |state, generation| Health { generation, ..said(Some(state), None) };
    let failed = || Some(Interface::Failed { error: "no such namespace".to_owned() });
    let lost = Lost { host: "host-a".parse().unwrap(), since: UnixMs(0) };
    let drain = |generation| Drain {
        environment: "env-a".parse().unwrap(),
        attachment: "web-0".parse().unwrap(),
        generation,
        since: UnixMs(0),
    };
    let mut revision = 1;
    for (change, expected) in [
        (put(&health(HealthState::Starting, 7)), InstanceState::Starting),
        (put(&health(HealthState::Healthy, 7)), InstanceState::Healthy),
        (put(&health(HealthState::Unhealthy, 7)), InstanceState::Unhealthy),
        (put(&health(HealthState::Unhealthy, 6)), InstanceState::Healthy),
        (put(&lost), InstanceState::Unhealthy),
        (put(&drain(7)), InstanceState::Drained),
        (put(&drain(6)), InstanceState::Unhealthy),
        (deleted::<Lost>("host-a"), InstanceState::Healthy),
        (put(&drain(7)), InstanceState::Drained),
        (put(&health(HealthState::Healthy, 7)), InstanceState::Drained),
        (deleted::<Drain>("env-a/web-0"), InstanceState::Healthy),
        (deleted::<Health>("env-a/web-0"), InstanceState::Healthy),
        (put(&host(0, HostState::Cordoned, "p", 1)), InstanceState::Healthy),
        (put(&said(None, Some(Interface::Pending))), InstanceState::Starting),
        (put(&said(None, Some(Interface::Up))), InstanceState::Healthy),
        (put(&said(None, failed())), InstanceState::Unhealthy),
        // Both have to be good.
        (put(&said(Some(HealthState::Healthy), failed())), InstanceState::Unhealthy),
        (put(&said(Some(HealthState::Healthy), Some(Interface::Pending))), InstanceState::Starting),
        (put(&said(Some(HealthState::Starting), Some(Interface::Up))), InstanceState::Starting),
        (put(&said(Some(HealthState::Healthy), Some(Interface::Up))), InstanceState::Healthy),
        (put(&Health { generation: 6, ..said(None, failed()) }), InstanceState::Healthy),
    ] {
        revision += 1;
        projection.apply(Revision(revision), [fact(&change)]);
        let known = Replica::of(&projection, &"host-a".parse().unwrap()).known;
        let id = DocumentId::Service("env-a".parse().unwrap(), "web".parse().unwrap());
        let Document::Service(service) = &known[&id] else { panic!("{known:?}") };
        assert_eq!(service.instances[&SlotName::Stable(0)].state, expected, "{change:?}");
    }
}

#[test]
fn what_is_forgotten_is_said() {
    let mut gone = Gone::default();
    for n in 1..=11 {
        let id = DocumentId::Environment(format!("env-{n}").parse().unwrap());
        gone.for_host("host-a".parse().unwrap(), id, Revision(n));
        gone.trim(10);
    }
    assert_eq!(gone.oldest(), Revision(6));
    assert_eq!(gone.of(&"host-a".parse().unwrap(), Revision(0)).count(), 5);
}

#[test]
fn only_what_hosts_know_of_is_a_fact() {
    let other = Key::new("secret/env-a/password/1").unwrap();
    assert_eq!(Fact::of(&Change::Deleted(other)).unwrap(), None);
}

fn states() -> impl Strategy<Value = Option<HealthState>> {
    let states = [HealthState::Starting, HealthState::Healthy, HealthState::Unhealthy];
    prop::option::of(prop::sample::select(states.to_vec()))
}

fn interfaces() -> impl Strategy<Value = Option<Interface>> {
    let failed = Interface::Failed { error: "it is gone".to_owned() };
    prop::option::of(prop::sample::select(vec![Interface::Pending, Interface::Up, failed]))
}

fn changes() -> impl Strategy<Value = Change> {
    let (e, h, a) = (0..ENVIRONMENTS.len(), 0..HOSTS.len(), 0..ATTACHMENTS.len());
    let id = |e: usize| ENVIRONMENTS[e].parse().unwrap();
    let state = prop_oneof![4 => Just(HostState::Active), 1 => Just(HostState::Revoked)];
    prop_oneof![
        3 => (h.clone(), state, prop_oneof![Just("p"), Just("q")], 1u16..3)
            .prop_map(|(n, state, pod, port)| put(&host(n, state, pod, port))),
        1 => h.clone().prop_map(|n| deleted::<Host>(HOSTS[n])),
        1 => h.clone().prop_map(|n| put(&Lost { host: HOSTS[n].parse().unwrap(), since: UnixMs(0) })),
        1 => h.clone().prop_map(|n| deleted::<Lost>(HOSTS[n])),
        3 => (e.clone(), any::<bool>()).prop_map(|(n, active)| {
            let state = if active { EnvironmentState::Active } else { EnvironmentState::Suspended };
            put(&environment(n, state))
        }),
        1 => e.clone().prop_map(|n| deleted::<Environment>(ENVIRONMENTS[n])),
        8 => (e.clone(), a.clone(), h, 1u64..3).prop_map(|(e, a, h, g)| put(&attachment(e, a, h, g))),
        4 => (e.clone(), a.clone())
            .prop_map(|(e, a)| deleted::<Attachment>(&format!("{}/{}", ENVIRONMENTS[e], ATTACHMENTS[a]))),
        1 => (e.clone(), 1u32..3, any::<bool>()).prop_map(move |(e, generation, current)| put(&Authority {
            environment: id(e),
            generation,
            state: if current { AuthorityState::Current } else { AuthorityState::Next },
            certificate: format!("certificate {generation}"),
            sealed_key: String::new(),
            created: UnixMs(0),
            since: None,
        })),
        1 => (e.clone(), 1u64..3).prop_map(move |(e, version)| {
            put(&Policy { version, default: Verdict::Deny, ..Policy::open(id(e)) })
        }),
        1 => (e.clone(), any::<bool>(), 1u16..3).prop_map(move |(e, web, port)| put(&Service {
            environment: id(e),
            name: if web { "web" } else { "db" }.parse().unwrap(),
            ports: [("http".parse().unwrap(), Port { protocol: Protocol::Tcp, port })].into(),
            metadata: [("port".to_owned(), port.to_string())].into(),
            version: port.into(),
        })),
        1 => e.clone().prop_map(|e| deleted::<Service>(&format!("{}/web", ENVIRONMENTS[e]))),
        2 => (e.clone(), a.clone(), 1u64..3, states(), interfaces()).prop_map(
            move |(e, a, generation, state, interface)| put(&Health {
                environment: id(e),
                attachment: ATTACHMENTS[a].parse().unwrap(),
                generation,
                state,
                interface,
                since: UnixMs(0),
            }),
        ),
        1 => (e.clone(), a.clone(), 1u64..3).prop_map(move |(e, a, generation)| put(&Drain {
            environment: id(e),
            attachment: ATTACHMENTS[a].parse().unwrap(),
            generation,
            since: UnixMs(0),
        })),
        1 => (e.clone(), a.clone())
            .prop_map(|(e, a)| deleted::<Drain>(&format!("{}/{}", ENVIRONMENTS[e], ATTACHMENTS[a]))),
        2 => (e.clone(), a, 1u64..4).prop_map(move |(e, a, epoch)| put(&Role {
            environment: id(e),
            service: "db".parse().unwrap(),
            role: "primary".parse().unwrap(),
            holder: ATTACHMENTS[a].parse().unwrap(),
            epoch,
        })),
        1 => e.prop_map(|e| deleted::<Role>(&format!("{}/db/primary", ENVIRONMENTS[e]))),
    ]
}

/// What a host should know, said in another way: from all records at once.
fn expected(records: &BTreeMap<Key, Change>, of: &str) -> Vec<DocumentId> {
    let host_is_there = |id: &str| {
        records.values().any(|change| match fact(change) {
            Fact::Host(known, Some(host)) => {
                known.as_str() == id && host.state == HostState::Active
            }
            _ => false,
        })
    };
    let mut ids = BTreeSet::new();
    for environment in ENVIRONMENTS {
        let id: EnvironmentId = environment.parse().unwrap();
        let attachments: Vec<Attachment> = records
            .values()
            .filter_map(|change| match fact(change) {
                Fact::Of(of, EnvironmentFact::Attachment(_, attachment)) if of == id => attachment,
                _ => None,
            })
            .collect();
        let is_there = records.contains_key(&Environment::key_at(environment).unwrap());
        let mut own =
            attachments.iter().filter(|attachment| attachment.host.as_str() == of).peekable();
        if !is_there || !host_is_there(of) || own.peek().is_none() {
            continue;
        }
        ids.insert(DocumentId::Environment(id.clone()));
        ids.insert(DocumentId::Policy(id.clone()));
        ids.extend(own.map(|a| DocumentId::Attachment(id.clone(), a.name.clone())));
        for attachment in &attachments {
            let host = attachment.host.as_str();
            if host != of && host_is_there(host) {
                ids.insert(DocumentId::Peer(id.clone(), attachment.host.clone()));
            }
            ids.insert(DocumentId::Service(id.clone(), attachment.slot.service.clone()));
        }
        for name in ["web", "db"] {
            if records.contains_key(&Service::key_at(&format!("{environment}/{name}")).unwrap()) {
                ids.insert(DocumentId::Service(id.clone(), name.parse::<ServiceName>().unwrap()));
            }
        }
    }
    ids.into_iter().collect()
}

proptest! {
    /// Facts in batches; hosts that ask now and then, or after long, or from the beginning. Whenever one has
    /// asked, it has what a snapshot has; who is not told that there is something new has missed nothing; and a
    /// snapshot is what is made of all records at once.
    #[test]
    fn whenever_a_host_asks_it_knows_what_a_snapshot_says(
        batches in prop::collection::vec(prop::collection::vec(changes(), 1..4), 0..40),
        asks in prop::collection::vec((0..HOSTS.len(), any::<bool>()), 40),
        forgets in any::<bool>(),
    ) {
        let mut projection = Projection::of(Revision(0), []);
        let mut records: BTreeMap<Key, Change> = BTreeMap::new();
        let mut replicas = vec![(Replica::default(), Revision(0)); HOSTS.len()];
        for (n, batch) in batches.into_iter().enumerate() {
            let revision = Revision(n as u64 + 1);
            // The last change of a key in a batch is the one that happened.
            let batch: BTreeMap<Key, Change> =
                batch.into_iter().map(|change| (change.key().clone(), change)).collect();
            let before: Vec<Replica> =
                HOSTS.iter().map(|host| Replica::of(&projection, &host.parse().unwrap())).collect();
            let told = projection.apply(revision, batch.values().map(fact));
            if forgets {
                projection.gone.trim(2);
            }
            for (key, change) in batch {
                match change {
                    Change::Put(_) => records.insert(key, change),
                    Change::Deleted(_) => records.remove(&key),
                };
            }
            for (name, before) in HOSTS.iter().zip(before) {
                let host: HostId = name.parse().unwrap();
                let now = Replica::of(&projection, &host);
                prop_assert!(told.contains(&host) || now == before, "{host} missed something");
                let known: Vec<DocumentId> = now.known.keys().cloned().collect();
                prop_assert_eq!(known, expected(&records, name));
                let anew = Projection::of(revision, records.values().map(fact));
                prop_assert_eq!(anew.changes(&host, Revision(n as u64)), Err(Forgotten { oldest: revision }));
                prop_assert_eq!(now, Replica::of(&anew, &host));
            }
            let (asks, anew) = asks[n];
            let host: HostId = HOSTS[asks].parse().unwrap();
            let (replica, at) = &mut replicas[asks];
            match projection.changes(&host, *at) {
                Ok(updates) if !anew => replica.apply(updates),
                _ => *replica = Replica::of(&projection, &host),
            }
            *at = revision;
            prop_assert_eq!(&*replica, &Replica::of(&projection, &host));
        }
    }
}
