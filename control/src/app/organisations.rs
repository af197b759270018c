//! Organisations.

use weft_model::{
    Decoded, OrganisationId, Record, ServiceName,
    access::{Action, Actor, Object, OrganisationRole},
    placement::Decision,
    record::{InvitedTo, Organisation, OrganisationName, Roster},
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{App, AppError, Caller};
use crate::secret::random;

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
        let organisation = Organisation { id: id.clone(), name: name.clone(), created: self.now() };
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
        let visible = |found: &Decoded<Organisation>| {
            caller.may(Action::SeeOrganisation, Object::Organisation(&found.record.id)).is_ok()
        };
        let all = self.view.read(|state| state.list::<Organisation>("", after, usize::MAX))?;
        Ok(all.into_iter().filter(visible).take(len_max).collect())
    }
}
