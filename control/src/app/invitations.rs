//! Invitations: how people come, and into which organisations.
//!
//! An invitation is for one address and says nothing of whether somebody has it. Who has no account makes one with it;
//! who has one accepts it in a session.

use std::time::Duration;

use weft_audit::{Facts, Word};
use weft_model::{
    Decoded, OrganisationId, Record, TokenId, UserId,
    access::{Action, Actor, Object, OrganisationRole},
    people::{self, Joining},
    placement::Decision,
    record::{
        EMAIL_LEN_MAX, Invitation, InvitedTo, Membership, Organisation, Roster, User, UserEmail,
    },
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{
    App, AppError, Caller, authentication::person, environments::rests_on,
    passwords::check_password, sessions::email_hash,
};
use crate::{
    audit,
    secret::{self, random},
};

/// The first operator of an installation is invited, by whoever has the machine.
const INVITE_OPERATOR: Word = Word::new("installation.invite-operator");
/// How long an invitation lasts.
const INVITATION_LASTS: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Longest name of a person, bytes.
const NAME_LEN_MAX: usize = 200;

fn absent() -> AppError {
    AppError::NotFound("invitation")
}

impl App {
    /// Invites somebody into an organisation, whether there is an account with the address or not. Operators invite
    /// its first owner, until somebody is in it.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn invite_member(
        &self,
        caller: &Caller,
        organisation: &str,
        email: &str,
        role: OrganisationRole,
    ) -> Result<(Invitation, Zeroizing<String>), AppError> {
        transact!(self, {
            let found = self.organisation(caller, Action::SeeOrganisation, organisation).await?;
            let id = &found.record.id;
            let roster = self.roster(id).await?;
            let runs = caller.may(Action::ManageInstallation, Object::Organisation(id)).is_ok();
            let is_first = roster.record.people == 0 && role == OrganisationRole::Owner && runs;
            let by = match &caller.actor {
                Actor::User { id: user, .. } if !is_first => {
                    caller.may(to_change(role), Object::Organisation(id))?;
                    Some(user.clone())
                }
                _ if is_first => None,
                _ => return Err(AppError::Refused),
            };
            let to = InvitedTo::Organisation(id.clone(), role);
            let (invitation, secret) = self.new_invitation(to, email, by)?;
            let replaced = self.pending(id, &roster, email).await?;
            for before in &replaced {
                if let InvitedTo::Organisation(_, role) = &before.record.to
                    && !is_first
                {
                    caller.may(to_change(*role), Object::Organisation(id))?;
                }
            }
            let held = people::Held { organisation: &found, roster: &roster };
            let transaction = people::invite(held, &invitation, &replaced)?;
            let transaction = self.still_backed(caller, (id, None), None, transaction).await?;
            Ok(Decision::Commit(transaction, (invitation, secret)))
        })
    }

    /// Invitations into an organisation that are not accepted yet, after the one with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_invitations(
        &self,
        caller: &Caller,
        organisation: &str,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Invitation>, AppError> {
        let found = self.organisation(caller, Action::ManageOrganisation, organisation).await?;
        let all = self.view.read(|state| state.all_of::<Invitation>(&found.record.id))?;
        let all = all.into_iter().map(|found| found.record);
        let now = self.now();
        let mut listed: Vec<_> = all
            .filter(|invitation| now < invitation.expires)
            .filter(|invitation| after.is_none_or(|after| invitation.id.as_str() > after))
            .collect();
        listed.sort_by(|one, other| one.id.cmp(&other.id));
        listed.truncate(len_max);
        Ok(listed)
    }

    /// Takes an invitation back. Idempotent.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn revoke_invitation(
        &self,
        caller: &Caller,
        organisation: &str,
        invitation: &TokenId,
    ) -> Result<(), AppError> {
        transact!(self, {
            let found = self.organisation(caller, Action::ManageOrganisation, organisation).await?;
            let roster = self.roster(&found.record.id).await?;
            self.view.reached(roster.modified).await?;
            let own = self.view.read(|state| state.all_of::<Invitation>(&found.record.id))?;
            let Some(invited) = own.into_iter().find(|invited| invited.record.id == *invitation)
            else {
                return Ok(Decision::Already(()));
            };
            if let InvitedTo::Organisation(id, role) = &invited.record.to {
                caller.may(to_change(*role), Object::Organisation(id))?;
            }
            let held = people::Held { organisation: &found, roster: &roster };
            Ok(Decision::Commit(people::withdraw(held, &invited)?, ()))
        })
    }

    /// Makes a person of whoever has an invitation. An address that has an account already looks as an invitation
    /// that is not there.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn accept_invitation(
        &self,
        caller: &Caller,
        invitation: &str,
        name: &str,
        password: Zeroizing<String>,
    ) -> Result<User, AppError> {
        check_password("password", &password)?;
        check_name(name)?;
        let hash = secret::hash(invitation);
        // Who has none is told so before any work is done.
        self.read::<Invitation>(&hash).await?.ok_or_else(absent)?;
        let password_hash = self.passwords.hash(caller.into(), password).await?;
        let id = UserId::from_random(&random());
        transact!(self, {
            let invited: Decoded<Invitation> = self.read(&hash).await?.ok_or_else(absent)?;
            let user = User {
                id: id.clone(),
                email: invited.record.email.clone(),
                name: name.to_owned(),
                operator: invited.record.to == InvitedTo::Installation,
                password_hash: password_hash.clone(),
                era: 0,
                suspended: false,
                created: self.now(),
            };
            let email = UserEmail { email_hash: email_hash(&user.email), id: id.clone() };
            if self.read::<UserEmail>(&email.path()).await?.is_some() {
                return Err(absent());
            }
            let transaction = self.decide_join(&invited, &user).await?;
            caller.call.begin().await?;
            let transaction = transaction
                .absent(email.key()?)
                .absent(user.key()?)
                .put(email.key()?, email.encode()?)
                .put(user.key()?, user.encode()?);
            Ok(Decision::Commit(transaction, user))
        })
    }

    /// Whoever calls accepts an invitation to their address. One to another address looks as one that is not there.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn join_by_invitation(
        &self,
        caller: &Caller,
        invitation: &str,
    ) -> Result<User, AppError> {
        let id = person(caller)?;
        let hash = secret::hash(invitation);
        transact!(self, {
            let invited: Decoded<Invitation> = self.read(&hash).await?.ok_or_else(absent)?;
            let found: Decoded<User> =
                self.read(id.as_str()).await?.ok_or(AppError::Unauthenticated)?;
            if found.record.suspended {
                return Err(AppError::Unauthenticated);
            }
            if email_hash(&invited.record.email) != email_hash(&found.record.email) {
                return Err(absent());
            }
            let transaction = self.decide_join(&invited, &found.record).await?;
            let mut transaction = rests_on(transaction, &found)?;
            let operator = invited.record.to == InvitedTo::Installation || found.record.operator;
            let user = User { operator, ..found.record.clone() };
            if user != found.record {
                transaction = transaction.put(user.key()?, user.encode()?);
            }
            Ok(Decision::Commit(transaction, user))
        })
    }

    /// The invitation is used; what becomes of the person's own record is for the caller to add.
    async fn decide_join(
        &self,
        invited: &Decoded<Invitation>,
        user: &User,
    ) -> Result<Transaction, AppError> {
        let InvitedTo::Organisation(id, _) = &invited.record.to else {
            if invited.record.expires <= self.now() {
                return Err(absent());
            }
            return Ok(rests_on(Transaction::new(), invited)?.delete(invited.record.key()?));
        };
        let found: Decoded<Organisation> = self.read(id.as_str()).await?.ok_or_else(absent)?;
        let roster = self.roster(id).await?;
        let inviter = match &invited.record.by {
            Some(by) => self.inviter(by, id).await?,
            None => None,
        };
        let membership = self.read::<Membership>(&format!("{}/{id}", user.id)).await?;
        let joining = Joining {
            invitation: invited,
            inviter: inviter.as_ref(),
            membership: membership.as_ref(),
        };
        let held = people::Held { organisation: &found, roster: &roster };
        Ok(people::join(held, user, joining, self.now())?)
    }

    /// The part in an organisation of who invited somebody into it; nothing of who is suspended.
    async fn inviter(
        &self,
        by: &UserId,
        organisation: &OrganisationId,
    ) -> Result<Option<Decoded<Membership>>, AppError> {
        match self.read::<User>(by.as_str()).await? {
            Some(user) if !user.record.suspended => {
                self.read::<Membership>(&format!("{by}/{organisation}")).await
            }
            _ => Ok(None),
        }
    }

    /// Invitations of an address into an organisation: all that there are while the roster is this one.
    pub(super) async fn pending(
        &self,
        organisation: &OrganisationId,
        roster: &Decoded<Roster>,
        email: &str,
    ) -> Result<Vec<Decoded<Invitation>>, AppError> {
        self.view.reached(roster.modified).await?;
        let address = email_hash(email);
        let is_to = |invitation: &Invitation| email_hash(&invitation.email) == address;
        Ok(self.view.read(|state| state.owned(organisation, None, is_to, usize::MAX))?)
    }

    /// Which invitation into which organisation has this secret, as far as this process knows, whoever asks.
    pub(crate) fn locate_invitation(&self, secret: &str) -> Option<(OrganisationId, TokenId)> {
        let path = secret::hash(secret);
        let found = self.view.read(|state| state.get::<Invitation>(&path)).ok()??.record;
        match found.to {
            InvitedTo::Organisation(organisation, _) => Some((organisation, found.id)),
            InvitedTo::Installation => None,
        }
    }

    /// What removes an invitation that nobody has accepted in time.
    pub(super) async fn forget_invitation(
        &self,
        invited: &Decoded<Invitation>,
    ) -> Result<Transaction, AppError> {
        if let InvitedTo::Organisation(id, _) = &invited.record.to
            && let Some(found) = self.read::<Organisation>(id.as_str()).await?
        {
            let roster = self.roster(id).await?;
            let held = people::Held { organisation: &found, roster: &roster };
            return Ok(people::withdraw(held, invited)?);
        }
        Ok(rests_on(Transaction::new(), invited)?.delete(invited.record.key()?))
    }

    pub(super) fn new_invitation(
        &self,
        to: InvitedTo,
        email: &str,
        by: Option<UserId>,
    ) -> Result<(Invitation, Zeroizing<String>), AppError> {
        let well_formed = email.len() <= EMAIL_LEN_MAX
            && email
                .split_once('@')
                .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
            && !email.contains(|c: char| c.is_whitespace() || c.is_control());
        if !well_formed {
            return Err(AppError::invalid("email", "expected NAME@DOMAIN"));
        }
        let (secret, secret_hash) = secret::new("weft_invitation");
        let now = self.now();
        let invitation = Invitation {
            secret_hash,
            id: TokenId::from_random(&random()),
            to,
            email: email.to_owned(),
            by,
            created: now,
            expires: now.after(INVITATION_LASTS),
        };
        Ok((invitation, secret))
    }

    /// Invites the first operator of a new installation.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn invite_operator(&self, email: &str) -> Result<Zeroizing<String>, AppError> {
        let (invitation, secret) = self.new_invitation(InvitedTo::Installation, email, None)?;
        let call = self.recorder.command(INVITE_OPERATOR, audit::named("installation"));
        call.begin().await?;
        let invited = transact!(self, {
            let transaction = Transaction::new()
                .absent(invitation.key()?)
                .put(invitation.key()?, invitation.encode()?);
            Ok(Decision::Commit(transaction, ()))
        });
        call.end(invited.as_ref().map(|()| Facts::none())).await?;
        invited.map(|()| secret)
    }
}

/// What whoever makes somebody this in an organisation, or takes it from somebody, must be allowed to do.
pub(super) fn to_change(role: OrganisationRole) -> Action {
    match role.least_to_change() {
        OrganisationRole::Owner => Action::OwnOrganisation,
        OrganisationRole::Member | OrganisationRole::Admin => Action::ManageOrganisation,
    }
}

fn check_name(name: &str) -> Result<(), AppError> {
    if name.len() > NAME_LEN_MAX || name.contains(char::is_control) {
        let problem = format!("expected at most {NAME_LEN_MAX} bytes without control characters");
        return Err(AppError::invalid("name", problem));
    }
    Ok(())
}
