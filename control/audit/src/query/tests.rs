use std::{fs, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    chain::{Position, Span},
    event::{Facts, Origin},
    line::{Body, Open},
};

/// What one process wrote: for each segment its events, each so many seconds after the one before (or before
/// it), by one of three users on one of three objects with one of three outcomes.
type Written = Vec<Vec<(i8, u8, u8, u8)>>;

const OBJECTS: [&str; 3] = ["environment/acme", "environment/acme/secret/x", "environment/acme2"];
const OUTCOMES: [&str; 3] = ["done", "denied/role", "begun"];

fn at(seconds: i64) -> Timestamp {
    let since = Duration::from_secs(u64::try_from(1_796_000_000 + seconds).unwrap());
    Timestamp::of(std::time::SystemTime::UNIX_EPOCH + since)
}

fn event(who: u8, object: u8, outcome: u8) -> Event {
    Event {
        who: format!("user/u{who}").parse().unwrap(),
        from: Origin::Local,
        action: format!("a{outcome}").parse().unwrap(),
        object: OBJECTS[usize::from(object)].parse().unwrap(),
        outcome: OUTCOMES[usize::from(outcome)].parse().unwrap(),
        request: RequestId([who; 16]),
        facts: Facts::none(),
    }
}

/// Writes a log, the last segment without an end, and returns its events.
fn write(folder: &Path, process: &ProcessId, written: &Written) -> Vec<Found> {
    let (mut last, mut now, mut all) = (Position::START, 0i64, Vec::new());
    for (segment, events) in (1..).zip(written) {
        let mut bytes = Vec::new();
        let mut span = Span::of(at(now));
        let mut add = |body: Body, now: i64| {
            let line = last.next(at(now), body);
            let encoded = line.encode();
            last = last.after(segment, &encoded);
            bytes.extend(encoded);
            line
        };
        add(Body::Open(Open::new(process.clone(), segment)), now);
        for (step, who, object, outcome) in events {
            now += i64::from(*step);
            span.add(at(now));
            let event = event(*who, *object, *outcome);
            let Line { seq, at, .. } = add(Body::Event(event.clone()), now);
            all.push(Found { process: process.clone(), seq, at, event });
        }
        if segment < written.len() as u64 {
            add(Body::Close(span.close()), now);
        } else {
            bytes.extend(b"{\"seq\":");
        }
        fs::write(path_of(folder, segment), bytes).unwrap();
    }
    all
}

/// Merges as a query does: each log in its order, the earliest head first.
fn merged(mut logs: Vec<Vec<Found>>) -> Vec<Found> {
    let mut all = Vec::new();
    loop {
        let heads = logs.iter_mut().filter(|log| !log.is_empty());
        let Some(log) = heads.min_by_key(|log| log[0].at) else { return all };
        all.push(log.remove(0));
    }
}

fn written() -> impl Strategy<Value = Written> {
    let event = (-3..9i8, 0..3u8, 0..3u8, 0..3u8);
    proptest::collection::vec(proptest::collection::vec(event, 0..6), 1..5)
}

fn asked() -> impl Strategy<Value = Query> {
    use proptest::option::of;
    (of(-5..60i64), of(-5..60i64), of(0..3u8), of(0..3usize), of(0..3u8), of(0..3usize)).prop_map(
        |(from, until, who, object, action, outcome)| Query {
            from: from.map(at),
            until: until.map(at),
            who: who.map(|who| format!("user/u{who}").parse().unwrap()),
            object: object.map(|object| OBJECTS[object].parse().unwrap()),
            action: action.map(|action| format!("a{action}").parse().unwrap()),
            outcome: outcome.map(|outcome| ["done", "denied", "begun"][outcome].parse().unwrap()),
            request: who.map(|who| RequestId([who; 16])),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Page by page comes what a plain filter finds, whatever the length of a page.
    #[test]
    fn pages_together_are_what_was_asked_for(
        written in proptest::collection::vec(written(), 1..4),
        asked in asked(),
        len_max in 1..8usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut logs, mut events) = (Vec::new(), Vec::new());
        for (number, written) in written.iter().enumerate() {
            let process: ProcessId = format!("p{number}").parse().unwrap();
            let folder = folder.path().join(process.as_str());
            fs::create_dir(&folder).unwrap();
            let mut log = write(&folder, &process, written);
            log.retain(|found| asked.matches(found.at, &found.event));
            events.push(log);
            logs.push((process, folder));
        }
        let expected = merged(events);
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..200 {
            let page = query(&logs, &asked, after.as_ref(), len_max).unwrap();
            prop_assert!(page.found.len() <= len_max);
            found.extend(page.found);
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().unwrap());
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_log_that_was_changed_is_not_told_as_if_it_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let process: ProcessId = "p0".parse().unwrap();
    write(folder.path(), &process, &vec![vec![(1, 0, 0, 0), (1, 1, 1, 1), (1, 2, 2, 2)]; 2]);
    let logs = [(process, folder.path().to_owned())];
    let all = Query::default();
    assert_eq!(query(&logs, &all, None, 100).unwrap().found.len(), 6);
    let path = path_of(folder.path(), 1);
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("user/u1", "user/u2")).unwrap();
    let fault = |logs: &[_]| match query(logs, &all, None, 100) {
        Err(QueryError::Damaged(found)) => found.fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&logs), Fault::Link);
    let cut: Vec<&str> = good.split_inclusive('\n').take(3).collect();
    fs::write(&path, cut.concat()).unwrap();
    assert_eq!(fault(&logs), Fault::NotClosed);
    fs::write(&path, good).unwrap();
    let wrong: Cursor = "p0=1.7".parse().unwrap();
    assert!(query(&logs, &all, Some(&wrong), 100).is_err());
    // What has expired since is not there any more: what is left is told.
    fs::remove_file(&path).unwrap();
    assert_eq!(query(&logs, &all, Some(&wrong), 100).unwrap().found.len(), 3);
    let many = vec![logs[0].clone(); PROCESSES_MAX + 1];
    assert_eq!(query(&many, &all, None, 100), Err(QueryError::TooMany(65)));
}

#[test]
fn cursors_are_what_a_page_named() {
    for text in ["", "p0=1.0", "p0=1.0,p1=20.4096"] {
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
    }
    for text in ["p0", "p0=1", "p0=1.x", "=1.0", "p0=1.-1", "P=1.0"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}
