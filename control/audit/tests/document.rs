//! What docs/audit.md shows is so, and its commands do what it says. They need sh, jq, coreutils and openssl 3.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../../keys/tests/it/memory.rs"]
#[expect(dead_code, reason = "only a part is used here")]
mod memory;

use std::{fs, path::Path, process::Command, sync::Arc};

use weft_audit::{
    Actor, Anchors, Audit, Digest, Event, Facts, LINE_LEN_MAX, Line, Options, Origin, Outcome,
    RETENTION_DAYS, RequestId, Signer, StoreAnchors,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md");

/// The blocks of code under a heading.
fn blocks(heading: &str) -> Vec<String> {
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let blocks = section.split("```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').unwrap().1.to_owned()).collect()
}

fn run(folder: &Path, script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{script}\n{said}");
    String::from_utf8(done.stdout).unwrap()
}

fn event(object: &str, outcome: Outcome) -> Event {
    Event {
        who: Actor::User("alice".parse().unwrap()),
        from: Origin::Address("192.0.2.7".parse().unwrap()),
        action: "secret.read".parse().unwrap(),
        object: object.parse().unwrap(),
        outcome,
        request: RequestId([7; 16]),
        facts: Facts::none(),
    }
}

/// A log of three segments, and its head in `head.json`.
async fn log(folder: &Path) {
    let signer = Signer::from_pkcs8(&Signer::generate()).unwrap();
    let anchors = Arc::new(StoreAnchors::new(Arc::new(memory::Memory::default())));
    let process = "control-a".parse().unwrap();
    let place = folder.join("audit/control-a");
    let mut options = Options::new(place, process, signer, anchors.clone());
    options.segment_len_max = 900;
    let (audit, running) = Audit::open(options).await.unwrap();
    let denied = Outcome::Denied("role".parse().unwrap());
    for outcome in [Outcome::Done, denied, Outcome::Done, Outcome::Unknown, Outcome::Done] {
        audit.record(event("environment/acme/secret/x", outcome)).await.unwrap();
        audit.record(event("environment/acme2", Outcome::Done)).await.unwrap();
    }
    drop(audit);
    running.finished().await;
    let newest = anchors.newest(&"control-a".parse().unwrap()).await.unwrap().unwrap();
    fs::write(folder.join("head.json"), newest.head.encode()).unwrap();
}

#[test]
fn the_lines_that_it_shows_are_lines_that_follow_each_other() {
    let [example] = &blocks("A segment")[..] else { panic!("one example") };
    let mut last = Digest::NONE;
    for line in example.split_inclusive('\n') {
        let read = Line::parse(line.as_bytes()).unwrap();
        assert_eq!(read.prev, last, "line {}", read.seq);
        last = Digest::of(line.as_bytes());
    }
    let text = fs::read_to_string(DOCUMENT).unwrap();
    assert!(text.contains("2,192 days") && RETENTION_DAYS == 2_192);
    assert!(text.contains("at most 4,096 bytes") && LINE_LEN_MAX == 4_096);
}

#[tokio::test]
async fn its_commands_verify_a_log() {
    let [chain, line, signature] = &blocks("Verifying with ordinary tools")[..] else {
        panic!("three blocks")
    };
    let folder = tempfile::tempdir().unwrap();
    log(folder.path()).await;
    assert_eq!(run(folder.path(), chain), "", "the chain holds");
    let hash = run(folder.path(), "jq -r .statement.hash head.json");
    assert!(run(folder.path(), line).starts_with(hash.trim()));
    assert_eq!(run(folder.path(), signature), "Signature Verified Successfully\n");
    let segment = folder.path().join("audit/control-a/0000000002.jsonl");
    let good = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, good.replacen("alice", "carol", 1)).unwrap();
    assert!(run(folder.path(), chain).contains("\"seq\":"), "the first that does not fit");
}

#[tokio::test]
async fn its_commands_find_events() {
    let [of_object, denied, of_request] =
        &blocks("Looking for something")[0].lines().map(str::to_owned).collect::<Vec<_>>()[..]
    else {
        panic!("three commands")
    };
    let folder = tempfile::tempdir().unwrap();
    log(folder.path()).await;
    for (command, found) in [(of_object, 5), (denied, 1), (of_request, 10)] {
        assert_eq!(run(folder.path(), command).lines().count(), found, "{command}");
    }
}
