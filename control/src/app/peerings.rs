//! How hosts' sessions are, and what a host has as a whole.

use std::{collections::BTreeMap, sync::PoisonError};

use weft_model::{
    Decoded, Record, RecordError,
    access::{Action, Object},
    liveness::HEARTBEAT_GRAIN,
    placement::Decision,
    rate::Rate,
    record::{Attachment, Environment, Health, Host, PeerSession, Peering},
};
use weft_store::{Condition, OPERATIONS_MAX, Transaction};
use weft_types::{EnvironmentId, HostId};

use super::{App, AppError, Caller, health::AttachmentHealth};

/// How often something of a host's sessions is kept: with 1,000 hosts whose sessions change all the time that is some 33
/// times a second.
const PEERINGS: Rate = Rate { burst: 64, interval: HEARTBEAT_GRAIN };
/// Records in one transaction: each rests on its environment, too.
const RECORDS_MAX: usize = OPERATIONS_MAX / 2;

/// How a host's sessions are, by environment, with the other hosts; errors have no control characters.
pub type ReportedPeers = BTreeMap<EnvironmentId, BTreeMap<HostId, PeerSession>>;

/// What is to be written, with what it is written over.
type News<'a> = Vec<(&'a Peering, Option<Decoded<Peering>>)>;

/// What a host has of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentReport {
    /// Which.
    pub environment: EnvironmentId,
    /// What is to be there, and how it is.
    pub attachments: Vec<(Attachment, AttachmentHealth)>,
    /// How its sessions are, if it has said so.
    pub peering: Option<Peering>,
}

impl App {
    /// Keeps what a host says of its sessions, where it is news and of environments of which it has attachments. Returns
    /// whether it was not kept, since too much changes.
    pub(super) async fn keep_peerings(
        &self,
        host: &HostId,
        reported: &ReportedPeers,
    ) -> Result<bool, AppError> {
        let said = reported.iter().map(|(environment, peers)| Peering {
            environment: environment.clone(),
            host: host.clone(),
            at: self.now(),
            peers: peers.clone(),
        });
        let said: Vec<_> = said.map(Peering::shortened).collect();
        if self.peerings_news(&said)?.is_empty() {
            return Ok(false);
        }
        let has_room = {
            let mut rates = self.peerings.lock().unwrap_or_else(PoisonError::into_inner);
            rates.take([(host.clone(), PEERINGS)], self.clock.passed()).is_ok()
        };
        if !has_room {
            return Ok(true);
        }
        for some in said.chunks(RECORDS_MAX) {
            transact!(self, self.decide_peerings(some))?;
        }
        Ok(false)
    }

    /// Those that are to be written. Nothing is looked at of an environment of which the host has nothing.
    fn peerings_news<'a>(&self, said: &'a [Peering]) -> Result<News<'a>, RecordError> {
        self.view.read(|state| {
            let mut news = Vec::new();
            for peering in said {
                if !state.projection().is_on(&peering.environment, &peering.host) {
                    continue;
                }
                let before = state.get::<Peering>(&peering.path())?;
                if peering.is_news(before.as_ref().map(|before| &before.record)) {
                    news.push((peering, before));
                }
            }
            Ok(news)
        })
    }

    fn decide_peerings(&self, said: &[Peering]) -> Result<Decision<()>, AppError> {
        let mut transaction = Transaction::new();
        for (peering, before) in self.peerings_news(said)? {
            let key = peering.key()?;
            transaction.conditions.push(match before {
                Some(before) => Condition::At(key.clone(), before.modified),
                None => Condition::Absent(key.clone()),
            });
            // Into what is gone nobody puts anything.
            let environment = Environment::key_at(peering.environment.as_str())?;
            transaction = transaction.present(environment).put(key, peering.encode()?);
        }
        if transaction.writes.is_empty() {
            return Ok(Decision::Already(()));
        }
        Ok(Decision::Commit(transaction, ()))
    }

    /// With the last attachment that a host has of an environment goes what is kept of its sessions there.
    pub(super) fn with_sessions<T>(
        &self,
        leaving: &Attachment,
        decision: Decision<T>,
    ) -> Result<Decision<T>, AppError> {
        let Decision::Commit(transaction, outcome) = decision else { return Ok(decision) };
        let Attachment { environment, name, host, .. } = leaving;
        let is_last = self.view.read(|state| {
            let there = state.projection().placed_in(environment, host);
            there.is_none_or(|names| names.iter().all(|other| other == name))
        });
        let transaction = if is_last {
            transaction.delete(Peering::key_at(&format!("{environment}/{host}"))?)
        } else {
            transaction
        };
        Ok(Decision::Commit(transaction, outcome))
    }

    /// What a host is to have and has, of environments after this one, until `take` has taken enough.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn host_report(
        &self,
        caller: &Caller,
        host: &HostId,
        after: Option<&EnvironmentId>,
        mut take: impl FnMut(EnvironmentReport) -> bool,
    ) -> Result<(), AppError> {
        caller.may(Action::SeeHosts, Object::Host(host))?;
        let known = self.read::<Host>(host.as_str()).await?;
        known.ok_or(AppError::NotFound("host"))?;
        let taken = self.view.read(|state| {
            for (environment, names) in state.projection().placed(host, after) {
                let mut attachments = Vec::with_capacity(names.len());
                for name in names {
                    let path = format!("{environment}/{name}");
                    let Some(attachment) = state.get::<Attachment>(&path)? else { continue };
                    let said = state.get::<Health>(&path)?.map(|said| said.record);
                    let health = AttachmentHealth::of(state, &attachment.record, said)?;
                    attachments.push((attachment.record, health));
                }
                let peering = state.get::<Peering>(&format!("{environment}/{host}"))?;
                let report = EnvironmentReport {
                    environment: environment.clone(),
                    attachments,
                    peering: peering.map(|peering| peering.record),
                };
                if take(report) {
                    break;
                }
            }
            Ok::<_, RecordError>(())
        });
        Ok(taken?)
    }
}
