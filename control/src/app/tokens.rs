//! Tokens of machines: what a program shows, in one environment, for a time.
//!
//! A token is no more than who made it: with their part in the environment its own ends, and with less it has less.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use weft_model::{
    Decoded, Record, TokenId,
    access::{Action, Actor, EnvironmentRole},
    placement::Decision,
    record::{Environment, EnvironmentState, Membership, Token, TokenUse},
};
use weft_store::Transaction;
use zeroize::Zeroizing;

use super::{
    App, AppError, Caller, EnvironmentReference, Proof, Sight, authentication::person,
    environments::rests_on,
};
use crate::secret::{self, random};

/// Shortest and longest life of a token, seconds.
pub const TOKEN_SECONDS: RangeInclusive<u32> = 60..=366 * 24 * 3_600;
/// Most tokens of an environment, as far as a process knows of those that others make at the same moment.
const TOKENS_MAX: usize = 200;
/// Longest name of a token, bytes.
const NAME_LEN_MAX: usize = 100;
/// When a token was used last is known no better than this: each use would be a write otherwise.
const USED_GRAIN: Duration = Duration::from_secs(3_600);

/// What a token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What it is for, in words.
    pub name: String,
    /// As what it acts at most.
    pub role: EnvironmentRole,
    /// With which parts of the platform it is good; with all when there are none.
    pub uses: BTreeSet<TokenUse>,
    /// How long it is good, seconds.
    pub seconds: u32,
}

impl NewToken {
    fn check(&self) -> Result<(), AppError> {
        let len = self.name.len();
        if !(1..=NAME_LEN_MAX).contains(&len) || self.name.contains(char::is_control) {
            let problem =
                format!("has {len} bytes; expected 1 to {NAME_LEN_MAX} without control characters");
            return Err(AppError::invalid("name", problem));
        }
        if !TOKEN_SECONDS.contains(&self.seconds) {
            let (least, most) = (TOKEN_SECONDS.start(), TOKEN_SECONDS.end());
            let problem = format!("{}; expected {least} to {most}", self.seconds);
            return Err(AppError::invalid("seconds", problem));
        }
        Ok(())
    }
}

impl App {
    /// As whom a token acts that is shown to a part of the platform. Whatever is wrong looks the same.
    pub(super) async fn actor_of_token(
        &self,
        hash: &str,
        shown_to: TokenUse,
        sight: &Sight,
    ) -> Result<Actor, AppError> {
        let now = self.now();
        let found: Option<Decoded<Token>> = self.look_up(sight, hash).await?;
        let found = found.ok_or(AppError::Unauthenticated)?;
        let token = &found.record;
        let is_for = token.uses.is_empty() || token.uses.contains(&shown_to);
        if token.expires <= now || !is_for {
            return Err(AppError::Unauthenticated);
        }
        if self.user_seen(&token.created_by, sight).await?.suspended {
            return Err(AppError::Unauthenticated);
        }
        let path = format!("{}/{}", token.created_by, token.organisation);
        let maker = self.look_up::<Membership>(sight, &path).await?;
        // Who left and came back has not made it.
        let maker = maker.filter(|maker| maker.record.created <= token.created);
        let most = maker.and_then(|maker| maker.record.role_in(&token.environment));
        let role = most.ok_or(AppError::Unauthenticated)?.min(token.role);
        let is_due = token.used.is_none_or(|used| used.after(USED_GRAIN) <= now);
        if is_due && sight.age().is_none() {
            self.note_use(&found).await?;
        }
        let Token { id, environment, .. } = found.record;
        Ok(Actor::Token { id, environment, role })
    }

    /// Nothing depends on it: where it cannot be written, it is not.
    async fn note_use(&self, found: &Decoded<Token>) -> Result<(), AppError> {
        let used = Token { used: Some(self.now()), ..found.record.clone() };
        let transaction = rests_on(Transaction::new(), found)?.put(used.key()?, used.encode()?);
        if let Err(error) = self.store.commit(transaction).await {
            tracing::debug!(%error, token = %used.id, "when a token was used is not noted");
        }
        Ok(())
    }

    /// Makes a token; returns its record and its secret.
    ///
    /// # Errors
    /// [`AppError::Refused`] for more than the caller is there; [`AppError::Invalid`] when what is shown is wrong.
    pub async fn create_token(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        new: &NewToken,
        proof: Proof,
    ) -> Result<(Token, Zeroizing<String>), AppError> {
        new.check()?;
        // Who may not learns nothing of whether what they show is good.
        self.may_make(caller, reference, new).await?;
        let code = proof.code.clone();
        let by = self.prove_caller(caller, proof).await?;
        let (secret, secret_hash) = secret::new("weft_token");
        let id = TokenId::from_random(&random());
        let token = transact!(self, {
            let found = self.may_make(caller, reference, new).await?;
            let environment = &found.record;
            if !matches!(environment.state, EnvironmentState::Active | EnvironmentState::Suspended)
            {
                return Err(AppError::State("the environment is being deleted".into()));
            }
            if self.tokens_of(environment)?.len() >= TOKENS_MAX {
                let problem = format!("the environment's limit of {TOKENS_MAX} tokens is reached");
                return Err(AppError::Exhausted(problem));
            }
            // None is made by who is suspended at the same moment.
            let (maker, transaction) = self.caller_proved(&by, &code).await?.spend()?;
            let now = self.now();
            let token = Token {
                secret_hash: secret_hash.clone(),
                id: id.clone(),
                environment: environment.id.clone(),
                organisation: environment.organisation.clone(),
                role: new.role,
                uses: new.uses.clone(),
                name: new.name.clone(),
                created_by: maker.id,
                created: now,
                expires: now.after(Duration::from_secs(new.seconds.into())),
                used: None,
            };
            let transaction = rests_on(transaction, &found)?
                .absent(token.key()?)
                .put(token.key()?, token.encode()?);
            Ok(Decision::Commit(transaction, token))
        })?;
        Ok((token, secret))
    }

    /// The environment, if the caller may make such a token there.
    async fn may_make(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        new: &NewToken,
    ) -> Result<Decoded<Environment>, AppError> {
        let found = self.environment(caller, Action::MakeTokens, reference).await?;
        person(caller)?;
        let own = caller.actor.role_in(&found.record.id, &found.record.organisation);
        if own.is_none_or(|own| own < new.role) {
            return Err(AppError::Refused);
        }
        Ok(found)
    }

    /// Tokens of an environment that are good, after the one with this id: the caller's own, all of them for its
    /// admins.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_tokens(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Token>, AppError> {
        let found = self.environment(caller, Action::MakeTokens, reference).await?.record;
        let now = self.now();
        let all = self.tokens_of(&found)?.into_iter().map(|token| token.record);
        let mut listed: Vec<_> = all
            .filter(|token| token.expires > now && is_theirs(caller, &found, token))
            .filter(|token| after.is_none_or(|after| token.id.as_str() > after))
            .collect();
        listed.sort_by(|one, other| one.id.cmp(&other.id));
        listed.truncate(len_max);
        Ok(listed)
    }

    /// A token is good for nothing any more. One that the caller does not see is as one that is not there.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn revoke_token(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        id: &TokenId,
    ) -> Result<(), AppError> {
        transact!(self, {
            let found = self.environment(caller, Action::MakeTokens, reference).await?.record;
            let mut tokens = self.tokens_of(&found)?.into_iter();
            let token = tokens.find(|token| token.record.id == *id);
            let token = token.filter(|token| is_theirs(caller, &found, &token.record));
            let token = token.ok_or(AppError::NotFound("token"))?;
            // When it was used may be noted at the same moment.
            let transaction = Transaction::new().delete(token.record.key()?);
            Ok(Decision::Commit(transaction, ()))
        })
    }

    fn tokens_of(&self, environment: &Environment) -> Result<Vec<Decoded<Token>>, AppError> {
        Ok(self.view.read(|state| state.all_of(&environment.id))?)
    }
}

/// Whether a token is for the caller to see and to revoke.
fn is_theirs(caller: &Caller, environment: &Environment, token: &Token) -> bool {
    let made = matches!(&caller.actor, Actor::User { id, .. } if *id == token.created_by);
    made || caller.may_in(Action::ManagePeople, environment).is_ok()
}
