//! Files of certificates and keys that are no use.

use std::{fs, time::SystemTime};

use weft_config::load_at;
use weft_pki::issue::{HostUsages, Validity};

use crate::{
    fixture::{DAY, Fixture, GOOD, HOUR},
    load::with,
};

#[test]
fn a_certificate_of_another_environment_or_host_is_refused() {
    let fixture = Fixture::new();
    let text = with("acme/host-a.pem", "globex/host-a.pem").replacen(
        "acme/host-a.key",
        "globex/host-a.key",
        1,
    );
    assert_eq!(
        fixture.problems(&text),
        ["12: environment[0].cert: globex/host-a.pem: is of environment globex; expected acme"]
    );
    let authority = fixture.authority("acme", "acme");
    fixture.issue(&authority, "acme", "host-z", crate::fixture::validity());
    assert_eq!(
        fixture.problems(GOOD),
        ["12: environment[0].cert: acme/host-a.pem: is of host host-z; expected host-a"]
    );
}

#[test]
fn a_certificate_that_no_peer_would_accept_is_refused() {
    let fixture = Fixture::new();
    let now = SystemTime::now();
    let authority = fixture.authority("acme", "acme");
    let expect = |part: &str| {
        let problems = fixture.problems(GOOD);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("12: environment[0].cert: acme/host-a.pem: "),
            "{problems:?}"
        );
        assert!(problems[0].contains(part), "{problems:?}");
    };
    let from_to = |not_before, not_after| Validity { not_before, not_after };
    fixture.issue(&authority, "acme", "host-a", from_to(now - DAY, now - HOUR));
    expect("expired at");
    fixture.issue(&authority, "acme", "host-a", from_to(now + HOUR, now + DAY));
    expect("not valid before");
    let usages = HostUsages::ClientOnly;
    fixture.issue_for(&authority, "acme", "host-a", crate::fixture::validity(), usages);
    expect("serverAuth");
    fixture.issue(&authority, "acme", "host-a", crate::fixture::validity());
    fixture.authority("acme", "acme");
    expect("not signed by this environment's authority");
}

#[test]
fn time_is_judged_as_given() {
    let fixture = Fixture::new();
    fixture.load(GOOD).unwrap();
    let problems = load_at(&fixture.path("weftd.toml"), SystemTime::now() + 2 * DAY).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, ["environment[0].cert", "environment[1].cert"]);
}

#[test]
fn a_file_that_is_no_certificate_is_refused() {
    let fixture = Fixture::new();
    for (file, field) in
        [("acme/ca.pem", "11: environment[0].ca"), ("acme/host-a.pem", "12: environment[0].cert")]
    {
        let good = fs::read(fixture.path(file)).unwrap();
        for bad in [&b""[..], b"nonsense", &vec![b'x'; 100_000]] {
            fs::write(fixture.path(file), bad).unwrap();
            let problems = fixture.problems(GOOD);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(field), "{problems:?}");
        }
        fs::write(fixture.path(file), good).unwrap();
    }
    fixture.load(GOOD).unwrap();
}
