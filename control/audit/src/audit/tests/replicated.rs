//! A second host.

use std::{fs, sync::atomic::AtomicUsize};

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::{
    log::{Place, RETENTION_DAYS},
    replica::{FolderReplica, Held, ReplicaError},
};

/// A replica whose host is away at times.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) folder: FolderReplica,
    pub(super) away: AtomicBool,
    silent: AtomicBool,
    refuses_stubs: AtomicBool,
    appends: AtomicUsize,
}

impl Host {
    fn up(&self) -> Result<(), ReplicaError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(ReplicaError::Unavailable("a test".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Replica for Host {
    async fn held(&self, process: &ProcessId) -> Result<Held, ReplicaError> {
        self.up()?;
        self.folder.held(process).await
    }

    async fn append(
        &self,
        process: &ProcessId,
        at: Place,
        bytes: Bytes,
    ) -> Result<(), ReplicaError> {
        self.up()?;
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.folder.append(process, at, bytes).await
    }

    async fn read(&self, process: &ProcessId, from: Place) -> Result<Bytes, ReplicaError> {
        self.up()?;
        self.folder.read(process, from).await
    }

    async fn cut(&self, process: &ProcessId, from: Held, to: Held) -> Result<(), ReplicaError> {
        self.up()?;
        self.folder.cut(process, from, to).await
    }

    async fn expire(&self, stub: &Signed<Expired>) -> Result<(), ReplicaError> {
        self.up()?;
        if self.refuses_stubs.load(Ordering::Relaxed) {
            return Err(ReplicaError::Unavailable("a test".to_owned()));
        }
        self.folder.expire(stub).await
    }
}

pub(super) fn with_host(mut lab: Lab) -> (Lab, Arc<Host>) {
    let folder = FolderReplica::new(lab.folder.with_extension("replica"), lab.trusted().to_vec());
    let (away, silent) = (AtomicBool::new(false), AtomicBool::new(false));
    let (refuses_stubs, appends) = (AtomicBool::new(false), AtomicUsize::new(0));
    let host = Arc::new(Host { folder, away, silent, refuses_stubs, appends });
    lab.replica = Some(host.clone());
    (lab, host)
}

pub(super) fn same(lab: &Lab, host: &Host) {
    let folder = host.folder.folder_of(&process());
    assert_eq!(list(&folder).unwrap(), list(&lab.folder).unwrap());
    for segment in list(&folder).unwrap() {
        let read = |folder| fs::read(path_of(folder, segment)).unwrap();
        assert_eq!(read(&folder), read(&lab.folder), "segment {segment}");
    }
}

#[tokio::test]
async fn nobody_is_answered_before_the_second_host_has_it() {
    let (lab, host) = with_host(Lab::with_short_segments());
    let log = lab.open().await;
    for _ in 0..10 {
        log.0.record(event("a")).await.unwrap();
        same(&lab, &host);
    }
    lab.close(log).await;
    let anchors = lab.anchors().all(&process()).await.unwrap();
    let folder = host.folder.folder_of(&process());
    let there = verify(&folder, &process(), &anchors, &lab.trusted()).unwrap();
    assert_eq!(there, lab.verify().await);
}

#[tokio::test]
async fn without_the_second_host_all_is_refused_and_it_catches_up() {
    let (lab, host) = with_host(Lab::with_short_segments());
    let log = lab.open().await;
    log.0.record(event("a")).await.unwrap();
    host.away.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        assert!(matches!(log.0.record(event("b")).await, Err(Refused::Replica(_))));
        assert!(matches!(log.0.begin(event("b")).await, Err(Refused::Replica(_))));
    }
    host.away.store(false, Ordering::Relaxed);
    log.0.record(event("c")).await.unwrap();
    same(&lab, &host);
    lab.close(log).await;
    // Also when this process starts anew, or the other one has lost everything.
    let folder = host.folder.folder_of(&process());
    fs::remove_dir_all(&folder).unwrap();
    let log = lab.open().await;
    log.0.record(event("d")).await.unwrap();
    same(&lab, &host);
    // Torn there: what it has is sent on from.
    let last = path_of(&folder, *list(&folder).unwrap().last().unwrap());
    lab.close(log).await;
    let whole = fs::read(&last).unwrap();
    fs::write(&last, &whole[..whole.len() - 30]).unwrap();
    let log = lab.open().await;
    log.0.record(event("e")).await.unwrap();
    same(&lab, &host);
    lab.close(log).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_host_that_says_nothing_is_not_waited_for_for_ever() {
    let (lab, host) = with_host(Lab::new());
    let log = lab.open().await;
    host.silent.store(true, Ordering::Relaxed);
    let refused = log.0.record(event("a")).await.unwrap_err();
    assert_eq!(refused, Refused::Replica("no answer in time".to_owned()));
    host.silent.store(false, Ordering::Relaxed);
    log.0.record(event("b")).await.unwrap();
    same(&lab, &host);
    lab.close(log).await;
}

#[tokio::test]
async fn another_log_there_is_refused() {
    for change in 0..3 {
        let (lab, host) = with_host(Lab::new());
        let log = lab.open().await;
        log.0.record(event("a")).await.unwrap();
        lab.close(log).await;
        let path = path_of(&host.folder.folder_of(&process()), 1);
        let mut there = fs::read(&path).unwrap();
        match change {
            0 => there[10] ^= 1,
            1 => there.extend_from_slice(
                b"more than here, and more than what is yet to come: 1234567890\n"
                    .repeat(50)
                    .as_slice(),
            ),
            _ => fs::write(path_of(&host.folder.folder_of(&process()), 2), b"x").unwrap(),
        }
        fs::write(&path, there).unwrap();
        let log = lab.open().await;
        let error = log.0.record(event("b")).await.unwrap_err().to_string();
        assert!(error.contains("another log under this id"), "{error}");
        lab.close(log).await;
    }
}

#[tokio::test]
async fn what_expires_here_expires_there() {
    let (lab, host) = with_host(Lab::new());
    let log = lab.open().await;
    for _ in 0..4 {
        log.0.record(event("a")).await.unwrap();
        lab.pass(DAY_SECONDS);
    }
    lab.pass(RETENTION_DAYS * DAY_SECONDS);
    log.0.expire().await.unwrap().unwrap();
    same(&lab, &host);
    // One that takes records and not the stub has what has expired until it is found again.
    for _ in 0..2 {
        lab.pass(DAY_SECONDS);
        log.0.record(event("a")).await.unwrap();
    }
    lab.pass(2 * RETENTION_DAYS * DAY_SECONDS);
    host.refuses_stubs.store(true, Ordering::Relaxed);
    assert!(log.0.expire().await.unwrap().is_some());
    host.refuses_stubs.store(false, Ordering::Relaxed);
    log.0.record(event("a")).await.unwrap();
    same(&lab, &host);
    // A replica that was away meanwhile hears of it when it is back.
    let folder = host.folder.folder_of(&process());
    fs::remove_dir_all(&folder).unwrap();
    lab.close(log).await;
    let log = lab.open().await;
    log.0.record(event("b")).await.unwrap();
    same(&lab, &host);
    lab.close(log).await;
    let anchors = lab.anchors().all(&process()).await.unwrap();
    verify(&folder, &process(), &anchors, &lab.trusted()).unwrap();
}

#[tokio::test]
async fn a_replica_takes_only_what_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let replica = FolderReplica::new(folder.path().to_owned(), Vec::new());
    let append = async |segment, len, bytes: &'static [u8]| {
        replica.append(&process(), Place { segment, len }, Bytes::from_static(bytes)).await.is_ok()
    };
    assert!(!append(2, 0, b"ab").await && !append(1, 1, b"ab").await && !append(0, 0, b"ab").await);
    assert!(append(1, 0, b"ab").await && append(1, 2, b"c").await);
    assert!(!append(1, 2, b"c").await && !append(1, 4, b"c").await && !append(1, 0, b"x").await);
    assert!(!append(3, 0, b"x").await && append(2, 0, b"x").await && !append(1, 3, b"x").await);
    let held = replica.held(&process()).await.unwrap();
    let digest = crate::digest::Digest::of(b"x");
    assert_eq!(held, Held { place: Place { segment: 2, len: 1 }, digest });
}
