//! People: how they come, and who they are.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use weft_audit::{Facts, Word};
use weft_model::{
    Decoded, OrganisationId, Record, ServiceName, UserId,
    access::{Action, Actor, Object, OrganisationRole},
    placement::Decision,
    record::{
        EMAIL_LEN_MAX, EnvironmentMembership, Invitation, InvitedTo, Membership, Organisation,
        OrganisationName, Session, Token, User, UserEmail,
    },
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{App, AppError, Caller, environments::rests_on, lockout::Lockout};
use crate::{
    audit,
    secret::{self, random},
};

/// Shortest password, bytes (NIST SP 800-63B section 3.1.1.2 asks for 15 where it is the only factor, 8 with a second).
const PASSWORD_LEN_MIN: usize = 15;
/// Longest password, bytes.
const PASSWORD_LEN_MAX: usize = 1_024;
/// Bytes of a password's salt (RFC 9106 section 3.1).
const SALT_LEN: usize = 16;
/// The first operator of an installation is invited, by whoever has the machine.
const INVITE_OPERATOR: Word = Word::new("installation.invite-operator");
/// How long a session lasts.
const SESSION_LASTS: Duration = Duration::from_secs(12 * 3_600);
/// How long an invitation lasts.
const INVITATION_LASTS: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A session that has begun.
#[derive(Debug)]
pub struct Login {
    /// What the person shows from now on.
    pub secret: Zeroizing<String>,
    /// The session.
    pub session: Session,
    /// Who.
    pub user: User,
}

impl App {
    /// Who shows this secret: a person's session or a machine's token.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] for whatever is wrong with it.
    pub async fn actor_of(&self, secret: &str) -> Result<Actor, AppError> {
        let hash = secret::hash(secret);
        let now = self.now();
        if let Some(session) = self.read::<Session>(&hash).await?
            && session.record.expires > now
        {
            return self.actor_of_user(&session.record.user).await;
        }
        let token = self.read::<Token>(&hash).await?.filter(|token| token.record.expires > now);
        let token = token.ok_or(AppError::Unauthenticated)?.record;
        Ok(Actor::Token { id: token.id, environment: token.environment, role: token.role })
    }

    async fn actor_of_user(&self, id: &UserId) -> Result<Actor, AppError> {
        let user: Decoded<User> = self.read(id.as_str()).await?.ok_or(AppError::Unauthenticated)?;
        let path = format!("{id}/");
        let (organisations, environments) = self.view.read(|state| {
            let organisations = state.list::<Membership>(&path, None, usize::MAX)?;
            let environments = state.list::<EnvironmentMembership>(&path, None, usize::MAX)?;
            Ok::<_, AppError>((organisations, environments))
        })?;
        let organisations: BTreeMap<_, _> = organisations
            .into_iter()
            .map(|membership| (membership.record.organisation, membership.record.role))
            .collect();
        let environments = environments
            .into_iter()
            .map(|membership| (membership.record.environment, membership.record.role))
            .collect();
        let operator = user.record.operator;
        Ok(Actor::User { id: id.clone(), operator, organisations, environments })
    }

    /// A person, as its caller is one.
    pub(crate) async fn user(&self, id: &UserId) -> Result<User, AppError> {
        let user: Decoded<User> = self.read(id.as_str()).await?.ok_or(AppError::Unauthenticated)?;
        Ok(user.record)
    }

    /// Begins a session. Whatever is wrong, the answer is the same and as slow.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`].
    pub async fn login(
        &self,
        caller: &Caller,
        email: &str,
        password: Zeroizing<String>,
    ) -> Result<Login, AppError> {
        let found = match self.read::<UserEmail>(&email_hash(email)).await? {
            Some(known) => self.read::<User>(known.record.id.as_str()).await?,
            None => None,
        };
        let user = found.map(|user| user.record);
        let hash =
            user.as_ref().map_or_else(|| NOBODY.to_owned(), |user| user.password_hash.clone());
        let address = email_hash(email);
        let matches = self.slowly(move || verify(&password, &hash)).await?;
        // Locked or wrong takes as long and says as much.
        {
            let (mut lockout, now) = (self.lockout(), self.now());
            if lockout.is_locked(&address, now) {
                return Err(AppError::Unauthenticated);
            }
            if !matches {
                // What is tried while it is locked prolongs nothing.
                lockout.fail(&address, now);
                return Err(AppError::Unauthenticated);
            }
            lockout.succeed(&address);
        }
        let user = user.ok_or(AppError::Unauthenticated)?;
        caller.call.begin().await?;
        let (secret, secret_hash) = secret::new("weft_session");
        let now = self.now();
        let session = Session {
            secret_hash,
            user: user.id.clone(),
            expires: now.after(SESSION_LASTS),
            created: now,
        };
        transact!(self, {
            let transaction = Transaction::new()
                .present(user.key()?)
                .absent(session.key()?)
                .put(session.key()?, session.encode()?);
            Ok(Decision::Commit(transaction, ()))
        })?;
        Ok(Login { secret, session, user })
    }

    fn lockout(&self) -> MutexGuard<'_, Lockout> {
        self.lockout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session that has this secret.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn logout(&self, caller: &Caller, secret: &str) -> Result<(), AppError> {
        let path = secret::hash(secret);
        if self.read::<Session>(&path).await?.is_none() {
            return Ok(());
        }
        caller.call.begin().await?;
        let key = Session::key_at(&path)?;
        transact!(self, Ok(Decision::Commit(Transaction::new().delete(key.clone()), ())))
    }

    /// Makes a person of whoever has an invitation.
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
        if !(PASSWORD_LEN_MIN..=PASSWORD_LEN_MAX).contains(&password.len()) {
            let problem = format!(
                "has {} bytes; expected {PASSWORD_LEN_MIN} to {PASSWORD_LEN_MAX}",
                password.len()
            );
            return Err(AppError::invalid("password", problem));
        }
        let absent = || AppError::NotFound("invitation");
        let hash = secret::hash(invitation);
        // Who has none is told so before any work is done.
        self.read::<Invitation>(&hash).await?.ok_or_else(absent)?;
        let password_hash = self.slowly(move || hash_password(&password)).await??;
        let id = UserId::from_random(&random());
        transact!(self, {
            let invited: Decoded<Invitation> = self.read(&hash).await?.ok_or_else(absent)?;
            if invited.record.expires <= self.now() {
                return Err(absent());
            }
            let user = User {
                id: id.clone(),
                email: invited.record.email.clone(),
                name: name.to_owned(),
                operator: invited.record.to == InvitedTo::Installation,
                password_hash: password_hash.clone(),
                created: self.now(),
            };
            let email = UserEmail { email_hash: email_hash(&user.email), id: id.clone() };
            if self.read::<UserEmail>(&email.path()).await?.is_some() {
                return Err(AppError::Exists(
                    "there is an account with this address already".into(),
                ));
            }
            caller.call.begin().await?;
            let mut transaction = rests_on(Transaction::new(), &invited)?
                .absent(email.key()?)
                .absent(user.key()?)
                .delete(invited.record.key()?)
                .put(email.key()?, email.encode()?)
                .put(user.key()?, user.encode()?);
            if let InvitedTo::Organisation(organisation, role) = &invited.record.to {
                let (user, organisation, role) = (id.clone(), organisation.clone(), *role);
                let membership = Membership { user, organisation, role };
                transaction = transaction.put(membership.key()?, membership.encode()?);
            }
            Ok(Decision::Commit(transaction, user))
        })
    }

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
        let to = InvitedTo::Organisation(id, OrganisationRole::Owner);
        let (invitation, secret) = self.new_invitation(to, owner_email)?;
        transact!(self, {
            if self.read::<OrganisationName>(&named.path()).await?.is_some() {
                return Err(AppError::Exists(format!("there is an organisation {name} already")));
            }
            let transaction = Transaction::new()
                .absent(named.key()?)
                .absent(organisation.key()?)
                .put(named.key()?, named.encode()?)
                .put(organisation.key()?, organisation.encode()?)
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

    /// What takes tens of milliseconds and 19 MiB: a few at once, and no other call waits for it.
    async fn slowly<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AppError> {
        let _turn = self.passwords.acquire().await.map_err(AppError::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(AppError::internal)
    }

    fn new_invitation(
        &self,
        to: InvitedTo,
        email: &str,
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
        let expires = self.now().after(INVITATION_LASTS);
        Ok((Invitation { secret_hash, to, email: email.to_owned(), expires }, secret))
    }

    /// Invites the first operator of a new installation.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn invite_operator(&self, email: &str) -> Result<Zeroizing<String>, AppError> {
        let (invitation, secret) = self.new_invitation(InvitedTo::Installation, email)?;
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

/// The hash of no password: who does not exist takes as long as who does. Of the same parameters as all others.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$\
                      1cVoSVFWZaTbFxtZyHx4cuWqXqIGsKD8WCrPFSDKB0Y";

fn email_hash(email: &str) -> String {
    secret::hash(&email.to_lowercase())
}

/// Argon2id (RFC 9106) with 19 MiB and two passes, as OWASP's cheat sheet on passwords has it.
fn hash_password(password: &str) -> Result<String, AppError> {
    let salt = SaltString::encode_b64(&random::<SALT_LEN>());
    let salt = salt.map_err(|error| AppError::internal(error.to_string()))?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| AppError::internal(error.to_string()))
}

fn verify(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use argon2::Params;

    use super::*;

    #[test]
    fn whoever_does_not_exist_costs_as_much_as_who_does() {
        let made = hash_password(&Zeroizing::new("a password".to_owned())).unwrap();
        let cost = |hash: &str| {
            let hash = PasswordHash::new(hash).unwrap();
            (
                hash.algorithm.to_string(),
                hash.version,
                Params::try_from(&hash).unwrap(),
                hash.hash.unwrap().len(),
            )
        };
        assert_eq!(cost(NOBODY), cost(&made));
        assert!(verify("a password", &made) && !verify("another", &made) && !verify("", NOBODY));
    }
}
