//! What documents promise.

use bytes::Bytes;

use super::*;
use crate::id::{OrganisationId, environment_id};

fn environment() -> Environment {
    Environment {
        id: environment_id(&[1; 10]),
        organisation: OrganisationId::from_random(&[2; 10]),
        name: "shop".parse().unwrap(),
        state: EnvironmentState::Deleting { purge: UnixMs(7) },
        subnets: vec!["10.40.0.0/16".parse().unwrap(), "fd40::/64".parse().unwrap()],
        quotas: Quotas::default(),
        held: false,
        lifetimes: Lifetimes::default(),
        other_names: OtherNames::default(),
        created: UnixMs(1),
    }
}

fn entry(record: &impl Record) -> Entry {
    let (key, value) = (record.key().unwrap(), record.encode().unwrap().into());
    Entry { key, value, modified: Revision(3), created: Revision(2), lease: None }
}

#[test]
fn a_record_reads_as_it_was_written() {
    let written = environment();
    let read = Environment::decode(&entry(&written)).unwrap();
    assert_eq!((read.record, read.modified), (written, Revision(3)));
}

#[test]
fn a_document_that_belongs_elsewhere_is_refused() {
    let mut moved = entry(&environment());
    moved.key = Key::new("environment/env-other").unwrap();
    assert!(matches!(Environment::decode(&moved), Err(RecordError::Place { .. })));
}

#[test]
fn fields_that_are_not_known_are_not_dropped() {
    let mut newer = entry(&environment());
    let text = String::from_utf8(newer.value.to_vec()).unwrap();
    newer.value = Bytes::from(text.replacen('{', r#"{"colour":"red","#, 1));
    let refused = Environment::decode(&newer).unwrap_err().to_string();
    assert!(refused.contains("colour"), "{refused}");
}

#[test]
fn an_environment_of_before_refuses_other_names_and_is_written_as_it_was() {
    let text = String::from_utf8(environment().encode().unwrap()).unwrap();
    assert!(!text.contains("other_names") && !text.contains("longer_until"), "{text}");
    let forward = OtherNames::Forward(vec!["192.0.2.53:53".parse().unwrap()]);
    let written = Environment { other_names: forward, ..environment() };
    let text = String::from_utf8(written.encode().unwrap()).unwrap();
    assert!(text.contains(r#""other_names":{"forward":["192.0.2.53:53"]}"#), "{text}");
    assert_eq!(Environment::decode(&entry(&written)).unwrap().record, written);
}

#[test]
fn a_prefix_ends_where_an_environment_does() {
    let prefix = Attachment::prefix("env-a/");
    assert!(Key::new("attachment/env-a/web").unwrap().has_prefix(&prefix));
    assert!(!Key::new("attachment/env-ab/web").unwrap().has_prefix(&prefix));
}
