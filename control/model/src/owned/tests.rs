//! What an index finds is what a look at everything finds.

use proptest::prelude::*;
use weft_store::{Entry, Revision};

use super::*;
use crate::{
    access::{EnvironmentRole, OrganisationRole},
    id::{SessionId, SshKeyId, TokenId, environment_id},
    record::{EnvironmentState, Lifetimes, OtherNames, Quotas, UnixMs},
};

fn user(n: u8) -> UserId {
    UserId::from_random(&[n; 10])
}

fn organisation(n: u8) -> OrganisationId {
    OrganisationId::from_random(&[n; 10])
}

fn environment(n: u8) -> EnvironmentId {
    environment_id(&[n; 10])
}

fn put(record: &impl Record) -> Change {
    let (key, value) = (record.key().unwrap(), record.encode().unwrap().into());
    let (modified, created) = (Revision(1), Revision(1));
    Change::Put(Entry { key, value, modified, created, lease: None })
}

const NOW: UnixMs = UnixMs(1);

/// One of the kinds, with the number `n`, of the owner with the number `of`.
fn record(kind: u8, n: u8, of: u8) -> Change {
    let secret_hash = format!("{n:02x}");
    let id = TokenId::from_random(&[n; 10]);
    match kind {
        0 => put(&Session {
            secret_hash,
            id: SessionId::from_random(&[n; 10]),
            user: user(of),
            era: 0,
            expires: NOW,
            created: NOW,
        }),
        1 => put(&SshKey {
            fingerprint: secret_hash,
            id: SshKeyId::from_random(&[n; 10]),
            user: user(of),
            name: String::new(),
            key: String::new(),
            created: NOW,
        }),
        2 => put(&Token {
            secret_hash,
            id,
            environment: environment(of),
            organisation: organisation(n),
            role: EnvironmentRole::Viewer,
            uses: BTreeSet::new(),
            name: String::new(),
            created_by: user(n),
            created: NOW,
            expires: NOW,
            used: None,
        }),
        3 => put(&Invitation {
            secret_hash,
            id,
            // Some are no organisation's.
            to: match of {
                0 => InvitedTo::Installation,
                of => InvitedTo::Organisation(organisation(of), OrganisationRole::Member),
            },
            email: String::new(),
            by: None,
            created: NOW,
            expires: NOW,
        }),
        4 => put(&Membership {
            user: user(n),
            organisation: organisation(of),
            role: OrganisationRole::Member,
            environments: BTreeMap::new(),
            created: NOW,
        }),
        _ => put(&Environment {
            id: environment(n),
            organisation: organisation(of),
            name: "shop".parse().unwrap(),
            state: EnvironmentState::Active,
            subnets: Vec::new(),
            quotas: Quotas::default(),
            held: false,
            lifetimes: Lifetimes::default(),
            other_names: OtherNames::default(),
            created: NOW,
        }),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, u8),
    Delete(u8, u8, u8),
    /// What nobody can read is at the key.
    Damage(u8, u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..3_u8, 0..6_u8, 0..5_u8, 0..3_u8).prop_map(|(what, kind, n, of)| match what {
        0 => Step::Delete(kind, n, of),
        1 if n == 0 => Step::Damage(kind, n, of),
        _ => Step::Put(kind, n, of),
    });
    proptest::collection::vec(step, 1..120)
}

/// By a look at everything.
fn scan<R: Owned>(
    all: &BTreeMap<Key, Entry>,
    is_theirs: impl Fn(&R) -> bool,
    after: Option<&Key>,
) -> Vec<Key> {
    let prefix = R::prefix("");
    let of_kind = all.values().filter(|entry| entry.key.has_prefix(&prefix));
    let theirs =
        of_kind.filter(|entry| R::decode(entry).is_ok_and(|found| is_theirs(&found.record)));
    let keys = theirs.map(|entry| entry.key.clone());
    keys.filter(|key| after.is_none_or(|after| key > after)).collect()
}

fn check<R: Owned>(
    index: &Index,
    all: &BTreeMap<Key, Entry>,
    owner: &R::Owner,
    is_theirs: impl Fn(&R) -> bool,
) {
    let whole: Vec<Key> = index.keys::<R>(owner, None).cloned().collect();
    assert_eq!(whole, scan(all, &is_theirs, None), "{} of {owner}", R::KIND);
    let after = all.keys().nth(all.len() / 2);
    let rest: Vec<Key> = index.keys::<R>(owner, after).cloned().collect();
    assert_eq!(rest, scan(all, &is_theirs, after), "{} of {owner}", R::KIND);
}

proptest! {
    #[test]
    fn whatever_is_put_and_deleted_what_is_somebodys_is_found_and_nothing_else(steps in steps()) {
        let (mut index, mut all) = (Index::default(), BTreeMap::new());
        for step in steps {
            let change = match step {
                Step::Put(kind, n, of) => record(kind, n, of),
                Step::Delete(kind, n, of) => Change::Deleted(record(kind, n, of).key().clone()),
                Step::Damage(kind, n, of) => match record(kind, n, of) {
                    Change::Put(entry) => Change::Put(Entry { value: "{}".into(), ..entry }),
                    deleted @ Change::Deleted(_) => deleted,
                },
            };
            index.handle(&change);
            match change {
                Change::Put(entry) => all.insert(entry.key.clone(), entry),
                Change::Deleted(key) => all.remove(&key),
            };
        }
        for of in 0..3 {
            let (user, organisation) = (user(of), organisation(of));
            check::<Session>(&index, &all, &user, |session| session.user == user);
            check::<SshKey>(&index, &all, &user, |key| key.user == user);
            let environment = environment(of);
            check::<Token>(&index, &all, &environment, |token| token.environment == environment);
            check::<Membership>(&index, &all, &organisation, |m| m.organisation == organisation);
            check::<Environment>(&index, &all, &organisation, |e| e.organisation == organisation);
            check::<Invitation>(&index, &all, &organisation, |invitation| {
                matches!(&invitation.to, InvitedTo::Organisation(to, _) if *to == organisation)
            });
        }
        for key in all.into_keys() {
            index.handle(&Change::Deleted(key));
        }
        prop_assert!(index.keys.is_empty() && index.places.is_empty(), "nothing is remembered");
    }
}

#[test]
fn what_a_newer_process_has_written_is_found() {
    let Change::Put(mut entry) = record(2, 1, 2) else { unreachable!("a record") };
    let text = String::from_utf8(entry.value.to_vec()).unwrap();
    entry.value = text.replacen('{', r#"{"new":1,"#, 1).into();
    assert!(Token::decode(&entry).is_err(), "whoever reads it is told");
    let mut index = Index::default();
    index.handle(&Change::Put(entry.clone()));
    let found: Vec<_> = index.keys::<Token>(&environment(2), None).collect();
    assert_eq!(found, [&entry.key]);
}
