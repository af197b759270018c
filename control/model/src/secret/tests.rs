//! Versions, their limits, and who gets them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    id::{GrantId, environment_id},
    placement::tests::{Plain, View, commit, environment, slot, store},
    record::Quotas,
};

fn name(n: usize) -> SecretName {
    ["A", "B", "C"][n].parse().unwrap()
}

/// What somebody read.
struct Read {
    environment: Decoded<Environment>,
    usage: Option<Decoded<SecretUsage>>,
    secret: Option<Decoded<Secret>>,
}

impl Read {
    fn of(store: &Plain, name: &SecretName) -> Self {
        Self {
            environment: store.get(environment().as_str()).unwrap(),
            usage: store.get(environment().as_str()),
            secret: store.get(&format!("{}/{name}", environment())),
        }
    }

    fn held(&self) -> Held<'_> {
        let Self { environment, usage, secret } = self;
        Held { environment, usage: usage.as_ref(), secret: secret.as_ref() }
    }

    fn put(
        &self,
        name: &SecretName,
        version: u64,
        bytes: usize,
    ) -> Result<Decision<Secret>, SecretError> {
        let id = SecretId::from_random(&[version.to_le_bytes()[0]; 10]);
        put(self.held(), name, version, id, bytes, UnixMs(1))?.sealed("c2VhbGVk".to_owned())
    }
}

fn write(store: &mut Plain, n: usize, bytes: usize) -> Secret {
    let read = Read::of(store, &name(n));
    let version = read.secret.as_ref().map_or(0, |found| found.record.version);
    let decision = read.put(&name(n), version, bytes).unwrap();
    commit(store, decision)
}

#[test]
fn versions_follow_each_other_and_none_is_overwritten() {
    let mut store = store(Quotas::default());
    let first = write(&mut store, 0, 5);
    assert_eq!((first.version, first.versions.len()), (1, 1));
    let before = Read::of(&store, &name(0));
    let second = write(&mut store, 0, 7);
    assert_eq!((second.version, second.id.clone()), (2, first.id));
    let stale = Read::of(&store, &name(0)).put(&name(0), 1, 5).unwrap_err();
    assert_eq!(stale.to_string(), "secret has changed since it was read");
    // From what was read before, the same version would be decided again: it is not committed.
    let Ok(Decision::Commit(late, _)) = before.put(&name(0), 1, 5) else { panic!("refused") };
    assert!(!store.commit(&late));
    assert_eq!(store.all::<SealedSecret>().len(), 2);
}

#[test]
fn what_is_destroyed_is_released_no_more_and_nothing_older_in_its_place() {
    let mut store = store(Quotas::default());
    write(&mut store, 0, 5);
    let two = write(&mut store, 0, 7);
    assert_eq!((two.released(0).unwrap(), two.released(1).unwrap()), (2, 1));
    let read = Read::of(&store, &name(0));
    let refused = destroy(read.held(), &[2, 3], UnixMs(4)).unwrap_err();
    assert!(matches!(refused, SecretError::NoVersion));
    assert!(matches!(destroy(read.held(), &[], UnixMs(4)), Err(SecretError::NoVersion)));
    let refused = destroy(read.held(), &[2; VERSIONS_MAX + 1], UnixMs(4)).unwrap_err().to_string();
    assert_eq!(refused, "versions: 101 of them; expected at most 100");
    let destroyed = destroy(read.held(), &[2; VERSIONS_MAX], UnixMs(4)).unwrap();
    let two = commit(&mut store, destroyed);
    assert!(matches!(two.released(0), Err(SecretError::Destroyed(2))));
    assert_eq!((two.released(1).unwrap(), store.all::<SealedSecret>().len()), (1, 1));
    let again = destroy(Read::of(&store, &name(0)).held(), &[2], UnixMs(9)).unwrap();
    assert_eq!(again, Decision::Already(two), "when it was destroyed stays");
    let usage: Decoded<SecretUsage> = store.get(environment().as_str()).unwrap();
    assert_eq!((usage.record.secrets, usage.record.bytes), (1, 5));
}

#[test]
fn a_hundred_versions_are_kept_and_all_go_at_once() {
    let mut store = store(Quotas::default());
    for _ in 0..103 {
        write(&mut store, 0, 2);
    }
    let read = Read::of(&store, &name(0));
    let secret = &read.secret.as_ref().unwrap().record;
    assert_eq!((secret.version, secret.versions.len()), (103, VERSIONS_MAX));
    assert!(matches!(secret.released(3), Err(SecretError::NoVersion)));
    assert_eq!(secret.released(4).unwrap(), 4);
    assert_eq!(store.all::<SealedSecret>().len(), VERSIONS_MAX);
    assert!(matches!(delete(read.held(), 102), Err(SecretError::Changed)));
    let gone = delete(read.held(), 103).unwrap();
    commit(&mut store, gone);
    assert!(store.all::<SealedSecret>().is_empty() && store.all::<Secret>().is_empty());
    let usage: Decoded<SecretUsage> = store.get(environment().as_str()).unwrap();
    assert_eq!((usage.record.secrets, usage.record.bytes), (0, 0));
    assert_eq!(delete(Read::of(&store, &name(0)).held(), 0).unwrap(), Decision::Already(()));
}

#[test]
fn a_value_opens_as_itself_only() {
    let mut store = store(Quotas::default());
    let one = write(&mut store, 0, 5);
    let other_name = Secret { name: name(1), ..one.clone() };
    let other_id = Secret { id: SecretId::from_random(&[99; 10]), ..one.clone() };
    let other_environment = Secret { environment: environment_id(&[9; 10]), ..one.clone() };
    let contexts = [
        one.context(1),
        one.context(2),
        other_name.context(1),
        other_id.context(1),
        other_environment.context(1),
    ];
    assert_eq!(BTreeSet::from(contexts).len(), 5);
}

#[test]
fn limits_name_themselves() {
    let mut store = store(Quotas::default());
    let read = Read::of(&store, &name(0));
    assert!(read.put(&name(0), 0, SECRET_BYTES_MAX).is_ok());
    let refused = read.put(&name(0), 0, SECRET_BYTES_MAX + 1).unwrap_err().to_string();
    assert_eq!(refused, "value: 65537 bytes; expected at most 65536");
    let usage = |secrets, bytes| SecretUsage { environment: environment(), secrets, bytes };
    for (usage, refused) in [
        (usage(SECRETS_MAX - 1, ALL_BYTES_MAX - 5), false),
        (usage(SECRETS_MAX, 0), true),
        (usage(0, ALL_BYTES_MAX - 4), true),
    ] {
        store.put(&usage);
        let put = Read::of(&store, &name(0)).put(&name(0), 0, 5);
        assert_eq!(matches!(put, Err(SecretError::Limit(_))), refused, "{usage:?}");
    }
}

#[test]
fn nothing_is_written_in_an_environment_that_goes() {
    let mut store = store(Quotas::default());
    write(&mut store, 0, 5);
    let found: Decoded<Environment> = store.get(environment().as_str()).unwrap();
    for (state, refused) in [
        (EnvironmentState::Suspended, false),
        (EnvironmentState::Deleting { purge: UnixMs(9) }, true),
        (EnvironmentState::Purging, true),
    ] {
        store.put(&found.record);
        let before = Read::of(&store, &name(0)).put(&name(0), 1, 5);
        let Ok(Decision::Commit(late, _)) = before else { panic!("refused in an active one") };
        store.put(&Environment { state, ..found.record.clone() });
        assert!(!store.commit(&late), "the environment has changed since");
        let read = Read::of(&store, &name(0));
        let put = read.put(&name(0), 1, 5);
        assert_eq!(matches!(put, Err(SecretError::Deleting)), refused, "{state:?}");
        let destroyed = destroy(read.held(), &[1], UnixMs(2));
        assert_eq!(matches!(destroyed, Err(SecretError::Deleting)), refused, "{state:?}");
    }
}

#[test]
fn a_grant_releases_to_its_host_while_its_attachment_is_there() {
    let mut store = store(Quotas::default());
    let made = View::of(&store).attach("db-0", &slot(0), "host-a", 1).unwrap();
    let attachment = commit(&mut store, made);
    let found: Decoded<Environment> = store.get(environment().as_str()).unwrap();
    let environment = found.record;
    let grant = Grant {
        environment: environment.id.clone(),
        id: GrantId::from_random(&[7; 10]),
        slot: slot(0),
        host: "host-a".parse().unwrap(),
        attempt: 1,
        expires: UnixMs(100),
        secrets: [name(0)].into(),
        used_by: None,
    };
    let attachment = Attachment { basis: Basis::Grant(grant.id.clone()), ..attachment };
    let used = Grant { used_by: Some(attachment.name.clone()), ..grant.clone() };
    let host = |name: &str| name.parse::<HostId>().unwrap();
    let good = |grant: &Grant, by: &str, attachment: Option<&Attachment>, now| {
        is_good_for(grant, &host(by), &environment, attachment, UnixMs(now))
    };
    assert!(good(&grant, "host-a", None, 99), "before the attachment is made");
    assert!(good(&used, "host-a", Some(&attachment), 1_000), "as long as it is there");
    let moved = Attachment { host: host("host-b"), ..attachment.clone() };
    let on_binding = Attachment { basis: Basis::Binding, ..attachment.clone() };
    let foreign = Grant { environment: environment_id(&[9; 10]), ..grant.clone() };
    for (case, grant, by, attachment, now) in [
        ("expired", &grant, "host-a", None, 100),
        ("another host", &grant, "host-b", None, 99),
        ("another host with its attachment", &used, "host-b", Some(&attachment), 99),
        ("of another environment", &foreign, "host-a", None, 99),
        ("its attachment is gone", &used, "host-a", None, 99),
        ("its attachment moved", &used, "host-a", Some(&moved), 99),
        ("its attachment is another one", &used, "host-a", Some(&on_binding), 99),
    ] {
        assert!(!good(grant, by, attachment, now), "{case}");
    }
    for state in [EnvironmentState::Deleting { purge: UnixMs(9) }, EnvironmentState::Purging] {
        let going = Environment { state, ..environment.clone() };
        assert!(!is_good_for(&grant, &host("host-a"), &going, None, UnixMs(1)));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Look,
    Put { n: usize, bytes: usize },
    Destroy { n: usize, version: u64 },
    Delete { n: usize },
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        4 => Just(Step::Look),
        5 => (0..3usize, 0..9usize).prop_map(|(n, bytes)| Step::Put { n, bytes }),
        2 => (0..3usize, 1..6u64).prop_map(|(n, version)| Step::Destroy { n, version }),
        1 => (0..3usize).prop_map(|n| Step::Delete { n }),
    ];
    prop::collection::vec((0..3usize, step), 0..120)
}

fn decide(store: &Plain, step: &Step) -> Option<Transaction> {
    let transaction = match *step {
        Step::Look => return None,
        Step::Put { n, bytes } => {
            let read = Read::of(store, &name(n));
            let version = read.secret.as_ref().map_or(0, |found| found.record.version);
            read.put(&name(n), version, bytes).map(|decision| match decision {
                Decision::Commit(transaction, _) => Some(transaction),
                Decision::Already(_) => None,
            })
        }
        Step::Destroy { n, version } => {
            destroy(Read::of(store, &name(n)).held(), &[version], UnixMs(2)).map(|decision| {
                match decision {
                    Decision::Commit(transaction, _) => Some(transaction),
                    Decision::Already(_) => None,
                }
            })
        }
        Step::Delete { n } => {
            delete(Read::of(store, &name(n)).held(), 0).map(|decision| match decision {
                Decision::Commit(transaction, ()) => Some(transaction),
                Decision::Already(()) => None,
            })
        }
    };
    transaction.ok().flatten()
}

proptest! {
    /// Several decide, each from what it read some time ago. Whatever is committed: versions of a secret only grow,
    /// each that is there has its value and no other value is there, and what is used is counted exactly.
    #[test]
    fn whoever_writes_versions_and_values_belong_together(steps in steps()) {
        let mut store = store(Quotas::default());
        let mut seen: Vec<Plain> = (0..3).map(|_| store.clone()).collect();
        let mut newest: BTreeMap<SecretName, u64> = BTreeMap::new();
        for (by, step) in steps {
            if matches!(step, Step::Look) {
                seen[by] = store.clone();
                continue;
            }
            let Some(transaction) = decide(&seen[by], &step) else { continue };
            if !store.commit(&transaction) {
                continue;
            }
            let (mut values, mut bytes) = (BTreeSet::new(), 0);
            let secrets: Vec<Secret> = store.all().into_iter().map(|found| found.record).collect();
            newest.retain(|name, _| secrets.iter().any(|secret| secret.name == *name));
            for secret in &secrets {
                let before = newest.insert(secret.name.clone(), secret.version).unwrap_or(0);
                prop_assert!(secret.version >= before);
                prop_assert!(secret.versions.is_sorted_by_key(|known| known.version));
                for known in secret.versions.iter().filter(|known| known.destroyed.is_none()) {
                    values.insert((secret.name.clone(), known.version));
                    bytes += u64::from(known.bytes);
                }
            }
            let there = store.all::<SealedSecret>().into_iter().map(|found| found.record);
            prop_assert_eq!(values, there.map(|value| (value.name, value.version)).collect());
            let usage: Decoded<SecretUsage> = store.get(environment().as_str()).unwrap();
            prop_assert_eq!((usage.record.secrets as usize, usage.record.bytes), (secrets.len(), bytes));
        }
    }
}
