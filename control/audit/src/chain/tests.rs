use super::*;
use crate::line::Cut;

fn process() -> ProcessId {
    "control-a".parse().unwrap()
}

fn at(second: u8) -> Timestamp {
    format!("2026-11-30T06:48:{second:02}.000000Z").parse().unwrap()
}

fn open(segment: u64) -> Body {
    Body::Open(Open::new(process(), segment))
}

fn cut() -> Body {
    Body::Cut(Cut { bytes: 1, sha256: Digest::NONE })
}

fn close(earliest: u8, latest: u8) -> Body {
    Body::Close(Close { earliest: at(earliest), latest: at(latest) })
}

/// What a checker says of the last of some lines of segment 1, each with the second of its time.
fn judged(bodies: &[(Body, u8)]) -> Result<Line, Fault> {
    let mut checker = Checker::after(process(), Position::START);
    checker.begin(1).unwrap();
    let (mut last, mut said) = (Position::START, Err(Fault::Order));
    for (number, (body, second)) in bodies.iter().enumerate() {
        let line = last.next(at(*second), body.clone()).encode();
        last = last.after(1, &line);
        said = checker.accept(&line);
        assert!(said.is_ok() || number + 1 == bodies.len(), "line {number}: {said:?}");
    }
    assert!(said.is_err() || checker.last() == Some(last));
    said
}

#[test]
fn a_segment_has_a_beginning_and_an_end() {
    assert!(judged(&[(open(1), 5), (cut(), 3), (cut(), 9), (close(3, 9), 1)]).is_ok());
    assert_eq!(judged(&[(cut(), 5)]), Err(Fault::Order));
    assert_eq!(judged(&[(close(5, 5), 5)]), Err(Fault::Order));
    assert_eq!(judged(&[(open(1), 5), (open(1), 5)]), Err(Fault::Order));
    let ended = [(open(1), 5), (close(5, 5), 5)];
    assert!(judged(&ended).is_ok());
    for after in [open(2), cut(), close(5, 5)] {
        assert_eq!(judged(&[&ended[..], &[(after, 5)]].concat()), Err(Fault::Order));
    }
}

#[test]
fn an_end_says_the_times_of_its_segment() {
    for (earliest, latest) in [(4, 9), (2, 9), (3, 8), (3, 10), (9, 3)] {
        let lines = [(open(1), 5), (cut(), 3), (cut(), 9), (close(earliest, latest), 9)];
        assert_eq!(judged(&lines), Err(Fault::Span));
    }
}

#[test]
fn a_segment_is_of_its_process_and_in_its_place() {
    assert_eq!(judged(&[(open(2), 5)]), Err(Fault::Foreign));
    let other = Body::Open(Open::new("control-b".parse().unwrap(), 1));
    assert_eq!(judged(&[(other, 5)]), Err(Fault::Foreign));
    let mut checker = Checker::after(process(), Position::START);
    assert_eq!(checker.begin(2), Err(Fault::Missing(1)));
    checker.begin(1).unwrap();
    assert_eq!(checker.begin(2), Err(Fault::NotClosed));
    checker.accept(&Position::START.next(at(5), open(1)).encode()).unwrap();
    assert_eq!(checker.begin(2), Err(Fault::NotClosed));
    assert!(!checker.is_closed() && checker.span() == Some(Span::of(at(5))));
}

#[test]
fn a_line_follows_the_one_before() {
    let mut checker = Checker::after(process(), Position::START);
    checker.begin(1).unwrap();
    let first = Position::START.next(at(5), open(1)).encode();
    checker.accept(&first).unwrap();
    let last = Position::START.after(1, &first);
    let good = last.next(at(5), cut());
    let wrong = Line { seq: 3, ..good.clone() }.encode();
    assert_eq!(checker.accept(&wrong), Err(Fault::Sequence { found: 3, expected: 2 }));
    let wrong = Line { prev: Digest::NONE, ..good.clone() }.encode();
    assert_eq!(checker.accept(&wrong), Err(Fault::Link));
    assert_eq!(checker.last(), Some(last), "what was refused changes nothing");
    // Who begins in the middle believes the first line that comes, and no other.
    let mut midway = Checker::midway(process(), 1);
    midway.accept(&wrong).unwrap();
    assert_eq!(midway.accept(&good.encode()), Err(Fault::Sequence { found: 2, expected: 3 }));
    assert_eq!(checker.accept(&good.encode()), Ok(good));
}
