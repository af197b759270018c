//! Signs how far the log has come and anchors it.

use std::{mem, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Clock, Shared};
use crate::{
    anchor::{AnchorError, AnchorVersion, Anchors},
    chain::Position,
    recover::find_line,
    signed::{Head, SignedHead, Signer},
    text::ProcessId,
    time::Timestamp,
};

/// See the module's text.
pub(super) struct Anchoring {
    pub(super) folder: PathBuf,
    pub(super) process: ProcessId,
    pub(super) signer: Signer,
    pub(super) anchors: Arc<dyn Anchors>,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    /// Of the head that was anchored last.
    pub(super) version: Option<AnchorVersion>,
    /// Whether one may have been anchored since, though nobody said so.
    pub(super) is_uncertain: bool,
}

/// Who asks the store does not wait longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

impl Anchoring {
    /// Until the writer has ended, and its last line is anchored.
    pub(super) async fn run(mut self, mut heads: watch::Receiver<Position>, every: Duration) {
        let mut due = interval(every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        due.reset();
        loop {
            let ended = tokio::select! {
                _ = due.tick() => false,
                ended = writer_end(&mut heads) => ended,
            };
            let last = *heads.borrow();
            let new = self.shared.status().anchored < last.seq;
            if new && !self.shared.is_superseded() {
                let late = |_| AnchorError::Unknown("the store does not answer in time".to_owned());
                let anchored = timeout(ANSWER_MAX, self.anchor(last)).await;
                match anchored.unwrap_or_else(|elapsed| Err(late(elapsed))) {
                    Ok(()) => {}
                    Err(AnchorError::Superseded) => {
                        self.shared.supersede();
                        tracing::error!(process = %self.process, "another process has this id: all is refused");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the audit's head is not anchored");
                        self.shared.status().unanchored = Some(error.to_string());
                    }
                }
            }
            if ended {
                return;
            }
        }
    }

    /// Anchors a head in place of the last one of this process.
    pub(super) async fn anchor(&mut self, last: Position) -> Result<(), AnchorError> {
        let Position { segment, seq, hash } = last;
        let at = Timestamp::of((self.clock)());
        let process = self.process.clone();
        let head = self.signer.sign(Head { process, segment, seq, hash, at });
        // Also when nobody waits for the end of this.
        let was_uncertain = mem::replace(&mut self.is_uncertain, true);
        let version = match self.anchors.anchor(&head, self.version).await {
            Ok(version) => version,
            Err(why @ (AnchorError::Unknown(_) | AnchorError::Superseded)) => {
                self.settle(&head, why, was_uncertain).await?
            }
            Err(certain) => {
                self.is_uncertain = was_uncertain;
                return Err(certain);
            }
        };
        self.version = Some(version);
        self.is_uncertain = false;
        let mut status = self.shared.status();
        status.anchored = seq;
        status.unanchored = None;
        Ok(())
    }

    /// An answer was lost, this one or one before: what is there now says whether it was done. Where it is a
    /// head of before, this one is anchored in its place: one whose answer was lost, however long ago, is of a line
    /// of this log.
    async fn settle(
        &self,
        head: &SignedHead,
        why: AnchorError,
        was_uncertain: bool,
    ) -> Result<AnchorVersion, AnchorError> {
        match self.anchors.newest(&self.process).await? {
            Some(newest) if newest.head == *head => Ok(newest.version),
            newest if newest.as_ref().map(|newest| newest.version) == self.version => Err(why),
            Some(newest) if was_uncertain && self.is_own(&newest.head).await? => {
                self.anchors.anchor(head, Some(newest.version)).await
            }
            _ => Err(AnchorError::Superseded),
        }
    }

    /// Whether a head was signed here, of a line of this log.
    async fn is_own(&self, head: &SignedHead) -> Result<bool, AnchorError> {
        let Ok(head) = head.verify(&[self.signer.public_key()]) else { return Ok(false) };
        if head.process != self.process {
            return Ok(false);
        }
        let (folder, head) = (self.folder.clone(), head.clone());
        let found = spawn_blocking(move || find_line(&folder, &head));
        let unknown = |error: &dyn std::fmt::Display| AnchorError::Unknown(error.to_string());
        let found = found.await.map_err(|error| unknown(&error))?;
        Ok(found.map_err(|finding| unknown(&finding))?.is_some())
    }
}

/// Waits until nothing more is written.
async fn writer_end(heads: &mut watch::Receiver<Position>) -> bool {
    while heads.changed().await.is_ok() {}
    true
}
