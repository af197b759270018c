//! What is over goes: environments whose time has come, addresses after their quarantine, tokens that have expired.
//!
//! Every step is a transaction that rests on what it removes and on the turn of whoever does it, so a process may be
//! ended, or stand still, at any moment.

use weft_audit::{Facts, Word};
use weft_keys::Owner;
use weft_model::{
    Decoded, OrganisationId, Record, UnixMs,
    placement::{self, Scene},
    policy::Policy,
    record::{
        Address, Attachment, Authority, Binding, Drain, Environment, EnvironmentName,
        EnvironmentState, Grant, Health, Invitation, JoinToken, Membership, Role, SealedSecret,
        Secret, SecretUsage, Service, Session, Slot, Token, Usage,
    },
};
use weft_store::{CommitError, LIST_LEN_MAX, OPERATIONS_MAX, Transaction};
use weft_types::EnvironmentId;

use super::{App, AppError, Turn, environments::rests_on};
use crate::audit;

/// The time of grace of an environment is over: it goes, with its key.
const PURGE: Word = Word::new("environments.purge");

/// What belongs to an environment: kinds whose paths begin with its id.
const OWNED: [&str; 15] = [
    Address::KIND,
    Attachment::KIND,
    Authority::KIND,
    Binding::KIND,
    Drain::KIND,
    Grant::KIND,
    Health::KIND,
    Policy::KIND,
    Role::KIND,
    SealedSecret::KIND,
    Secret::KIND,
    SecretUsage::KIND,
    Service::KIND,
    Slot::KIND,
    Usage::KIND,
];

impl App {
    /// Removes what is over.
    ///
    /// # Errors
    /// [`AppError`]; what could not be removed is tried again the next time.
    pub async fn tidy(&self, turn: &Turn) -> Result<(), AppError> {
        // What goes here does not come back: a clock that is wrong does not make it due.
        let now = self.time().settled;
        let environments =
            self.view.read(|state| state.list::<Environment>("", None, usize::MAX))?;
        for environment in environments {
            let due = match environment.record.state {
                EnvironmentState::Deleting { purge } => purge <= now,
                EnvironmentState::Purging => true,
                EnvironmentState::Active | EnvironmentState::Suspended => false,
            };
            if due {
                self.purge(turn, &environment).await?;
            } else {
                self.free_addresses(turn, environment).await?;
            }
        }
        self.purge_organisations(turn).await?;
        self.forget_people(turn).await?;
        self.forget(turn, |session: &Session| session.expires <= now).await?;
        self.forget(turn, |token: &Token| token.expires <= now).await?;
        self.forget_invitations(turn, now).await?;
        self.forget(turn, |token: &JoinToken| is_over(token, now)).await?;
        self.forget(turn, |grant: &Grant| grant.used_by.is_none() && grant.expires <= now).await
    }

    async fn free_addresses(
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
        let id = &environment.record.id;
        self.keyring.destroy(&Owner::Environment(id.clone()), self.clock.system_time()).await?;
        self.remove_owned(turn, id).await?;
        self.forget(turn, |token: &Token| token.environment == *id).await?;
        let Environment { organisation, name, .. } = &environment.record;
        self.forget_roles(turn, id, organisation).await?;
        let transaction = Transaction::new()
            .delete(EnvironmentName::key_at(&format!("{organisation}/{name}"))?)
            .delete(environment.record.key()?);
        self.commit_in(turn, transaction).await?;
        // What somebody has put there meanwhile: now that it is gone, nobody does any more.
        self.remove_owned(turn, id).await?;
        tracing::info!(environment = %id, "an environment and everything of it is gone");
        Ok(())
    }

    async fn remove_owned(&self, turn: &Turn, id: &EnvironmentId) -> Result<(), AppError> {
        for kind in OWNED {
            // Without the slash for what is one to an environment: ids have one length, so none begins another.
            self.remove_all(turn, &format!("{kind}/{id}")).await?;
        }
        Ok(())
    }

    async fn forget_invitations(&self, turn: &Turn, now: UnixMs) -> Result<(), AppError> {
        let all = self.view.read(|state| state.list::<Invitation>("", None, usize::MAX))?;
        for invitation in all.into_iter().filter(|found| found.record.expires <= now) {
            self.commit_in(turn, self.forget_invitation(&invitation).await?).await?;
        }
        Ok(())
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
            let transaction = keys.fold(Transaction::new(), Transaction::delete);
            self.commit_in(turn, transaction).await?;
        }
    }

    /// Removes records that are over, if they are still as they were read.
    async fn forget<R: Record>(
        &self,
        turn: &Turn,
        is_over: impl Fn(&R) -> bool,
    ) -> Result<(), AppError> {
        for transaction in self.all_without(is_over)? {
            self.commit_in(turn, transaction).await?;
        }
        Ok(())
    }

    /// For each record that is over what removes it, if it is still as it was read.
    pub(super) fn all_without<R: Record>(
        &self,
        is_over: impl Fn(&R) -> bool,
    ) -> Result<Vec<Transaction>, AppError> {
        let all = self.view.read(|state| state.list::<R>("", None, usize::MAX))?;
        let over = all.into_iter().filter(|found| is_over(&found.record));
        over.map(|found| Ok(rests_on(Transaction::new(), &found)?.delete(found.record.key()?)))
            .collect()
    }
}

/// A token that was used is remembered as long as its host may ask again.
fn is_over(token: &JoinToken, now: UnixMs) -> bool {
    match &token.used {
        Some(used) => used.at.after(super::hosts::JOIN_AGAIN) <= now,
        None => token.expires <= now,
    }
}
