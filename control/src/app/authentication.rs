//! SSH keys of people, and who it is that shows a key or a token to a part of the platform.

use weft_model::{
    Decoded, Record, UserId,
    access::{Action, Actor, Component, Object},
    id::SshKeyId,
    placement::Decision,
    record::{SshKey, TokenUse},
};
use weft_store::Transaction;

use super::{App, AppError, Caller, Possession, Proof, Sight};
use crate::{secret::random, ssh::PublicKey};

/// Most keys of a person, as far as a process knows of those that they add elsewhere at the same moment.
const SSH_KEYS_MAX: usize = 32;
/// Longest name of a key, bytes.
const NAME_LEN_MAX: usize = 100;

/// A key that somebody wants to be theirs.
#[derive(Debug, Clone, Copy)]
pub struct SshKeyWish<'a> {
    /// A line of OpenSSH.
    pub line: &'a str,
    /// Where it is, in words; the line's comment when it is empty.
    pub name: &'a str,
    /// What shows that it is.
    pub possession: Possession<'a>,
}

impl App {
    /// A key is the caller's from now on. It is of one person of the installation.
    ///
    /// # Errors
    /// [`AppError::Invalid`] when what is shown is wrong; [`AppError::Exists`] when the key is somebody's.
    pub async fn add_ssh_key(
        &self,
        caller: &Caller,
        wish: SshKeyWish<'_>,
        proof: Proof,
    ) -> Result<SshKey, AppError> {
        let user = person(caller)?;
        let SshKeyWish { line, name, possession } = wish;
        let key = PublicKey::parse(line).map_err(|problem| AppError::invalid("key", problem))?;
        let name = if name.is_empty() { &key.comment } else { name };
        if name.len() > NAME_LEN_MAX || name.contains(char::is_control) {
            let problem =
                format!("expected at most {NAME_LEN_MAX} bytes without control characters");
            return Err(AppError::invalid("name", problem));
        }
        self.possesses(user, &key, possession).await?;
        let code = proof.code.clone();
        let by = self.prove_caller(caller, proof).await?;
        let id = SshKeyId::from_random(&random());
        transact!(self, {
            if let Some(known) = self.read::<SshKey>(&key.fingerprint).await? {
                let whose = if known.record.user == *user { "yours" } else { "somebody's" };
                return Err(AppError::Exists(format!("this key is {whose} already")));
            }
            if self.keys_of(user)?.len() >= SSH_KEYS_MAX {
                return Err(AppError::Exhausted(format!(
                    "a person has at most {SSH_KEYS_MAX} keys"
                )));
            }
            let added = SshKey {
                fingerprint: key.fingerprint.clone(),
                id: id.clone(),
                user: user.clone(),
                name: name.to_owned(),
                key: key.line.clone(),
                created: self.now(),
            };
            // Nobody who goes, or is suspended, gets one at the same moment.
            let (_, transaction) = self.caller_proved(&by, &code).await?.spend()?;
            let transaction = transaction.absent(added.key()?).put(added.key()?, added.encode()?);
            Ok(Decision::Commit(transaction, added))
        })
    }

    /// The caller's keys, after the one with this id.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn list_ssh_keys(
        &self,
        caller: &Caller,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<SshKey>, AppError> {
        let all = self.keys_of(person(caller)?)?.into_iter().map(|found| found.record);
        let mut listed: Vec<_> =
            all.filter(|key| after.is_none_or(|after| key.id.as_str() > after)).collect();
        listed.sort_by(|one, other| one.id.cmp(&other.id));
        listed.truncate(len_max);
        Ok(listed)
    }

    /// A key is the caller's no more; returns which it was. One of somebody else looks as one that is not there.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub async fn remove_ssh_key(&self, caller: &Caller, id: &SshKeyId) -> Result<SshKey, AppError> {
        let user = person(caller)?;
        transact!(self, {
            let mut own = self.keys_of(user)?.into_iter();
            let found = own.find(|found| found.record.id == *id);
            let found = found.ok_or(AppError::NotFound("SSH key"))?;
            let transaction = super::environments::rests_on(Transaction::new(), &found)?
                .delete(found.record.key()?);
            Ok(Decision::Commit(transaction, found.record))
        })
    }

    pub(super) fn keys_of(&self, user: &UserId) -> Result<Vec<Decoded<SshKey>>, AppError> {
        Ok(self.view.read(|state| state.all_of(user))?)
    }

    /// Who has a key with this fingerprint (hexadecimal), and what they may do. For parts of the platform.
    ///
    /// # Errors
    /// [`AppError::NotFound`], whatever is wrong with it.
    pub async fn resolve_ssh_key(
        &self,
        caller: &Caller,
        fingerprint: &str,
    ) -> Result<Actor, AppError> {
        caller.may(Action::Authenticate, Object::Installation)?;
        let known =
            self.read::<SshKey>(fingerprint).await?.ok_or(AppError::NotFound(CREDENTIAL))?;
        let user = self.user(&known.record.user).await.map_err(unknown)?;
        self.actor_of_user(user, &Sight::stored()).await.map_err(unknown)
    }

    /// Who shows this session or token to the part of the platform that asks, and what they may do.
    ///
    /// # Errors
    /// [`AppError::NotFound`], whatever is wrong with it.
    pub async fn resolve_token(&self, caller: &Caller, secret: &str) -> Result<Actor, AppError> {
        caller.may(Action::Authenticate, Object::Installation)?;
        let Actor::Component(component) = &caller.actor else { return Err(AppError::Refused) };
        let shown_to = match component {
            Component::Edge => TokenUse::Edge,
            Component::Git => TokenUse::Git,
            Component::Registry => TokenUse::Registry,
            Component::Scheduler => return Err(AppError::Refused),
        };
        self.actor_with(secret, shown_to, &Sight::stored()).await.map_err(unknown)
    }
}

const CREDENTIAL: &str = "key or token";

/// What is not good is as what is not there.
fn unknown(error: AppError) -> AppError {
    match error {
        AppError::Unauthenticated => AppError::NotFound(CREDENTIAL),
        other => other,
    }
}

/// The person who calls.
pub(super) fn person(caller: &Caller) -> Result<&UserId, AppError> {
    match &caller.actor {
        Actor::User { id, .. } => Ok(id),
        Actor::Nobody => Err(AppError::Unauthenticated),
        Actor::Token { .. } | Actor::Host(_) | Actor::Component(_) => Err(AppError::Refused),
    }
}
