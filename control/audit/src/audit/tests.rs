//! The whole log on a disk that fails as a test wants it.

#[path = "../../../keys/tests/it/memory.rs"]
#[expect(dead_code, reason = "only a part is used here")]
mod memory;

mod anchored;
mod broken_disk;
mod compared;
mod copied;
mod crashes;
mod kept;
mod replicated;
mod torn;
mod verified;

use std::sync::atomic::AtomicU64;

use broken_disk::BrokenDisk;
use memory::Memory;
use weft_types::HostId;

use super::*;
use crate::{
    anchor::StoreAnchors,
    event::{Actor, Facts, Origin, RequestId},
    line::{Body, Line},
    segment::{Lines, list, path_of},
    signed::PublicKey,
    text::Word,
    verify::{Verified, verify},
};

const DAY_SECONDS: u64 = 86_400;
/// 2026-11-30.
const BEGIN_SECONDS: u64 = 1_796_000_000;

/// A host with its disk, and the store beyond it.
struct Lab {
    _folder: tempfile::TempDir,
    folder: PathBuf,
    disk: BrokenDisk,
    store: Memory,
    signer: Signer,
    /// Seconds after 1970.
    now: Arc<AtomicU64>,
    segment_len_max: u64,
    replica: Option<Arc<dyn Replica>>,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder: folder.path().join("log"),
            _folder: folder,
            disk: BrokenDisk::default(),
            store: Memory::default(),
            signer: Signer::from_pkcs8(&Signer::generate()).unwrap(),
            now: Arc::new(AtomicU64::new(BEGIN_SECONDS)),
            segment_len_max: SEGMENT_LEN_MAX,
            replica: None,
        }
    }

    /// Segments of a few lines.
    fn with_short_segments() -> Self {
        Self { segment_len_max: 1_200, ..Self::new() }
    }

    fn options(&self) -> Options {
        let now = Arc::clone(&self.now);
        let clock: Clock = Arc::new(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed))
        });
        Options {
            replica: self.replica.clone(),
            clock,
            segment_len_max: self.segment_len_max,
            ..Options::new(self.folder.clone(), process(), self.signer.clone(), self.anchors())
        }
    }

    fn anchors(&self) -> Arc<dyn Anchors> {
        Arc::new(StoreAnchors::new(Arc::new(self.store.clone())))
    }

    async fn try_open(&self) -> Result<(Audit, Running), OpenError> {
        Audit::open_on(self.options(), Box::new(self.disk.clone())).await
    }

    async fn open(&self) -> (Audit, Running) {
        self.try_open().await.unwrap()
    }

    async fn close(&self, (audit, running): (Audit, Running)) {
        drop(audit);
        running.finished().await;
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    fn trusted(&self) -> [PublicKey; 1] {
        [self.signer.public_key()]
    }

    async fn try_verify(&self) -> Result<Verified, Finding> {
        let anchors = self.anchors().all(&process()).await.unwrap();
        verify(&self.folder, &process(), &anchors, &self.trusted())
    }

    async fn verify(&self) -> Verified {
        self.try_verify().await.unwrap()
    }

    /// Every line that is there.
    fn lines(&self) -> Vec<Line> {
        lines_of(&self.folder)
    }

    /// Names of what was done, in order.
    fn actions(&self) -> Vec<String> {
        let event = |line: Line| match line.body {
            Body::Event(event) => Some(format!("{} {}", event.action, event.outcome)),
            _ => None,
        };
        self.lines().into_iter().filter_map(event).collect()
    }
}

fn lines_of(folder: &std::path::Path) -> Vec<Line> {
    let mut found = Vec::new();
    for segment in list(folder).unwrap() {
        let mut lines = Lines::open(&path_of(folder, segment), 0).unwrap();
        while let bytes @ [_, ..] = lines.next().unwrap() {
            found.push(Line::parse(bytes).unwrap());
        }
    }
    found
}

fn process() -> ProcessId {
    "control-a".parse().unwrap()
}

fn event(action: &str) -> Event {
    Event {
        who: Actor::User("alice".parse().unwrap()),
        from: Origin::Local,
        action: action.parse().unwrap(),
        object: "environment/acme".parse().unwrap(),
        outcome: Outcome::Done,
        request: RequestId([7; 16]),
        facts: Facts::none(),
    }
}

#[tokio::test]
async fn what_is_recorded_is_there_and_verifies() {
    let lab = Lab::new();
    let log = lab.open().await;
    let first = log.0.record(event("a")).await.unwrap();
    assert_eq!((first.segment, first.seq), (1, 2));
    let second = log.0.record(event("b")).await.unwrap();
    assert_eq!(log.0.status().last, second);
    lab.close(log).await;
    assert_eq!(lab.actions(), ["a done", "b done"]);
    let verified = lab.verify().await;
    assert_eq!((verified.lines, verified.last, verified.anchored), (3, second, 3));
    let log = lab.open().await;
    log.0.record(event("c")).await.unwrap();
    lab.close(log).await;
    assert_eq!(lab.actions(), ["a done", "b done", "c done"]);
    assert_eq!(lab.verify().await.anchored, 4);
}

#[tokio::test]
async fn all_who_wait_are_written_together() {
    let lab = Lab::new();
    let (audit, running) = lab.open().await;
    let before = lab.disk.syncs();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let audit = audit.clone();
        tasks.spawn(async move { audit.record(event("a")).await.unwrap().seq });
    }
    let mut seqs = tasks.join_all().await;
    let syncs = lab.disk.syncs() - before;
    assert!(syncs <= 50, "{syncs} syncs");
    seqs.sort_unstable();
    assert_eq!(seqs, (2..502).collect::<Vec<_>>());
    lab.close((audit, running)).await;
    lab.verify().await;
}

#[tokio::test]
async fn a_segment_ends_with_its_size_and_with_the_day() {
    let lab = Lab::with_short_segments();
    let log = lab.open().await;
    for _ in 0..20 {
        log.0.record(event("a")).await.unwrap();
    }
    let by_size = list(&lab.folder).unwrap().len();
    assert!((4..=8).contains(&by_size), "{by_size}");
    for _ in 0..3 {
        lab.pass(DAY_SECONDS);
        log.0.record(event("b")).await.unwrap();
    }
    assert_eq!(list(&lab.folder).unwrap().len(), by_size + 3);
    lab.close(log).await;
    // Opened on another day, it goes on in a segment of that day.
    lab.pass(DAY_SECONDS);
    lab.close(lab.open().await).await;
    assert_eq!(list(&lab.folder).unwrap().len(), by_size + 4);
    let verified = lab.verify().await;
    assert_eq!(verified.segments, by_size as u64 + 4);
    assert_eq!(lab.lines().len() as u64, verified.lines);
}

#[tokio::test]
async fn a_clock_that_goes_back_spoils_nothing() {
    let lab = Lab::with_short_segments();
    let log = lab.open().await;
    for back in [0, 5, 2 * DAY_SECONDS, 1, 0] {
        lab.now.fetch_sub(back, Ordering::Relaxed);
        for _ in 0..4 {
            log.0.record(event("a")).await.unwrap();
        }
    }
    lab.close(log).await;
    lab.close(lab.open().await).await;
    lab.verify().await;
}

#[tokio::test]
async fn an_outcome_is_recorded_whatever_becomes_of_who_asked() {
    let lab = Lab::new();
    let log = lab.open().await;
    let pending = log.0.begin(event("a")).await.unwrap();
    pending.finish(Outcome::Failed(Word::new("store-full"))).await.unwrap();
    let pending = log.0.begin(event("b")).await.unwrap();
    drop(pending);
    let pending = log.0.begin(event("c")).await.unwrap();
    pending.finish(Outcome::Done).await.unwrap();
    lab.close(log).await;
    let expected = ["a begun", "a failed/store-full", "b begun", "b unknown", "c begun", "c done"];
    assert_eq!(lab.actions(), expected);
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals() {
    let lab = Lab::with_short_segments();
    let log = lab.open().await;
    log.0.record(event("a")).await.unwrap();
    let mut refused = 0;
    for round in 0..30 {
        // Full in the middle of a line, of a batch, of a new segment.
        lab.disk.fill_after(round * 40);
        for _ in 0..3 {
            match log.0.record(event("b")).await {
                Ok(_) => {}
                Err(Refused::Unwritable(why)) => {
                    assert!(why.contains("No space left"), "{why}");
                    assert!(log.0.status().refused.is_some());
                    assert!(log.0.begin(event("c")).await.is_err(), "nothing is begun");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        lab.disk.heal();
        log.0.record(event("d")).await.unwrap();
        assert_eq!(log.0.status().refused, None);
    }
    assert!(refused > 30, "{refused}");
    lab.close(log).await;
    assert!(!lab.actions().contains(&"c begun".to_owned()), "what was refused is not there");
    lab.verify().await;
}

#[tokio::test]
async fn a_sync_that_fails_refuses() {
    let lab = Lab::new();
    let log = lab.open().await;
    lab.disk.fail_syncs(true);
    assert!(matches!(log.0.record(event("a")).await, Err(Refused::Unwritable(_))));
    lab.disk.fail_syncs(false);
    log.0.record(event("b")).await.unwrap();
    lab.close(log).await;
    assert_eq!(lab.actions(), ["b done"]);
    lab.verify().await;
}

#[tokio::test]
async fn one_folder_has_one_writer() {
    let lab = Lab::new();
    let log = lab.open().await;
    let error = lab.try_open().await.unwrap_err();
    assert!(matches!(&error, OpenError::Recover(RecoverError::InUse(_))), "{error}");
    lab.close(log).await;
    assert!(lab.try_open().await.is_ok());
    assert!(HostId::new(process().as_str()).is_ok());
}
