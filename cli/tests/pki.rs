//! `weft pki` as a person runs it: the program, its files, its words, its exit codes.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

fn weft(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft"))
        .current_dir(directory)
        .arg("pki")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = weft(directory, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    assert_eq!(error, "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with exit code 1 and one sentence on standard error.
#[track_caller]
fn fails(directory: &Path, arguments: &[&str]) -> String {
    let output = weft(directory, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("weft: ") && error.lines().count() == 1, "{error}");
    error
}

/// Every file below `directory` with its permission bits.
fn files(directory: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
                continue;
            }
            let name = entry.path().strip_prefix(directory).unwrap().to_owned();
            let mode = metadata.permissions().mode() & 0o7777;
            found.push((name.to_str().unwrap().to_owned(), mode));
        }
    }
    found.sort();
    found
}

fn file(name: &str, mode: u32) -> (String, u32) {
    (name.to_owned(), mode)
}

/// A directory with the authority of `acme` in `ca`.
fn with_authority(extra: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let init = [&["init", "--env", "acme", "--out", "ca"], extra].concat();
    succeeds(directory.path(), &init);
    directory
}

const ISSUE: [&str; 9] =
    ["issue", "--env", "acme", "--host", "host-a", "--ca", "ca", "--out", "hosts"];

fn show(directory: &Path, file: &str) -> Value {
    let document: Value =
        serde_json::from_str(&succeeds(directory, &["show", file, "--json"])).unwrap();
    assert_eq!(document["file"], file);
    document["certificates"][0].clone()
}

#[test]
fn makes_an_authority_and_issues_to_hosts() {
    let directory = with_authority(&[]);
    let directory = directory.path();
    let said = succeeds(directory, &ISSUE);
    assert!(said.contains("host host-a in environment acme"), "{said}");
    assert_eq!(
        files(directory),
        [
            file("ca/ca.key", 0o600),
            file("ca/ca.pem", 0o644),
            file("hosts/host-a.key", 0o600),
            file("hosts/host-a.pem", 0o644),
        ]
    );
    let key = fs::read_to_string(directory.join("hosts/host-a.key")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!said.contains("BEGIN"), "keys are not printed");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_weft");
    for umask in ["000", "077"] {
        let script = format!("umask {umask}; exec {program} pki init --env acme --out {umask}");
        let mut shell = Command::new("sh");
        let done = shell.current_dir(&directory).args(["-c", &script]).output();
        assert!(done.unwrap().status.success());
        let found = files(&directory.path().join(umask));
        assert_eq!(found, [file("ca.key", 0o600), file("ca.pem", 0o644)]);
    }
}

#[test]
fn shows_what_was_issued() {
    let directory = with_authority(&["--installation", "prod"]);
    let directory = directory.path();
    succeeds(directory, &ISSUE);

    let ca = show(directory, "ca/ca.pem");
    assert_eq!(ca["role"], "authority");
    assert_eq!(ca["identity"], "spiffe://prod/env/acme");
    assert_eq!(ca["host"], Value::Null);
    assert_eq!(ca["days_left"], 3649);
    let tag = ca["sni_tag"].as_str().unwrap();
    assert!(tag.starts_with('w') && tag.len() == 41);

    let host = show(directory, "hosts/host-a.pem");
    assert_eq!(host["role"], "host");
    assert_eq!(host["identity"], "spiffe://prod/env/acme/host/host-a");
    assert_eq!(host["installation"], "prod");
    assert_eq!(host["environment"], "acme");
    assert_eq!(host["host"], "host-a");
    assert_eq!(host["days_left"], 89);
    assert_eq!(host["valid"], true);
    assert_eq!(host["key"], "ECDSA P-256");
    assert_eq!(host["usages"], serde_json::json!(["digital signature", "server", "client"]));
    assert_eq!(host["issuer"], ca["subject"]);
    assert_eq!(host["fingerprint_sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&host["sni_tag"], &host["problem"]), (&Value::Null, &Value::Null));

    let text = succeeds(directory, &["show", "hosts/host-a.pem"]);
    for part in [
        "Host host-a in environment acme\n",
        "spiffe://prod/env/acme/host/host-a\n",
        "UTC (89 days left)\n",
        "ECDSA P-256\n",
        "digital signature, server, client\n",
        "CN=weft authority of acme\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert!(succeeds(directory, &["show", "ca/ca.pem"]).contains(tag));
}

#[test]
fn shows_every_certificate_of_a_file() {
    let directory = with_authority(&[]);
    let directory = directory.path();
    succeeds(directory, &ISSUE);
    let read = |name| fs::read_to_string(directory.join(name)).unwrap();
    let both = read("hosts/host-a.pem") + &read("ca/ca.pem");
    fs::write(directory.join("chain.pem"), both).unwrap();
    let text = succeeds(directory, &["show", "chain.pem"]);
    let host = text.find("Host host-a").unwrap();
    assert!(host < text.find("Authority of environment acme").unwrap());
}

#[test]
fn ed25519_and_days() {
    let directory = with_authority(&["--key-type", "ed25519", "--days", "20"]);
    let directory = directory.path();
    let issue = [&ISSUE[..], &["--key-type", "ed25519", "--days", "10"]].concat();
    succeeds(directory, &issue);
    for (name, days) in [("ca/ca.pem", 19), ("hosts/host-a.pem", 9)] {
        let shown = show(directory, name);
        assert_eq!((&shown["key"], &shown["days_left"]), (&"Ed25519".into(), &days.into()));
    }
}

#[test]
fn nothing_is_overwritten() {
    let directory = with_authority(&[]);
    let directory = directory.path();
    succeeds(directory, &ISSUE);
    let contents = |name: &str| fs::read(directory.join(name)).unwrap();
    let names = ["ca/ca.key", "ca/ca.pem", "hosts/host-a.key", "hosts/host-a.pem"];
    let before = names.map(contents);
    let again = fails(directory, &["init", "--env", "acme", "--out", "ca"]);
    assert!(again.contains("ca.key exists already and is not overwritten"), "{again}");
    assert!(again.contains("another --out"), "{again}");
    fails(directory, &ISSUE);
    assert_eq!(names.map(contents), before);

    // One of the two is enough, and the other is not written then.
    for (kept, gone) in [("host-a.pem", "host-a.key"), ("host-a.key", "host-a.pem")] {
        let out = directory.join(kept.replace('.', "-"));
        fs::create_dir(&out).unwrap();
        fs::write(out.join(kept), "mine").unwrap();
        let mut issue = ISSUE;
        issue[8] = out.to_str().unwrap();
        assert!(fails(directory, &issue).contains(kept));
        assert_eq!(fs::read(out.join(kept)).unwrap(), b"mine");
        assert!(!out.join(gone).exists());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    }
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let directory = with_authority(&["--days", "30"]);
    let directory = directory.path();
    let error = fails(directory, &ISSUE);
    assert!(error.contains("its authority only until"), "{error}");
    assert!(error.contains("Ask for at most --days 29"), "{error}");
    assert_eq!(files(directory).len(), 2, "nothing was written");
    succeeds(directory, &[&ISSUE[..], &["--days", "29"]].concat());
}

#[test]
fn errors_say_what_was_expected() {
    let directory = with_authority(&[]);
    let directory = directory.path();
    let issue = |at: usize, value: &'static str| {
        let mut issue = ISSUE;
        issue[at] = value;
        issue
    };
    let other_environment = fails(directory, &issue(2, "globex"));
    assert!(other_environment.contains("of environment acme; expected globex"));
    let no_authority = fails(directory, &issue(6, "nowhere"));
    assert!(no_authority.contains("nowhere/ca.pem"), "{no_authority}");
    assert!(no_authority.contains("expected a directory that `weft pki init` wrote"));

    fs::write(directory.join("file"), "not a directory").unwrap();
    assert!(fails(directory, &issue(8, "file/x")).contains("file/x"));
    fs::create_dir(directory.join("mixed")).unwrap();
    let other = with_authority(&[]);
    fs::copy(directory.join("ca/ca.pem"), directory.join("mixed/ca.pem")).unwrap();
    fs::copy(other.path().join("ca/ca.key"), directory.join("mixed/ca.key")).unwrap();
    let mixed = fails(directory, &issue(6, "mixed"));
    assert!(mixed.contains("key does not belong to its certificate"), "{mixed}");
    fs::write(directory.join("mixed/ca.key"), "garbage").unwrap();
    assert!(fails(directory, &issue(6, "mixed")).contains("holds no private key"));

    let key = fails(directory, &["show", "ca/ca.key"]);
    assert!(key.contains("holds a private key; expected certificates only"), "{key}");
    assert!(fails(directory, &["show", "file"]).contains("holds no certificate"));
    assert!(fails(directory, &["show", "missing"]).contains("cannot read missing"));
    assert!(!directory.join("hosts").exists(), "nothing was written");
}

#[test]
fn arguments_of_a_wrong_form_exit_with_2() {
    let directory = with_authority(&[]);
    let directory = directory.path();
    for arguments in [
        &["init", "--env", "Acme", "--out", "x"][..],
        &["init", "--env", "acme"],
        &["init", "--env", "acme", "--out", "x", "--days", "0"],
        &["init", "--env", "acme", "--out", "x", "--days", "36501"],
        &["init", "--env", "acme", "--out", "x", "--key-type", "rsa"],
        &["init", "--env", "acme", "--out", "x", "--installation", "a/b"],
        &["issue", "--env", "acme", "--host", "../h", "--ca", "ca", "--out", "x"],
    ] {
        assert_eq!(weft(directory, arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!directory.join("x").exists());
}
