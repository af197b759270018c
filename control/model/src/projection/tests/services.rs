//! Whoever watches services knows what there is to know, whatever happens between two parts.

use proptest::prelude::*;

use super::*;

/// What whoever watches an environment's services has of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Catalogue(BTreeMap<ServiceName, ServiceDocument>);

impl Catalogue {
    fn of(projection: &Projection, environment: &EnvironmentId) -> Self {
        let services = projection.services(environment);
        Self(services.map(|service| (service.name.clone(), service.clone())).collect())
    }

    fn apply(&mut self, part: ServicePart<ServiceDocument>) {
        let put = part.services.into_iter().map(|service| (service.name.clone(), service));
        self.0.extend(put);
        self.0.retain(|name, _| !part.removed.contains(name));
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
                    expected_of(&health)
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

/// How it is for others, said in another way.
fn expected_of(health: &Health) -> InstanceState {
    match (health.state, &health.interface) {
        (Some(HealthState::Unhealthy), _) | (_, Some(Interface::Failed { .. })) => {
            InstanceState::Unhealthy
        }
        (Some(HealthState::Starting), _) | (_, Some(Interface::Pending)) => InstanceState::Starting,
        (Some(HealthState::Healthy) | None, Some(Interface::Up) | None) => InstanceState::Healthy,
    }
}

/// Whoever watches an environment's services, as the protocol says it: parts count when the last is there.
#[derive(Debug, Clone, Default)]
struct Reader {
    cursor: ServiceCursor,
    catalogue: Catalogue,
    revision: Revision,
    /// What it will have when the last part is there.
    begun: Option<Catalogue>,
}

impl Reader {
    /// Takes one part of at most `len_max` services; returns whether it was the last.
    fn take(&mut self, projection: &Projection, of: &EnvironmentId, len_max: usize) -> bool {
        let part = projection.next_services(of, &mut self.cursor, len_max, |service| {
            // A name that is no more counts by its letters: there is none as long as this.
            (service.clone(), 10)
        });
        let len = part.services.len() * 10;
        let removed = part.removed.iter().map(|name| name.as_str().len());
        let len = len + removed.sum::<usize>();
        assert!(len <= len_max || part.services.len() + part.removed.len() == 1, "{part:?}");
        let mut begun = self.begun.take().unwrap_or_else(|| self.catalogue.clone());
        if part.is_snapshot {
            begun = Catalogue::default();
        }
        let (more, revision) = (part.more, part.revision);
        begun.apply(part);
        if more {
            self.begun = Some(begun);
        } else {
            (self.catalogue, self.revision) = (begun, revision);
        }
        !more
    }

    /// Its connection breaks: it comes back with what it has.
    fn comes_back(&mut self) {
        (self.cursor, self.begun) = (ServiceCursor::after(self.revision), None);
    }
}

/// What a reader does after a change.
#[derive(Debug, Clone, Copy)]
struct Reading {
    environment: usize,
    parts: usize,
    comes_back: bool,
    begins_anew: bool,
}

fn readings() -> impl Strategy<Value = Reading> {
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    (0..ENVIRONMENTS.len(), 0..4_usize, flags).prop_map(
        |(environment, parts, (comes_back, begins_anew))| Reading {
            environment,
            parts,
            comes_back,
            begins_anew,
        },
    )
}

#[test]
fn a_change_amid_the_parts_is_told_by_the_next_turn() {
    let of: EnvironmentId = ENVIRONMENTS[0].parse().unwrap();
    let mut projection = Projection::of(Revision(0), []);
    let service = |name: &str, version| {
        fact(&put(&Service {
            environment: ENVIRONMENTS[0].parse().unwrap(),
            name: name.parse().unwrap(),
            ports: BTreeMap::new(),
            metadata: BTreeMap::new(),
            version,
        }))
    };
    projection.apply(Revision(1), ["a", "b", "c", "d"].map(|name| service(name, 1)));
    let mut reader = Reader::default();
    assert!(!reader.take(&projection, &of, 20), "there are two more");
    assert_eq!(reader.catalogue, Catalogue::default(), "which counts for nothing yet");
    // One that was told is changed and one is no more; so is one that was not, and one comes before all of them.
    let gone = ["b", "c"].map(|name| fact(&deleted::<Service>(&format!("env-a/{name}"))));
    let changed = [service("a", 2), service("a-new", 2)];
    projection.apply(Revision(2), changed.into_iter().chain(gone));
    assert!(reader.take(&projection, &of, 20));
    assert_eq!(reader.revision, Revision(1), "not everything is as it was at 2");
    let names = |reader: &Reader| -> Vec<(String, u64)> {
        reader.catalogue.0.values().map(|s| (s.name.to_string(), s.version)).collect()
    };
    assert_eq!(names(&reader), [("a".into(), 1), ("b".into(), 1), ("d".into(), 1)]);
    let mut back = reader.clone();
    back.comes_back();
    for mut reader in [reader, back] {
        while !reader.take(&projection, &of, 10) {}
        assert_eq!(names(&reader), [("a".into(), 2), ("a-new".into(), 2), ("d".into(), 1)]);
        assert_eq!(reader.revision, Revision(2));
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
        let mut readers = vec![Reader::default(); ENVIRONMENTS.len()];
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
            let reader = &mut readers[asks];
            if anew {
                *reader = Reader::default();
            }
            prop_assert!(reader.take(&projection, &environment, usize::MAX));
            prop_assert_eq!((&reader.catalogue, reader.revision), (&now, revision));
        }
    }

    /// Parts of one or two services, changes between them, connections that break, and what is gone forgotten: when a
    /// last part is there, each service is as it was at its revision or later; and who reads until nothing is new knows
    /// what a snapshot says.
    #[test]
    fn whatever_happens_between_parts_of_services_nothing_is_missed(
        batches in prop::collection::vec(prop::collection::vec(changes(), 1..4), 0..40),
        readings in prop::collection::vec(readings(), 40),
        forgets in any::<bool>(),
        len_max in 1..25_usize,
    ) {
        let mut projection = Projection::of(Revision(0), []);
        let mut readers = vec![Reader::default(); ENVIRONMENTS.len()];
        let environments: Vec<EnvironmentId> = ENVIRONMENTS.map(|id| id.parse().unwrap()).into();
        let mut history = vec![vec![Catalogue::default()]; ENVIRONMENTS.len()];
        for (batch, reading) in batches.into_iter().zip(readings) {
            let revision = Revision(projection.revision().0 + 1);
            let batch: BTreeMap<Key, Change> =
                batch.into_iter().map(|change| (change.key().clone(), change)).collect();
            projection.apply(revision, batch.values().map(fact));
            if forgets {
                projection.gone.trim(2);
            }
            for (history, environment) in history.iter_mut().zip(&environments) {
                history.push(Catalogue::of(&projection, environment));
            }
            let Reading { environment: n, parts, comes_back, begins_anew } = reading;
            let reader = &mut readers[n];
            if comes_back {
                reader.comes_back();
            }
            if begins_anew {
                *reader = Reader::default();
            }
            for _ in 0..parts {
                if !reader.take(&projection, &environments[n], len_max) {
                    continue;
                }
                let from = usize::try_from(reader.revision.0).unwrap();
                let since = &history[n][from..];
                let names = since.iter().chain([&reader.catalogue]).flat_map(|then| then.0.keys());
                for name in names.collect::<BTreeSet<_>>() {
                    let known = reader.catalogue.0.get(name);
                    prop_assert!(since.iter().any(|then| then.0.get(name) == known), "{name}");
                }
            }
        }
        for (reader, environment) in readers.iter_mut().zip(&environments) {
            let now = Catalogue::of(&projection, environment);
            // So many services there are, and names that are gone; all of it at most twice.
            let mut parts = 0;
            while !reader.take(&projection, environment, len_max)
                || reader.revision < projection.revision()
            {
                parts += 1;
                prop_assert!(parts < 20, "there is no end");
            }
            prop_assert_eq!(&reader.catalogue, &now);
        }
    }
}
