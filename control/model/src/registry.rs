//! Services, who has which role of them, and what is out of service.
//!
//! ```text
//!                 acquire                 transfer                    release, move, end of the attachment
//!   nobody has it ──────▶ db-0, epoch 7 ──────────▶ db-1, epoch 9 ──▶ nobody has it ──▶ … epoch 12
//! ```
//!
//! A role is of one attachment at a time, and each change of hands is one compare-and-swap: whoever asks says at which
//! epoch it read the role. Epochs are drawn from the environment's [`Usage`](crate::record::Usage), from which the
//! generations of attachments come too: they grow also while nobody has the role, and over the life of a service that
//! is deleted and registered again. So whoever has seen an epoch refuses every earlier holder for ever.
//!
//! All decisions rest on the usage and write it, as those about slots do: an attachment that ends takes its roles with
//! it in the same transaction, and none is given to an attachment that is ending.

use std::collections::BTreeMap;

use weft_types::AttachmentName;

use crate::{
    id::{ServiceName, SlotName},
    placement::{Decision, PlacementError, Scene, draft::Draft},
    record::{Attachment, Decoded, Drain, Port, Record, RecordError, Role, Service, UnixMs},
};

/// Most registered services of an environment: a quarter of the names that `weftd` answers for, the others are of
/// services that only have slots.
pub const SERVICES_MAX: usize = 1_024;
/// Most ports of a service, as many as have names in DNS.
pub const PORTS_MAX: usize = 32;
/// Longest name of a port, bytes (RFC 6335 section 5.1).
pub const PORT_NAME_LEN_MAX: usize = 15;
/// Most roles of a service, as many as one slot has names for in DNS.
pub const ROLES_MAX: usize = 8;
/// Most entries of a service's metadata.
pub const METADATA_MAX: usize = 32;
/// Longest name of such an entry, bytes.
pub const METADATA_NAME_LEN_MAX: usize = 63;
/// Longest value of such an entry, bytes.
pub const METADATA_VALUE_LEN_MAX: usize = 256;
/// Most bytes of all of a service's names and values, so that a page of 100 services fits in a message.
pub const METADATA_BYTES_MAX: usize = 4_096;

/// Why there is no such decision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A field is not as expected.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// It is not as whoever asks has read it.
    #[error("{0} has changed since it was read")]
    Changed(&'static str),
    /// Attachments fill slots of the service.
    #[error("attachments fill {0} slots of {1}: release them first")]
    Filled(usize, ServiceName),
    /// There are as many as there may be.
    #[error("{0}")]
    Limit(String),
    /// See there.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// What is stored is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn invalid(field: &'static str, problem: impl Into<String>) -> RegistryError {
    RegistryError::Invalid { field, problem: problem.into() }
}

/// What a service is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceWish {
    /// Its name.
    pub name: ServiceName,
    /// Where it listens, by name.
    pub ports: BTreeMap<ServiceName, Port>,
    /// What those who use it should know.
    pub metadata: BTreeMap<String, String>,
}

impl ServiceWish {
    /// Whether all is within bounds.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`].
    pub fn check(&self) -> Result<(), RegistryError> {
        if self.ports.len() > PORTS_MAX {
            let problem = format!("{} of them; expected at most {PORTS_MAX}", self.ports.len());
            return Err(invalid("ports", problem));
        }
        for (name, port) in &self.ports {
            if name.as_str().len() > PORT_NAME_LEN_MAX || !has_letter(name) {
                let problem = format!(
                    "{name}; expected at most {PORT_NAME_LEN_MAX} characters with a letter"
                );
                return Err(invalid("ports.name", problem));
            }
            if port.port == 0 {
                return Err(invalid("ports.port", "0; expected 1 to 65535"));
            }
        }
        self.check_metadata()
    }

    fn check_metadata(&self) -> Result<(), RegistryError> {
        let count = self.metadata.len();
        if count > METADATA_MAX {
            let problem = format!("{count} of them; expected at most {METADATA_MAX}");
            return Err(invalid("metadata", problem));
        }
        for (name, value) in &self.metadata {
            let is_name = (1..=METADATA_NAME_LEN_MAX).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_graphic());
            let is_value =
                value.len() <= METADATA_VALUE_LEN_MAX && !value.chars().any(char::is_control);
            if !is_name || !is_value {
                let problem = format!(
                    "{:?}; expected names of 1 to {METADATA_NAME_LEN_MAX} printable characters of ASCII and values of \
                     at most {METADATA_VALUE_LEN_MAX} bytes without control characters",
                    name.chars().take(METADATA_NAME_LEN_MAX).collect::<String>()
                );
                return Err(invalid("metadata", problem));
            }
        }
        let bytes: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            let problem = format!("{bytes} bytes; expected at most {METADATA_BYTES_MAX}");
            return Err(invalid("metadata", problem));
        }
        Ok(())
    }
}

fn has_letter(name: &ServiceName) -> bool {
    name.as_str().bytes().any(|b| b.is_ascii_alphabetic())
}

/// A service is as wished from now on, if it is at `version`; 0 if nobody has registered it. `registered` says how many
/// there are.
///
/// # Errors
/// [`RegistryError`].
pub fn put_service(
    scene: &Scene<'_>,
    wish: &ServiceWish,
    version: u64,
    existing: Option<&Decoded<Service>>,
    registered: usize,
) -> Result<Decision<Service>, RegistryError> {
    wish.check()?;
    if let Some(Decoded { record: before, .. }) = existing {
        // Asked again because the answer was lost: it is so already, whatever was read before.
        if (&before.ports, &before.metadata) == (&wish.ports, &wish.metadata) {
            return Ok(Decision::Already(before.clone()));
        }
    }
    if existing.map_or(0, |existing| existing.record.version) != version {
        return Err(RegistryError::Changed("service"));
    }
    let mut draft = Draft::new(scene, true)?;
    let service = Service {
        environment: scene.environment.record.id.clone(),
        name: wish.name.clone(),
        ports: wish.ports.clone(),
        metadata: wish.metadata.clone(),
        version: draft.next_generation(),
    };
    match existing {
        Some(existing) => draft.rests_on(existing)?,
        None if registered >= SERVICES_MAX => {
            let problem = format!("the environment's limit of {SERVICES_MAX} services is reached");
            return Err(RegistryError::Limit(problem));
        }
        None => draft.absent::<Service>(&service.path())?,
    }
    draft.put(&service)?;
    Ok(Decision::Commit(draft.finish()?, service))
}

/// What was registered of a service is forgotten, if it is at `version`; 0 for any. `filled` says how many of its slots
/// are filled.
///
/// # Errors
/// [`RegistryError::Filled`] while there are any.
pub fn delete_service(
    scene: &Scene<'_>,
    existing: &Decoded<Service>,
    version: u64,
    filled: usize,
) -> Result<Decision<()>, RegistryError> {
    if version != 0 && version != existing.record.version {
        return Err(RegistryError::Changed("service"));
    }
    if filled > 0 {
        return Err(RegistryError::Filled(filled, existing.record.name.clone()));
    }
    let mut draft = Draft::new(scene, false)?;
    draft.rests_on(existing)?;
    draft.delete::<Service>(&existing.record.path())?;
    Ok(Decision::Commit(draft.finish()?, ()))
}

/// Which role of which service, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleWish {
    /// Of which service.
    pub service: ServiceName,
    /// Which role.
    pub role: ServiceName,
    /// The epoch at which somebody has it; 0 when nobody does.
    pub epoch: u64,
}

impl RoleWish {
    /// Who has it, if that is as it was read.
    fn found<'a>(&self, scene: &Scene<'a>) -> Result<Option<&'a Decoded<Role>>, RegistryError> {
        let is_it = |role: &&Decoded<Role>| {
            (&role.record.service, &role.record.role) == (&self.service, &self.role)
        };
        let found = scene.roles.iter().find(is_it);
        if found.map_or(0, |found| found.record.epoch) != self.epoch {
            return Err(RegistryError::Changed("role"));
        }
        Ok(found)
    }

    /// A role's name holds a letter and is no slot's, so that it is one thing under its service's name.
    fn check(&self, names: &[AttachmentName]) -> Result<(), RegistryError> {
        let role = &self.role;
        if !has_letter(role) {
            return Err(invalid(
                "role",
                format!("{role}; expected a letter: a number is a slot's"),
            ));
        }
        if role.as_str().parse::<SlotName>().is_ok() {
            return Err(invalid("role", format!("{role} is the name of a slot")));
        }
        if names.iter().any(|name| name.as_str() == role.as_str()) {
            let problem =
                format!("{role} is an attachment of {}; expected another word", self.service);
            return Err(invalid("role", problem));
        }
        Ok(())
    }
}

/// An attachment has a role from now on, if the role is as it was read: of nobody, or at an epoch. `names` are those of
/// the service's attachments.
///
/// # Errors
/// [`RegistryError::Changed`] when somebody was faster.
pub fn take_role(
    scene: &Scene<'_>,
    wish: &RoleWish,
    holder: &Decoded<Attachment>,
    names: &[AttachmentName],
) -> Result<Decision<Role>, RegistryError> {
    wish.check(names)?;
    let of = &holder.record.slot.service;
    if *of != wish.service {
        return Err(invalid(
            "holder",
            format!("{} is of {of}, not of {}", holder.record.name, wish.service),
        ));
    }
    let found = wish.found(scene)?;
    let of_service = scene.roles.iter().filter(|role| role.record.service == wish.service);
    if found.is_none() && of_service.count() >= ROLES_MAX {
        let problem = format!("the limit of {ROLES_MAX} roles of a service is reached");
        return Err(RegistryError::Limit(problem));
    }
    let mut draft = Draft::new(scene, true)?;
    draft.rests_on(holder)?;
    let role = Role {
        environment: scene.environment.record.id.clone(),
        service: wish.service.clone(),
        role: wish.role.clone(),
        holder: holder.record.name.clone(),
        epoch: draft.next_generation(),
    };
    match found {
        Some(found) => draft.rests_on(found)?,
        None => draft.absent::<Role>(&role.path())?,
    }
    draft.put(&role)?;
    Ok(Decision::Commit(draft.finish()?, role))
}

/// Nobody has a role any more, if it is at the epoch that was read.
///
/// # Errors
/// [`RegistryError::Changed`] when it is not.
pub fn release_role(scene: &Scene<'_>, wish: &RoleWish) -> Result<Decision<()>, RegistryError> {
    let Some(found) = wish.found(scene)? else { return Ok(Decision::Already(())) };
    let mut draft = Draft::new(scene, false)?;
    draft.rests_on(found)?;
    draft.delete::<Role>(&found.record.path())?;
    Ok(Decision::Commit(draft.finish()?, ()))
}

/// An attachment is out of service from now on, or not any more.
///
/// # Errors
/// [`RegistryError`].
pub fn set_drained(
    scene: &Scene<'_>,
    attachment: &Decoded<Attachment>,
    existing: Option<&Decoded<Drain>>,
    drained: bool,
    now: UnixMs,
) -> Result<Decision<()>, RegistryError> {
    let is_now =
        existing.is_some_and(|existing| existing.record.generation == attachment.record.generation);
    if is_now == drained {
        return Ok(Decision::Already(()));
    }
    let mut draft = Draft::new(scene, false)?;
    draft.rests_on(attachment)?;
    let drain = Drain {
        environment: attachment.record.environment.clone(),
        attachment: attachment.record.name.clone(),
        generation: attachment.record.generation,
        since: now,
    };
    if drained {
        draft.put(&drain)?;
    } else {
        draft.delete::<Drain>(&drain.path())?;
    }
    Ok(Decision::Commit(draft.finish()?, ()))
}

#[cfg(test)]
mod tests;
