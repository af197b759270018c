//! Organisations.

use std::time::Duration;

use weft_audit::{Facts, Word};
use weft_model::{
    Decoded, OrganisationId, Record, ServiceName,
    access::{Action, Actor, Object, OrganisationRole},
    placement::Decision,
    record::{
        ENVIRONMENTS_MAX, Environment, EnvironmentState, Invitation, InvitedTo, Membership,
        Organisation, OrganisationName, Remains, Roster,
    },
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{App, AppError, Caller, Turn, environments::rests_on, tidy::Failed};
use crate::{audit, secret::random};

/// The time of grace of an organisation is over: it goes.
pub(super) const PURGE: Word = Word::new("organisations.purge");

impl App {
    /// Makes an organisation, and an invitation for its first owner.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn create_organisation(
        &self,
        caller: &Caller,
        name: &ServiceName,
        owner_email: &str,
    ) -> Result<(Organisation, Zeroizing<String>), AppError> {
        caller.may(Action::ManageInstallation, Object::Installation)?;
        let id = OrganisationId::from_random(&random());
        let organisation = Organisation {
            id: id.clone(),
            name: name.clone(),
            created: self.now(),
            purge: None,
            environments_max: None,
        };
        let named = OrganisationName { name: name.clone(), id: id.clone() };
        let roster = Roster { organisation: id.clone(), owners: 0, people: 0, invitations: 1 };
        let to = InvitedTo::Organisation(id, OrganisationRole::Owner);
        let (invitation, secret) = self.new_invitation(to, owner_email, None)?;
        transact!(self, {
            if self.read::<OrganisationName>(&named.path()).await?.is_some() {
                return Err(AppError::Exists(format!("there is an organisation {name} already")));
            }
            let transaction = Transaction::new()
                .absent(named.key()?)
                .absent(organisation.key()?)
                .put(named.key()?, named.encode()?)
                .put(organisation.key()?, organisation.encode()?)
                .put(roster.key()?, roster.encode()?)
                .put(invitation.key()?, invitation.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        Ok((organisation, secret))
    }

    /// One organisation.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn get_organisation(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<Decoded<Organisation>, AppError> {
        self.organisation(caller, Action::SeeOrganisation, text).await
    }

    /// The organisations that the caller may see, after the one with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn list_organisations(
        &self,
        caller: &Caller,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Decoded<Organisation>>, AppError> {
        if caller.actor == Actor::Nobody {
            return Err(AppError::Unauthenticated);
        }
        let visible = |found: &Organisation| {
            caller.may(Action::SeeOrganisation, Object::Organisation(&found.id)).is_ok()
        };
        Ok(self.view.read(|state| match &caller.actor {
            // Of its own alone, which are few, it is looked up whether they are there.
            Actor::User { organisations, operator: false, .. } => {
                let own = organisations.keys();
                let later = own.filter(|id| after.is_none_or(|after| id.as_str() > after));
                let found = later.filter_map(|id| state.get(id.as_str()).transpose());
                found.take(len_max).collect()
            }
            // These see none.
            Actor::Token { .. } | Actor::Host(_) => Ok(Vec::new()),
            _ => state.list_some("", after, visible, len_max),
        })?)
    }

    /// An organisation has another name; its old one is free.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn rename_organisation(
        &self,
        caller: &Caller,
        text: &str,
        name: &ServiceName,
    ) -> Result<Decoded<Organisation>, AppError> {
        let id = transact!(self, {
            let found = self.organisation(caller, Action::OwnOrganisation, text).await?;
            let before = &found.record;
            let id = before.id.clone();
            if before.name == *name {
                return Ok(Decision::Already(id));
            }
            let named = OrganisationName { name: name.clone(), id: id.clone() };
            if self.read::<OrganisationName>(&named.path()).await?.is_some() {
                return Err(AppError::Exists(format!("there is an organisation {name} already")));
            }
            let after = Organisation { name: name.clone(), ..before.clone() };
            let transaction = rests_on(Transaction::new(), &found)?
                .absent(named.key()?)
                .put(named.key()?, named.encode()?)
                .delete(OrganisationName::key_at(before.name.as_str())?)
                .put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, id))
        })?;
        self.organisation(caller, Action::SeeOrganisation, id.as_str()).await
    }

    /// An organisation goes after a time of grace, when all of its environments are gone, which are deleted before.
    ///
    /// # Errors
    /// [`AppError::State`] while an environment is to stay.
    pub async fn delete_organisation(
        &self,
        caller: &Caller,
        text: &str,
        grace: Duration,
    ) -> Result<Decoded<Organisation>, AppError> {
        let id = transact!(self, {
            let found = self.organisation(caller, Action::OwnOrganisation, text).await?;
            let id = found.record.id.clone();
            if found.record.purge.is_some() {
                return Ok(Decision::Already(id));
            }
            // Whoever makes an environment to stay, or restores one, writes the organisation: until it was written last,
            // all of them are here, and who does it from then on is in the way of this.
            self.view.reached(found.modified).await?;
            let stay = self.environments_of(&id)?.into_iter().filter(|found| {
                matches!(found.state, EnvironmentState::Active | EnvironmentState::Suspended)
            });
            let count = stay.count();
            if count > 0 {
                let problem = format!("it has {count} environments that stay: delete them first");
                return Err(AppError::State(problem));
            }
            let after =
                Organisation { purge: Some(self.now().after(grace)), ..found.record.clone() };
            let transaction =
                rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, id))
        })?;
        self.organisation(caller, Action::SeeOrganisation, id.as_str()).await
    }

    /// An organisation stays after all, for as long as it is there. Its environments are restored one by one.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn restore_organisation(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<Decoded<Organisation>, AppError> {
        let id = transact!(self, {
            let found = self.organisation(caller, Action::OwnOrganisation, text).await?;
            let id = found.record.id.clone();
            if found.record.purge.is_none() {
                return Ok(Decision::Already(id));
            }
            let after = Organisation { purge: None, ..found.record.clone() };
            let transaction =
                rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, id))
        })?;
        self.organisation(caller, Action::SeeOrganisation, id.as_str()).await
    }

    /// Changes how many environments an organisation may have; those that it has stay.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_environments_max(
        &self,
        caller: &Caller,
        text: &str,
        environments_max: u32,
    ) -> Result<Decoded<Organisation>, AppError> {
        if !(1..=ENVIRONMENTS_MAX).contains(&environments_max) {
            let problem = format!("{environments_max}; expected 1 to {ENVIRONMENTS_MAX}");
            return Err(AppError::invalid("environments_max", problem));
        }
        let id = transact!(self, {
            let found = self.organisation(caller, Action::ManageInstallation, text).await?;
            let id = found.record.id.clone();
            if found.record.environments_max() == environments_max {
                return Ok(Decision::Already(id));
            }
            let environments_max = Some(environments_max);
            let after = Organisation { environments_max, ..found.record.clone() };
            let transaction =
                rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
            Ok(Decision::Commit(transaction, id))
        })?;
        self.organisation(caller, Action::SeeOrganisation, id.as_str()).await
    }

    /// Goes on if the organisation, as it was read, may have one environment more. Whoever makes one writes the
    /// organisation, so those that were made before are all known here.
    pub(super) async fn has_room(
        &self,
        organisation: &Decoded<Organisation>,
    ) -> Result<(), AppError> {
        self.view.reached(organisation.modified).await?;
        let max = organisation.record.environments_max();
        let count = self.environments_of(&organisation.record.id)?.len();
        if u32::try_from(count).is_ok_and(|count| count < max) {
            return Ok(());
        }
        Err(AppError::Exhausted(format!(
            "the organisation's limit of {max} environments is reached; those that are being deleted count until they are gone"
        )))
    }

    fn environments_of(&self, id: &OrganisationId) -> Result<Vec<Environment>, AppError> {
        let all = self.view.read(|state| state.all_of(id))?;
        Ok(all.into_iter().map(|found: Decoded<Environment>| found.record).collect())
    }

    /// Removes organisations whose time has come, with everything of them.
    pub(super) async fn purge_organisations(&self, turn: &Turn) -> Result<(), AppError> {
        let mut failed = Failed::default();
        for found in self.due::<Organisation>()? {
            failed.note(self.purge_organisation(turn, &found).await)?;
        }
        failed.end()
    }

    async fn purge_organisation(
        &self,
        turn: &Turn,
        found: &Decoded<Organisation>,
    ) -> Result<(), AppError> {
        // None is made from when it was to go on, and what was made before is in the view that says so.
        if !self.environments_of(&found.record.id)?.is_empty() {
            return Ok(());
        }
        self.still_in(turn).await?;
        let call = self.recorder.own(PURGE, audit::organisation(&found.record.id));
        call.begin().await?;
        let purged = self.remove_organisation(turn, found).await;
        call.end(purged.as_ref().map(|()| Facts::none())).await?;
        purged
    }

    /// It first, unless somebody restores it at this moment; then its people, of whom there are no more.
    async fn remove_organisation(
        &self,
        turn: &Turn,
        found: &Decoded<Organisation>,
    ) -> Result<(), AppError> {
        let organisation = &found.record;
        let id = &organisation.id;
        let remains = Remains::Organisation { id: id.clone() };
        let transaction = rests_on(Transaction::new(), found)?
            .delete(OrganisationName::key_at(organisation.name.as_str())?)
            .delete(Roster::key_at(id.as_str())?)
            .delete(organisation.key()?)
            .put(remains.key()?, remains.encode()?);
        if !self.commit_in(turn, transaction).await? {
            // Somebody has restored it.
            return Ok(());
        }
        self.remove_rest(turn, &remains).await?;
        tracing::info!(organisation = %id, "an organisation and everything of it is gone");
        Ok(())
    }

    /// Nobody is in an organisation that is gone, or invited into it.
    pub(super) async fn remove_people(
        &self,
        turn: &Turn,
        of: &OrganisationId,
    ) -> Result<(), AppError> {
        self.remove_all_of::<Invitation>(turn, of).await?;
        self.remove_all_of::<Membership>(turn, of).await
    }
}
