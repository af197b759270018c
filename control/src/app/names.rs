//! How things are called in requests.

use std::str::FromStr;

use weft_model::{
    Decoded, OrganisationId, ServiceName,
    access::Action,
    record::{Environment, EnvironmentName, Organisation, OrganisationName},
};
use weft_types::EnvironmentId;

use super::{App, AppError, Caller, Sight};

/// `org-…` or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OrganisationReference {
    Id(OrganisationId),
    Name(ServiceName),
}

impl FromStr for OrganisationReference {
    type Err = AppError;

    fn from_str(text: &str) -> Result<Self, AppError> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let name = text.parse().map_err(|problem| AppError::invalid("organisation", problem))?;
        Ok(Self::Name(name))
    }
}

/// `env-…`, or `ORGANISATION/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentReference(Reference);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reference {
    Id(EnvironmentId),
    Name(OrganisationReference, ServiceName),
}

impl FromStr for EnvironmentReference {
    type Err = AppError;

    fn from_str(text: &str) -> Result<Self, AppError> {
        let invalid = |problem| AppError::invalid("environment", problem);
        let reference = match text.split_once('/') {
            None if text.starts_with("env-") => Reference::Id(text.parse().map_err(invalid)?),
            Some((organisation, name)) => {
                Reference::Name(organisation.parse()?, name.parse().map_err(invalid)?)
            }
            None => {
                let problem = format!("{text:?}; expected an id (env-…) or ORGANISATION/NAME");
                return Err(AppError::invalid("environment", problem));
            }
        };
        Ok(Self(reference))
    }
}

impl App {
    /// An environment, if the caller may do this with it. One that is not there and one that the caller may not see
    /// are refused alike.
    pub(super) async fn environment(
        &self,
        caller: &Caller,
        action: Action,
        reference: &EnvironmentReference,
    ) -> Result<Decoded<Environment>, AppError> {
        let found = self.find(reference, &caller.sight).await?;
        let found = found.ok_or(AppError::NotFound("environment"))?;
        caller.may_in(action, &found.record)?;
        Ok(found)
    }

    /// An environment, whoever asks.
    pub(super) async fn find(
        &self,
        reference: &EnvironmentReference,
        sight: &Sight,
    ) -> Result<Option<Decoded<Environment>>, AppError> {
        let id = match &reference.0 {
            Reference::Id(id) => id.clone(),
            Reference::Name(organisation, name) => {
                let Some(organisation) = self.organisation_id(organisation, sight).await? else {
                    return Ok(None);
                };
                let path = format!("{organisation}/{name}");
                let named = self.look_up::<EnvironmentName>(sight, &path).await?;
                let Some(named) = named else { return Ok(None) };
                named.record.id
            }
        };
        self.look_up(sight, id.as_str()).await
    }

    /// Which environment of which organisation is called so, as far as this process knows, whoever asks.
    pub(crate) fn locate(
        &self,
        reference: &EnvironmentReference,
    ) -> Option<(OrganisationId, EnvironmentId)> {
        let id = self.meant(reference)?;
        let found = self.view.read(|state| state.get::<Environment>(id.as_str())).ok()??;
        Some((found.record.organisation, id))
    }

    /// The id that is meant, as far as this process knows names, whoever asks; there may be no environment of it. The
    /// store is not asked.
    pub(super) fn meant(&self, reference: &EnvironmentReference) -> Option<EnvironmentId> {
        match &reference.0 {
            Reference::Id(id) => Some(id.clone()),
            Reference::Name(organisation, name) => {
                let organisation = self.locate_id(organisation)?;
                let path = format!("{organisation}/{name}");
                let named = self.view.read(|state| state.get::<EnvironmentName>(&path));
                Some(named.ok()??.record.id)
            }
        }
    }

    /// Which organisation is called so, as far as this process knows, whoever asks.
    pub(crate) fn locate_organisation(&self, text: &str) -> Option<OrganisationId> {
        let id = self.locate_id(&text.parse().ok()?)?;
        let found = self.view.read(|state| state.get::<Organisation>(id.as_str())).ok()??;
        Some(found.record.id)
    }

    fn locate_id(&self, reference: &OrganisationReference) -> Option<OrganisationId> {
        match reference {
            OrganisationReference::Id(id) => Some(id.clone()),
            OrganisationReference::Name(name) => {
                let named = self.view.read(|state| state.get::<OrganisationName>(name.as_str()));
                Some(named.ok()??.record.id)
            }
        }
    }

    async fn organisation_id(
        &self,
        reference: &OrganisationReference,
        sight: &Sight,
    ) -> Result<Option<OrganisationId>, AppError> {
        match reference {
            OrganisationReference::Id(id) => Ok(Some(id.clone())),
            OrganisationReference::Name(name) => {
                let named = self.look_up::<OrganisationName>(sight, name.as_str()).await?;
                Ok(named.map(|named| named.record.id))
            }
        }
    }

    /// An organisation, if the caller may do this with it.
    pub(super) async fn organisation(
        &self,
        caller: &Caller,
        action: Action,
        text: &str,
    ) -> Result<Decoded<Organisation>, AppError> {
        let absent = || AppError::NotFound("organisation");
        let sight = &caller.sight;
        let id = self.organisation_id(&text.parse()?, sight).await?.ok_or_else(absent)?;
        let found = self.look_up(sight, id.as_str()).await?.ok_or_else(absent)?;
        caller.may(action, weft_model::access::Object::Organisation(&id))?;
        Ok(found)
    }
}
