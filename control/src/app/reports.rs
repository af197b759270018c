//! What hosts say of themselves, and which are not heard of any more.
//!
//! What this process hears is kept in the store now and then, for all processes; see [`weft_model::liveness`].

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use weft_model::{
    Decoded, Record, RecordError,
    access::{Action, Object},
    liveness::{Heartbeats, REPORT_INTERVAL, Watchman},
    placement::Decision,
    record::{Heartbeat, Host, HostState, Lost},
};
use weft_store::{CommitError, Condition, OPERATIONS_MAX, Revision, Transaction};
use weft_types::HostId;

use super::{
    App, AppError, Caller, Turn, environments::rests_on, health::ReportedHealth,
    peerings::ReportedPeers,
};

/// Longest version that is kept, bytes.
const VERSION_LEN_MAX: usize = 64;

/// What is known of how a host is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// What it said last.
    pub heartbeat: Option<Heartbeat>,
    /// It was given up.
    pub lost: Option<Lost>,
}

/// What a host says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Its daemon's version.
    pub version: String,
    /// The revision that it has carried out.
    pub revision: u64,
    /// How its attachments are.
    pub health: Vec<ReportedHealth>,
    /// How its sessions are, by environment: all of those that are named.
    pub peers: ReportedPeers,
}

/// What a host is told that has said how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// How soon it is to say something again.
    pub next: Duration,
    /// It is to say everything again: some of it was not kept.
    pub again: bool,
}

impl App {
    fn heard(&self) -> MutexGuard<'_, Heartbeats> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watchman(&self) -> MutexGuard<'_, Watchman> {
        self.watchman.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of how a host is, whichever process has heard of it.
    ///
    /// # Errors
    /// [`AppError::Internal`] when a record is damaged.
    pub fn signs(&self, host: &HostId) -> Result<Signs, AppError> {
        let (kept, lost) = self.view.read(|state| {
            let kept = state.get::<Heartbeat>(host.as_str())?;
            Ok::<_, AppError>((kept, state.get::<Lost>(host.as_str())?))
        })?;
        let kept = kept.map(|kept| kept.record);
        let heard = self.heard().last(host).cloned();
        // Clocks of processes differ by less than it takes for one to be kept.
        let heartbeat = heard.into_iter().chain(kept).max_by_key(|heartbeat| heartbeat.at);
        Ok(Signs { heartbeat, lost: lost.map(|lost| lost.record) })
    }

    /// Takes what a host says. What it says of what is not its own, or not any more, is not heard.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn report(&self, caller: &Caller, report: Report) -> Result<Heard, AppError> {
        let Report { version, revision, health, peers } = report;
        let host = Self::calling_host(caller)?;
        caller.may(Action::ActAsHost, Object::Host(host))?;
        if version.len() > VERSION_LEN_MAX || !version.is_ascii() {
            let problem = format!("expected at most {VERSION_LEN_MAX} characters of ASCII");
            return Err(AppError::invalid("version", problem));
        }
        let heartbeat = Heartbeat { host: host.clone(), at: self.now(), version, revision };
        let (record, is_lost) = self.view.read(|state| {
            let record = state.get::<Heartbeat>(host.as_str())?.map(|kept| kept.modified);
            Ok::<_, RecordError>((record, state.get::<Lost>(host.as_str())?.is_some()))
        })?;
        self.heard().handle_report(heartbeat.clone(), record);
        if is_lost {
            transact!(self, self.decide_found(&heartbeat).await)?;
        }
        let health_again = self.keep_health(host, &health).await?;
        let peers_again = self.keep_peerings(host, &peers).await?;
        Ok(Heard { next: REPORT_INTERVAL, again: health_again || peers_again })
    }

    /// A host that was lost is heard of again.
    async fn decide_found(&self, heartbeat: &Heartbeat) -> Result<Decision<()>, AppError> {
        let lost: Option<Decoded<Lost>> = self.read(heartbeat.host.as_str()).await?;
        let Some(lost) = lost else { return Ok(Decision::Already(())) };
        tracing::info!(host = %heartbeat.host, "a host that was lost is heard of again");
        let transaction = rests_on(Transaction::new(), &lost)?
            .delete(lost.record.key()?)
            .put(heartbeat.key()?, heartbeat.encode()?);
        Ok(Decision::Commit(transaction, ()))
    }

    /// Keeps what was heard of hosts for all processes, as far as it is time. What this process sees of the store does not
    /// matter: hosts are not to be lost by that.
    ///
    /// # Errors
    /// [`AppError`]; what is not kept is kept the next time.
    pub async fn keep_heartbeats(&self) -> Result<(), AppError> {
        let due = self.heard().due(self.clock.passed());
        for some in due.chunks(OPERATIONS_MAX) {
            if let Err(error) = self.keep(some.to_vec()).await {
                // Others may not get theirs written, either: that nobody is heard of says nothing now.
                self.watchman().forget();
                return Err(error);
            }
        }
        self.view.read(|state| {
            let is_known = |host: &HostId| {
                state.projection().host(host).is_some_and(|host| host.state != HostState::Revoked)
            };
            self.heard().retain(is_known);
        });
        Ok(())
    }

    /// Keeps some of them, but for those of which another process has heard since.
    async fn keep(&self, mut due: Vec<(Heartbeat, Option<Revision>)>) -> Result<(), AppError> {
        let now = self.clock.passed();
        // Each attempt that fails has one more than the next.
        for _ in 0..due.len() {
            let mut transaction = Transaction::new();
            for (heartbeat, over) in &due {
                let key = heartbeat.key()?;
                transaction.conditions.push(match over {
                    Some(over) => Condition::At(key.clone(), *over),
                    None => Condition::Absent(key.clone()),
                });
                transaction = transaction.put(key, heartbeat.encode()?);
            }
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    let kept = due.iter().map(|(heartbeat, _)| heartbeat);
                    self.heard().handle_kept(kept, revision, now);
                    return Ok(());
                }
                Err(CommitError::Conflict { key }) => {
                    let record = self.store.get(&key).await?.map(|found| found.modified);
                    due.retain(|(heartbeat, _)| {
                        let is_overtaken = heartbeat.key().is_ok_and(|own| own == key);
                        if is_overtaken {
                            self.heard().handle_overtaken(heartbeat, record);
                        }
                        !is_overtaken
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives hosts up for lost that are not heard of any more.
    ///
    /// # Errors
    /// [`AppError`]; then every host has all of its time again.
    pub async fn look_for_lost(&self, turn: &Turn) -> Result<(), AppError> {
        let hosts = self.view.read(|state| {
            let hosts = state.list::<Host>("", None, usize::MAX)?;
            let watched = hosts.into_iter().filter(|host| host.record.state != HostState::Revoked);
            let with_sign = watched.map(|host| {
                let id = host.record.id;
                let sign = state.get::<Heartbeat>(id.as_str())?.map(|kept| kept.modified);
                Ok((id, sign))
            });
            with_sign.collect::<Result<Vec<_>, AppError>>()
        })?;
        let silent = self.watchman().look(self.clock.passed(), hosts);
        for (host, sign) in silent {
            if let Err(error) = self.give_up(turn, &host, sign).await {
                self.watchman().forget();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Unless it is heard of meanwhile.
    async fn give_up(
        &self,
        turn: &Turn,
        host: &HostId,
        sign: Option<Revision>,
    ) -> Result<(), AppError> {
        let lost = Lost { host: host.clone(), since: self.now() };
        if self.view.read(|state| state.get::<Lost>(host.as_str()))?.is_some() {
            return Ok(());
        }
        let heartbeat = Heartbeat::key_at(host.as_str())?;
        let mut transaction = Transaction::new();
        transaction.conditions.push(match sign {
            Some(sign) => Condition::At(heartbeat, sign),
            None => Condition::Absent(heartbeat),
        });
        let transaction = transaction
            .present(Host::key_at(host.as_str())?)
            .absent(lost.key()?)
            .put(lost.key()?, lost.encode()?);
        if self.commit_in(turn, transaction).await? {
            tracing::warn!(%host, "a host is not heard of any more: it is lost");
        }
        Ok(())
    }

    /// Goes on unless a host that is lost would get something new.
    pub(super) async fn if_heard_of<T>(
        &self,
        host: &HostId,
        decision: Decision<T>,
    ) -> Result<Decision<T>, AppError> {
        if matches!(decision, Decision::Already(_)) {
            return Ok(decision);
        }
        match self.read::<Lost>(host.as_str()).await? {
            None => Ok(decision),
            Some(_) => Err(AppError::State(format!(
                "host {host} is lost: it has not been heard of; expected one that is"
            ))),
        }
    }
}
