//! How attachments are, as their hosts say.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use weft_model::{
    Decoded, Record, RecordError,
    placement::Decision,
    rate::Rate,
    record::{Attachment, Health, HealthState, Interface, Lost},
};
use weft_store::{OPERATIONS_MAX, Transaction};
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{App, AppError, environments::rests_on};
use crate::view::State;

/// How often the health of what is on one host is kept: each time is a change of the store. A host that starts anew says
/// of each of 1,000 containers twice how it is.
const HOST_HEALTH: Rate = Rate { burst: 4_096, interval: Duration::from_millis(20) };
/// The same of one environment on it, so that none that changes all the time takes it from others.
const ENVIRONMENT_HEALTH: Rate = Rate { burst: 2_048, interval: Duration::from_millis(100) };

/// How an attachment is, as its host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedHealth {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub attachment: AttachmentName,
    /// Which one of that name.
    pub generation: u64,
    /// How what uses it is, if that is said.
    pub state: Option<HealthState>,
    /// How its interface is, if that is said; an error has no control characters.
    pub interface: Option<Interface>,
}

impl ReportedHealth {
    fn is_of(&self, host: &HostId, attachment: &Attachment) -> bool {
        attachment.host == *host && attachment.generation == self.generation
    }
}

/// How an attachment is, as far as somebody knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachmentHealth {
    /// How it is for others; `None` when nothing is known.
    pub state: Option<HealthState>,
    /// What its host said last of this generation.
    pub said: Option<Health>,
}

impl AttachmentHealth {
    /// Not well when its host is lost, whatever was said before.
    pub(super) fn of(
        state: &State,
        attachment: &Attachment,
        said: Option<Health>,
    ) -> Result<Self, RecordError> {
        let said = said.filter(|said| said.generation == attachment.generation);
        let is_lost = state.get::<Lost>(attachment.host.as_str())?.is_some();
        let overall = said.as_ref().and_then(Health::overall);
        Ok(Self { state: if is_lost { Some(HealthState::Unhealthy) } else { overall }, said })
    }
}

impl App {
    /// Keeps what a host says of its attachments, where it is news. Returns whether some of it was not kept, since too
    /// much changes.
    pub(super) async fn keep_health(
        &self,
        host: &HostId,
        reported: &[ReportedHealth],
    ) -> Result<bool, AppError> {
        let (mut news, mut is_left_out) = (Vec::new(), false);
        // Of what is said twice the last counts.
        let reported = reported.iter().map(|one| ((&one.environment, &one.attachment), one));
        for reported in reported.collect::<BTreeMap<_, _>>().into_values() {
            if !self.is_news(host, reported).await? {
                continue;
            }
            if self.has_room_for_health(host, &reported.environment) {
                news.push(reported);
            } else {
                is_left_out = true;
            }
        }
        for some in news.chunks(OPERATIONS_MAX) {
            transact!(self, self.decide_health(host, some).await)?;
        }
        Ok(is_left_out)
    }

    /// Whether a host says something new of an attachment that is its own. What is so already, as far as this process
    /// sees, costs the store nothing: a host says everything again over each connection.
    async fn is_news(&self, host: &HostId, reported: &ReportedHealth) -> Result<bool, AppError> {
        let health = self.said(reported);
        let path = health.path();
        let (own, before) = self.view.read(|state| {
            let own = state.get::<Attachment>(&path)?;
            Ok::<_, RecordError>((own, state.get::<Health>(&path)?.map(|before| before.record)))
        })?;
        let sees = self.view.trouble().borrow().is_none();
        if own.is_some_and(|own| reported.is_of(host, &own.record)) {
            let after = health.after(before.as_ref());
            return Ok(!sees || before.as_ref() != Some(&after));
        }
        // It may have been made just now.
        let own: Option<Decoded<Attachment>> = self.read(&path).await?;
        Ok(own.is_some_and(|own| reported.is_of(host, &own.record)))
    }

    fn said(&self, reported: &ReportedHealth) -> Health {
        Health {
            environment: reported.environment.clone(),
            attachment: reported.attachment.clone(),
            generation: reported.generation,
            state: reported.state,
            interface: reported.interface.clone(),
            since: self.now(),
        }
    }

    /// Whether there is room for another change of health.
    fn has_room_for_health(&self, host: &HostId, environment: &EnvironmentId) -> bool {
        let accounts = [
            ((host.clone(), None), HOST_HEALTH),
            ((host.clone(), Some(environment.clone())), ENVIRONMENT_HEALTH),
        ];
        let mut healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        healths.take(accounts, self.clock.passed()).is_ok()
    }

    async fn decide_health(
        &self,
        host: &HostId,
        news: &[&ReportedHealth],
    ) -> Result<Decision<()>, AppError> {
        let mut transaction = Transaction::new();
        for reported in news {
            let health = self.said(reported);
            let own: Option<Decoded<Attachment>> = self.read(&health.path()).await?;
            let Some(own) = own.filter(|own| reported.is_of(host, &own.record)) else { continue };
            let before: Option<Decoded<Health>> = self.read(&health.path()).await?;
            let before = before.map(|before| before.record);
            let after = health.after(before.as_ref());
            if before.as_ref() != Some(&after) {
                transaction = rests_on(transaction, &own)?.put(after.key()?, after.encode()?);
            }
        }
        if transaction.writes.is_empty() {
            return Ok(Decision::Already(()));
        }
        Ok(Decision::Commit(transaction, ()))
    }
}
