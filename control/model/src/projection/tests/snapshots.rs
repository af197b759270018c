//! Whoever asks, whenever, knows what a snapshot says.

use super::*;

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
        1 => (e.clone(), a.clone(), 1u64..3).prop_map(move |(e, a, generation)| put(&Health {
            environment: id(e),
            attachment: ATTACHMENTS[a].parse().unwrap(),
            generation,
            state: HealthState::Unhealthy,
            since: UnixMs(0),
        })),
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

/// What whoever watches an environment's services has of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Catalogue(BTreeMap<ServiceName, ServiceDocument>);

impl Catalogue {
    fn of(projection: &Projection, environment: &EnvironmentId) -> Self {
        let services = projection.services(environment);
        Self(services.map(|service| (service.name.clone(), service.clone())).collect())
    }

    fn apply(&mut self, updates: Vec<Update>) {
        for update in updates {
            match update {
                Update::Put(Document::Service(service)) => {
                    self.0.insert(service.name.clone(), service);
                }
                Update::Remove(DocumentId::Service(_, name)) => {
                    self.0.remove(&name);
                }
                other => panic!("{other:?} is of no service"),
            }
        }
    }

    /// What it should be, said in another way: from all records at once.
    fn expected(records: &BTreeMap<Key, Change>, of: &EnvironmentId) -> Self {
        let mut services: BTreeMap<ServiceName, ServiceDocument> = BTreeMap::new();
        let document = |name: &ServiceName| ServiceDocument {
            environment: of.clone(),
            name: name.clone(),
            version: 0,
            ports: BTreeMap::new(),
            metadata: BTreeMap::new(),
            instances: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        let facts = || records.values().map(fact);
        let mut of_attachment = BTreeMap::new();
        for known in facts() {
            let Fact::Of(environment, known) = known else { continue };
            match known {
                _ if environment != *of => {}
                EnvironmentFact::Service(name, Some(service)) => {
                    let entry = services.entry(name.clone()).or_insert_with(|| document(&name));
                    (entry.version, entry.ports, entry.metadata) =
                        (service.version, service.ports, service.metadata);
                }
                EnvironmentFact::Attachment(name, Some(attachment)) => {
                    let SlotKey { service, slot } = attachment.slot.clone();
                    services.entry(service.clone()).or_insert_with(|| document(&service));
                    of_attachment.insert(name, (service, slot, attachment));
                }
                _ => {}
            }
        }
        for (name, (service, slot, attachment)) in &of_attachment {
            let said = |record: Option<Change>| record.map(|change| fact(&change));
            let at = |kind: &str| records.get(format!("{kind}/{of}/{name}").as_str()).cloned();
            let host = records.get(format!("host/{}", attachment.host).as_str());
            let lost = records.contains_key(format!("lost/{}", attachment.host).as_str());
            let state = match (host.map(fact), said(at("drain")), said(at("health"))) {
                (Some(Fact::Host(_, Some(host))), _, _) if host.state == HostState::Revoked => {
                    InstanceState::Drained
                }
                (None, _, _) => InstanceState::Drained,
                (_, Some(Fact::Of(_, EnvironmentFact::Drain(_, Some(drain)))), _)
                    if drain.generation == attachment.generation =>
                {
                    InstanceState::Drained
                }
                _ if lost => InstanceState::Unhealthy,
                (_, _, Some(Fact::Of(_, EnvironmentFact::Health(_, Some(health)))))
                    if health.generation == attachment.generation =>
                {
                    InstanceState::Unhealthy
                }
                _ => InstanceState::Healthy,
            };
            let instance = Instance {
                attachment: name.clone(),
                generation: attachment.generation,
                addresses: attachment.addresses.clone(),
                state,
            };
            services.get_mut(service).unwrap().instances.insert(*slot, instance);
        }
        for known in facts() {
            let Fact::Of(environment, EnvironmentFact::Role(service, role, Some(held))) = known
            else {
                continue;
            };
            if environment == *of
                && let Some((of_service, slot, _)) = of_attachment.get(&held.holder)
                && *of_service == service
            {
                let (slot, attachment) = (*slot, held.holder.clone());
                let holder = RoleHolder { slot, attachment, epoch: held.epoch };
                services.get_mut(&service).unwrap().roles.insert(role, holder);
            }
        }
        Self(services)
    }
}

proptest! {
    /// Whoever watches an environment's services, and asks now and then, knows what a snapshot says, also where no
    /// host is a member; a snapshot is what is made of all records at once, of this environment alone.
    #[test]
    fn whenever_services_are_asked_for_they_are_what_a_snapshot_says(
        batches in prop::collection::vec(prop::collection::vec(changes(), 1..4), 0..40),
        asks in prop::collection::vec((0..ENVIRONMENTS.len(), any::<bool>()), 40),
        forgets in any::<bool>(),
    ) {
        let mut projection = Projection::of(Revision(0), []);
        let mut records: BTreeMap<Key, Change> = BTreeMap::new();
        let mut catalogues = vec![(Catalogue::default(), Revision(0)); ENVIRONMENTS.len()];
        for (n, batch) in batches.into_iter().enumerate() {
            let revision = Revision(n as u64 + 1);
            let batch: BTreeMap<Key, Change> =
                batch.into_iter().map(|change| (change.key().clone(), change)).collect();
            projection.apply(revision, batch.values().map(fact));
            if forgets {
                projection.gone.trim(2);
            }
            for (key, change) in batch {
                match change {
                    Change::Put(_) => records.insert(key, change),
                    Change::Deleted(_) => records.remove(&key),
                };
            }
            let (asks, anew) = asks[n];
            let environment: EnvironmentId = ENVIRONMENTS[asks].parse().unwrap();
            let now = Catalogue::of(&projection, &environment);
            prop_assert_eq!(&now, &Catalogue::expected(&records, &environment));
            let (catalogue, at) = &mut catalogues[asks];
            match projection.service_changes(&environment, *at) {
                Ok(updates) if !anew => catalogue.apply(updates),
                _ => *catalogue = now.clone(),
            }
            *at = revision;
            prop_assert_eq!(&*catalogue, &now);
        }
    }

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
