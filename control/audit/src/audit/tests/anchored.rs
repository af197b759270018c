//! Heads in the store.

use std::fs;

use super::{memory::Fault as StoreFault, *};
use crate::{
    anchor::{AnchorVersion, Anchored},
    fault::Fault,
    segment::UNFINISHED,
    signed::SignedHead,
};

async fn anchored(lab: &Lab) -> u64 {
    let newest = lab.anchors().newest(&process()).await.unwrap().unwrap();
    newest.head.verify(&lab.trusted()).unwrap().seq
}

#[tokio::test(start_paused = true)]
async fn a_head_is_anchored_each_minute_and_at_both_ends() {
    let lab = Lab::new();
    let log = lab.open().await;
    assert_eq!(anchored(&lab).await, 1, "opened");
    log.0.record(event("a")).await.unwrap();
    tokio::time::sleep(ANCHOR_INTERVAL / 2).await;
    assert_eq!((anchored(&lab).await, log.0.status().anchored), (1, 1));
    tokio::time::sleep(ANCHOR_INTERVAL).await;
    assert_eq!((anchored(&lab).await, log.0.status().anchored), (2, 2));
    log.0.record(event("b")).await.unwrap();
    lab.close(log).await;
    assert_eq!(anchored(&lab).await, 3, "closed");
}

#[tokio::test(start_paused = true)]
async fn the_last_head_of_each_day_is_kept() {
    let lab = Lab::new();
    let log = lab.open().await;
    for _ in 0..3 {
        lab.pass(DAY_SECONDS);
        log.0.record(event("a")).await.unwrap();
        tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
    }
    lab.close(log).await;
    let all = lab.anchors().all(&process()).await.unwrap();
    assert_eq!(all.len(), 5, "four days and the newest");
    lab.verify().await;
    // Written anew from some day on, with the key: the days since then tell.
    let (last_day, forged) = (path_of(&lab.folder, 4), lab.lines().len());
    assert_eq!(forged, 10);
    fs::remove_file(last_day).unwrap();
    let error = lab.try_verify().await.unwrap_err();
    assert!(matches!(error.fault, Fault::Truncated { last: 8, anchored: 10 }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_tried_again() {
    let lab = Lab::new();
    let log = lab.open().await;
    for fault in [StoreFault::Refused, StoreFault::AnswerLost, StoreFault::RequestLost] {
        lab.store.fail(0, fault);
        log.0.record(event("a")).await.unwrap();
        tokio::time::sleep(ANCHOR_INTERVAL * 5 / 4).await;
        assert!(lab.store.heal());
        let lost = log.0.status().anchored < log.0.status().last.seq;
        assert_eq!(lost, fault != StoreFault::AnswerLost);
        assert_eq!(log.0.status().unanchored.is_some(), lost);
        tokio::time::sleep(ANCHOR_INTERVAL).await;
        assert_eq!(anchored(&lab).await, log.0.status().last.seq);
        assert_eq!(log.0.status().unanchored, None);
    }
    lab.close(log).await;
    lab.verify().await;
}

#[tokio::test(start_paused = true)]
async fn two_processes_with_one_id_are_noticed() {
    let lab = Lab::new();
    lab.close(lab.open().await).await;
    let copy = Lab {
        folder: lab.folder.with_extension("copy"),
        store: lab.store.clone(),
        signer: lab.signer.clone(),
        ..Lab::new()
    };
    fs::create_dir(&copy.folder).unwrap();
    fs::copy(path_of(&lab.folder, 1), path_of(&copy.folder, 1)).unwrap();
    let (one, two) = (lab.open().await, copy.open().await);
    one.0.record(event("a")).await.unwrap();
    two.0.record(event("b")).await.unwrap();
    tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
    assert_eq!(one.0.record(event("c")).await, Err(Refused::Superseded));
    assert!(two.0.record(event("d")).await.is_ok(), "the last that came goes on");
    lab.close(one).await;
    copy.close(two).await;
    let error = lab.try_open().await.unwrap_err();
    assert!(matches!(error, OpenError::Recover(RecoverError::NotAnchored { .. })), "{error}");
    assert!(lab.try_verify().await.is_err());
    copy.verify().await;
}

#[tokio::test]
async fn a_log_that_lost_what_was_anchored_is_refused() {
    let lab = Lab::with_short_segments();
    let log = lab.open().await;
    for _ in 0..3 {
        log.0.record(event("a")).await.unwrap();
    }
    lab.close(log).await;
    let early = lab.folder.with_extension("early");
    fs::create_dir(&early).unwrap();
    for segment in list(&lab.folder).unwrap() {
        fs::copy(path_of(&lab.folder, segment), path_of(&early, segment)).unwrap();
    }
    let log = lab.open().await;
    for _ in 0..6 {
        log.0.record(event("a")).await.unwrap();
    }
    lab.close(log).await;
    let old =
        Lab { folder: early, store: lab.store.clone(), signer: lab.signer.clone(), ..Lab::new() };
    let error = old.try_open().await.unwrap_err().to_string();
    assert!(error.contains("is not the one that was anchored"), "{error}");
    let none = Lab { store: lab.store.clone(), signer: lab.signer.clone(), ..Lab::new() };
    let error = none.try_open().await.unwrap_err().to_string();
    assert!(error.contains("it has 0 lines"), "{error}");
    let other = Lab { store: lab.store.clone(), ..Lab::new() };
    assert!(matches!(other.try_open().await, Err(OpenError::Untrusted(_))));
    // A signer that was replaced is still believed, where it is named.
    let mut options = lab.options();
    options.trusted = lab.trusted().to_vec();
    options.signer = other.signer.clone();
    let log = Audit::open_on(options, Box::new(lab.disk.clone())).await.unwrap();
    lab.close(log).await;
    let leftover = format!("{}{UNFINISHED}", path_of(&lab.folder, 99).display());
    fs::write(&leftover, b"x").unwrap();
    let mut options = lab.options();
    options.signer = other.signer.clone();
    lab.close(Audit::open_on(options, Box::new(lab.disk.clone())).await.unwrap()).await;
    assert!(!fs::exists(leftover).unwrap());
}

/// Anchors whose answers are lost: also those to the question what there is.
#[derive(Debug)]
struct Deaf {
    inner: Arc<dyn Anchors>,
    deaf: AtomicBool,
    hangs: AtomicBool,
    /// Nothing is done any more, and nobody knows.
    away: AtomicBool,
}

impl Deaf {
    fn new(lab: &Lab) -> Arc<Self> {
        let (deaf, hangs) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { inner: lab.anchors(), deaf, hangs, away: AtomicBool::new(false) })
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed) || self.is_away()
    }
}

#[async_trait::async_trait]
impl Anchors for Deaf {
    async fn newest(&self, process: &ProcessId) -> Result<Option<Anchored>, AnchorError> {
        if self.is_deaf() {
            return Err(AnchorError::Unknown("a test".to_owned()));
        }
        self.inner.newest(process).await
    }

    async fn anchor(
        &self,
        head: &SignedHead,
        replaces: Option<AnchorVersion>,
    ) -> Result<AnchorVersion, AnchorError> {
        if self.is_away() {
            return Err(AnchorError::Unknown("a test".to_owned()));
        }
        let anchored = self.inner.anchor(head, replaces).await;
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.is_deaf() { Err(AnchorError::Unknown("a test".to_owned())) } else { anchored }
    }

    async fn all(&self, process: &ProcessId) -> Result<Vec<SignedHead>, AnchorError> {
        self.inner.all(process).await
    }

    async fn forget(&self, process: &ProcessId, seq: u64) -> Result<(), AnchorError> {
        self.inner.forget(process, seq).await
    }
}

/// What was anchored without a word is not taken for another process's.
#[tokio::test(start_paused = true)]
async fn lost_answers_are_not_taken_for_another_process() {
    let lab = Lab::new();
    let anchors = Deaf::new(&lab);
    let mut options = lab.options();
    options.anchors = anchors.clone();
    let log = Audit::open_on(options, Box::new(lab.disk.clone())).await.unwrap();
    for flag in [&anchors.deaf, &anchors.hangs] {
        flag.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            log.0.record(event("a")).await.unwrap();
            tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
            assert!(log.0.status().unanchored.is_some());
        }
        flag.store(false, Ordering::Relaxed);
        log.0.record(event("b")).await.unwrap();
        tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
        assert_eq!(log.0.status().unanchored, None);
        assert_eq!(log.0.status().anchored, log.0.status().last.seq);
    }
    lab.close(log).await;
    lab.verify().await;
}

/// However long the store was away after the lost answer: what is there is of this log.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_and_hours_without_the_store_are_not_another_process() {
    let lab = Lab::new();
    let anchors = Deaf::new(&lab);
    let mut options = lab.options();
    options.anchors = anchors.clone();
    let log = Audit::open_on(options, Box::new(lab.disk.clone())).await.unwrap();
    for flag in [&anchors.deaf, &anchors.hangs] {
        log.0.record(event("a")).await.unwrap();
        flag.store(true, Ordering::Relaxed);
        tokio::time::sleep(ANCHOR_INTERVAL * 3 / 2).await;
        anchors.away.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            log.0.record(event("b")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
        flag.store(false, Ordering::Relaxed);
        anchors.away.store(false, Ordering::Relaxed);
        tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
        log.0.record(event("c")).await.unwrap();
        tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
        assert_eq!(log.0.status().anchored, log.0.status().last.seq);
    }
    lab.close(log).await;
    lab.verify().await;
}

/// Nor is a copy of the log taken for this process because of a lost answer.
#[tokio::test(start_paused = true)]
async fn another_process_is_noticed_after_a_lost_answer_too() {
    let lab = Lab::new();
    lab.close(lab.open().await).await;
    let anchors = Deaf::new(&lab);
    let mut options = lab.options();
    options.anchors = anchors.clone();
    let one = Audit::open_on(options, Box::new(lab.disk.clone())).await.unwrap();
    let folder = lab.folder.with_extension("copy");
    crate::copy(&lab.folder, &folder).unwrap();
    let (store, signer) = (lab.store.clone(), lab.signer.clone());
    let copied = Lab { folder, store, signer, ..Lab::new() };
    let two = copied.open().await;
    anchors.away.store(true, Ordering::Relaxed);
    one.0.record(event("a")).await.unwrap();
    tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
    two.0.record(event("b")).await.unwrap();
    tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
    anchors.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(2 * ANCHOR_INTERVAL).await;
    assert_eq!(one.0.record(event("c")).await, Err(Refused::Superseded));
    two.0.record(event("d")).await.unwrap();
    lab.close(one).await;
    copied.close(two).await;
    copied.verify().await;
}
