//! Decisions about services and roles, made by several at once from what each happens to know.

use proptest::prelude::*;
use weft_store::Transaction;

use super::*;
use crate::{
    placement::{
        self, Right,
        tests::{Plain, View, commit, environment, slot, store},
    },
    record::{Binding, Environment, EnvironmentState, Host, Protocol, Quotas},
};

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn wish() -> ServiceWish {
    ServiceWish {
        name: name("db"),
        ports: [(name("sql"), Port { protocol: Protocol::Tcp, port: 5432 })].into(),
        metadata: [("engine".to_owned(), "postgres".to_owned())].into(),
    }
}

fn registered(store: &Plain) -> Option<Decoded<Service>> {
    store.get(&format!("{}/db", environment()))
}

fn role_wish(role: &str, epoch: u64) -> RoleWish {
    RoleWish { service: name("db"), role: name(role), epoch }
}

/// `db-0` and `db-1` are there.
fn with_attachments() -> Plain {
    let mut store = store(Quotas::default());
    for n in 0..2 {
        let made = View::of(&store).attach(&format!("db-{n}"), &slot(n), "host-a", 1).unwrap();
        commit(&mut store, made);
    }
    store
}

fn names(store: &Plain) -> Vec<AttachmentName> {
    store.all::<Attachment>().into_iter().map(|attachment| attachment.record.name).collect()
}

fn take(
    view: &View,
    role: &str,
    epoch: u64,
    holder: &str,
) -> Result<Decision<Role>, RegistryError> {
    let holder = view.attachment(&holder.parse().unwrap()).unwrap();
    take_role(&view.scene(), &role_wish(role, epoch), &holder, &names(&view.store))
}

fn taken(store: &mut Plain, role: &str, epoch: u64, holder: &str) -> Role {
    let decision = take(&View::of(store), role, epoch, holder).unwrap();
    commit(store, decision)
}

#[test]
fn a_service_is_registered_replaced_and_forgotten() {
    let mut store = store(Quotas::default());
    let put = |store: &Plain, wish: &ServiceWish, version| {
        let view = View::of(store);
        put_service(&view.scene(), wish, version, registered(store).as_ref(), 0)
    };
    let first = put(&store, &wish(), 0).unwrap();
    let first = commit(&mut store, first);
    // Asked again after a lost answer it is so already; somebody else's state is not overwritten.
    assert_eq!(put(&store, &wish(), 0).unwrap(), Decision::Already(first.clone()));
    let other = ServiceWish { metadata: BTreeMap::new(), ..wish() };
    assert!(matches!(put(&store, &other, 0), Err(RegistryError::Changed("service"))));
    let second = put(&store, &other, first.version).unwrap();
    let second = commit(&mut store, second);
    assert!(second.version > first.version);

    let made = View::of(&store).attach("db-0", &slot(0), "host-a", 1).unwrap();
    commit(&mut store, made);
    let found = registered(&store).unwrap();
    let delete = |store: &Plain, version, filled| {
        delete_service(&View::of(store).scene(), &found, version, filled)
    };
    let refused = delete(&store, 0, 1).unwrap_err().to_string();
    assert_eq!(refused, "attachments fill 1 slots of db: release them first");
    assert!(matches!(delete(&store, first.version, 0), Err(RegistryError::Changed(_))));
    let gone = delete(&store, second.version, 0).unwrap();
    commit(&mut store, gone);
    let again = put(&store, &wish(), 0).unwrap();
    assert!(commit(&mut store, again).version > second.version, "a version is given once");
}

#[test]
fn a_service_that_gets_a_slot_at_the_same_time_is_not_deleted() {
    let mut store = store(Quotas::default());
    let view = View::of(&store);
    let made = put_service(&view.scene(), &wish(), 0, None, 0).unwrap();
    commit(&mut store, made);
    let before = View::of(&store);
    let found = registered(&store).unwrap();
    let deletes = delete_service(&before.scene(), &found, 0, 0).unwrap();
    let attached = before.attach("db-0", &slot(0), "host-a", 1).unwrap();
    commit(&mut store, attached);
    let Decision::Commit(deletes, ()) = deletes else { panic!("nothing to do") };
    assert!(!store.commit(&deletes));
}

#[test]
fn bounds_of_a_service() {
    let port = |name: &str, port| {
        let ports = [(self::name(name), Port { protocol: Protocol::Udp, port })].into();
        ServiceWish { ports, ..wish() }.check()
    };
    let metadata = |name: &str, value: String| {
        ServiceWish { metadata: [(name.to_owned(), value)].into(), ..wish() }.check()
    };
    let long: BTreeMap<_, _> = (0..17).map(|n| (format!("n{n}"), "v".repeat(256))).collect();
    let many: BTreeMap<_, _> = (0..33).map(|n| (format!("n{n}"), String::new())).collect();
    let ports =
        (1..34).map(|n| (name(&format!("p{n}")), Port { protocol: Protocol::Tcp, port: n }));
    for (refused, field) in [
        (port("http", 0), "ports.port: "),
        (port("80", 80), "ports.name: "),
        (port("a-name-of-16-has", 80), "ports.name: "),
        (metadata("", String::new()), "metadata: "),
        (metadata("a b", String::new()), "metadata: "),
        (metadata(&"n".repeat(64), String::new()), "metadata: "),
        (metadata("n", "v".repeat(257)), "metadata: "),
        (metadata("n", "a\nb".to_owned()), "metadata: "),
        (ServiceWish { metadata: long, ..wish() }.check(), "metadata: "),
        (ServiceWish { metadata: many, ..wish() }.check(), "metadata: "),
        (ServiceWish { ports: ports.collect(), ..wish() }.check(), "ports: "),
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with(field), "{refused}");
    }
    let (longest, value) = ("n".repeat(63), "v".repeat(256));
    assert!(metadata(&longest, value).is_ok() && port("fifteen-letters", 65_535).is_ok());
    let store = store(Quotas::default());
    let put = |registered| put_service(&View::of(&store).scene(), &wish(), 0, None, registered);
    assert!(put(SERVICES_MAX - 1).is_ok());
    assert!(matches!(put(SERVICES_MAX), Err(RegistryError::Limit(_))));
}

#[test]
fn a_role_is_taken_handed_over_and_given_up() {
    let mut store = with_attachments();
    let first = taken(&mut store, "primary", 0, "db-0");
    let view = View::of(&store);
    for epoch in [0, first.epoch - 1, first.epoch + 1] {
        let refused = take(&view, "primary", epoch, "db-1").unwrap_err();
        assert_eq!(refused.to_string(), "role has changed since it was read");
        assert!(epoch == 0 || release_role(&view.scene(), &role_wish("primary", epoch)).is_err());
    }
    let second = taken(&mut store, "primary", first.epoch, "db-1");
    assert!(second.epoch > first.epoch && second.holder.as_str() == "db-1");
    let over =
        release_role(&View::of(&store).scene(), &role_wish("primary", second.epoch)).unwrap();
    commit(&mut store, over);
    assert!(store.all::<Role>().is_empty());
    let third = taken(&mut store, "primary", 0, "db-0");
    assert!(third.epoch > second.epoch, "epochs grow while nobody has the role");
}

#[test]
fn an_epoch_is_not_given_again_after_a_backup_is_brought_back() {
    let mut store = with_attachments();
    let mut copy = store.clone();
    let held = taken(&mut store, "primary", 0, "db-0");
    let held = taken(&mut store, "primary", held.epoch, "db-1");
    // What is brought back goes on after every revision that there was.
    copy.revision += 1 << 30;
    assert!(taken(&mut copy, "primary", 0, "db-1").epoch > held.epoch);
}

#[test]
fn a_role_ends_with_its_holder_and_stays_behind_when_that_moves() {
    let mut store = with_attachments();
    let first = taken(&mut store, "primary", 0, "db-0");
    taken(&mut store, "backup", 0, "db-1");
    let view = View::of(&store);
    let attachment = view.attachment(&first.holder).unwrap();
    let filled = view.slot(&slot(0)).unwrap();
    let drained = set_drained(&view.scene(), &attachment, None, true, UnixMs(3)).unwrap();
    commit(&mut store, drained);

    let view = View::of(&store);
    let host: Decoded<Host> = store.get("host-b").unwrap();
    let binding: Decoded<Binding> = store.get(&format!("{}/host-b", environment())).unwrap();
    let right = Right::Binding(&binding);
    let moved = placement::move_to(&view.scene(), &attachment, &filled, &host, &right, UnixMs(4));
    commit(&mut store, moved.unwrap());
    let left: Vec<Role> = store.all().into_iter().map(|role| role.record).collect();
    assert_eq!((left.len(), left[0].role.as_str()), (1, "backup"), "another's role stays");
    assert!(store.all::<Drain>().is_empty());

    let again = taken(&mut store, "primary", 0, "db-0");
    assert!(again.epoch > first.epoch);
    let view = View::of(&store);
    // Whoever hands the role to an attachment that ends meanwhile has done nothing.
    let late = take(&view, "primary", again.epoch, "db-1").unwrap();
    let ends = view.attachment(&"db-1".parse().unwrap()).unwrap();
    let over = placement::release(&view.scene(), &ends, &view.slot(&slot(1)).unwrap(), UnixMs(5));
    commit(&mut store, over.unwrap());
    let Decision::Commit(late, _) = late else { panic!("nothing to do") };
    assert!(!store.commit(&late));
    let left: Vec<Role> = store.all().into_iter().map(|role| role.record).collect();
    assert_eq!(left, [again], "the role of what ended is gone with it");
}

#[test]
fn a_word_is_a_role_or_a_name_and_not_both() {
    let mut store = with_attachments();
    let view = View::of(&store);
    for (role, said) in [
        ("7", "role: 7; expected a letter: a number is a slot's"),
        ("surge-3", "role: surge-3 is the name of a slot"),
        ("db-1", "role: db-1 is an attachment of db; expected another word"),
    ] {
        assert_eq!(take(&view, role, 0, "db-0").unwrap_err().to_string(), said);
    }
    taken(&mut store, "primary", 0, "db-0");
    let view = View::of(&store);
    let refused = view.attach("primary", &slot(2), "host-a", 2).unwrap_err().to_string();
    assert_eq!(refused, "primary is a role of db: an attachment of it has another name");
    // Under another service's name it is found as something else.
    let of_web = crate::record::SlotKey { service: name("web"), ..slot(0) };
    assert!(view.attach("primary", &of_web, "host-a", 2).is_ok());
}

#[test]
fn a_role_is_of_an_attachment_of_its_service_and_there_are_eight() {
    let mut store = with_attachments();
    let of_web = crate::record::SlotKey { service: name("web"), ..slot(0) };
    let web = View::of(&store).attach("web-0", &of_web, "host-a", 1).unwrap();
    commit(&mut store, web);
    let refused = take(&View::of(&store), "primary", 0, "web-0").unwrap_err().to_string();
    assert_eq!(refused, "holder: web-0 is of web, not of db");
    for n in 0..ROLES_MAX {
        taken(&mut store, &format!("r{n}"), 0, "db-0");
    }
    let ninth = take(&View::of(&store), "r9", 0, "db-1");
    assert!(matches!(ninth, Err(RegistryError::Limit(_))));
    let held = store.all::<Role>()[3].record.clone();
    assert!(take(&View::of(&store), held.role.as_str(), held.epoch, "db-1").is_ok());
}

#[test]
fn nothing_new_in_an_environment_that_is_not_active() {
    let mut store = with_attachments();
    let held = taken(&mut store, "primary", 0, "db-0");
    let found: Decoded<Environment> = store.get(environment().as_str()).unwrap();
    for state in [EnvironmentState::Suspended, EnvironmentState::Deleting { purge: UnixMs(9) }] {
        store.put(&Environment { state, ..found.record.clone() });
        let view = View::of(&store);
        let refused = take(&view, "primary", held.epoch, "db-1").unwrap_err();
        assert!(matches!(refused, RegistryError::Placement(PlacementError::EnvironmentState(_))));
        assert!(put_service(&view.scene(), &wish(), 0, None, 0).is_err());
        assert!(release_role(&view.scene(), &role_wish("primary", held.epoch)).is_ok());
    }
}

#[test]
fn what_is_out_of_service_is_of_one_generation() {
    let mut store = with_attachments();
    let view = View::of(&store);
    let attachment = view.attachment(&"db-0".parse().unwrap()).unwrap();
    let path = attachment.record.path();
    let set = |store: &Plain, drained| {
        let existing = store.get(&path);
        set_drained(&View::of(store).scene(), &attachment, existing.as_ref(), drained, UnixMs(3))
    };
    assert_eq!(set(&store, false).unwrap(), Decision::Already(()));
    let drained = set(&store, true).unwrap();
    commit(&mut store, drained);
    assert_eq!(set(&store, true).unwrap(), Decision::Already(()));
    let back = set(&store, false).unwrap();
    commit(&mut store, back);
    assert!(store.all::<Drain>().is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Look,
    Take { role: usize, holder: u32 },
    Transfer { role: usize, holder: u32 },
    Release { role: usize },
    Attach { n: u32 },
    End { n: u32 },
    Move { n: u32, to_b: bool },
}

/// How many decide at once.
const DECIDERS: usize = 3;
const ROLES: [&str; 2] = ["primary", "backup"];

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let (role, n) = (0..ROLES.len(), 0u32..3);
    let step = prop_oneof![
        5 => Just(Step::Look),
        4 => (role.clone(), n.clone()).prop_map(|(role, holder)| Step::Take { role, holder }),
        4 => (role.clone(), n.clone()).prop_map(|(role, holder)| Step::Transfer { role, holder }),
        2 => role.prop_map(|role| Step::Release { role }),
        4 => n.clone().prop_map(|n| Step::Attach { n }),
        1 => n.clone().prop_map(|n| Step::End { n }),
        1 => (n, any::<bool>()).prop_map(|(n, to_b)| Step::Move { n, to_b }),
    ];
    prop::collection::vec((0..DECIDERS, step), 0..120)
}

fn transaction<T, E>(decision: Result<Decision<T>, E>) -> Option<Transaction> {
    match decision {
        Ok(Decision::Commit(transaction, _)) => Some(transaction),
        _ => None,
    }
}

fn decide(view: &View, step: &Step) -> Option<Transaction> {
    let scene = view.scene();
    let epoch = |role: usize| {
        let is_it = |held: &&Decoded<Role>| held.record.role.as_str() == ROLES[role];
        view.store.all::<Role>().iter().find(is_it).map_or(0, |held| held.record.epoch)
    };
    let attachment = |n: u32| view.attachment(&format!("db-{n}").parse().unwrap());
    match *step {
        Step::Look => None,
        Step::Take { role, holder } | Step::Transfer { role, holder } => {
            let epoch = if matches!(step, Step::Take { .. }) { 0 } else { epoch(role) };
            let wish = role_wish(ROLES[role], epoch);
            transaction(take_role(&scene, &wish, &attachment(holder)?, &names(&view.store)))
        }
        Step::Release { role } => {
            transaction(release_role(&scene, &role_wish(ROLES[role], epoch(role))))
        }
        Step::Attach { n } => transaction(view.attach(&format!("db-{n}"), &slot(n), "host-a", 1)),
        Step::End { n } => {
            let found = attachment(n)?;
            transaction(placement::release(&scene, &found, &view.slot(&slot(n))?, UnixMs(1)))
        }
        Step::Move { n, to_b } => {
            let to = if to_b { "host-b" } else { "host-a" };
            let host = view.store.get(to)?;
            let binding = view.store.get(&format!("{}/{to}", environment()))?;
            let (found, right) = (attachment(n)?, Right::Binding(&binding));
            let slot = view.slot(&slot(n))?;
            transaction(placement::move_to(&scene, &found, &slot, &host, &right, UnixMs(1)))
        }
    }
}

proptest! {
    /// Several decide, each from what it read some time ago. Whatever is committed: a role is of an attachment that is
    /// there, has changed hands only with a higher epoch than any before, and never without one.
    #[test]
    fn whoever_decides_a_role_has_one_holder_and_epochs_grow(steps in steps()) {
        let mut store = store(Quotas::default());
        let mut views: Vec<View> = (0..DECIDERS).map(|_| View::of(&store)).collect();
        let mut highest = 0;
        let mut held: BTreeMap<ServiceName, (AttachmentName, u64, u64)> = BTreeMap::new();
        for (by, step) in steps {
            if matches!(step, Step::Look) {
                views[by] = View::of(&store);
                continue;
            }
            let Some(transaction) = decide(&views[by], &step) else { continue };
            if !store.commit(&transaction) {
                continue;
            }
            let mut now = BTreeMap::new();
            for role in store.all::<Role>().into_iter().map(|role| role.record) {
                let path = format!("{}/{}", environment(), role.holder);
                let holder: Option<Decoded<Attachment>> = store.get(&path);
                prop_assert!(holder.is_some(), "{role:?} is of nobody");
                let generation = holder.unwrap().record.generation;
                now.insert(role.role, (role.holder, generation, role.epoch));
            }
            for (role, is) in &now {
                if held.get(role) != Some(is) {
                    prop_assert!(is.2 > highest, "{role} changed hands at {is:?}, after {highest}");
                    highest = is.2;
                }
            }
            held = now;
        }
    }
}
