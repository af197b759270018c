//! The handle that everything records with, and the tasks behind it.
//!
//! ```text
//!  record ─▶ queue ─▶ writer: all that wait in one write, one fdatasync ─▶ replica ─▶ all are answered
//!                       │ how far it is
//!                       ▼
//!                     anchoring: each minute a signed head into the store, by compare-and-swap
//! ```

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    anchor::{AnchorError, Anchors},
    chain::Position,
    disk::{Disk, RealDisk},
    event::{Event, Facts, Outcome},
    fault::Finding,
    log::SEGMENT_LEN_MAX,
    recover::{RecoverError, recover},
    replica::{Replica, Shipper},
    signed::{Expired, PublicKey, Signed, SignedError, Signer},
    text::ProcessId,
    time::Timestamp,
};

mod anchoring;
mod writer;

use self::{anchoring::Anchoring, writer::Writer};

/// Most records that wait for the writer; who comes then waits for a place. A record takes about a KiB here.
pub const QUEUE_LEN_MAX: usize = 1_024;
/// Most records of one write: at most a MiB.
pub const BATCH_LEN_MAX: usize = 256;
/// How often a head is anchored when there is something new.
pub const ANCHOR_INTERVAL: Duration = Duration::from_secs(60);

/// What time it is.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What a log is made of.
pub struct Options {
    /// The log's own folder.
    pub folder: PathBuf,
    /// Whose log it is; no two processes have one id at the same time.
    pub process: ProcessId,
    /// Signs heads and stubs.
    pub signer: Signer,
    /// Keys that have signed heads before this one, after a rotation of the signer's.
    pub trusted: Vec<PublicKey>,
    /// Where heads are anchored.
    pub anchors: Arc<dyn Anchors>,
    /// A second host, where there is one.
    pub replica: Option<Arc<dyn Replica>>,
    /// The clock.
    pub clock: Clock,
    /// A segment ends at so many bytes; [`SEGMENT_LEN_MAX`] unless it is a test.
    pub segment_len_max: u64,
    /// How often a head is anchored; [`ANCHOR_INTERVAL`] unless it is a test.
    pub anchor_interval: Duration,
}

impl Options {
    /// The usual ones, without a second host.
    #[must_use]
    pub fn new(
        folder: PathBuf,
        process: ProcessId,
        signer: Signer,
        anchors: Arc<dyn Anchors>,
    ) -> Self {
        Self {
            folder,
            process,
            signer,
            trusted: Vec::new(),
            anchors,
            replica: None,
            clock: Arc::new(SystemTime::now),
            segment_len_max: SEGMENT_LEN_MAX,
            anchor_interval: ANCHOR_INTERVAL,
        }
    }
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The files.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The last head could not be read, or this one not anchored.
    #[error("the audit's anchors: {0}")]
    Anchor(#[from] AnchorError),
    /// The last head was signed by somebody else.
    #[error("the last head that was anchored is not believed: {0}")]
    Untrusted(#[from] SignedError),
}

/// Why something was not recorded: so it must not happen. What was refused may still stand in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The disk does not take it.
    #[error("the audit log cannot be written: {0}")]
    Unwritable(String),
    /// The second host does not take it.
    #[error("the audit log's second host does not answer: {0}")]
    Replica(String),
    /// Another process has this one's id: one of the two must not go on, and both cannot know which.
    #[error("another process writes the audit log of this one")]
    Superseded,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The last line.
    pub last: Position,
    /// The last line that was anchored.
    pub anchored: u64,
    /// Why the last record was refused; `None` when it was not.
    pub refused: Option<Refused>,
    /// Why the last head was not anchored; `None` when it was.
    pub unanchored: Option<String>,
}

/// What the tasks know of each other.
#[derive(Debug)]
struct Shared {
    superseded: AtomicBool,
    status: Mutex<Status>,
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }
}

/// What the writer is asked for.
enum Request {
    Record(Event, Option<oneshot::Sender<Result<Position, Refused>>>),
    Expire(oneshot::Sender<Result<Option<Signed<Expired>>, ExpireError>>),
}

/// Why nothing expired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpireError {
    /// The files.
    #[error(transparent)]
    Files(#[from] Finding),
    /// The log takes nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Records what happens. Cheap to clone; the log closes when the last one is dropped.
#[derive(Clone)]
pub struct Audit {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

/// The tasks behind an [`Audit`].
#[derive(Debug)]
pub struct Running {
    writer: JoinHandle<()>,
    anchoring: JoinHandle<()>,
}

impl Running {
    /// After the last [`Audit`] was dropped: everything is written and its head anchored, if the store answers.
    pub async fn finished(self) {
        for task in [self.writer, self.anchoring] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the audit log failed");
            }
        }
    }
}

impl Audit {
    /// Opens the log, puts right what a crash has left, and anchors its head.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the log was changed that a crash had not torn.
    pub async fn open(options: Options) -> Result<(Self, Running), OpenError> {
        Self::open_on(options, Box::new(RealDisk)).await
    }

    pub(crate) async fn open_on(
        options: Options,
        disk: Box<dyn Disk>,
    ) -> Result<(Self, Running), OpenError> {
        let Options { folder, process, signer, mut trusted, anchors, replica, clock, .. } = options;
        trusted.push(signer.public_key());
        let newest = anchors.newest(&process).await?;
        let known = match &newest {
            Some(newest) => Some(newest.head.verify(&trusted)?.clone()),
            None => None,
        };
        let (now, max) = (Timestamp::of(clock()), options.segment_len_max);
        let (of, keys) = (process.clone(), trusted.clone());
        let log = spawn_blocking(move || {
            let io = folder.clone();
            let mut log = recover(&folder, &of, disk, max, known.as_ref(), &keys, now)?;
            log.prepare(now).map_err(|cause| RecoverError::Io { folder: io, cause })?;
            Ok::<_, RecoverError>(log)
        });
        let log = log.await.map_err(|error| RecoverError::Io {
            folder: PathBuf::new(),
            cause: std::io::Error::other(error),
        })??;
        let last = log.last();
        let shared = Arc::new(Shared {
            superseded: AtomicBool::new(false),
            status: Mutex::new(Status { last, anchored: 0, refused: None, unanchored: None }),
        });
        let (heads, heads_seen) = watch::channel(last);
        let version = newest.map(|newest| newest.version);
        let mut anchoring = Anchoring {
            folder: log.folder().to_owned(),
            process: process.clone(),
            signer: signer.clone(),
            anchors: Arc::clone(&anchors),
            clock: Arc::clone(&clock),
            shared: Arc::clone(&shared),
            version,
            is_uncertain: false,
        };
        let shipper = replica.map(|replica| Shipper::new(replica, trusted, log.anchored));
        let mut writer = Writer {
            log: Some(log),
            process,
            signer,
            anchors,
            clock,
            shipper,
            shared: Arc::clone(&shared),
            heads,
        };
        // What is anchored is on two hosts, unless one is away: then nothing is recorded either.
        if let Err(why) = writer.ship().await {
            tracing::warn!(%why, "the audit's second host lacks what this process has written before");
        }
        anchoring.anchor(last).await?;
        let anchoring = tokio::spawn(anchoring.run(heads_seen, options.anchor_interval));
        let (requests, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let writer = tokio::spawn(writer.run(queue));
        Ok((Self { requests, shared }, Running { writer, anchoring }))
    }

    /// Records what happened. When this returns, the record outlives a loss of power, on the second host too:
    /// only then may the API answer.
    ///
    /// # Errors
    /// [`Refused`]: do not answer with success, and do nothing.
    pub async fn record(&self, event: Event) -> Result<Position, Refused> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Record(event, Some(answer));
        self.requests.send(request).await.map_err(|_| Refused::Closed)?;
        answered.await.map_err(|_| Refused::Closed)?
    }

    /// Records that something is about to be done; its outcome is recorded by [`Pending::finish`]. For all
    /// that changes something: so nothing is done without its record.
    ///
    /// # Errors
    /// [`Refused`]: do not do it.
    pub async fn begin(&self, mut event: Event) -> Result<Pending, Refused> {
        event.outcome = Outcome::Begun;
        self.record(event.clone()).await?;
        Ok(Pending { audit: self.clone(), event: Some(event) })
    }

    /// Removes segments whose lines have been kept for [`crate::RETENTION_DAYS`] and leaves a signed stub in
    /// their place, which is returned. Meant to be called once a day.
    ///
    /// # Errors
    /// [`ExpireError`].
    pub async fn expire(&self) -> Result<Option<Signed<Expired>>, ExpireError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Expire(answer)).await.map_err(|_| Refused::Closed)?;
        answered.await.map_err(|_| Refused::Closed)?
    }

    /// How the log is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status().clone()
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Something that is recorded as begun. Dropped without [`Pending::finish`], its outcome is recorded as
/// unknown.
#[derive(Debug)]
#[must_use = "its outcome is to be recorded"]
pub struct Pending {
    audit: Audit,
    event: Option<Event>,
}

impl Pending {
    /// With what is known now and was not when it began: what was made.
    pub fn with(mut self, facts: Facts) -> Self {
        if let Some(event) = &mut self.event {
            event.facts = std::mem::take(&mut event.facts).and(facts);
        }
        self
    }

    /// Records what came of it.
    ///
    /// # Errors
    /// [`Refused`]: it was done and its outcome is not recorded; do not answer with success.
    pub async fn finish(mut self, outcome: Outcome) -> Result<Position, Refused> {
        // Whoever stops waiting before there is a place leaves the event here, and its outcome is unknown.
        let place = self.audit.requests.reserve().await.map_err(|_| Refused::Closed)?;
        let Some(event) = self.event.take() else { return Err(Refused::Closed) };
        let (answer, answered) = oneshot::channel();
        place.send(Request::Record(Event { outcome, ..event }, Some(answer)));
        answered.await.map_err(|_| Refused::Closed)?
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            let event = Event { outcome: Outcome::Unknown, ..event };
            // Where the queue is full, a begun record without an outcome says the same.
            let _ = self.audit.requests.try_send(Request::Record(event, None));
        }
    }
}

#[cfg(test)]
mod tests;
