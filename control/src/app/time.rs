//! Which time is believed before something is destroyed, see [`weft_model::settled`].

use std::{
    convert::Infallible,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use weft_audit::{ExpireError, Fact, Facts, Word};
use weft_model::{
    Decoded, Record, UnixMs,
    record::Settled,
    settled::{AGREE_INTERVAL, Doubt, Time, Timekeeper},
};
use weft_store::{Condition, Transaction};

use super::{App, AppError, Turn};
use crate::audit;

/// The clock of this process is not believed.
const DOUBT: Word = Word::new("clock.doubt");
/// An operator says that the clock is right.
const CONFIRM: Word = Word::new("clock.confirm");
/// By how much it is ahead of what was agreed on.
const AHEAD_SECONDS: Word = Word::new("ahead-seconds");
/// Where the record of what was agreed on is.
const AGREED: &str = "v1";

/// What an operator has confirmed, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// What was agreed on before, if anything was.
    pub before: Option<UnixMs>,
    /// What the clock of this machine shows.
    pub now: UnixMs,
}

impl App {
    fn timekeeper(&self) -> MutexGuard<'_, Timekeeper> {
        self.timekeeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which time is believed now.
    pub fn time(&self) -> Time {
        let agreed = self.view.read(|state| state.get::<Settled>(AGREED));
        // By a record that cannot be read nothing is due.
        let agreed = agreed.map_or(Some(UnixMs(0)), |found| found.map(|found| found.record.at));
        self.timekeeper().look(self.clock.passed(), self.now(), agreed)
    }

    /// Looks again and again whether the clock is believed, and says when it is not, as long as it is polled.
    pub async fn follow_time(&self) -> Infallible {
        let mut doubted = None;
        loop {
            doubted = self.look_at_time(doubted).await;
            sleep(AGREE_INTERVAL).await;
        }
    }

    /// Looks once; `before` is what was found the last time. Returns what is found now, as far as it was recorded.
    pub async fn look_at_time(&self, before: Option<Doubt>) -> Option<Doubt> {
        let doubt = self.time().doubt;
        match (before, doubt) {
            (None, Some(doubt)) => {
                let Doubt { ahead, left } = doubt;
                tracing::error!(
                    ahead_s = ahead.as_secs(),
                    left_s = left.as_secs(),
                    "the clock is ahead of what was agreed on: nothing is destroyed by it until it was steady for this time, \
                     or weft-control confirm-time says that it is right"
                );
                if let Err(error) = self.record_doubt(ahead).await {
                    tracing::error!(%error, "that the clock is not believed is not recorded yet");
                    return None;
                }
            }
            (Some(_), None) => tracing::info!("the clock is believed again"),
            _ => {}
        }
        doubt
    }

    async fn record_doubt(&self, ahead: Duration) -> Result<(), AppError> {
        let call = self.recorder.own(DOUBT, audit::named("clock"));
        call.begin().await?;
        call.end(Ok(Facts::none().with(AHEAD_SECONDS, Fact::Number(ahead.as_secs())))).await
    }

    /// Removes what was kept long enough of the audit of this process. Whether it did: not by a clock that is not believed.
    ///
    /// # Errors
    /// [`ExpireError`].
    pub async fn expire_audit(&self) -> Result<bool, ExpireError> {
        if self.time().doubt.is_some() {
            return Ok(false);
        }
        self.recorder.expire().await.map(|()| true)
    }

    /// Writes for all processes what is agreed on, when it is time.
    ///
    /// # Errors
    /// [`AppError`]; the next time it is tried again.
    pub async fn keep_time(&self, turn: &Turn) -> Result<(), AppError> {
        let (at, before) = (self.time().agreed, self.agreed().await?);
        if before.as_ref().is_none_or(|before| before.record.at.after(AGREE_INTERVAL) <= at) {
            self.commit_in(turn, agree(&Settled { at }, before.as_ref())?).await?;
        }
        Ok(())
    }

    /// What the clock of this machine shows counts as agreed on; unless this is a `dry_run`, which only says what it is.
    ///
    /// # Errors
    /// [`AppError::Changed`] when a process has written it at the same moment.
    pub async fn confirm_time(&self, dry_run: bool) -> Result<Confirmed, AppError> {
        let (before, now) = (self.agreed().await?, self.now());
        let confirmed = Confirmed { before: before.as_ref().map(|before| before.record.at), now };
        if dry_run {
            return Ok(confirmed);
        }
        let call = self.recorder.command(CONFIRM, audit::named("clock"));
        call.begin().await?;
        let transaction = agree(&Settled { at: now }, before.as_ref())?;
        let made = self.store.commit(transaction).await.map_err(|error| match error {
            weft_store::CommitError::Conflict { .. } => AppError::Changed("the time"),
            error => error.into(),
        });
        call.end(made.as_ref().map(|_| Facts::none())).await?;
        made.map(|_| confirmed)
    }

    async fn agreed(&self) -> Result<Option<Decoded<Settled>>, AppError> {
        self.read::<Settled>(AGREED).await
    }
}

/// Writes it in the place of what was found.
fn agree(new: &Settled, found: Option<&Decoded<Settled>>) -> Result<Transaction, AppError> {
    let key = new.key()?;
    let mut transaction = Transaction::new();
    transaction.conditions.push(match found {
        Some(found) => Condition::At(key.clone(), found.modified),
        None => Condition::Absent(key.clone()),
    });
    Ok(transaction.put(key, new.encode()?))
}
