//! What hosts say of themselves.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use weft_model::{
    Decoded, Record, UnixMs,
    access::{Action, Object},
    placement::Decision,
    record::{Attachment, Health, HealthState},
};
use weft_store::Transaction;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{App, AppError, Caller, environments::rests_on};

/// How soon a host is expected to say something again.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Longest version that is kept, bytes.
const VERSION_LEN_MAX: usize = 64;

/// What a host said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: UnixMs,
    /// Its daemon's version.
    pub version: String,
}

/// How an attachment is, as its host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedHealth {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub attachment: AttachmentName,
    /// Which one of that name.
    pub generation: u64,
    /// How it is.
    pub state: HealthState,
}

impl App {
    fn all_heard(&self) -> MutexGuard<'_, HashMap<HostId, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a host was heard of last, and what it said.
    #[must_use]
    pub fn heard(&self, host: &HostId) -> Option<Heard> {
        self.all_heard().get(host).cloned()
    }

    /// Takes what a host says. What it says of what is not its own, or not any more, is not heard. Returns how soon it
    /// is to say something again.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn report(
        &self,
        caller: &Caller,
        version: String,
        health: &[ReportedHealth],
    ) -> Result<Duration, AppError> {
        let host = Self::calling_host(caller)?;
        caller.may(Action::ActAsHost, Object::Host(host))?;
        if version.len() > VERSION_LEN_MAX || !version.is_ascii() {
            let problem = format!("expected at most {VERSION_LEN_MAX} characters of ASCII");
            return Err(AppError::invalid("version", problem));
        }
        self.all_heard().insert(host.clone(), Heard { at: self.now(), version });
        for reported in health {
            transact!(self, self.decide_health(host, reported).await)?;
        }
        Ok(REPORT_INTERVAL)
    }

    async fn decide_health(
        &self,
        host: &HostId,
        reported: &ReportedHealth,
    ) -> Result<Decision<()>, AppError> {
        let health = Health {
            environment: reported.environment.clone(),
            attachment: reported.attachment.clone(),
            generation: reported.generation,
            state: reported.state,
            since: self.now(),
        };
        let attachment: Option<Decoded<Attachment>> = self.read(&health.path()).await?;
        let its = |attachment: &Decoded<Attachment>| {
            let Attachment { host: on, generation, .. } = &attachment.record;
            on == host && *generation == health.generation
        };
        let Some(attachment) = attachment.filter(its) else { return Ok(Decision::Already(())) };
        let before: Option<Decoded<Health>> = self.read(&health.path()).await?;
        let is_known = before.as_ref().is_some_and(|before| {
            (before.record.generation, before.record.state) == (health.generation, health.state)
        });
        if is_known {
            return Ok(Decision::Already(()));
        }
        let transaction = rests_on(Transaction::new(), &attachment)?;
        Ok(Decision::Commit(transaction.put(health.key()?, health.encode()?), ()))
    }
}
