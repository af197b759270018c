//! Versions of secrets, and to which hosts they are released.
//!
//! ```text
//!   put ──▶ version 1 ──▶ put ──▶ version 2 ──▶ … the oldest of more than 100 goes
//!              │ destroy             │ sealed for (environment, name, which one of that name, version)
//!              ▼                     ▼
//!          no value any more      released to whoever may read, or to a host with a grant that names it
//! ```
//!
//! Nothing here sees a value: it is sealed by who asks, between the decision for which version and the commit.

use weft_store::{Condition, Transaction, Write};
use weft_types::HostId;

use crate::{
    id::{SecretId, SecretName},
    placement::Decision,
    record::{
        Attachment, Basis, Decoded, Environment, EnvironmentState, Grant, Record, RecordError,
        SealedSecret, Secret, SecretUsage, SecretVersion, UnixMs,
    },
};

/// Longest value, bytes. With what sealing adds, in base 64, it is a third of a store's longest value.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// Most secrets of an environment.
pub const SECRETS_MAX: u32 = 1_000;
/// Most versions of a secret that are remembered; a deletion of all of them, in one transaction, is within a store's
/// bound of 128 writes.
pub const VERSIONS_MAX: usize = 100;
/// Most bytes of all values of an environment, so that no tenant fills the store: a thousand secrets of 64 KiB each.
pub const ALL_BYTES_MAX: u64 = 64 << 20;
/// Most secrets that one grant releases.
pub const GRANT_SECRETS_MAX: usize = 64;

/// Why there is no such decision. Nothing in it is of a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The value is too long.
    #[error("value: {0} bytes; expected at most {SECRET_BYTES_MAX}")]
    TooLong(usize),
    /// It is not at the version that was read.
    #[error("secret has changed since it was read")]
    Changed,
    /// More versions are named than are remembered.
    #[error("versions: {0} of them; expected at most {VERSIONS_MAX}")]
    TooMany(usize),
    /// There is no such version, or not any more.
    #[error("no such version")]
    NoVersion,
    /// The version's value is gone.
    #[error("version {0} is destroyed")]
    Destroyed(u64),
    /// There are as many as there may be.
    #[error("{0}")]
    Limit(String),
    /// Nothing is changed in this environment.
    #[error("the environment is being deleted")]
    Deleting,
    /// What is stored is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Secret {
    /// What a version's value is sealed for, in its environment: it opens as no other secret, as no other version, and
    /// as none of a secret that had the name before.
    #[must_use]
    pub fn context(&self, version: u64) -> [Vec<u8>; 4] {
        [
            self.environment.as_str().as_bytes().to_vec(),
            self.name.as_str().as_bytes().to_vec(),
            self.id.as_str().as_bytes().to_vec(),
            version.to_be_bytes().to_vec(),
        ]
    }

    /// The version whose value is to be released; 0 is the newest.
    ///
    /// # Errors
    /// [`SecretError::Destroyed`]: an older one is never released in its place.
    pub fn released(&self, version: u64) -> Result<u64, SecretError> {
        let version = if version == 0 { self.version } else { version };
        match self.versions.iter().find(|known| known.version == version) {
            None => Err(SecretError::NoVersion),
            Some(known) if known.destroyed.is_some() => Err(SecretError::Destroyed(version)),
            Some(_) => Ok(version),
        }
    }
}

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Where.
    pub environment: &'a Decoded<Environment>,
    /// What it has; nothing without.
    pub usage: Option<&'a Decoded<SecretUsage>>,
    /// The secret; there is none without.
    pub secret: Option<&'a Decoded<Secret>>,
}

/// A change in the making; it rests on everything that it is made from.
#[derive(Debug)]
struct Change {
    transaction: Transaction,
    usage: SecretUsage,
}

impl Change {
    fn new(held: Held<'_>) -> Result<Self, SecretError> {
        let environment = &held.environment.record;
        match environment.state {
            EnvironmentState::Active | EnvironmentState::Suspended => {}
            EnvironmentState::Deleting { .. } | EnvironmentState::Purging => {
                return Err(SecretError::Deleting);
            }
        }
        let usage = held.usage.map(|usage| usage.record.clone());
        let none = SecretUsage { environment: environment.id.clone(), secrets: 0, bytes: 0 };
        let mut change =
            Self { transaction: Transaction::new(), usage: usage.unwrap_or_else(|| none.clone()) };
        change.rests_on(Some(held.environment), environment)?;
        change.rests_on(held.usage, &none)?;
        Ok(change)
    }

    /// Rests on a record as it was found, or on that there is none where this one would be.
    fn rests_on<R: Record>(
        &mut self,
        found: Option<&Decoded<R>>,
        there: &R,
    ) -> Result<(), SecretError> {
        let key = there.key()?;
        self.transaction.conditions.push(match found {
            Some(found) => Condition::At(key, found.modified),
            None => Condition::Absent(key),
        });
        Ok(())
    }

    fn put(&mut self, record: &impl Record) -> Result<(), SecretError> {
        let (key, value) = (record.key()?, record.encode()?.into());
        self.transaction.writes.push(Write::Put { key, value, lease: None });
        Ok(())
    }

    /// The value of a version goes.
    fn drop_value(&mut self, secret: &Secret, version: &SecretVersion) -> Result<(), SecretError> {
        if version.destroyed.is_none() {
            let path = SealedSecret::path_of(&secret.environment, &secret.name, version.version);
            self.transaction.writes.push(Write::Delete(SealedSecret::key_at(&path)?));
            self.usage.bytes = self.usage.bytes.saturating_sub(version.bytes.into());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Transaction, SecretError> {
        let usage = self.usage.clone();
        self.put(&usage)?;
        Ok(self.transaction)
    }
}

/// A new version, for which the value is yet to be sealed.
#[derive(Debug)]
pub struct NewVersion {
    /// The secret, with it.
    pub secret: Secret,
    change: Change,
}

impl NewVersion {
    /// The decision, with the value sealed for [`Secret::context`] of the secret's newest version, base 64.
    ///
    /// # Errors
    /// [`SecretError::Record`].
    pub fn sealed(mut self, sealed: String) -> Result<Decision<Secret>, SecretError> {
        let Secret { environment, name, version, .. } = self.secret.clone();
        self.change.put(&SealedSecret { environment, name, version, sealed })?;
        Ok(Decision::Commit(self.change.finish()?, self.secret))
    }
}

/// The next version of a secret, if it is at `version`; 0 if there is none of the name, which then has this id.
///
/// # Errors
/// [`SecretError`].
pub fn put(
    held: Held<'_>,
    name: &SecretName,
    version: u64,
    id: SecretId,
    bytes: usize,
    now: UnixMs,
) -> Result<NewVersion, SecretError> {
    if held.secret.map_or(0, |found| found.record.version) != version {
        return Err(SecretError::Changed);
    }
    let len = u32::try_from(bytes).ok().filter(|_| bytes <= SECRET_BYTES_MAX);
    let len = len.ok_or(SecretError::TooLong(bytes))?;
    let mut change = Change::new(held)?;
    let mut secret = match held.secret {
        Some(found) => found.record.clone(),
        None => Secret {
            environment: held.environment.record.id.clone(),
            name: name.clone(),
            id,
            version: 0,
            versions: Vec::new(),
            created: now,
        },
    };
    change.rests_on(held.secret, &secret)?;
    while secret.versions.len() >= VERSIONS_MAX {
        let oldest = secret.versions.remove(0);
        change.drop_value(&secret, &oldest)?;
    }
    secret.version += 1;
    secret.versions.push(SecretVersion {
        version: secret.version,
        bytes: len,
        created: now,
        destroyed: None,
    });
    change.usage.bytes += u64::from(len);
    change.usage.secrets += u32::from(held.secret.is_none());
    if change.usage.secrets > SECRETS_MAX {
        let problem = format!("the environment's limit of {SECRETS_MAX} secrets is reached");
        return Err(SecretError::Limit(problem));
    }
    if change.usage.bytes > ALL_BYTES_MAX {
        let problem = format!(
            "the environment's limit of {ALL_BYTES_MAX} bytes of all values is reached: destroy old versions"
        );
        return Err(SecretError::Limit(problem));
    }
    change.put(&secret)?;
    Ok(NewVersion { secret, change })
}

/// The values of versions go, from here on: not from copies of the store. What was destroyed before stays so.
///
/// # Errors
/// [`SecretError`]: there is nothing done when one of them is not there, or more are named than are remembered.
pub fn destroy(
    held: Held<'_>,
    versions: &[u64],
    now: UnixMs,
) -> Result<Decision<Secret>, SecretError> {
    if versions.len() > VERSIONS_MAX {
        return Err(SecretError::TooMany(versions.len()));
    }
    let found = held.secret.ok_or(SecretError::NoVersion)?;
    let known = |version: &u64| found.record.versions.iter().any(|known| known.version == *version);
    if versions.is_empty() || !versions.iter().all(known) {
        return Err(SecretError::NoVersion);
    }
    let mut change = Change::new(held)?;
    let mut secret = found.record.clone();
    change.rests_on(held.secret, &secret)?;
    for at in 0..secret.versions.len() {
        let version = secret.versions[at].clone();
        if versions.contains(&version.version) && version.destroyed.is_none() {
            change.drop_value(&secret, &version)?;
            secret.versions[at].destroyed = Some(now);
        }
    }
    if secret == found.record {
        return Ok(Decision::Already(secret));
    }
    change.put(&secret)?;
    Ok(Decision::Commit(change.finish()?, secret))
}

/// A secret goes with all of its versions, if it is at `version`; 0 for any.
///
/// # Errors
/// [`SecretError`].
pub fn delete(held: Held<'_>, version: u64) -> Result<Decision<()>, SecretError> {
    let Some(Decoded { record: secret, .. }) = held.secret else {
        return Ok(Decision::Already(()));
    };
    if version != 0 && version != secret.version {
        return Err(SecretError::Changed);
    }
    let mut change = Change::new(held)?;
    change.rests_on(held.secret, secret)?;
    for version in &secret.versions {
        change.drop_value(secret, version)?;
    }
    change.transaction.writes.push(Write::Delete(secret.key()?));
    change.usage.secrets = change.usage.secrets.saturating_sub(1);
    Ok(Decision::Commit(change.finish()?, ()))
}

/// Whether a host has a right to secrets by a grant: it is for this host, and either can be used yet or was used for
/// an attachment that is still there, on this host, and rests on it. Which secrets these are, the grant says.
#[must_use]
pub fn is_good_for(
    grant: &Grant,
    host: &HostId,
    environment: &Environment,
    attachment: Option<&Attachment>,
    now: UnixMs,
) -> bool {
    let lives = matches!(environment.state, EnvironmentState::Active | EnvironmentState::Suspended);
    let is_used_there = |attachment: &Attachment| {
        attachment.host == *host
            && grant.used_by.as_ref() == Some(&attachment.name)
            && attachment.environment == grant.environment
            && attachment.basis == Basis::Grant(grant.id.clone())
    };
    let holds = match &grant.used_by {
        None => now < grant.expires,
        Some(_) => attachment.is_some_and(is_used_there),
    };
    lives && holds && grant.environment == environment.id && grant.host == *host
}

#[cfg(test)]
mod tests;
