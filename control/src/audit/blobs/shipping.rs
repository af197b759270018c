//! Ships segments that have ended. The queue is the log's own folder, so nothing waits for this, and nothing is lost
//! when it ends anywhere.
//!
//! ```text
//!   segment ended ─▶ whole here? ─▶ each piece: sealed ─▶ put if absent ─▶ read again, the same? ─▶ its signed head
//!        ▲                                                                                            │
//!        └─────────────── the next one ◀── signed in the control plane's store: shipped so far ◀──────┘
//! ```
//!
//! Whoever begins again does all of it again for the segment that was not said to be shipped: what is there is found to
//! be the same. Nothing is ever replaced or removed there.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Mutex as Turn,
    task::{JoinError, spawn_blocking},
    time::sleep,
};
use weft_audit::{
    AnchorError, Expired, Finding, Head, ObjectKind, PIECE_OF_SEGMENT_LEN, PIECES_MAX, Position,
    ProcessId, Shipped, Signed, SignedHead, Signer, StoreAnchors, Timestamp, check_segment, ended,
    read_segment, stub,
};
use weft_keys::Keyring;
use zeroize::Zeroizing;

use super::{
    lag::{Lag, Say},
    place::Blobs,
    shelf::{Shelf, ShelfError, object},
    shipped,
};
use crate::clock::Clock;

/// How often it is looked whether a segment has ended.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// The first pause after a failure; each is twice the one before, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Why a segment is not shipped yet.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The log here.
    #[error("the log: {0}")]
    Log(#[from] Finding),
    /// Longer than any.
    #[error("segment {0} has more than {PIECES_MAX} pieces")]
    TooLong(u64),
    /// The blob store.
    #[error("the blob store: {0}")]
    Shelf(#[from] ShelfError),
    /// Another disk or bucket is there, or somebody has removed what was.
    #[error(
        "the blob store: object {0} was shipped and is missing: nothing more is shipped there; expected the same blob \
         store, or another audit.blobs, which gets everything anew"
    )]
    Lost(String),
    /// Where it is said what is shipped.
    #[error("how far it is shipped: {0}")]
    Anchors(#[from] AnchorError),
    /// This process ends.
    #[error("the work was given up: {0}")]
    Ended(#[from] JoinError),
}

/// What ships the log of this process.
#[derive(Debug)]
pub struct Shipping {
    pub(super) folder: PathBuf,
    pub(super) process: ProcessId,
    pub(super) signer: Signer,
    pub(super) anchors: StoreAnchors,
    pub(super) clock: Clock,
    pub(super) keyring: Arc<Keyring>,
    pub(super) blobs: Arc<dyn Blobs>,
    /// As the configuration names it.
    pub(super) place: String,
    pub(super) state: Turn<State>,
    pub(super) progress: Mutex<Progress>,
}

/// What the work goes on with; whose turn it is has it.
#[derive(Debug, Default)]
pub(super) struct State {
    shelf: Option<Shelf>,
    /// Through which segment everything is shipped.
    through: Option<u64>,
    /// The last segment whose stub is there.
    stub: u64,
}

/// What others see of it, without waiting.
#[derive(Debug, Default)]
pub(super) struct Progress {
    waiting: usize,
    why: Option<String>,
    lag: Lag,
}

impl Progress {
    fn why(&self) -> &str {
        self.why.as_deref().unwrap_or("the blob store has not answered yet")
    }
}

impl Shipping {
    /// Ships for as long as it is polled, and says when segments wait for too long.
    pub async fn run(&self) -> Infallible {
        let watch = async {
            loop {
                sleep(LOOK_INTERVAL).await;
                self.look();
            }
        };
        let work = async {
            let mut retry = RETRY_MIN;
            loop {
                match self.pass().await {
                    Ok(()) => {
                        retry = RETRY_MIN;
                        sleep(LOOK_INTERVAL).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the audit is not shipped; it is tried again");
                        sleep(retry).await;
                        retry = (retry * 2).min(RETRY_MAX);
                    }
                }
            }
        };
        tokio::select! {
            never = watch => never,
            never = work => never,
        }
    }

    /// Ships what has ended and is not shipped yet.
    ///
    /// # Errors
    /// [`ShipError`]; what was shipped before it stays.
    pub async fn pass(&self) -> Result<(), ShipError> {
        let mut state = self.state.lock().await;
        let done = self.ship(&mut state).await;
        if done.is_err() {
            // Also what this process shows may be another one by then.
            state.shelf = None;
        }
        self.progress().why = done.as_ref().err().map(ToString::to_string);
        done
    }

    /// Why segments wait, if they do.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let progress = self.progress();
        let is_trouble = progress.why.is_some() || progress.lag.is_said();
        let said = || format!("{} segments wait: {}", progress.waiting, progress.why());
        (progress.waiting > 0 && is_trouble).then(said)
    }

    /// Says that segments wait, when they have for too long. Whether it did.
    pub fn look(&self) -> bool {
        let mut progress = self.progress();
        let (waits, now) = (progress.waiting > 0, self.clock.passed());
        let say = progress.lag.see(waits, now);
        match say {
            Some(Say::Behind(since)) => tracing::error!(
                segments = progress.waiting,
                seconds = since.as_secs(),
                why = progress.why(),
                "segments of the audit wait to be shipped to the blob store"
            ),
            Some(Say::CaughtUp) => {
                tracing::info!("all segments of the audit that have ended are in the blob store");
            }
            None => {}
        }
        say.is_some()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ship(&self, state: &mut State) -> Result<(), ShipError> {
        let said = self.said().await?;
        let through = state.through.unwrap_or(said.as_ref().map_or(0, |said| said.segment));
        let (folder, process, key) =
            (self.folder.clone(), self.process.clone(), self.signer.public_key());
        let found = spawn_blocking(move || {
            let stub = stub(&folder, &process, &[key])?;
            Ok::<_, Finding>((stub, ended(&folder, through)?))
        });
        let (stub, waiting) = found.await??;
        self.progress().waiting = waiting.len();
        let stub = stub.filter(|stub| stub.unverified().segment > state.stub);
        if waiting.is_empty() && stub.is_none() {
            return Ok(());
        }
        let shelf = match state.shelf.take() {
            Some(shelf) => shelf,
            None => self.open(said.as_ref()).await?,
        };
        let shelf = state.shelf.insert(shelf);
        if let Some(stub) = stub {
            ship_stub(shelf, &stub).await?;
            state.stub = stub.unverified().segment;
        }
        for end in waiting {
            self.ship_segment(shelf, &end).await?;
            self.say(&end).await?;
            state.through = Some(end.segment);
            self.progress().waiting -= 1;
            let (segment, line) = (end.segment, end.seq);
            tracing::info!(segment, line, "a segment of the audit is in the blob store");
        }
        Ok(())
    }

    /// How far it was said to be shipped to this place. Who cannot sign that is not believed.
    async fn said(&self) -> Result<Option<Shipped>, ShipError> {
        let said = shipped(&self.anchors, &self.process, self.signer.public_key()).await?;
        Ok(said.filter(|said| said.place == self.place))
    }

    /// The part of the blob store that is this process's, if it has what it had.
    async fn open(&self, said: Option<&Shipped>) -> Result<Shelf, ShipError> {
        let blobs = self.blobs.own(&self.process).await.map_err(ShelfError::from)?;
        let shelf = Shelf::new(self.process.clone(), blobs, Arc::clone(&self.keyring));
        if let Some(said) = said {
            let name = object(said.segment, said.hash, ObjectKind::Head);
            if !shelf.has(&name).await? {
                return Err(ShipError::Lost(shelf.full_name(&name)));
            }
        }
        Ok(shelf)
    }

    async fn ship_segment(&self, shelf: &Shelf, end: &Position) -> Result<(), ShipError> {
        let (folder, process, of) = (self.folder.clone(), self.process.clone(), *end);
        spawn_blocking(move || check_segment(&folder, &process, &of)).await??;
        let mut offset = 0;
        for number in 1.. {
            let (folder, segment) = (self.folder.clone(), end.segment);
            let read = move || read_segment(&folder, segment, offset, PIECE_OF_SEGMENT_LEN);
            let bytes = Arc::new(Zeroizing::new(spawn_blocking(read).await??));
            if bytes.is_empty() {
                break;
            }
            if number > PIECES_MAX {
                return Err(ShipError::TooLong(end.segment));
            }
            let name = object(end.segment, end.hash, ObjectKind::Piece(number));
            shelf.place(&name, &bytes, |found| *found == ***bytes).await?;
            offset += bytes.len() as u64;
        }
        let Position { segment, seq, hash } = *end;
        let head = Head { process: self.process.clone(), segment, seq, hash, at: self.now() };
        let head = Arc::new(Zeroizing::new(self.signer.sign(head).encode()));
        let name = object(segment, hash, ObjectKind::Head);
        // One of before has another time.
        Ok(shelf.place(&name, &head, |found| self.is_head_of(found, end)).await?)
    }

    fn is_head_of(&self, found: &[u8], end: &Position) -> bool {
        let head = SignedHead::parse(found);
        let head = head.and_then(|head| head.verify(&[self.signer.public_key()]).cloned());
        head.is_ok_and(|head| {
            head.process == self.process
                && (head.segment, head.seq, head.hash) == (end.segment, end.seq, end.hash)
        })
    }

    async fn say(&self, end: &Position) -> Result<(), ShipError> {
        let Position { segment, seq, hash } = *end;
        let (process, place) = (self.process.clone(), self.place.clone());
        let shipped = Shipped { process, place, segment, seq, hash, at: self.now() };
        Ok(self.anchors.set_shipped(&self.signer.sign(shipped)).await?)
    }

    fn now(&self) -> Timestamp {
        Timestamp::of(self.clock.system_time())
    }
}

async fn ship_stub(shelf: &Shelf, stub: &Signed<Expired>) -> Result<(), ShelfError> {
    let expired = stub.unverified();
    let name = object(expired.segment, expired.hash, ObjectKind::Expired);
    let bytes = Arc::new(Zeroizing::new(stub.encode()));
    shelf.place(&name, &bytes, |found| *found == ***bytes).await
}
