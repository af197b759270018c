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

fn baseline(processor: &str, cases: &[(&str, f64)]) -> Baseline {
    let (processor, valgrind) = (processor.to_owned(), "valgrind-3.19.0".to_owned());
    Baseline { processor, valgrind, instructions: counts(cases) }
}

#[test]
fn the_verdict_names_cases_and_the_way_on() {
    let before = baseline("p", &[("open", 100.0), ("replay", 20.0), ("seal", 100.0)]);
    let judged = |cases: &[(&str, f64)]| judge(&before, &baseline("p", cases), "make it");

    let same = judged(&[("open", 101.0), ("replay", 20.0), ("seal", 99.0)]);
    assert!(same.passes && !same.text.contains("make it"), "{}", same.text);

    let grown = judged(&[("open", 100.0), ("replay", 30.0), ("seal", 200.0)]);
    assert!(!grown.passes);
    let expected = "Not passed: replay, seal. If that is on purpose: make it\n";
    assert!(grown.text.ends_with(expected), "{}", grown.text);

    let shrunk = judged(&[("open", 100.0), ("replay", 10.0), ("seal", 100.0)]);
    assert!(shrunk.passes);
    assert!(shrunk.text.ends_with("the gain in replay: make it\n"), "{}", shrunk.text);

    let mut other = baseline("p", &[("open", 200.0), ("replay", 20.0), ("seal", 100.0)]);
    "valgrind-3.24.0".clone_into(&mut other.valgrind);
    let other = judge(&before, &other, "make it");
    let expected = "The baseline is from valgrind-3.19.0, this is valgrind-3.24.0.";
    assert!(!other.passes && other.text.contains(expected), "{}", other.text);
}

#[test]
fn another_kind_of_processor_is_not_compared() {
    let (before, now) = (baseline("p", &[("seal", 1.0)]), baseline("q", &[("seal", 9.0)]));
    let verdict = judge(&before, &now, "make it");
    assert!(verdict.passes);
    assert!(verdict.text.contains("Not compared") && !verdict.text.contains("GREW"));
}

fn read(text: &str) -> Result<Baseline, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Baseline::read(file.path()).map_err(|error| format!("{:#}", anyhow::Error::new(error)))
}

#[test]
fn what_is_written_can_be_read() {
    let baseline = baseline("x86_64 with AVX2", &[("seal", 2345.6)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    baseline.write(file.path()).unwrap();
    assert_eq!(Baseline::read(file.path()).unwrap(), baseline);
}

#[test]
fn an_unreadable_baseline_says_what_is_wrong() {
    let missing = Baseline::read(Path::new("/nonexistent/instructions.json")).unwrap_err();
    let missing = format!("{:#}", anyhow::Error::new(missing));
    assert!(missing.starts_with("/nonexistent/instructions.json: No such file"), "{missing}");

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
