//! Certificates of environments for hosts.

use std::time::Duration;

use data_encoding::BASE64;
use weft_keys::{Owner, Purpose};
use weft_model::{
    Record,
    access::{Action, Object},
    record::{Authority, AuthorityState, Environment, EnvironmentState, Usage},
};
use weft_pki::{
    SigningRequest,
    issue::{self, Validity},
};
use weft_types::EnvironmentId;

use super::{App, AppError, Caller};

/// A certificate with whom it is trusted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// PEM.
    pub certificate: String,
    /// Certificates of the environment's authority that are trusted, PEM, the one that issued it first.
    pub anchors: Vec<String>,
}

impl App {
    /// A certificate of an environment for the host that asks, which it gets only while an attachment of that
    /// environment is to be on it. Everything else is as if there were no such environment.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn issue_leaf(
        &self,
        caller: &Caller,
        environment: &EnvironmentId,
        signing_request: &[u8],
    ) -> Result<Leaf, AppError> {
        let host = Self::calling_host(caller)?;
        caller.may(Action::ActAsHost, Object::Host(host))?;
        let key = SigningRequest::from_der(signing_request)?;
        let absent = || AppError::NotFound("environment");
        let is_here = || self.view.read(|state| state.projection().is_on(environment, host));
        // From memory, and nothing else of it is looked at: it takes no longer where there is such an environment.
        if !is_here() {
            return Err(absent());
        }
        // A right that was taken away is none, by whichever process: every change of an environment's attachments is one
        // of its usage, too, and is here then.
        if let Some(usage) = self.read::<Usage>(environment.as_str()).await? {
            self.view.reached(usage.modified).await?;
        }
        let settings = self.read::<Environment>(environment.as_str()).await?;
        let settings = settings.filter(|_| is_here()).ok_or_else(absent)?.record;
        if !matches!(settings.state, EnvironmentState::Active | EnvironmentState::Suspended) {
            return Err(absent());
        }
        let mut authorities = self.stored::<Authority>(&format!("{environment}/")).await?;
        authorities.sort_by_key(|authority| (authority.record.rank(), authority.record.generation));
        let current = authorities.first().map(|first| &first.record);
        let current = current.filter(|first| first.state == AuthorityState::Current);
        let current =
            current.ok_or_else(|| AppError::internal("an environment without an authority"))?;
        let authority = self.unseal(current).await?;
        let time = self.clock.system_time();
        let validity = Validity {
            not_before: time - issue::HOST_BACKDATE,
            not_after: time + Duration::from_secs(settings.lifetimes.leaf_seconds.into()),
        };
        let certificate = authority.issue_host_for(host, &key, validity)?;
        let anchors = authorities.into_iter().map(|authority| authority.record.certificate);
        Ok(Leaf { certificate, anchors: anchors.collect() })
    }

    async fn unseal(&self, sealed: &Authority) -> Result<issue::Authority, AppError> {
        let owner = Owner::Environment(sealed.environment.clone());
        let bytes = BASE64.decode(sealed.sealed_key.as_bytes()).map_err(AppError::internal)?;
        let context = sealed.generation.to_be_bytes();
        let pem = self
            .keyring
            .open_sealed(&owner, Purpose::CertificateAuthority, &[&context], &bytes)
            .await
            .map_err(|error| AppError::internal(format!("{}: {error}", sealed.path())))?;
        Ok(issue::Authority::from_pem(sealed.certificate.as_bytes(), &pem)?)
    }
}
