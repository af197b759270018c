//! Which keys of a host count, whatever was asked for, used, lost and taken away.

use proptest::{collection::vec, prelude::*};
use weft_store::{Entry, Revision};

use super::*;

fn host() -> Host {
    Host {
        id: "host-a".parse().unwrap(),
        state: HostState::Active,
        place: Place::default(),
        labels: BTreeMap::new(),
        endpoints: Vec::new(),
        capacity: Capacity::default(),
        key_hash: "1".to_owned(),
        next_key_hash: None,
        created: UnixMs(0),
    }
}

fn renewing() -> Host {
    host().renewed("1", "2").unwrap()
}

#[test]
fn both_keys_count_until_the_next_one_is_used() {
    let pending = renewing();
    assert_eq!(pending.admits("1"), Some(HostKey::Present));
    assert_eq!(pending.admits("2"), Some(HostKey::Next));
    assert_eq!(pending.admits("3"), None);
    assert_eq!(pending.used("1").as_ref(), Some(&pending), "the present one changes nothing");
    let used = pending.used("2").unwrap();
    assert_eq!((used.admits("1"), used.admits("2")), (None, Some(HostKey::Present)));
    assert_eq!(used.next_key_hash, None);
    assert_eq!(used.used("1"), None);
}

#[test]
fn a_renewal_that_is_asked_for_again_changes_nothing_with_the_same_key_and_the_next_with_another() {
    let pending = renewing();
    assert_eq!(pending.renewed("1", "2").as_ref(), Some(&pending));
    assert_eq!(pending.renewed("1", "1").as_ref(), Some(&pending), "of the present key");
    let other = pending.renewed("1", "3").unwrap();
    assert_eq!((other.admits("2"), other.admits("3")), (None, Some(HostKey::Next)));
    assert_eq!(pending.renewed("3", "3"), None, "by nobody's key");
}

#[test]
fn who_asks_with_the_next_key_has_used_it() {
    let pending = renewing();
    let third = pending.renewed("2", "3").unwrap();
    assert_eq!((third.key_hash.as_str(), third.next_key_hash.as_deref()), ("2", Some("3")));
    assert_eq!(pending.renewed("2", "2").unwrap(), pending.used("2").unwrap());
    assert_eq!(third.renewed("1", "4"), None);
}

#[test]
fn what_shuts_a_host_out_or_gives_it_another_key_takes_the_next_one_away() {
    let revoked = renewing().in_state(HostState::Revoked);
    assert_eq!(
        (revoked.admits("1"), revoked.admits("2"), revoked.next_key_hash),
        (None, None, None)
    );
    let again = renewing().with_key("3".to_owned());
    assert_eq!((again.admits("1"), again.admits("2")), (None, None));
    assert_eq!(again.admits("3"), Some(HostKey::Present));
    let draining = renewing().in_state(HostState::Draining);
    assert_eq!(draining.admits("2"), Some(HostKey::Next), "it is still to be drained");
}

#[test]
fn a_record_of_before_opens_and_one_without_a_next_key_is_as_before() {
    let entry = |value: Vec<u8>| Entry {
        key: host().key().unwrap(),
        value: value.into(),
        modified: Revision(1),
        created: Revision(1),
        lease: None,
    };
    let plain = host().encode().unwrap();
    assert!(!String::from_utf8(plain.clone()).unwrap().contains("next"));
    assert_eq!(Host::decode(&entry(plain)).unwrap().record, host());
    let pending = renewing().encode().unwrap();
    assert_eq!(Host::decode(&entry(pending)).unwrap().record, renewing());
}

/// What somebody does with a key of four.
#[derive(Debug, Clone)]
enum Event {
    Uses(usize),
    Renews { shown: usize, wanted: usize },
    EnrolsAgain(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..4_usize).prop_map(Event::Uses),
        4 => (0..4_usize, 0..4_usize).prop_map(|(shown, wanted)| Event::Renews { shown, wanted }),
        1 => (0..4_usize).prop_map(Event::EnrolsAgain),
    ]
}

/// Which keys count, said as plainly as can be.
#[derive(Debug, Clone)]
struct Plain {
    present: usize,
    next: Option<usize>,
}

impl Plain {
    fn counts(&self, key: usize) -> bool {
        self.present == key || self.next == Some(key)
    }

    fn handle(&mut self, event: &Event) {
        let (shown, wanted) = match *event {
            Event::EnrolsAgain(key) => {
                *self = Self { present: key, next: None };
                return;
            }
            Event::Uses(shown) => (shown, None),
            Event::Renews { shown, wanted } => (shown, Some(wanted)),
        };
        if !self.counts(shown) {
            return;
        }
        if self.next == Some(shown) {
            *self = Self { present: shown, next: None };
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != self.present) {
            self.next = Some(wanted);
        }
    }
}

fn text(key: usize) -> String {
    (key + 1).to_string()
}

fn after(host: &Host, event: &Event) -> Option<Host> {
    match *event {
        Event::Uses(key) => host.used(&text(key)),
        Event::Renews { shown, wanted } => host.renewed(&text(shown), &text(wanted)),
        Event::EnrolsAgain(key) => Some(host.with_key(text(key))),
    }
}

/// What happens to a host that does as it should.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// It makes a key, or has one that it has asked for already, and asks; the answer arrives or does not.
    Asks { is_answered: bool },
    /// It makes another one first: what it kept is damaged.
    AsksAnew { is_answered: bool },
    /// It calls.
    Calls,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(|is_answered| Step::Asks { is_answered }),
        any::<bool>().prop_map(|is_answered| Step::AsksAnew { is_answered }),
        Just(Step::Calls),
    ]
}

proptest! {
    #[test]
    fn whatever_is_done_with_keys_it_is_as_the_plain_model_says(events in vec(event(), 0..40)) {
        let (mut host, mut plain) = (host(), Plain { present: 0, next: None });
        for event in events {
            let is_admitted = match event {
                Event::Uses(shown) | Event::Renews { shown, .. } => plain.counts(shown),
                Event::EnrolsAgain(_) => true,
            };
            let changed = after(&host, &event);
            prop_assert_eq!(changed.is_some(), is_admitted);
            host = changed.unwrap_or(host);
            plain.handle(&event);
            for key in 0..4 {
                prop_assert_eq!(host.admits(&text(key)).is_some(), plain.counts(key));
            }
            prop_assert_ne!(host.next_key_hash.as_ref(), Some(&host.key_hash));
        }
    }

    #[test]
    fn whatever_answers_are_lost_a_host_is_let_in_and_its_former_keys_are_not(
        steps in vec(step(), 0..60)
    ) {
        let (mut host, mut newest) = (host(), 1_u32);
        let (mut present, mut kept, mut former) = ("1".to_owned(), None, Vec::new());
        for step in steps {
            let asked = match step {
                Step::Asks { is_answered } => Some((kept.take(), is_answered)),
                Step::AsksAnew { is_answered } => Some((None, is_answered)),
                Step::Calls => None,
            };
            if let Some((key, is_answered)) = asked {
                let wanted: String = key.unwrap_or_else(|| {
                    newest += 1;
                    newest.to_string()
                });
                host = host.renewed(&present, &wanted).expect("it asks with its own key");
                kept = Some(wanted.clone());
                if is_answered {
                    kept = None;
                    former.push(std::mem::replace(&mut present, wanted));
                }
            } else {
                host = host.used(&present).expect("it calls with its own key");
                for key in &former {
                    prop_assert_eq!(host.admits(key), None, "{} is a former key", key);
                }
            }
            prop_assert!(host.admits(&present).is_some());
        }
    }
}
