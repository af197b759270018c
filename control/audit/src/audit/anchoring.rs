//! Signs how far the log has come and anchors it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
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
    /// Heads that may have been anchored since, though nobody said so.
    pub(super) tried: VecDeque<SignedHead>,
}

/// Most heads of which that is remembered: an hour without a word of the store. After that it is taken for
/// another process that anchors.
const TRIED_MAX: usize = 60;
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
        if self.tried.len() >= TRIED_MAX {
            self.tried.pop_front();
        }
        self.tried.push_back(head.clone());
        let version = match self.anchors.anchor(&head, self.version).await {
            Err(AnchorError::Unknown(why)) => self.settle(&head, AnchorError::Unknown(why)).await?,
            Err(AnchorError::Superseded) => self.settle(&head, AnchorError::Superseded).await?,
            anchored => anchored?,
        };
        self.version = Some(version);
        self.tried.clear();
        let mut status = self.shared.status();
        status.anchored = seq;
        status.unanchored = None;
        Ok(())
    }

    /// An answer was lost, this one or one before: what is there now says whether it was done. Where it is a
    /// head of before, this one is anchored in its place.
    async fn settle(
        &self,
        head: &SignedHead,
        why: AnchorError,
    ) -> Result<AnchorVersion, AnchorError> {
        match self.anchors.newest(&self.process).await? {
            Some(newest) if newest.head == *head => Ok(newest.version),
            Some(newest) if self.tried.contains(&newest.head) => {
                self.anchors.anchor(head, Some(newest.version)).await
            }
            newest if newest.as_ref().map(|newest| newest.version) == self.version => Err(why),
            _ => Err(AnchorError::Superseded),
        }
    }
}

/// Waits until nothing more is written.
async fn writer_end(heads: &mut watch::Receiver<Position>) -> bool {
    while heads.changed().await.is_ok() {}
    true
}
