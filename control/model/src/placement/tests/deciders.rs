//! Several who decide at once, whatever they know.

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Look(usize),
    Attach { by: usize, name: u32, slot: u32, on_b: bool },
    Move { by: usize, name: u32, to_b: bool },
    Release { by: usize, name: u32 },
    Reserve { by: usize, slot: u32 },
    Unreserve { by: usize, slot: u32 },
    Sweep(usize),
    Wait(u64),
}

/// How many decide at once.
const DECIDERS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let by = || 0..DECIDERS;
    let step = prop_oneof![
        6 => by().prop_map(Step::Look),
        6 => (by(), 0u32..8, 0u32..8, any::<bool>())
            .prop_map(|(by, name, slot, on_b)| Step::Attach { by, name, slot, on_b }),
        2 => (by(), 0u32..8, any::<bool>()).prop_map(|(by, name, to_b)| Step::Move { by, name, to_b }),
        3 => (by(), 0u32..8).prop_map(|(by, name)| Step::Release { by, name }),
        1 => (by(), 0u32..8).prop_map(|(by, slot)| Step::Reserve { by, slot }),
        1 => (by(), 0u32..8).prop_map(|(by, slot)| Step::Unreserve { by, slot }),
        2 => by().prop_map(Step::Sweep),
        2 => (0u64..400_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..150)
}

fn decide(view: &View, step: &Step, now: UnixMs) -> Option<Transaction> {
    let scene = view.scene();
    let name = |n: &u32| format!("db-{n}").parse().unwrap();
    let transaction = |decision| match decision {
        Ok(Decision::Commit(transaction, ())) => Some(transaction),
        Ok(Decision::Already(()))
        | Err(PlacementError::Address(_) | PlacementError::Quota { .. }) => None,
        Err(refused) => panic!("{refused}"),
    };
    match step {
        Step::Look(_) | Step::Wait(_) => None,
        Step::Attach { name, slot: n, on_b, .. } => {
            let host = if *on_b { "host-b" } else { "host-a" };
            match view.attach(&format!("db-{name}"), &slot(*n), host, now.0) {
                Ok(Decision::Commit(transaction, _)) => Some(transaction),
                _ => None,
            }
        }
        Step::Move { name: n, to_b, .. } => {
            let attachment = view.attachment(&name(n))?;
            let slot = view.slot(&attachment.record.slot)?;
            let to = if *to_b { "host-b" } else { "host-a" };
            let host = view.store.get(to)?;
            let binding = view.store.get(&format!("{}/{to}", environment()))?;
            let right = Right::Binding(&binding);
            match move_to(&scene, &attachment, &slot, &host, &right, now) {
                Ok(Decision::Commit(transaction, _)) => Some(transaction),
                _ => None,
            }
        }
        Step::Release { name: n, .. } => {
            let attachment = view.attachment(&name(n))?;
            let slot = view.slot(&attachment.record.slot)?;
            transaction(release(&scene, &attachment, &slot, now))
        }
        Step::Reserve { slot: n, .. } => {
            let existing = view.slot(&slot(*n));
            match reserve(&scene, &slot(*n), &[], existing.as_ref(), now) {
                Ok(Decision::Commit(transaction, _)) => Some(transaction),
                _ => None,
            }
        }
        Step::Unreserve { slot: n, .. } => {
            let existing = view.slot(&slot(*n))?;
            transaction(unreserve(&scene, &existing, now))
        }
        Step::Sweep(_) => sweep(&scene, now).unwrap(),
    }
}

/// What must hold between any two transactions.
fn assert_sound(store: &Plain, quotas: Quotas) {
    let (slots, attachments) = (store.all::<Slot>(), store.all::<Attachment>());
    let mut owned = BTreeSet::new();
    for slot in slots.iter().map(|slot| &slot.record) {
        for address in &slot.addresses {
            assert!(owned.insert(*address), "{address} is of two slots");
            let used = store.get::<Address>(&format!("{}/{address}", environment())).unwrap();
            assert_eq!(used.record.used, AddressUse::Slot(slot.slot.clone()));
        }
        assert!(slot.reserved || slot.attachment.is_some(), "a slot that nobody needs");
    }
    for attachment in attachments.iter().map(|attachment| &attachment.record) {
        let slot = slots.iter().find(|slot| slot.record.slot == attachment.slot).unwrap();
        assert_eq!(slot.record.attachment.as_ref(), Some(&attachment.name));
        assert_eq!(slot.record.addresses, attachment.addresses);
    }
    let filled = slots.iter().filter(|slot| slot.record.attachment.is_some()).count();
    assert_eq!(filled, attachments.len());
    let addresses = store.all::<Address>();
    let of_slots = |a: &&Decoded<Address>| matches!(a.record.used, AddressUse::Slot(_));
    assert_eq!(addresses.iter().filter(of_slots).count(), owned.len(), "an address of no slot");
    if let Some(Decoded { record: usage, .. }) = store.get::<Usage>(environment().as_str()) {
        let v4 = addresses.iter().filter(|a| a.record.address.is_ipv4()).count();
        assert_eq!(usage.attachments as usize, attachments.len());
        assert_eq!(
            (usage.addresses_v4 as usize, usage.addresses_v6 as usize),
            (v4, addresses.len() - v4)
        );
        assert!(usage.attachments <= quotas.attachments_max);
        assert!(usage.addresses_v4.max(usage.addresses_v6) <= quotas.addresses_max);
    }
}

proptest! {
    /// Several decide, each from what it read some time ago. Whatever is committed leaves a sound state, no
    /// address is another's before its quarantine is over, and generations grow.
    #[test]
    fn whoever_decides_from_whatever_state_nothing_is_given_twice(steps in steps()) {
        let quotas = Quotas { attachments_max: 6, addresses_max: 9, egress_mbit_max: None };
        let mut store = store(quotas);
        let mut views: Vec<View> = (0..DECIDERS).map(|_| View::of(&store)).collect();
        let mut now = 1_000;
        let mut highest = 0;
        let mut released: HashMap<IpAddr, (SlotKey, u64)> = HashMap::new();
        for step in steps {
            let by = match step {
                Step::Wait(ms) => { now += ms; continue }
                Step::Look(by) => { views[by] = View::of(&store); continue }
                Step::Sweep(by) => by,
                Step::Attach { by, .. } | Step::Move { by, .. } | Step::Release { by, .. }
                | Step::Reserve { by, .. } | Step::Unreserve { by, .. } => by,
            };
            let Some(transaction) = decide(&views[by], &step, UnixMs(now)) else { continue };
            let before: Vec<Slot> = store.all::<Slot>().into_iter().map(|slot| slot.record).collect();
            if !store.commit(&transaction) {
                continue;
            }
            assert_sound(&store, quotas);
            let after: Vec<Slot> = store.all::<Slot>().into_iter().map(|slot| slot.record).collect();
            for slot in before.iter().filter(|old| !after.iter().any(|new| new.slot == old.slot)) {
                for address in &slot.addresses {
                    released.insert(*address, (slot.slot.clone(), now));
                }
            }
            for slot in after.iter().filter(|new| !before.iter().any(|old| new.slot == old.slot)) {
                for address in &slot.addresses {
                    if let Some((of, at)) = released.remove(address) {
                        let waited = u128::from(now - at) >= QUARANTINE.as_millis();
                        prop_assert!(of == slot.slot || waited, "{address} of {of:?} for {:?}", slot.slot);
                    }
                }
            }
            let generation = store.get::<Usage>(environment().as_str()).unwrap().record.generation;
            prop_assert!(generation >= highest);
            // Of a store whose revisions begin after this one, all generations are new.
            prop_assert!(generation <= store.revision);
            highest = generation;
        }
    }
}
