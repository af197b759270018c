//! Grants: the scheduler's leave for one attachment.

use std::{collections::BTreeSet, time::Duration};

use weft_model::{
    Decoded, Record, SecretName,
    access::Action,
    id::GrantId,
    placement::Decision,
    record::{self, Grant, SlotKey},
    secret::GRANT_SECRETS_MAX,
};
use weft_types::HostId;

use super::{App, AppError, Caller, EnvironmentReference, environments::rests_on};
use crate::secret::random;

/// Longest time in which a grant may be used.
pub const GRANT_SECONDS_MAX: u32 = 3_600;

/// What a grant is to give.
#[derive(Debug, Clone)]
pub struct GrantWish {
    /// Which slot may be filled.
    pub slot: SlotKey,
    /// By which host.
    pub host: HostId,
    /// Which attempt of the scheduler's job it is for.
    pub attempt: u32,
    /// How long it may be used.
    pub lasts: Duration,
    /// Secrets that are released to the host.
    pub secrets: BTreeSet<SecretName>,
}

impl App {
    /// Takes a grant back that was not used.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn revoke_grant(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        id: &GrantId,
    ) -> Result<(), AppError> {
        transact!(self, {
            let environment = self.environment(caller, Action::Grant, reference).await?;
            let grant = self.read::<Grant>(&format!("{}/{id}", environment.record.id)).await?;
            match grant {
                None => Ok(Decision::Already(())),
                Some(grant) if grant.record.used_by.is_some() => {
                    Err(AppError::State("the grant was used; release the attachment".into()))
                }
                Some(grant) => {
                    let transaction = rests_on(weft_store::Transaction::new(), &grant)?;
                    Ok(Decision::Commit(transaction.delete(grant.record.key()?), ()))
                }
            }
        })
    }

    /// The scheduler's leave for one attachment, and for the secrets that it needs.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn create_grant(
        &self,
        caller: &Caller,
        reference: &EnvironmentReference,
        wish: &GrantWish,
    ) -> Result<Grant, AppError> {
        let GrantWish { slot, host, attempt, lasts, secrets } = wish;
        if secrets.len() > GRANT_SECRETS_MAX {
            let problem =
                format!("{} of them; expected at most {GRANT_SECRETS_MAX}", secrets.len());
            return Err(AppError::invalid("secrets", problem));
        }
        transact!(self, {
            let environment = self.environment(caller, Action::Grant, reference).await?;
            let known: Decoded<record::Host> =
                self.read(host.as_str()).await?.ok_or(AppError::NotFound("host"))?;
            let grant = Grant {
                environment: environment.record.id.clone(),
                id: GrantId::from_random(&random()),
                slot: slot.clone(),
                host: host.clone(),
                attempt: *attempt,
                expires: self.now().after(*lasts),
                secrets: secrets.clone(),
                used_by: None,
            };
            let transaction = rests_on(weft_store::Transaction::new(), &environment)?;
            let transaction = rests_on(transaction, &known)?
                .absent(grant.key()?)
                .put(grant.key()?, grant.encode()?);
            Ok(Decision::Commit(transaction, grant))
        })
    }
}
