use std::{collections::BTreeMap, str::FromStr};

use proptest::prelude::*;

use super::*;
use crate::{
    event::{FACTS_MAX, Fact, Outcome, RequestId},
    text::{NAME_LEN_MAX, Name, OBJECT_NAMES_MAX, Word},
};

const EVENT: &str = concat!(
    r#"{"seq":2,"prev":"0000000000000000000000000000000000000000000000000000000000000000","#,
    r#""at":"2026-11-30T06:48:10.123456Z","event":{"who":"user/alice","from":"192.0.2.7","#,
    r#""action":"secret.read","object":"environment/acme/secret/DB_PASSWORD","outcome":"done","#,
    r#""request":"000102030405060708090a0b0c0d0e0f","facts":{"version":3}}}"#,
    "\n"
);

#[test]
fn a_line_is_written_in_one_way() {
    let line = Line::parse(EVENT.as_bytes()).unwrap();
    let Body::Event(event) = &line.body else { panic!("an event") };
    assert_eq!((line.seq, event.who.to_string().as_str()), (2, "user/alice"));
    assert_eq!(event.facts.get(&Word::new("version")), Some(&Fact::Number(3)));
    assert_eq!(line.encode(), EVENT.as_bytes());
    for (from, to, error) in [
        ("\n", "", LineError::Unfinished),
        ("{\"seq\"", "{ \"seq\"", LineError::NotCanonical),
        ("\n", " \n", LineError::NotCanonical),
        ("alice", "\\u0061lice", LineError::NotCanonical),
        ("192.0.2.7", "2001:DB8::1", LineError::NotCanonical),
        (",\"facts\":{\"version\":3}", ",\"facts\":{}", LineError::NotCanonical),
    ] {
        let changed = EVENT.replace(from, to);
        assert_ne!(changed, EVENT);
        assert_eq!(Line::parse(changed.as_bytes()), Err(error), "{changed}");
    }
    for (from, to) in [
        ("\"seq\":2", "\"seq\":2,\"seq\":2"),
        ("\"seq\":2", "\"seq\":-2"),
        ("\"seq\":2", "\"seq\":2.0"),
        ("\"seq\":2,", ""),
        ("\"version\":3", "\"version\":-3"),
        ("\"version\":3", "\"version\":\"a b\""),
        ("}}}", "},\"note\":\"x\"}}"),
        ("}}\n", "},\"cut\":{\"bytes\":1}}\n"),
        ("\"event\"", "\"other\""),
    ] {
        let changed = EVENT.replace(from, to);
        assert_ne!(changed, EVENT);
        let error = Line::parse(changed.as_bytes());
        assert!(matches!(error, Err(LineError::Malformed(_))), "{changed}: {error:?}");
    }
    let opened = Line {
        body: Body::Open(Open { format: 2, process: "a".parse().unwrap(), segment: 1 }),
        ..line
    };
    assert_eq!(Line::parse(&opened.encode()), Err(LineError::Format(2)));
}

#[test]
fn the_longest_event_fits_a_line() {
    let name = "X".repeat(NAME_LEN_MAX);
    let word = |i: usize| format!("{i}{}", "x".repeat(NAME_LEN_MAX - 1));
    let facts: BTreeMap<_, _> =
        (0..FACTS_MAX).map(|i| (word(i), Fact::Name(Name::from_str(&name).unwrap()))).collect();
    let facts = serde_json::from_value(serde_json::to_value(facts).unwrap()).unwrap();
    let event = Event {
        who: format!("operator/{name}").parse().unwrap(),
        from: "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap(),
        action: word(0).parse().unwrap(),
        object: vec![name; OBJECT_NAMES_MAX].join("/").parse().unwrap(),
        outcome: Outcome::Denied(word(0).parse().unwrap()),
        request: RequestId([0; 16]),
        facts,
    };
    let at = "2026-11-30T06:48:10.123456Z".parse().unwrap();
    let line = Line { seq: u64::MAX, prev: Digest::NONE, at, body: Body::Event(event) };
    assert!(line.encode().len() < LINE_LEN_MAX * 3 / 4, "{}", line.encode().len());
    assert_eq!(Line::parse(&line.encode()), Ok(line));
    assert_eq!(Line::parse(&[b' '; LINE_LEN_MAX + 1]), Err(LineError::TooLong));
}

proptest! {
    #[test]
    fn what_parses_is_written_the_same(at in 0..EVENT.len(), byte in any::<u8>()) {
        let mut bytes = EVENT.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(line) = Line::parse(&bytes) {
            prop_assert_eq!(line.encode(), bytes);
        }
    }
}
