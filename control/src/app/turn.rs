//! Whose turn it is to do background work.
//!
//! ```text
//!   process a ── lease, 15 s ──▶ turn/background, revision 7 ◀── every change of a rests on it: "still revision 7"
//!                                  │ a is stopped, dies, or stands still for 15 s
//!                                  ▼
//!   process b ── lease ────────▶ turn/background, revision 9      a goes on: its changes are refused, whatever they are
//! ```
//!
//! A process that stands still does not know that its time is over. So it is not asked: the store compares the revision
//! of the record with the one that the change was decided under, in the same transaction.

use std::time::Duration;

use weft_model::{Decoded, Record, UnixMs, record};
use weft_store::{CommitError, Condition, LeaseId, StoreError, Transaction};

use super::{App, AppError};

/// A turn that is not renewed for so long is over.
pub const TURN_TTL: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const TURN_RENEW: Duration = Duration::from_secs(5);
/// How often it is looked whether it is free. So somebody else is at work 20 s after its holder died at the latest.
pub const TURN_LOOK: Duration = Duration::from_secs(5);

const _: () = assert!(TURN_RENEW.as_secs() * 2 < TURN_TTL.as_secs());

/// The right to do background work, as long as it lasts.
#[derive(Debug)]
pub struct Turn {
    lease: LeaseId,
    /// On what every change rests: the record is the one that was written when the turn was taken.
    fence: Condition,
}

/// Which process has the turn, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub process: String,
    /// Since when.
    pub since: UnixMs,
}

impl App {
    /// Takes the turn, if nobody has it.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn take_turn(&self) -> Result<Option<Turn>, AppError> {
        if self.turn_record().await?.is_some() {
            return Ok(None);
        }
        let lease = self.store.grant_lease(TURN_TTL).await?;
        let claimed = self.claim(lease).await;
        if !matches!(claimed, Ok(Some(_))) {
            // It ends by itself otherwise.
            let _ = self.store.revoke_lease(lease).await;
        }
        Ok(claimed?.map(|fence| Turn { lease, fence }))
    }

    async fn claim(&self, lease: LeaseId) -> Result<Option<Condition>, AppError> {
        let turn = record::Turn { process: self.process.clone(), since: self.now() };
        let (key, value) = (turn.key()?, turn.encode()?);
        let transaction =
            Transaction::new().absent(key.clone()).put_leased(key.clone(), value, lease);
        // Nothing of it is in the view.
        match self.store.commit(transaction).await {
            Ok(revision) => Ok(Some(Condition::At(key, revision))),
            Err(CommitError::Conflict { .. }) => Ok(None),
            // Whatever it is, it goes with the lease.
            Err(error) => Err(error.into()),
        }
    }

    async fn turn_record(&self) -> Result<Option<Decoded<record::Turn>>, AppError> {
        self.read::<record::Turn>("background").await
    }

    /// Who does background work.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn turn_holder(&self) -> Result<Option<Holder>, AppError> {
        let found = self.turn_record().await?;
        Ok(found.map(|found| {
            let record::Turn { process, since } = found.record;
            Holder { process, since }
        }))
    }

    /// The turn lasts [`TURN_TTL`] from now on.
    ///
    /// # Errors
    /// [`AppError::Superseded`] when it is over; [`AppError::Unavailable`].
    pub async fn renew_turn(&self, turn: &Turn) -> Result<(), AppError> {
        match self.store.renew_lease(turn.lease).await {
            Err(StoreError::LeaseGone) => Err(AppError::Superseded),
            renewed => Ok(renewed?),
        }
    }

    /// Lets another process have it at once.
    ///
    /// # Errors
    /// [`AppError::Unavailable`]; then it ends by itself.
    pub async fn end_turn(&self, turn: Turn) -> Result<(), AppError> {
        match self.store.revoke_lease(turn.lease).await {
            Err(StoreError::LeaseGone) => Ok(()),
            revoked => Ok(revoked?),
        }
    }

    /// Goes on if it is still this turn.
    ///
    /// # Errors
    /// [`AppError::Superseded`].
    pub(super) async fn still_in(&self, turn: &Turn) -> Result<(), AppError> {
        let mut transaction = Transaction::new();
        transaction.conditions.push(turn.fence.clone());
        // Nothing is written, so no revision comes that could be waited for.
        match self.store.commit(transaction).await {
            Ok(_) => Ok(()),
            Err(CommitError::Conflict { .. }) => Err(AppError::Superseded),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits what was decided in a turn, if that is not over. Whether it was made: not when something else that it rests
    /// on has changed. What comes next is decided from a view that has it; where that is in trouble, nobody waits for it.
    ///
    /// # Errors
    /// [`AppError::Superseded`]; nothing was changed.
    pub(super) async fn commit_in(
        &self,
        turn: &Turn,
        mut transaction: Transaction,
    ) -> Result<bool, AppError> {
        // First, so that it is the one which is named.
        transaction.conditions.insert(0, turn.fence.clone());
        match self.commit(transaction).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict { key }) if key == *turn.fence.key() => {
                Err(AppError::Superseded)
            }
            Err(CommitError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
