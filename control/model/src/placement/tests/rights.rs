//! What gives a host a right, and how far it goes.

use super::*;

#[test]
fn a_grant_is_for_one_slot_on_one_host_once_and_in_time() {
    let mut store = store(Quotas::default());
    let grant = Grant {
        environment: environment(),
        id: GrantId::from_random(&[7; 10]),
        slot: slot(1),
        host: "host-a".parse().unwrap(),
        attempt: 1,
        expires: UnixMs(100),
        secrets: BTreeSet::new(),
        used_by: None,
    };
    let foreign = Grant { environment: environment_id(&[9; 10]), ..grant.clone() };
    store.put(&grant);
    store.put(&foreign);
    let attach = |store: &Plain, grant: &Grant, host: &str, n, now| {
        let view = View::of(store);
        let host: Decoded<Host> = store.get(host).unwrap();
        let grant = store.get(&grant.path()).unwrap();
        let (name, slot) = ("db".parse().unwrap(), slot(n));
        let (right, share) = (Right::Grant(&grant), None);
        let request = AttachRequest { name, slot, host: &host, right, wanted: Vec::new(), share };
        attach(&view.scene(), &request, None, None, UnixMs(now))
    };
    for (grant, host, n, now, what) in [
        (&foreign, "host-a", 1, 99, "is for another environment"),
        (&grant, "host-b", 1, 99, "is for another host"),
        (&grant, "host-a", 2, 99, "is for another slot"),
        (&grant, "host-a", 1, 100, "has expired"),
    ] {
        let refused = attach(&store, grant, host, n, now).unwrap_err().to_string();
        assert!(refused.ends_with(what), "{refused}");
    }
    let made = attach(&store, &grant, "host-a", 1, 99).unwrap();
    assert_eq!(made.outcome().basis, Basis::Grant(grant.id.clone()));
    commit(&mut store, made);
    let refused = attach(&store, &grant, "host-a", 1, 99).unwrap_err().to_string();
    assert!(refused.ends_with("was used"), "{refused}");
}

#[test]
fn a_grant_that_was_used_is_over_with_what_rests_on_it() {
    let mut store = store(Quotas::default());
    let grant = |n: u8, host: &str| Grant {
        environment: environment(),
        id: GrantId::from_random(&[n; 10]),
        slot: slot(1),
        host: host.parse().unwrap(),
        attempt: 1,
        expires: UnixMs(100),
        secrets: BTreeSet::new(),
        used_by: None,
    };
    let (first, second, other) = (grant(1, "host-a"), grant(2, "host-b"), grant(3, "host-a"));
    [&first, &second, &other].into_iter().for_each(|grant| store.put(grant));
    let left = |store: &Plain| {
        let all = store.all::<Grant>().into_iter();
        all.map(|grant| grant.record.id).collect::<BTreeSet<_>>()
    };
    let (host_a, host_b) = (store.get("host-a").unwrap(), store.get("host-b").unwrap());
    let right = store.get(&first.path()).unwrap();
    let request = AttachRequest {
        name: "db".parse().unwrap(),
        slot: slot(1),
        host: &host_a,
        right: Right::Grant(&right),
        wanted: Vec::new(),
        share: None,
    };
    let made = attach(&View::of(&store).scene(), &request, None, None, UnixMs(5)).unwrap();
    let made = commit(&mut store, made);
    assert_eq!(left(&store).len(), 3, "the attachment rests on it");

    let view = View::of(&store);
    let (attachment, filled) = (view.attachment(&made.name).unwrap(), view.slot(&slot(1)).unwrap());
    let right = store.get(&second.path()).unwrap();
    let right = Right::Grant(&right);
    let moved = move_to(&view.scene(), &attachment, &filled, &host_b, &right, UnixMs(6)).unwrap();
    commit(&mut store, moved);
    assert_eq!(left(&store), [second.id.clone(), other.id.clone()].into());

    let view = View::of(&store);
    let (attachment, filled) = (view.attachment(&made.name).unwrap(), view.slot(&slot(1)).unwrap());
    let over = release(&view.scene(), &attachment, &filled, UnixMs(7)).unwrap();
    commit(&mut store, over);
    assert_eq!(left(&store), [other.id].into());
}

#[test]
fn a_binding_is_for_one_host_of_one_environment() {
    let store = store(Quotas::default());
    let view = View::of(&store);
    let host_b: Decoded<Host> = store.get("host-b").unwrap();
    let binding = store.get(&format!("{}/host-a", environment())).unwrap();
    let request = AttachRequest {
        name: "db".parse().unwrap(),
        slot: slot(0),
        host: &host_b,
        right: Right::Binding(&binding),
        wanted: Vec::new(),
        share: None,
    };
    let refused = attach(&view.scene(), &request, None, None, UnixMs(0));
    assert!(matches!(refused, Err(PlacementError::NoRight(_))));
}
