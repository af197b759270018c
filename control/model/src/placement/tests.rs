//! Decisions, made by several at once from what each happens to know.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use weft_store::{Condition, Entry, Key, Write};
use weft_types::EnvironmentId;

use super::*;
use crate::{
    id::{OrganisationId, SlotName, environment_id},
    ipam::{Ledger, QUARANTINE},
    record::{Binding, Environment, Grant, Lifetimes, OtherNames, Quotas, Role, Share},
};

/// The plainest store.
mod deciders;
mod rights;

#[derive(Debug, Clone, Default)]
pub(crate) struct Plain {
    pub(crate) revision: u64,
    entries: BTreeMap<Key, Entry>,
}

impl Plain {
    pub(crate) fn commit(&mut self, transaction: &Transaction) -> bool {
        transaction.check().unwrap();
        let holds = |c: &Condition| c.holds(self.entries.get(c.key()));
        if !transaction.conditions.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        let modified = Revision(self.revision);
        for write in &transaction.writes {
            match write {
                Write::Put { key, value, .. } => {
                    let (key, value) = (key.clone(), value.clone());
                    self.entries.insert(
                        key.clone(),
                        Entry { key, value, modified, created: modified, lease: None },
                    );
                }
                Write::Delete(key) => {
                    self.entries.remove(key);
                }
            }
        }
        true
    }

    pub(crate) fn put(&mut self, record: &impl Record) {
        let put = Transaction::new().put(record.key().unwrap(), record.encode().unwrap());
        assert!(self.commit(&put));
    }

    pub(crate) fn get<R: Record>(&self, path: &str) -> Option<Decoded<R>> {
        self.entries.get(&R::key_at(path).unwrap()).map(|entry| R::decode(entry).unwrap())
    }

    pub(crate) fn all<R: Record>(&self) -> Vec<Decoded<R>> {
        let prefix = R::prefix("");
        let of_kind = self.entries.values().filter(|entry| entry.key.has_prefix(&prefix));
        of_kind.map(|entry| R::decode(entry).unwrap()).collect()
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        self.all::<Address>().into_iter().for_each(|address| ledger.put(address));
        ledger
    }
}

/// Everything of one environment, as somebody read it.
pub(crate) struct View {
    environment: Decoded<Environment>,
    usage: Option<Decoded<Usage>>,
    ledger: Ledger,
    roles: Vec<Decoded<Role>>,
    pub(crate) store: Plain,
}

impl View {
    pub(crate) fn of(store: &Plain) -> Self {
        Self {
            environment: store.get(environment().as_str()).unwrap(),
            usage: store.get(environment().as_str()),
            ledger: store.ledger(),
            roles: store.all(),
            store: store.clone(),
        }
    }

    pub(crate) fn scene(&self) -> Scene<'_> {
        let Self { environment, usage, ledger, roles, .. } = self;
        Scene {
            environment,
            usage: usage.as_ref(),
            ledger,
            roles,
            revision: Revision(self.store.revision),
        }
    }

    pub(crate) fn slot(&self, key: &SlotKey) -> Option<Decoded<Slot>> {
        self.store.get(&format!("{}/{}/{}", environment(), key.service, key.slot))
    }

    pub(crate) fn attachment(&self, name: &AttachmentName) -> Option<Decoded<Attachment>> {
        self.store.get(&format!("{}/{name}", environment()))
    }

    pub(crate) fn attach(
        &self,
        name: &str,
        slot: &SlotKey,
        host: &str,
        now: u64,
    ) -> Result<Decision<Attachment>, PlacementError> {
        let host: Decoded<Host> = self.store.get(host).unwrap();
        let binding = format!("{}/{}", environment(), host.record.id);
        let binding: Decoded<Binding> = self.store.get(&binding).unwrap();
        let request = AttachRequest {
            name: name.parse().unwrap(),
            slot: slot.clone(),
            host: &host,
            right: Right::Binding(&binding),
            wanted: Vec::new(),
            share: None,
        };
        let existing = self.attachment(&request.name);
        attach(&self.scene(), &request, self.slot(slot).as_ref(), existing.as_ref(), UnixMs(now))
    }
}

pub(crate) fn environment() -> EnvironmentId {
    environment_id(&[1; 10])
}

pub(crate) fn slot(n: u32) -> SlotKey {
    SlotKey { service: "db".parse().unwrap(), slot: SlotName::Stable(n) }
}

fn host(name: &str, state: HostState) -> Host {
    Host {
        id: name.parse().unwrap(),
        state,
        place: crate::record::Place::default(),
        labels: BTreeMap::new(),
        endpoints: Vec::new(),
        capacity: crate::record::Capacity::default(),
        key_hash: String::new(),
        next_key_hash: None,
        created: UnixMs(0),
    }
}

pub(crate) fn store(quotas: Quotas) -> Plain {
    let mut store = Plain::default();
    store.put(&Environment {
        id: environment(),
        organisation: OrganisationId::from_random(&[2; 10]),
        name: "shop".parse().unwrap(),
        state: EnvironmentState::Active,
        subnets: vec!["10.9.0.0/28".parse().unwrap(), "fd40::/124".parse().unwrap()],
        quotas,
        held: false,
        lifetimes: Lifetimes::default(),
        other_names: OtherNames::default(),
        created: UnixMs(0),
    });
    for name in ["host-a", "host-b"] {
        store.put(&host(name, HostState::Active));
        let (environment, host) = (environment(), name.parse().unwrap());
        store.put(&Binding { environment, host, created: UnixMs(0) });
    }
    store
}

pub(crate) fn commit<T: Clone>(store: &mut Plain, decision: Decision<T>) -> T {
    let Decision::Commit(transaction, outcome) = decision else { panic!("there already") };
    assert!(store.commit(&transaction));
    outcome
}

#[test]
fn an_attachment_is_made_moved_and_released() {
    let mut store = store(Quotas::default());
    let made = View::of(&store).attach("db-0", &slot(0), "host-a", 5).unwrap();
    let made = commit(&mut store, made);
    assert_eq!((made.generation > 0, made.addresses.len()), (true, 2));
    let again = View::of(&store).attach("db-0", &slot(0), "host-a", 6).unwrap();
    assert_eq!(again, Decision::Already(made.clone()));

    let view = View::of(&store);
    let (attachment, filled) = (view.attachment(&made.name).unwrap(), view.slot(&slot(0)).unwrap());
    store.put(&Health {
        environment: environment(),
        attachment: made.name.clone(),
        generation: made.generation,
        state: Some(crate::record::HealthState::Healthy),
        interface: Some(crate::record::Interface::Up),
        since: UnixMs(6),
    });
    let host_b: Decoded<Host> = store.get("host-b").unwrap();
    let binding = store.get(&format!("{}/host-b", environment())).unwrap();
    let right = Right::Binding(&binding);
    let moved = move_to(&view.scene(), &attachment, &filled, &host_b, &right, UnixMs(7)).unwrap();
    let moved = commit(&mut store, moved);
    assert!(moved.generation > made.generation && moved.addresses == made.addresses);
    assert_eq!(moved.host.as_str(), "host-b");
    assert!(store.all::<Health>().is_empty(), "how it was elsewhere");

    // What rests on the attachment as it was before the move does not happen any more.
    let late = release(&view.scene(), &attachment, &filled, UnixMs(8)).unwrap();
    let Decision::Commit(late, ()) = late else { panic!("nothing to do") };
    assert!(!store.commit(&late));

    let view = View::of(&store);
    let attachment = view.attachment(&made.name).unwrap();
    let over =
        release(&view.scene(), &attachment, &view.slot(&slot(0)).unwrap(), UnixMs(9)).unwrap();
    commit(&mut store, over);
    let view = View::of(&store);
    assert_eq!((view.slot(&slot(0)), view.attachment(&made.name)), (None, None));
    let usage = view.usage.clone().unwrap().record;
    assert_eq!((usage.attachments, usage.addresses_v4, usage.addresses_v6), (0, 1, 1));
    assert!(sweep(&view.scene(), UnixMs(9)).unwrap().is_none());
    let swept = sweep(&view.scene(), UnixMs(9).after(QUARANTINE)).unwrap().unwrap();
    assert!(store.commit(&swept));
    let view = View::of(&store);
    let usage = view.usage.unwrap().record;
    assert_eq!((usage.addresses_v4, usage.addresses_v6, view.ledger.len()), (0, 0, 0));
    // A name that is used again has a higher generation.
    let later = View::of(&store).attach("db-0", &slot(0), "host-a", 10).unwrap();
    assert!(later.outcome().generation > moved.generation);
}

#[test]
fn a_reserved_slot_keeps_its_addresses() {
    let mut store = store(Quotas::default());
    let wanted = ["10.9.0.7".parse().unwrap()];
    let view = View::of(&store);
    let reserved = reserve(&view.scene(), &slot(3), &wanted, None, UnixMs(1)).unwrap();
    let reserved = commit(&mut store, reserved);
    assert_eq!(reserved.addresses[0], wanted[0]);
    let made = View::of(&store).attach("db", &slot(3), "host-a", 2).unwrap();
    let made = commit(&mut store, made);
    assert_eq!(made.addresses, reserved.addresses);
    let view = View::of(&store);
    let (attachment, filled) = (view.attachment(&made.name).unwrap(), view.slot(&slot(3)).unwrap());
    let again = reserve(&view.scene(), &slot(3), &wanted, Some(&filled), UnixMs(3)).unwrap();
    assert_eq!(again, Decision::Already(filled.record.clone()));
    let other = ["10.9.0.8".parse().unwrap()];
    let refused = reserve(&view.scene(), &slot(3), &other, Some(&filled), UnixMs(3)).unwrap_err();
    assert!(matches!(refused, PlacementError::SlotAddress { .. }), "{refused}");
    let over = release(&view.scene(), &attachment, &filled, UnixMs(4)).unwrap();
    commit(&mut store, over);
    let view = View::of(&store);
    let empty = view.slot(&slot(3)).unwrap();
    assert_eq!(
        (empty.record.attachment.as_ref(), &empty.record.addresses),
        (None, &made.addresses)
    );
    let gone = unreserve(&view.scene(), &empty, UnixMs(5)).unwrap();
    commit(&mut store, gone);
    assert_eq!(View::of(&store).slot(&slot(3)), None);
}

#[test]
fn nothing_new_where_nothing_new_may_be() {
    let mut store = store(Quotas::default());
    for (state, word) in [
        (HostState::Cordoned, "cordoned"),
        (HostState::Draining, "draining"),
        (HostState::Revoked, "revoked"),
    ] {
        store.put(&host("host-a", state));
        let refused = View::of(&store).attach("db", &slot(0), "host-a", 1).unwrap_err();
        assert_eq!(refused.to_string(), format!("host host-a is {word}"));
    }
    let before = View::of(&store).attach("db", &slot(0), "host-b", 1).unwrap();
    let environment: Decoded<Environment> = store.get(environment().as_str()).unwrap();
    for state in [EnvironmentState::Suspended, EnvironmentState::Deleting { purge: UnixMs(9) }] {
        store.put(&Environment { state, ..environment.record.clone() });
        let refused = View::of(&store).attach("db", &slot(0), "host-b", 1).unwrap_err();
        assert!(matches!(refused, PlacementError::EnvironmentState(_)), "{refused}");
    }
    let Decision::Commit(before, _) = before else { panic!("there already") };
    assert!(!store.commit(&before), "the environment has changed since");
}

#[test]
fn a_name_and_a_slot_are_of_one() {
    let mut store = store(Quotas::default());
    let made = View::of(&store).attach("db", &slot(0), "host-a", 1).unwrap();
    commit(&mut store, made);
    let view = View::of(&store);
    let name = view.attach("db", &slot(1), "host-a", 1).unwrap_err();
    assert_eq!(name.to_string(), "db is there already, as 0 of db on host-a");
    assert!(matches!(view.attach("db", &slot(0), "host-b", 1), Err(PlacementError::Name { .. })));
    let slot = view.attach("db-2", &slot(0), "host-b", 1).unwrap_err();
    assert_eq!(slot.to_string(), "0 of db is filled by db");
}

#[test]
fn what_is_asked_for_again_is_as_it_is_or_is_refused_by_the_name_of_the_field() {
    let mut store = store(Quotas::default());
    let share = Share { weight: 200, egress_mbit_max: Some(50) };
    let grant = |n: u8| Grant {
        environment: environment(),
        id: GrantId::from_random(&[n; 10]),
        slot: slot(0),
        host: "host-a".parse().unwrap(),
        attempt: n.into(),
        expires: UnixMs(100),
        secrets: BTreeSet::new(),
        used_by: None,
    };
    [1, 2].into_iter().for_each(|n| store.put(&grant(n)));
    let host: Decoded<Host> = store.get("host-a").unwrap();
    let ask = |store: &Plain, grant: Option<&Grant>, share| {
        let (view, name) = (View::of(store), "db".parse().unwrap());
        let by_grant = grant.map(|grant| store.get(&grant.path()).unwrap());
        let binding = store.get(&format!("{}/host-a", environment())).unwrap();
        let right = by_grant.as_ref().map_or(Right::Binding(&binding), Right::Grant);
        let (wanted, slot) = (Vec::new(), slot(0));
        let existing = view.attachment(&name);
        let filled = view.slot(&slot);
        let request = AttachRequest { name, slot, host: &host, right, wanted, share };
        attach(&view.scene(), &request, filled.as_ref(), existing.as_ref(), UnixMs(1))
    };
    let made = ask(&store, Some(&grant(1)), Some(share)).unwrap();
    let made = commit(&mut store, made);
    assert_eq!(made.share, share);
    // The same again, and whoever says nothing of it.
    for (by, share) in [(Some(&grant(1)), Some(share)), (None, None), (None, Some(share))] {
        assert_eq!(ask(&store, by, share).unwrap(), Decision::Already(made.clone()));
    }
    let other = ask(&store, None, Some(Share::default())).unwrap_err().to_string();
    assert_eq!(
        other,
        "db is there already with share (weight 200, egress_mbit_max 50), \
         not (weight 100, no egress_mbit_max); release it to have another one"
    );
    let later = ask(&store, Some(&grant(2)), None).unwrap_err().to_string();
    let (has, wanted) = (grant(1).id, grant(2).id);
    assert!(later.contains(&format!("with grant {has}, not {wanted}")), "{later}");
}

#[test]
fn addresses_are_asked_for_once_for_each_subnet() {
    let store = store(Quotas::default());
    let view = View::of(&store);
    let ask = |wanted: &[&str]| {
        let wanted: Vec<IpAddr> = wanted.iter().map(|a| a.parse().unwrap()).collect();
        reserve(&view.scene(), &slot(0), &wanted, None, UnixMs(0))
    };
    let both = ask(&["fd40::5", "10.9.0.5"]).unwrap();
    assert_eq!(format!("{:?}", both.outcome().addresses), "[10.9.0.5, fd40::5]");
    let twice = ask(&["10.9.0.5", "10.9.0.6"]).unwrap_err();
    assert!(matches!(twice, PlacementError::Wanted(_)), "{twice}");
    let gateway = ask(&["10.9.0.1"]).unwrap_err();
    assert!(matches!(gateway, PlacementError::Address(IpamError::Outside { .. })), "{gateway}");
}
