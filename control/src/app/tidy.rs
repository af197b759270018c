//! What is over goes: environments whose time has come, addresses after their quarantine, tokens that have expired.
//!
//! Every step is a transaction that rests on what it removes and on the turn of whoever does it, so a process may be
//! ended, or stand still, at any moment. What is over is found by when it is: what is not costs nothing here, however
//! much of it there is.

use std::collections::BTreeSet;

use weft_audit::{Facts, Word};
use weft_keys::Owner;
use weft_model::{
    Decoded, OrganisationId, Record,
    due::Ending,
    owned::Owned,
    placement::{self, Scene},
    policy::Policy,
    record::{
        Address, Attachment, Authority, Binding, Drain, Environment, EnvironmentName,
        EnvironmentState, Grant, Health, Invitation, JoinToken, Membership, Peering, Remains, Role,
        SealedSecret, Secret, SecretUsage, Service, Session, Slot, Token, Usage,
    },
};
use weft_store::{CommitError, Key, LIST_LEN_MAX, OPERATIONS_MAX, Transaction};
use weft_types::EnvironmentId;

use super::{App, AppError, Turn, environments::rests_on, organisations};
use crate::audit;

/// The time of grace of an environment is over: it goes, with its key.
const PURGE: Word = Word::new("environments.purge");
/// Most records of a kind that are removed at once, those first that have been over longest: the rest is for the next
/// time, and no kind waits for all of another.
const TIDY_LEN_MAX: usize = 1_000;

/// What belongs to an environment: kinds whose paths begin with its id.
const OWNED: [&str; 16] = [
    Address::KIND,
    Attachment::KIND,
    Authority::KIND,
    Binding::KIND,
    Drain::KIND,
    Grant::KIND,
    Health::KIND,
    Peering::KIND,
    Policy::KIND,
    Role::KIND,
    SealedSecret::KIND,
    Secret::KIND,
    SecretUsage::KIND,
    Service::KIND,
    Slot::KIND,
    Usage::KIND,
];

/// What of several things could not be done.
#[derive(Debug, Default)]
pub(super) struct Failed(Option<AppError>);

impl Failed {
    /// Goes on with the others, but in a turn that is over.
    pub(super) fn note(&mut self, done: Result<(), AppError>) -> Result<(), AppError> {
        match done {
            Err(AppError::Superseded) => Err(AppError::Superseded),
            Err(error) => {
                self.0.get_or_insert(error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The first of them.
    pub(super) fn end(self) -> Result<(), AppError> {
        self.0.map_or(Ok(()), Err)
    }
}

impl App {
    /// Removes what is over. What cannot be removed holds up nothing else.
    ///
    /// # Errors
    /// [`AppError::Superseded`] at once, when another process does it. Otherwise the first [`AppError`], at the end; what
    /// could not be removed is tried again the next time.
    pub async fn tidy(&self, turn: &Turn) -> Result<(), AppError> {
        let mut failed = Failed::default();
        failed.note(self.purge_environments(turn).await)?;
        failed.note(self.free_addresses(turn).await)?;
        failed.note(self.purge_organisations(turn).await)?;
        failed.note(self.remove_remains(turn).await)?;
        failed.note(self.forget::<Session>(turn).await)?;
        failed.note(self.forget::<Token>(turn).await)?;
        failed.note(self.forget_invitations(turn).await)?;
        failed.note(self.forget::<JoinToken>(turn).await)?;
        failed.note(self.forget::<Grant>(turn).await)?;
        failed.end()
    }

    async fn purge_environments(&self, turn: &Turn) -> Result<(), AppError> {
        let mut failed = Failed::default();
        for environment in self.due::<Environment>()? {
            let purged = self.purge(turn, &environment).await;
            if let Err(error) = &purged {
                tracing::warn!(%error, environment = %environment.record.id, "it is not gone yet");
            }
            failed.note(purged)?;
        }
        failed.end()
    }

    /// What is over. What goes here does not come back: a clock that is wrong does not make it due.
    pub(super) fn due<R: Ending>(&self) -> Result<Vec<Decoded<R>>, AppError> {
        let now = self.time().settled;
        Ok(self.view.read(|state| state.due(now, TIDY_LEN_MAX))?)
    }

    /// Addresses whose quarantine is over.
    async fn free_addresses(&self, turn: &Turn) -> Result<(), AppError> {
        let due = self.due::<Address>()?.into_iter();
        let of: BTreeSet<EnvironmentId> = due.map(|address| address.record.environment).collect();
        let mut failed = Failed::default();
        for id in of {
            let environment = self.view.read(|state| state.get::<Environment>(id.as_str()))?;
            // Those of what goes go with it.
            let stays =
                |found: &Decoded<Environment>| found.record.state != EnvironmentState::Purging;
            if let Some(environment) = environment.filter(stays) {
                failed.note(self.free_addresses_of(turn, environment).await)?;
            }
        }
        failed.end()
    }

    async fn free_addresses_of(
        &self,
        turn: &Turn,
        environment: Decoded<Environment>,
    ) -> Result<(), AppError> {
        let id = &environment.record.id;
        loop {
            let usage: Option<Decoded<Usage>> = self.read(id.as_str()).await?;
            if let Some(usage) = &usage {
                self.view.reached(usage.modified).await?;
            }
            let (ledger, revision) =
                self.view.read(|state| (state.ledger(id), state.projection().revision()));
            let scene = Scene {
                environment: &environment,
                usage: usage.as_ref(),
                ledger: &ledger,
                roles: &[],
                revision,
            };
            let Some(transaction) = placement::sweep(&scene, self.time().settled)? else {
                return Ok(());
            };
            if !self.commit_in(turn, transaction).await? {
                // Somebody is at work there: the next time.
                return Ok(());
            }
        }
    }

    /// Removes an environment with everything of it.
    async fn purge(&self, turn: &Turn, environment: &Decoded<Environment>) -> Result<(), AppError> {
        let id = &environment.record.id;
        if environment.record.state != EnvironmentState::Purging {
            let purging =
                Environment { state: EnvironmentState::Purging, ..environment.record.clone() };
            let transaction =
                rests_on(Transaction::new(), environment)?.put(purging.key()?, purging.encode()?);
            // From here on nobody resumes it; the rest comes the next time, from what is stored then.
            return self.commit_in(turn, transaction).await.map(|_| ());
        }
        self.still_in(turn).await?;
        let object = audit::environment(id, &environment.record.organisation);
        let call = self.recorder.own(PURGE, object);
        call.begin().await?;
        let purged = self.remove_environment(turn, environment).await;
        call.end(purged.as_ref().map(|()| Facts::none())).await?;
        purged
    }

    /// Its key first: that is of another store, and whoever destroys it twice changes nothing.
    async fn remove_environment(
        &self,
        turn: &Turn,
        environment: &Decoded<Environment>,
    ) -> Result<(), AppError> {
        let Environment { id, organisation, name, .. } = &environment.record;
        self.keyring.destroy(&Owner::Environment(id.clone()), self.clock.system_time()).await?;
        // While it is there: hosts are told of nothing that is of no environment.
        self.remove_all_of_environment(turn, id, organisation).await?;
        let remains = Remains::Environment { id: id.clone(), organisation: organisation.clone() };
        let transaction = Transaction::new()
            .delete(EnvironmentName::key_at(&format!("{organisation}/{name}"))?)
            .delete(environment.record.key()?)
            .put(remains.key()?, remains.encode()?);
        self.commit_in(turn, transaction).await?;
        self.remove_rest(turn, &remains).await?;
        tracing::info!(environment = %id, "an environment and everything of it is gone");
        Ok(())
    }

    /// Of what is gone, what a process has left behind that has ended.
    async fn remove_remains(&self, turn: &Turn) -> Result<(), AppError> {
        let mut failed = Failed::default();
        for Decoded { record: remains, .. } in self.due::<Remains>()? {
            failed.note(self.purge_remains(turn, &remains).await)?;
        }
        failed.end()
    }

    async fn purge_remains(&self, turn: &Turn, remains: &Remains) -> Result<(), AppError> {
        self.still_in(turn).await?;
        let call = match remains {
            Remains::Environment { id, organisation } => {
                self.recorder.own(PURGE, audit::environment(id, organisation))
            }
            Remains::Organisation { id } => {
                self.recorder.own(organisations::PURGE, audit::organisation(id))
            }
        };
        call.begin().await?;
        let removed = self.remove_rest(turn, remains).await;
        call.end(removed.as_ref().map(|()| Facts::none())).await?;
        removed
    }

    /// What is left of what is gone, into which nobody puts anything any more; at the end that by which it is found.
    pub(super) async fn remove_rest(&self, turn: &Turn, remains: &Remains) -> Result<(), AppError> {
        match remains {
            Remains::Environment { id, organisation } => {
                self.remove_all_of_environment(turn, id, organisation).await?;
            }
            Remains::Organisation { id } => self.remove_people(turn, id).await?,
        }
        self.remove_keys(turn, vec![remains.key()?]).await
    }

    async fn remove_all_of_environment(
        &self,
        turn: &Turn,
        id: &EnvironmentId,
        organisation: &OrganisationId,
    ) -> Result<(), AppError> {
        for kind in OWNED {
            // Without the slash for what is one to an environment: ids have one length, so none begins another.
            self.remove_all(turn, &format!("{kind}/{id}")).await?;
        }
        self.remove_all_of::<Token>(turn, id).await?;
        self.forget_roles(turn, id, organisation).await
    }

    /// All records of a kind that are somebody's, whoever changes them at the same moment.
    pub(super) async fn remove_all_of<R: Owned>(
        &self,
        turn: &Turn,
        owner: &R::Owner,
    ) -> Result<(), AppError> {
        let all = self.view.read(|state| state.all_of::<R>(owner))?;
        let keys = all.into_iter().map(|found| found.record.key());
        self.remove_keys(turn, keys.collect::<Result<_, _>>()?).await
    }

    async fn forget_invitations(&self, turn: &Turn) -> Result<(), AppError> {
        let mut failed = Failed::default();
        for invitation in self.due::<Invitation>()? {
            let forgotten = async {
                self.commit_in(turn, self.forget_invitation(&invitation).await?).await.map(drop)
            };
            failed.note(forgotten.await)?;
        }
        failed.end()
    }

    /// Nobody has a role in an environment any more; none is given from when it is purged on.
    async fn forget_roles(
        &self,
        turn: &Turn,
        of: &EnvironmentId,
        organisation: &OrganisationId,
    ) -> Result<(), AppError> {
        let of_organisation = self.view.read(|state| state.all_of::<Membership>(organisation))?;
        let all = of_organisation.into_iter();
        for found in all.filter(|found| found.record.environments.contains_key(of)) {
            let path = found.record.path();
            while let Some(found) = self.read::<Membership>(&path).await? {
                let mut after = found.record.clone();
                if after.environments.remove(of).is_none() {
                    break;
                }
                let transaction =
                    rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
                if self.commit_in(turn, transaction).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Commits; when somebody was faster, it is for the next time.
    pub(super) async fn try_once(&self, transaction: Transaction) -> Result<(), AppError> {
        match self.commit(transaction).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove_all(&self, turn: &Turn, prefix: &str) -> Result<(), AppError> {
        loop {
            let page = self.store.list(prefix, None, OPERATIONS_MAX.min(LIST_LEN_MAX)).await?;
            if page.entries.is_empty() {
                return Ok(());
            }
            let keys = page.entries.into_iter().map(|entry| entry.key);
            self.remove_keys(turn, keys.collect()).await?;
        }
    }

    async fn remove_keys(&self, turn: &Turn, keys: Vec<Key>) -> Result<(), AppError> {
        for some in keys.chunks(OPERATIONS_MAX) {
            let transaction = some.iter().cloned().fold(Transaction::new(), Transaction::delete);
            self.commit_in(turn, transaction).await?;
        }
        Ok(())
    }

    /// Removes records that are over, if they are still as they were read.
    async fn forget<R: Ending>(&self, turn: &Turn) -> Result<(), AppError> {
        let mut failed = Failed::default();
        for found in self.due::<R>()? {
            let transaction = rests_on(Transaction::new(), &found)?.delete(found.record.key()?);
            failed.note(self.commit_in(turn, transaction).await.map(drop))?;
        }
        failed.end()
    }
}
