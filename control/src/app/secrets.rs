//! Secrets of environments. Values are sealed on their way to the store and opened on their way to who may have them;
//! nothing in between sees them, and no error holds one.

use data_encoding::BASE64;
use weft_keys::{Owner, Purpose};
use weft_model::{
    Decoded, SecretName,
    access::{Action, Actor, Object},
    id::{GrantId, SecretId},
    placement::Decision,
    record::{Attachment, Environment, Grant, SealedSecret, Secret, SecretUsage},
    secret::{self, Held},
};
use weft_types::HostId;
use zeroize::Zeroizing;

use super::{App, AppError, Caller, EnvironmentReference};
use crate::secret::random;

/// A value, which is wiped when it is dropped.
pub type SecretValue = Zeroizing<Vec<u8>>;

/// A value that somebody gets.
pub struct Released {
    /// Which version it is.
    pub version: u64,
    /// The value.
    pub value: SecretValue,
}

/// What is known of a secret.
struct Known {
    environment: Decoded<Environment>,
    usage: Option<Decoded<SecretUsage>>,
    secret: Option<Decoded<Secret>>,
}

impl Known {
    fn held(&self) -> Held<'_> {
        let Self { environment, usage, secret } = self;
        Held { environment, usage: usage.as_ref(), secret: secret.as_ref() }
    }
}

impl App {
    async fn known_secret(
        &self,
        environment: Decoded<Environment>,
        name: &SecretName,
    ) -> Result<Known, AppError> {
        let id = &environment.record.id;
        let usage = self.read(id.as_str()).await?;
        let secret = self.read(&format!("{id}/{name}")).await?;
        Ok(Known { environment, usage, secret })
    }

    /// Writes the next version of a secret, if it is at `version`; 0 if there is none.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn put_secret(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &SecretName,
        version: u64,
        value: &SecretValue,
    ) -> Result<Secret, AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::WriteSecrets, reference).await?;
            let known = self.known_secret(environment, name).await?;
            let id = SecretId::from_random(&random());
            let new = secret::put(known.held(), name, version, id, value.len(), self.now())?;
            let sealed = self.seal_secret(&new.secret, value).await?;
            Ok(new.sealed(sealed)?)
        })
    }

    async fn seal_secret(&self, secret: &Secret, value: &SecretValue) -> Result<String, AppError> {
        let owner = Owner::Environment(secret.environment.clone());
        let context = secret.context(secret.version);
        let context = context.each_ref().map(Vec::as_slice);
        let sealed = self.keyring.seal(&owner, Purpose::Secret, &context, value).await?;
        Ok(BASE64.encode(&sealed))
    }

    async fn open_secret(&self, secret: &Secret, version: u64) -> Result<SecretValue, AppError> {
        let path = SealedSecret::path_of(&secret.environment, &secret.name, version);
        let found = self.read::<SealedSecret>(&path).await?;
        // It was destroyed since the secret was read.
        let found = found.ok_or(AppError::Changed("secret"))?;
        let sealed = BASE64.decode(found.record.sealed.as_bytes()).map_err(AppError::internal)?;
        let owner = Owner::Environment(secret.environment.clone());
        let context = secret.context(version);
        let context = context.each_ref().map(Vec::as_slice);
        Ok(self.keyring.open_sealed(&owner, Purpose::Secret, &context, &sealed).await?)
    }

    /// Secrets of an environment after the one with this name, without their values.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn list_secrets(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Secret>, AppError> {
        let environment = self.environment(caller, Action::SeeSecrets, reference).await?;
        let path = format!("{}/", environment.record.id);
        let after = after.map(|after| format!("{path}{after}"));
        let found =
            self.view.read(|state| state.list::<Secret>(&path, after.as_deref(), len_max))?;
        Ok(found.into_iter().map(|secret| secret.record).collect())
    }

    /// One secret without its values.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn get_secret(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &SecretName,
    ) -> Result<Secret, AppError> {
        let environment = self.environment(caller, Action::SeeSecrets, reference).await?;
        let found = self.read::<Secret>(&format!("{}/{name}", environment.record.id)).await?;
        found.map(|found| found.record).ok_or(AppError::NotFound("secret"))
    }

    /// The value of a version, 0 for the newest: to whoever may read secrets, or to a host with a grant.
    ///
    /// # Errors
    /// [`AppError`]. To a host without a right there is no such environment.
    pub async fn release_secret(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &SecretName,
        version: u64,
        grant: Option<&GrantId>,
    ) -> Result<Released, AppError> {
        let environment = match &caller.actor {
            Actor::Host(host) => self.granted(caller, host, reference, name, grant).await?,
            _ => {
                let found = self.environment(caller, Action::ReadSecrets, reference).await?;
                if grant.is_some() {
                    return Err(AppError::invalid("grant", "is for hosts; expected none"));
                }
                found.record
            }
        };
        let secret = self.read::<Secret>(&format!("{}/{name}", environment.id)).await?;
        let secret = secret.ok_or(AppError::NotFound("secret"))?.record;
        let version = secret.released(version)?;
        let value = self.open_secret(&secret, version).await?;
        Ok(Released { version, value })
    }

    /// The environment that a host's grant is of, if the grant is good and releases the secret.
    async fn granted(
        &self,
        caller: &Caller,
        host: &HostId,
        reference: &EnvironmentReference,
        name: &SecretName,
        grant: Option<&GrantId>,
    ) -> Result<Environment, AppError> {
        caller.may(Action::ActAsHost, Object::Host(host))?;
        let absent = || AppError::NotFound("environment");
        let found = self.find(reference, &caller.sight).await?;
        let environment = found.ok_or_else(absent)?.record;
        let path = format!("{}/{}", environment.id, grant.ok_or_else(absent)?);
        let grant = self.read::<Grant>(&path).await?.ok_or_else(absent)?.record;
        let attachment = match &grant.used_by {
            Some(used_by) => {
                self.read::<Attachment>(&format!("{}/{used_by}", environment.id)).await?
            }
            None => None,
        };
        let attachment = attachment.as_ref().map(|found| &found.record);
        if !secret::is_good_for(&grant, host, &environment, attachment, self.now()) {
            return Err(absent());
        }
        if !grant.secrets.contains(name) {
            return Err(AppError::NotFound("secret"));
        }
        Ok(environment)
    }

    /// Destroys values of versions; copies of the store that were made before have them yet.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn destroy_secret_versions(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &SecretName,
        versions: &[u64],
    ) -> Result<Secret, AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::WriteSecrets, reference).await?;
            let known = self.known_secret(environment, name).await?;
            if known.secret.is_none() {
                return Err(AppError::NotFound("secret"));
            }
            Ok(secret::destroy(known.held(), versions, self.now())?)
        })
    }

    /// Destroys a secret with all of its versions, if it is at `version`; 0 for any.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn delete_secret(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        name: &SecretName,
        version: u64,
    ) -> Result<(), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::WriteSecrets, reference).await?;
            let known = self.known_secret(environment, name).await?;
            if known.secret.is_none() {
                return Err(AppError::NotFound("secret"));
            }
            Ok(secret::delete(known.held(), version)?)
        })
    }
}
