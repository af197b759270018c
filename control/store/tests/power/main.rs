//! Loss of power, of the process and of room, with the real file system calls of a process that writes.
//!
//! ```text
//!   this test ── strace ──▶ itself as a writer ──▶ store.db, store.db-wal
//!                  │                └──▶ "ack" on its output, in the same trace
//!                  ▼
//!   every write, sync, truncation, unlink, acknowledgement, in order
//!                  ▼
//!   at each of them: what the disk may have kept ──▶ opened, checked, compared with what was acknowledged
//! ```
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test")]

mod disk;
mod trace;
mod writer;

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use disk::{Disk, Fate};
use trace::Event;
use weft_store::{Key, Sqlite, SqliteOptions, Store, StoreError, Transaction};
use writer::{Acknowledged, SCRIPT_LEN, check};

/// In memory where there is such a place: what is opened a thousand times is not to be synced to a disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

/// This test's program, as a writer or whatever else the role is.
fn child(program: &mut Command, role: &str, directory: &Path) {
    program.arg(std::env::current_exe().unwrap());
    program.args(["--exact", role, "--nocapture", "--quiet", "--test-threads=1"]);
    program.env(writer::DIRECTORY_VARIABLE, directory);
}

/// Not a test of its own: what a child of the others does.
#[test]
fn as_a_writer() {
    if let Some(directory) = std::env::var_os(writer::DIRECTORY_VARIABLE) {
        assert_eq!(writer::run(Path::new(&directory), SCRIPT_LEN), 0);
    }
}

/// The same without an end.
#[test]
fn as_an_endless_writer() {
    if let Some(directory) = std::env::var_os(writer::DIRECTORY_VARIABLE) {
        writer::run(Path::new(&directory), usize::MAX);
    }
}

#[test]
fn no_loss_of_power_loses_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("trace");
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    let mut strace = Command::new("strace");
    strace.args(trace::OPTIONS).arg("-o").arg(&log).arg("setpriv").args(["--pdeathsig", "KILL"]);
    child(&mut strace, "as_a_writer", &work);
    let ended = strace.stdout(Stdio::null()).status().expect("strace: apt-get install strace");
    assert!(ended.success());
    let events = trace::parse(&fs::read_to_string(&log).unwrap(), &work);

    let images = scratch();
    let mut disk = Disk::default();
    let mut acknowledged = Acknowledged::default();
    let (mut seen, mut opened) = (HashSet::new(), 0);
    let mut syncs = 0;
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Acknowledged { caller, step } => acknowledged.note(*caller, *step),
            Event::Disk(event) => {
                syncs += usize::from(event.is_sync());
                disk.handle(event);
            }
        }
        for fate in Fate::all(at as u64) {
            let image = disk.image(fate);
            // The same files with the same acknowledgements need not be opened again.
            if seen.insert((image.fingerprint(), acknowledged.clone())) {
                image.write(images.path());
                check(&images.path().join("store.db"), &acknowledged)
                    .unwrap_or_else(|what| panic!("event {at}, {event:?}, {fate:?}: {what}"));
                image.remove(images.path());
                opened += 1;
            }
        }
    }
    assert_eq!(acknowledged.steps(), writer::CALLERS * SCRIPT_LEN);
    assert!(opened > 500 && syncs > 20, "{opened} images, {syncs} syncs, {} events", events.len());
}

/// The same where syncs fail now and then.
#[test]
fn as_a_writer_of_a_bad_disk() {
    if let Some(directory) = std::env::var_os(writer::DIRECTORY_VARIABLE) {
        let refused = writer::run(Path::new(&directory), SCRIPT_LEN);
        println!("refused {refused}");
    }
}

#[test]
fn a_sync_that_fails_is_not_acknowledged_and_heals() {
    for inject in ["when=9+5", "when=10+3", "when=12..14"] {
        let directory = tempfile::tempdir().unwrap();
        let mut strace = Command::new("strace");
        let inject = format!("inject=fsync,fdatasync:error=EIO:{inject}");
        strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", &inject, "-o", "/dev/null"]);
        strace.args(["setpriv", "--pdeathsig", "KILL"]);
        child(&mut strace, "as_a_writer_of_a_bad_disk", directory.path());
        let output = strace.output().expect("strace: apt-get install strace");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{output:?}");
        let refused = said.lines().find_map(|line| line.strip_prefix("refused ")).unwrap();
        assert!(refused.parse::<usize>().unwrap() > 0, "{said}");
        let mut acknowledged = Acknowledged::default();
        said.lines().for_each(|line| acknowledged.note_line(line));
        assert_eq!(acknowledged.steps(), writer::CALLERS * SCRIPT_LEN);
        check(&directory.path().join("store.db"), &acknowledged).unwrap();
    }
}

#[test]
fn a_writer_that_is_killed_loses_nothing() {
    let rounds: usize = std::env::var("WEFT_KILL_ROUNDS").map_or(8, |n| n.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        child(&mut command, "as_an_endless_writer", directory.path());
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut acknowledged = Acknowledged::default();
        // At another place of the work each time.
        for _ in 0..20 + 13 * (round % 7) {
            acknowledged.note_line(&lines.next().unwrap().unwrap());
        }
        process.kill().unwrap();
        process.wait().unwrap();
        for line in lines {
            acknowledged.note_line(&line.unwrap());
        }
        check(&directory.path().join("store.db"), &acknowledged).unwrap();
    }
}

/// Inside a file system of its own that is small.
#[test]
fn as_a_writer_without_room() {
    let Some(directory) = std::env::var_os(writer::DIRECTORY_VARIABLE) else { return };
    let directory = Path::new(&directory);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let filler = directory.join("filler");
        fs::write(&filler, vec![1; 1 << 20]).unwrap();
        let options = SqliteOptions { log_pages: 100, ..SqliteOptions::default() };
        let store = Sqlite::open(&directory.join("store.db"), options).unwrap();
        let key = |n: usize| Key::new(&format!("a/{n}")).unwrap();
        let mut made = 0;
        let refused = loop {
            match store.commit(Transaction::new().put(key(made), vec![1; 50_000])).await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        let is_full = matches!(refused, weft_store::CommitError::Store(StoreError::Full(_)));
        assert!(is_full, "{refused}");
        assert_eq!(store.list("a/", None, 1_000).await.unwrap().entries.len(), made);
        store.commit(Transaction::new().put(key(made), vec![1; 50_000])).await.unwrap_err();
        // Somebody clears the disk.
        fs::remove_file(filler).unwrap();
        for n in made..made + 5 {
            store.commit(Transaction::new().put(key(n), vec![1; 50_000])).await.unwrap();
        }
        assert_eq!(store.list("a/", None, 1_000).await.unwrap().entries.len(), made + 5);
    });
    println!("healed");
}

#[test]
fn a_disk_that_is_full_is_told_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let mount = "mount -t tmpfs -o size=4m tmpfs \"$0\" && exec \"$@\"";
    command.args(["--mount", "sh", "-c", mount]).arg(directory.path());
    child(&mut command, "as_a_writer_without_room", directory.path());
    let output = command.output().expect("unshare of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("healed"), "{said}{output:?}");
    // Nothing of it is left outside.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
