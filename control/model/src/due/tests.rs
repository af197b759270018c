//! What is due is what a look at everything finds.

use proptest::prelude::*;
use weft_store::{Entry, Revision};

use super::*;
use crate::{
    id::{GrantId, OrganisationId, SessionId, TokenId, UserId, environment_id},
    record::{InvitedTo, Lifetimes, OtherNames, Place, Quotas, SlotKey},
};

fn put(record: &impl Record) -> Change {
    let (key, value) = (record.key().unwrap(), record.encode().unwrap().into());
    let (modified, created) = (Revision(1), Revision(1));
    Change::Put(Entry { key, value, modified, created, lease: None })
}

const CREATED: UnixMs = UnixMs(1);

fn slot() -> SlotKey {
    SlotKey { service: "web".parse().unwrap(), slot: crate::SlotName::Stable(0) }
}

/// One of the kinds, with the number `n`, which is over then, or stays.
fn record(kind: u8, n: u8, end: Option<UnixMs>) -> Change {
    let secret_hash = format!("{n:02x}");
    let id = TokenId::from_random(&[n; 10]);
    let expires = end.unwrap_or(UnixMs(u64::MAX));
    let (user, organisation) =
        (UserId::from_random(&[n; 10]), OrganisationId::from_random(&[n; 10]));
    let environment = environment_id(&[n; 10]);
    match kind {
        0 => put(&Session {
            secret_hash,
            id: SessionId::from_random(&[n; 10]),
            user,
            era: 0,
            expires,
            created: CREATED,
        }),
        1 => put(&Token {
            secret_hash,
            id,
            environment,
            organisation,
            role: crate::access::EnvironmentRole::Viewer,
            uses: BTreeSet::new(),
            name: String::new(),
            created_by: user,
            created: CREATED,
            expires,
            used: None,
        }),
        2 => put(&Invitation {
            secret_hash,
            id,
            to: InvitedTo::Installation,
            email: String::new(),
            by: None,
            created: CREATED,
            expires,
        }),
        3 => put(&JoinToken {
            secret_hash,
            id,
            host: None,
            place: Place::default(),
            labels: BTreeMap::new(),
            created: CREATED,
            expires,
            used: None,
        }),
        4 => put(&Grant {
            environment,
            id: GrantId::from_random(&[n; 10]),
            slot: slot(),
            host: "host-a".parse().unwrap(),
            attempt: 1,
            expires: end.unwrap_or(CREATED),
            secrets: BTreeSet::new(),
            used_by: end.is_none().then(|| "web-0".parse().unwrap()),
        }),
        5 => put(&Address {
            environment,
            address: [10, 40, 0, n].into(),
            used: match end {
                Some(until) => AddressUse::Quarantine { slot: slot(), until },
                None => AddressUse::Slot(slot()),
            },
        }),
        6 => put(&Organisation {
            id: organisation,
            name: "acme".parse().unwrap(),
            created: CREATED,
            purge: end,
            environments_max: None,
        }),
        _ => put(&Environment {
            id: environment,
            organisation,
            name: "shop".parse().unwrap(),
            state: match end {
                Some(purge) => EnvironmentState::Deleting { purge },
                None => EnvironmentState::Suspended,
            },
            held: false,
            subnets: Vec::new(),
            quotas: Quotas::default(),
            lifetimes: Lifetimes::default(),
            other_names: OtherNames::default(),
            created: CREATED,
        }),
    }
}

fn check<R: Ending>(due: &Due, all: &BTreeMap<Key, Option<UnixMs>>, now: UnixMs) {
    let found: Vec<&Key> = due.keys::<R>(now).collect();
    let prefix = R::prefix("");
    let of_kind = all.iter().filter(|(key, _)| key.has_prefix(&prefix));
    let mut over: Vec<_> = of_kind.filter_map(|(key, end)| Some(((*end)?, key))).collect();
    over.retain(|(end, _)| *end <= now);
    over.sort();
    let over: Vec<&Key> = over.into_iter().map(|(_, key)| key).collect();
    assert_eq!(found, over, "{} at {now:?}", R::KIND);
}

proptest! {
    #[test]
    fn whatever_is_put_and_deleted_what_is_over_is_found_and_nothing_else(
        steps in proptest::collection::vec((0..4_u8, 0..8_u8, 0..5_u8, 0..6_u64), 1..120),
        now in 0..6_u64,
    ) {
        let (mut due, mut all) = (Due::default(), BTreeMap::new());
        for (what, kind, n, end) in steps {
            let end = (end > 0).then_some(UnixMs(end));
            let put = record(kind, n, end);
            let key = put.key().clone();
            if what == 0 {
                due.handle(&Change::Deleted(key.clone()));
                all.remove(&key);
            } else {
                due.handle(&put);
                all.insert(key, end);
            }
        }
        let now = UnixMs(now);
        check::<Session>(&due, &all, now);
        check::<Token>(&due, &all, now);
        check::<Invitation>(&due, &all, now);
        check::<JoinToken>(&due, &all, now);
        check::<Grant>(&due, &all, now);
        check::<Address>(&due, &all, now);
        check::<Organisation>(&due, &all, now);
        check::<Environment>(&due, &all, now);
        for key in all.into_keys() {
            due.handle(&Change::Deleted(key));
        }
        let left = due.keys.values().map(BTreeSet::len).sum::<usize>() + due.places.len();
        prop_assert_eq!(left, 0, "nothing is remembered");
    }
}

#[test]
fn a_join_token_is_remembered_for_as_long_as_its_host_may_ask_again() {
    let Change::Put(entry) = record(3, 1, Some(UnixMs(9))) else { unreachable!("a record") };
    let mut token = JoinToken::decode(&entry).unwrap().record;
    token.used = Some(JoinTokenUse {
        host: "host-a".parse().unwrap(),
        key_hash: String::new(),
        at: UnixMs(5),
    });
    let mut due = Due::default();
    due.handle(&put(&token));
    let end = UnixMs(5).after(JOIN_AGAIN);
    assert_eq!(due.keys::<JoinToken>(UnixMs(end.0 - 1)).count(), 0);
    assert_eq!(due.keys::<JoinToken>(end).count(), 1);
}

#[test]
fn what_is_left_of_what_is_gone_goes_at_once() {
    let mut due = Due::default();
    let of = environment_id(&[1; 10]);
    let organisation = OrganisationId::from_random(&[1; 10]);
    due.handle(&put(&Remains::Environment { id: of, organisation }));
    assert_eq!(due.keys::<Remains>(UnixMs(0)).count(), 1);
}
