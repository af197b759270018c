//! Sessions of people, and who calls.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use weft_model::{
    Decoded, Record, UserId,
    access::Actor,
    id::SessionId,
    placement::Decision,
    record::{Membership, Session, TokenUse, User},
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{App, AppError, Caller, Proof, Sight, lockout::Lockout, sources::Before};
use crate::secret::{self, random};

/// How long a session lasts.
const SESSION_LASTS: Duration = Duration::from_secs(12 * 3_600);
/// Sessions of one person; with another one the oldest ends.
const SESSIONS_MAX: usize = 64;
/// Sessions that end for one that begins, at most.
const ENDED_AT_ONCE_MAX: usize = 16;

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
        self.actor_seen(secret, &Sight::stored()).await
    }

    /// The same, as a call looks.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] for whatever is wrong with it; [`AppError::Unavailable`] when nobody knows.
    pub async fn actor_seen(&self, secret: &str, sight: &Sight) -> Result<Actor, AppError> {
        self.actor_with(secret, TokenUse::Api, sight).await
    }

    /// Who shows this secret to a part of the platform.
    pub(super) async fn actor_with(
        &self,
        secret: &str,
        shown_to: TokenUse,
        sight: &Sight,
    ) -> Result<Actor, AppError> {
        let hash = secret::hash(secret);
        let now = self.now();
        if let Some(session) = self.look_up::<Session>(sight, &hash).await?
            && session.record.expires > now
        {
            let user = self.user_seen(&session.record.user, sight).await?;
            if user.era != session.record.era {
                return Err(AppError::Unauthenticated);
            }
            return self.actor_of_user(user, sight).await;
        }
        self.actor_of_token(&hash, shown_to, sight).await
    }

    pub(super) async fn actor_of_user(&self, user: User, sight: &Sight) -> Result<Actor, AppError> {
        if user.suspended {
            return Err(AppError::Unauthenticated);
        }
        let User { id, operator, .. } = user;
        let memberships: Vec<Decoded<Membership>> = self.look_for(sight, &format!("{id}/")).await?;
        let memberships = memberships.into_iter().map(|membership| membership.record);
        let (mut organisations, mut environments) = (BTreeMap::new(), BTreeMap::new());
        for membership in memberships {
            organisations.insert(membership.organisation, membership.role);
            environments.extend(membership.environments);
        }
        Ok(Actor::User { id, operator, organisations, environments })
    }

    /// A person, as its caller is one.
    pub(crate) async fn user(&self, id: &UserId) -> Result<User, AppError> {
        self.user_seen(id, &Sight::stored()).await
    }

    /// The same, as a call looks.
    pub(crate) async fn user_seen(&self, id: &UserId, sight: &Sight) -> Result<User, AppError> {
        let user: Option<Decoded<User>> = self.look_up(sight, id.as_str()).await?;
        Ok(user.ok_or(AppError::Unauthenticated)?.record)
    }

    /// Begins a session. Whatever is wrong, the answer is the same and as slow.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`].
    pub async fn login(
        &self,
        caller: &Caller,
        email: &str,
        proof: Proof,
    ) -> Result<Login, AppError> {
        let code = proof.code.clone();
        let by = self.prove(caller, email, proof).await?;
        caller.call.begin().await?;
        let (secret, secret_hash) = secret::new("weft_session");
        let id = SessionId::from_random(&random());
        let (session, user) = transact!(self, {
            let (user, transaction) = self.proved(&by, &code).await?.spend()?;
            let transaction =
                self.remember_source(caller, &user, Before::Kept, transaction).await?;
            let now = self.now();
            let session = Session {
                secret_hash: secret_hash.clone(),
                id: id.clone(),
                user: user.id.clone(),
                era: user.era,
                expires: now.after(SESSION_LASTS),
                created: now,
            };
            let mut transaction =
                transaction.absent(session.key()?).put(session.key()?, session.encode()?);
            let mut own = self.sessions_of(&user)?;
            own.sort_by_key(|found| found.record.created);
            // As far as this process knows of those that begin elsewhere at the same moment.
            let over = (own.len() + 1).saturating_sub(SESSIONS_MAX);
            for oldest in own.iter().take(over.min(ENDED_AT_ONCE_MAX)) {
                transaction = transaction.delete(oldest.record.key()?);
            }
            Ok(Decision::Commit(transaction, (session, user)))
        })?;
        Ok(Login { secret, session, user })
    }

    pub(super) fn lockout(&self) -> MutexGuard<'_, Lockout> {
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
}

/// By which an address is found: it is compared without regard to case.
pub(super) fn email_hash(email: &str) -> String {
    secret::hash(&email.to_lowercase())
}
