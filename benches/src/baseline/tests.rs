//! What the guard says, and what it lets pass.

use super::*;

fn counts(cases: &[(&str, f64)]) -> Counts {
    cases.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn change(before: f64, now: f64) -> (Change, bool) {
    let lines = compare(&counts(&[("seal", before)]), &counts(&[("seal", now)]));
    assert_eq!(lines.len(), 1);
    (lines[0].change, lines[0].passes())
}

#[test]
fn what_grew_does_not_pass() {
    assert_eq!(change(1000.0, 1000.0), (Change::Same, true));
    assert_eq!(change(1000.0, 1100.0), (Change::Same, true));
    assert_eq!(change(1000.0, 1100.1), (Change::Grew, false));
    assert_eq!(change(14.0, 28.0), (Change::Grew, false));
}

#[test]
fn what_shrank_passes_and_is_told() {
    assert_eq!(change(1000.0, 900.0), (Change::Same, true));
    assert_eq!(change(1000.0, 899.9), (Change::Shrank, true));
}

#[test]
fn a_new_case_and_a_missing_one_do_not_pass() {
    let before = counts(&[("open", 3.0), ("seal", 5.0)]);
    let now = counts(&[("replay", 7.0), ("seal", 5.0)]);
    let lines = compare(&before, &now);
    let seen: Vec<_> = lines.iter().map(|l| (&*l.case, l.change, l.passes())).collect();
    let expected = [
        ("open", Change::Missing, false),
        ("replay", Change::New, false),
        ("seal", Change::Same, true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_line_says_which_case_and_by_how_much() {
    let lines = compare(&counts(&[("replay", 20.0)]), &counts(&[("replay", 25.0)]));
    let text = lines[0].to_string();
    for part in ["replay", "20.0", "25.0", "+25.0 %", "GREW by more than 10 %"] {
        assert!(text.contains(part), "{text}");
    }
}

fn read(text: &str) -> Result<Baseline, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Baseline::read(file.path()).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_can_be_read() {
    let baseline = Baseline {
        processor: "x86_64 with AVX2".to_owned(),
        valgrind: "valgrind-3.19.0".to_owned(),
        instructions: counts(&[("seal", 2345.6)]),
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    baseline.write(file.path()).unwrap();
    assert_eq!(Baseline::read(file.path()).unwrap(), baseline);
}

#[test]
fn an_unreadable_baseline_says_what_is_wrong() {
    let missing = Baseline::read(Path::new("/nonexistent/instructions.json")).unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/instructions.json: "), "{missing}");

    let with = |instructions: &str| {
        read(&format!(r#"{{"processor": "p", "valgrind": "v", "instructions": {instructions}}}"#))
    };
    assert!(with(r#"{"seal": 5}"#).is_ok());
    for (text, part) in [
        (read(""), "EOF"),
        (read("{}"), "processor"),
        (with(r#"{"seal": "many"}"#), "invalid type"),
        (with(r#"{"seal": 1e999}"#), "number out of range"),
        (with(r#"{"seal": 0}"#), "instructions.seal is 0; expected a number above 0"),
        (with(r#"{"seal": -3}"#), "instructions.seal is -3; expected a number above 0"),
        (with(r#"{}, "more": 1"#), "unknown field `more`"),
    ] {
        let error = text.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}
