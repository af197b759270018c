//! What operators do with people's accounts.

use weft_audit::{Fact, Facts, Name, Object, Word};
use weft_model::{
    Decoded, Record, UserId,
    access::{self, Action, Actor},
    people,
    placement::Decision,
    record::{
        Membership, Organisation, SecondFactor, Session, SignIn, SshKey, Token, User, UserEmail,
    },
};
use weft_store::Transaction;

use super::{App, AppError, Caller, environments::rests_on, sessions::email_hash};
use crate::{
    audit::{self, Call, FINGERPRINT},
    ssh,
};

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub user: User,
    /// Whether a code is asked of them.
    pub has_second_factor: bool,
}

/// What is done to somebody's things with their account, as the audit has it.
const REMOVE_SSH_KEY: Word = Word::new("ssh-keys.remove-ssh-key");
const REVOKE_TOKEN: Word = Word::new("tokens.revoke-token");
const REMOVE_MEMBER: Word = Word::new("members.remove-member");
/// Who had made it.
const MADE_BY: Word = Word::new("made-by");

fn part(whole: Object, name: &str) -> Object {
    whole.with(&Name::asked(name))
}

fn absent() -> AppError {
    AppError::NotFound("user")
}

impl App {
    /// Who has an account, after the person with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn list_users(
        &self,
        caller: &Caller,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Account>, AppError> {
        caller.may(Action::ManageInstallation, access::Object::Installation)?;
        self.view.read(|state| {
            let listed = state.list::<User>("", after, len_max)?.into_iter();
            listed
                .map(|found| {
                    let factor = state.get::<SecondFactor>(found.record.id.as_str())?;
                    let has_second_factor = factor.is_some_and(|factor| factor.record.confirmed);
                    Ok(Account { user: found.record, has_second_factor })
                })
                .collect()
        })
    }

    async fn account(&self, id: &str) -> Result<Account, AppError> {
        let user: Decoded<User> = self.read(id).await?.ok_or_else(absent)?;
        let factor = self.read::<SecondFactor>(id).await?;
        let has_second_factor = factor.is_some_and(|factor| factor.record.confirmed);
        Ok(Account { user: user.record, has_second_factor })
    }

    /// Another person, for an operator. An operator has another one do it to them.
    async fn other(&self, caller: &Caller, text: &str) -> Result<Decoded<User>, AppError> {
        caller.may(Action::ManageInstallation, access::Object::Installation)?;
        let id = self.person(text).await?;
        if matches!(&caller.actor, Actor::User { id: own, .. } if *own == id) {
            return Err(AppError::State("this is you; another operator does it".into()));
        }
        self.read(id.as_str()).await?.ok_or_else(absent)
    }

    /// Everything that somebody shows is good for nothing. Their sessions are over, and their SSH keys and tokens are
    /// gone: whoever had their session may have made some. Later they may come again, and make others.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn set_suspended(
        &self,
        caller: &Caller,
        user: &str,
        suspended: bool,
    ) -> Result<Account, AppError> {
        let id = transact!(self, {
            let found = self.other(caller, user).await?;
            let before = &found.record;
            let id = before.id.clone();
            if before.suspended == suspended {
                return Ok(Decision::Already(id));
            }
            let after = User { suspended, era: before.era + 1, ..before.clone() };
            let mut transaction =
                rests_on(Transaction::new(), &found)?.put(after.key()?, after.encode()?);
            if suspended {
                // Whoever had their password was somewhere.
                transaction = transaction.delete(SignIn::key_at(id.as_str())?);
            }
            Ok(Decision::Commit(transaction, id))
        })?;
        if suspended {
            self.revoke_what_they_made(caller, &id).await?;
        }
        self.account(id.as_str()).await
    }

    /// Idempotent; none is made meanwhile by who is suspended. Each has its record where it was, so that organisations are
    /// told what their programs show no more.
    async fn revoke_what_they_made(&self, caller: &Caller, of: &UserId) -> Result<(), AppError> {
        for found in self.keys_of(of)? {
            let SshKey { id, fingerprint, .. } = &found.record;
            let object = part(part(audit::named("user"), of.as_str()), "ssh-key");
            let facts = Facts::none().with(Word::new(FINGERPRINT), ssh::audited(fingerprint));
            let call = caller.call.part(REMOVE_SSH_KEY, part(object, id.as_str()), facts);
            let transaction = rests_on(Transaction::new(), &found)?.delete(found.record.key()?);
            self.take(&call, transaction).await?;
        }
        let tokens = self.view.read(|state| state.list::<Token>("", None, usize::MAX))?;
        for Decoded { record: token, .. } in
            tokens.into_iter().filter(|t| t.record.created_by == *of)
        {
            let object = part(audit::environment(&token.environment, &token.organisation), "token");
            let facts = Facts::none().with(MADE_BY, Fact::Name(Name::asked(of.as_str())));
            let call = caller.call.part(REVOKE_TOKEN, part(object, token.id.as_str()), facts);
            // When it was used may be noted at the same moment.
            self.take(&call, Transaction::new().delete(token.key()?)).await?;
        }
        Ok(())
    }

    /// Takes something from somebody, which has a record of its own.
    async fn take(&self, call: &Call, transaction: Transaction) -> Result<(), AppError> {
        call.begin().await?;
        let taken = self.try_once(transaction).await;
        call.end(taken.as_ref().map(|()| Facts::none())).await?;
        taken
    }

    /// Somebody has no second factor any more, and no session.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn reset_second_factor(
        &self,
        caller: &Caller,
        user: &str,
    ) -> Result<Account, AppError> {
        let id = transact!(self, {
            let found = self.other(caller, user).await?;
            let before = &found.record;
            let id = before.id.clone();
            let after = User { era: before.era + 1, ..before.clone() };
            let transaction = rests_on(Transaction::new(), &found)?
                .put(after.key()?, after.encode()?)
                .delete(SecondFactor::key_at(id.as_str())?);
            Ok(Decision::Commit(transaction, id))
        })?;
        self.account(id.as_str()).await
    }

    /// What was wrong before, of passwords and codes, counts no more.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn unlock(&self, caller: &Caller, user: &str) -> Result<Account, AppError> {
        let id = transact!(self, {
            let found = self.other(caller, user).await?;
            let id = found.record.id.clone();
            let transaction = rests_on(Transaction::new(), &found)?;
            Ok(Decision::Commit(self.unlocked(&id, transaction).await?, id))
        })?;
        self.account(id.as_str()).await
    }

    /// Somebody has no account any more, with everything of it. May be done again where it ended in between: they are
    /// suspended first.
    ///
    /// # Errors
    /// [`AppError::State`] for the last owner of an organisation.
    pub async fn remove_user(&self, caller: &Caller, user: &str) -> Result<(), AppError> {
        let found = self.other(caller, user).await?.record;
        let path = format!("{}/", found.id);
        for membership in self.stored::<Membership>(&path).await? {
            self.decide_leave(&membership.record).await?;
        }
        let found = self.set_suspended(caller, found.id.as_str(), true).await?.user;
        // Whoever joins an organisation is not suspended: there are no more of these.
        for membership in self.stored::<Membership>(&path).await? {
            let Membership { organisation, .. } = &membership.record;
            let object = part(audit::organisation(organisation), "member");
            let object = part(object, found.id.as_str());
            let call = caller.call.part(REMOVE_MEMBER, object, Facts::none());
            call.begin().await?;
            let left = transact!(self, self.decide_leave(&membership.record).await);
            call.end(left.as_ref().map(|()| Facts::none())).await?;
            left?;
        }
        for session in self.view.read(|state| state.all_of::<Session>(&found.id))? {
            let transaction = rests_on(Transaction::new(), &session)?.delete(session.record.key()?);
            self.try_once(transaction).await?;
        }
        transact!(self, {
            let Some(last) = self.read::<User>(found.id.as_str()).await? else {
                return Ok(Decision::Already(()));
            };
            if !last.record.suspended {
                return Err(AppError::State("somebody has resumed them meanwhile".into()));
            }
            let transaction = rests_on(Transaction::new(), &last)?
                .delete(SecondFactor::key_at(found.id.as_str())?)
                .delete(SignIn::key_at(found.id.as_str())?)
                .delete(UserEmail::key_at(&email_hash(&last.record.email))?)
                .delete(last.record.key()?);
            Ok(Decision::Commit(transaction, ()))
        })
    }

    /// What takes somebody out of an organisation.
    async fn decide_leave(&self, left: &Membership) -> Result<Decision<()>, AppError> {
        let id = &left.organisation;
        let before = self.read::<Membership>(&left.path()).await?;
        let found = self.read::<Organisation>(id.as_str()).await?;
        let (Some(before), Some(found)) = (before, found) else {
            return Ok(Decision::Already(()));
        };
        let roster = self.roster(id).await?;
        let pending = self.pending_of(id, &roster, &left.user).await?;
        let held = people::Held { organisation: &found, roster: &roster };
        match people::remove(held, &before, &pending) {
            Err(people::PeopleError::LastOwner) => Err(AppError::State(format!(
                "this is the last owner of {}; make another one first",
                found.record.name
            ))),
            removed => Ok(Decision::Commit(removed?, ())),
        }
    }
}
