//! Members of organisations, and who has which role in their environments.

use weft_model::{
    Decoded, OrganisationId, UserId,
    access::{Action, Actor, EnvironmentRole, Object, OrganisationRole},
    people,
    placement::Decision,
    record::{Environment, Invitation, Membership, Roster, User, UserEmail},
};
use weft_store::Transaction;
use weft_types::EnvironmentId;

use super::{
    App, AppError, Caller, EnvironmentReference, environments::rests_on, invitations::to_change,
    sessions::email_hash,
};

/// Somebody in an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: User,
    /// As what.
    pub membership: Membership,
}

impl App {
    /// How many are in an organisation.
    pub(super) async fn roster(&self, of: &OrganisationId) -> Result<Decoded<Roster>, AppError> {
        let found = self.read(of.as_str()).await?;
        found.ok_or_else(|| AppError::internal(format!("{of} has no roster")))
    }

    /// Who is called so, by id or address. That nobody is takes the same steps: some id comes back that nobody has.
    pub(super) async fn person(&self, text: &str) -> Result<UserId, AppError> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        if !text.contains('@') {
            let problem = "expected an id (usr-…) or an e-mail address";
            return Err(AppError::invalid("user", problem));
        }
        let known = self.read::<UserEmail>(&email_hash(text)).await?;
        Ok(known.map_or_else(|| UserId::from_random(&[0; 10]), |known| known.record.id))
    }

    /// Invitations that somebody has into an organisation, while the roster is this one.
    pub(super) async fn pending_of(
        &self,
        organisation: &OrganisationId,
        roster: &Decoded<Roster>,
        user: &UserId,
    ) -> Result<Vec<Decoded<Invitation>>, AppError> {
        match self.read::<User>(user.as_str()).await? {
            Some(user) => self.pending(organisation, roster, &user.record.email).await,
            None => Ok(Vec::new()),
        }
    }

    /// What is decided by the caller's part in an organisation rests on that, too: whoever loses it at the same moment
    /// changes nothing afterwards, however often it is tried. `about` whom it is has their part in the conditions already.
    pub(super) async fn still_backed(
        &self,
        caller: &Caller,
        within: (&OrganisationId, Option<&EnvironmentId>),
        about: Option<&UserId>,
        transaction: Transaction,
    ) -> Result<Transaction, AppError> {
        let (organisation, environment) = within;
        let Actor::User { id, organisations, environments, .. } = &caller.actor else {
            return Ok(transaction);
        };
        let Some(had) = organisations.get(organisation) else { return Ok(transaction) };
        let found = self.read::<Membership>(&format!("{id}/{organisation}")).await?;
        let has_still = |found: &Decoded<Membership>| {
            let is_there = environment
                .is_none_or(|at| found.record.environments.get(at) >= environments.get(at));
            found.record.role >= *had && is_there
        };
        let found = found.filter(has_still).ok_or(AppError::Refused)?;
        if about == Some(id) { Ok(transaction) } else { rests_on(transaction, &found) }
    }

    async fn membership(
        &self,
        user: &UserId,
        organisation: &OrganisationId,
    ) -> Result<Decoded<Membership>, AppError> {
        let found = self.read(&format!("{user}/{organisation}")).await?;
        found.ok_or(AppError::NotFound("member"))
    }

    async fn member(&self, membership: Membership) -> Result<Member, AppError> {
        let user: Option<Decoded<User>> = self.read(membership.user.as_str()).await?;
        let user = user.ok_or(AppError::NotFound("member"))?.record;
        Ok(Member { user, membership })
    }

    /// Who is in an organisation, after the person with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_members(
        &self,
        caller: &Caller,
        organisation: &str,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Member>, AppError> {
        let found = self.organisation(caller, Action::ManageOrganisation, organisation).await?;
        let id = &found.record.id;
        self.members(id, |_| true, after, len_max)
    }

    /// Who has a role in an environment, its own or by that in the organisation, after the person with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_environment_members(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<(Member, EnvironmentRole)>, AppError> {
        let found = self.environment(caller, Action::ManagePeople, reference).await?.record;
        let has_role = |member: &Membership| member.role_in(&found.id).is_some();
        let listed = self.members(&found.organisation, has_role, after, len_max)?;
        let with_role = listed.into_iter().filter_map(|member| {
            let role = member.membership.role_in(&found.id)?;
            Some((member, role))
        });
        Ok(with_role.collect())
    }

    fn members(
        &self,
        of: &OrganisationId,
        is_listed: impl Fn(&Membership) -> bool,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Member>, AppError> {
        // Paths begin with the person's id.
        let after = after.map(|after| format!("{after}/{of}"));
        self.view.read(|state| {
            let has_account =
                |found: &Membership| !matches!(state.get::<User>(found.user.as_str()), Ok(None));
            let is_member = |found: &Membership| is_listed(found) && has_account(found);
            let listed = state.owned(of, after.as_deref(), is_member, len_max)?;
            let mut members = Vec::new();
            for Decoded { record: membership, .. } in listed {
                if let Some(user) = state.get::<User>(membership.user.as_str())? {
                    members.push(Member { user: user.record, membership });
                }
            }
            Ok(members)
        })
    }

    /// Somebody has another role in an organisation. Who makes an owner, or changes one, is one.
    ///
    /// # Errors
    /// [`AppError::State`] for the last owner.
    pub async fn set_member_role(
        &self,
        caller: &Caller,
        organisation: &str,
        user: &str,
        role: OrganisationRole,
    ) -> Result<Member, AppError> {
        let changed = transact!(self, {
            let found = self.organisation(caller, Action::ManageOrganisation, organisation).await?;
            let id = &found.record.id;
            let before = self.membership(&self.person(user).await?, id).await?;
            for role in [before.record.role, role] {
                caller.may(to_change(role), Object::Organisation(id))?;
            }
            let roster = self.roster(id).await?;
            let pending = self.pending_of(id, &roster, &before.record.user).await?;
            let held = people::Held { organisation: &found, roster: &roster };
            Ok(match people::set_role(held, &before, role, &pending)? {
                Decision::Commit(transaction, after) => {
                    let about = Some(&after.user);
                    let transaction =
                        self.still_backed(caller, (id, None), about, transaction).await?;
                    Decision::Commit(transaction, after)
                }
                already @ Decision::Already(_) => already,
            })
        })?;
        self.member(changed).await
    }

    /// Somebody is not in an organisation any more, nor in any of its environments. Everybody may leave.
    ///
    /// # Errors
    /// [`AppError::State`] for the last owner.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        organisation: &str,
        user: &str,
    ) -> Result<(), AppError> {
        transact!(self, {
            let found = self.organisation(caller, Action::SeeOrganisation, organisation).await?;
            let id = &found.record.id;
            let who = self.person(user).await?;
            let leaves = matches!(&caller.actor, Actor::User { id, .. } if *id == who);
            if !leaves {
                caller.may(Action::ManageOrganisation, Object::Organisation(id))?;
            }
            let before = self.membership(&who, id).await?;
            if !leaves {
                caller.may(to_change(before.record.role), Object::Organisation(id))?;
            }
            let roster = self.roster(id).await?;
            let pending = self.pending_of(id, &roster, &who).await?;
            let held = people::Held { organisation: &found, roster: &roster };
            let transaction = people::remove(held, &before, &pending)?;
            let transaction =
                self.still_backed(caller, (id, None), Some(&who), transaction).await?;
            Ok(Decision::Commit(transaction, ()))
        })
    }

    /// Somebody of its organisation has this role in an environment; returns which they have there now, which is
    /// more where the role in the organisation says so.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_environment_role(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        user: &str,
        role: EnvironmentRole,
    ) -> Result<(Member, EnvironmentRole), AppError> {
        let (changed, environment) =
            self.change_environment_role(caller, reference, user, Some(role)).await?;
        let role = changed.role_in(&environment).unwrap_or(role);
        Ok((self.member(changed).await?, role))
    }

    /// Somebody has no role of their own in an environment.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn remove_environment_role(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        user: &str,
    ) -> Result<(), AppError> {
        self.change_environment_role(caller, reference, user, None).await.map(drop)
    }

    async fn change_environment_role(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        user: &str,
        role: Option<EnvironmentRole>,
    ) -> Result<(Membership, EnvironmentId), AppError> {
        transact!(self, {
            let found = self.environment(caller, Action::ManagePeople, reference).await?;
            let who = self.person(user).await?;
            let before = self.membership(&who, &found.record.organisation).await?;
            let Environment { id, organisation, .. } = found.record.clone();
            Ok(match people::set_environment_role(&found, &before, role)? {
                Decision::Commit(transaction, after) => {
                    let about = Some(&after.user);
                    let transaction = self
                        .still_backed(caller, (&organisation, Some(&id)), about, transaction)
                        .await?;
                    Decision::Commit(transaction, (after, id))
                }
                Decision::Already(after) => Decision::Already((after, id)),
            })
        })
    }
}
