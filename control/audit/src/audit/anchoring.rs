//! Signs how far the log has come and anchors it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{Clock, Shared};
use crate::{
    anchor::{AnchorError, AnchorVersion, Anchors},
    chain::Position,
    signed::{Head, SignedHead, Signer},
    text::ProcessId,
    time::Timestamp,
};

/// See the module's text.
pub(super) struct Anchoring {
    pub(super) process: ProcessId,
    pub(super) signer: Signer,
    pub(super) anchors: Arc<dyn Anchors>,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    /// Of the head that was anchored last.
    pub(super) version: Option<AnchorVersion>,
}

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
                match self.anchor(last).await {
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
        let version = match self.anchors.anchor(&head, self.version).await {
            Err(AnchorError::Unknown(why)) => self.settle(&head, why).await?,
            anchored => anchored?,
        };
        self.version = Some(version);
        let mut status = self.shared.status();
        status.anchored = seq;
        status.unanchored = None;
        Ok(())
    }

    /// The answer was lost: what is there now says whether it was done.
    async fn settle(&self, head: &SignedHead, why: String) -> Result<AnchorVersion, AnchorError> {
        match self.anchors.newest(&self.process).await? {
            Some(newest) if newest.head == *head => Ok(newest.version),
            newest if newest.as_ref().map(|newest| newest.version) == self.version => {
                Err(AnchorError::Unknown(why))
            }
            _ => Err(AnchorError::Superseded),
        }
    }
}

/// Waits until nothing more is written.
async fn writer_end(heads: &mut watch::Receiver<Position>) -> bool {
    while heads.changed().await.is_ok() {}
    true
}
