//! Why a call was not answered as its caller wished.

use std::fmt;

use weft_keys::{KeyringError, KmsError, UseError};
use weft_model::{
    RecordError,
    ipam::IpamError,
    people::PeopleError,
    placement::PlacementError,
    policy::PolicyError,
    registry::RegistryError,
    rotation::RotationError,
    secret::{SECRET_BYTES_MAX, SecretError, VERSIONS_MAX},
    settings::SettingsError,
};
use weft_pki::{issue::IssueError, request::RequestError};
use weft_store::{CommitError, StoreError};

use crate::view::Behind;

/// What is told to the caller. Everything that is the installation's own trouble is [`AppError::Internal`]: it is
/// logged, and the caller learns nothing of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A field is missing or malformed.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// Nobody has shown who it is.
    #[error("not logged in, or not any more")]
    Unauthenticated,
    /// Whoever asks may see the thing and not do this.
    #[error("this is not yours to do")]
    Refused,
    /// There is no such thing, or whoever asks may not see it.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The name is taken.
    #[error("{0}")]
    Exists(String),
    /// Not in this state.
    #[error("{0}")]
    State(String),
    /// It has changed since it was read.
    #[error("{0} has changed since it was read")]
    Changed(&'static str),
    /// A quota, limit or pool is used up.
    #[error("{0}")]
    Exhausted(String),
    /// Nothing was changed.
    #[error("the store takes no changes now; nothing was changed")]
    Unavailable,
    /// The store has no room; nothing was changed. Reading goes on.
    #[error(
        "the store is full and takes no changes until an operator makes room; nothing was changed"
    )]
    Full,
    /// What it would have done could not be recorded; nothing was done.
    #[error("the audit takes no records now; nothing was done")]
    Unrecorded,
    /// This process does not have the master keys that it takes; nothing was changed.
    #[error("this process lacks a key that another one may have; nothing was changed")]
    Unready,
    /// This process does not see what was changed last, on which it would have decided; nothing was changed.
    #[error("this process does not see what was changed last; nothing was changed")]
    Behind,
    /// It was done, and this process does not see it yet.
    #[error("the change was made, but this process does not see it yet: look before you ask again")]
    Unseen,
    /// Background work of this process is over; nothing was changed.
    #[error("another process does background work by now")]
    Superseded,
    /// Nobody knows.
    #[error("it is not known whether the change was made")]
    Unknown,
    /// The installation's own trouble.
    #[error("internal error")]
    Internal(Trouble),
}

/// What is logged of the installation's own trouble.
#[derive(Debug)]
pub struct Trouble(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AppError {
    /// A field is not as expected.
    pub fn invalid(field: &'static str, problem: impl fmt::Display) -> Self {
        Self::Invalid { field, problem: problem.to_string() }
    }

    /// The installation's own trouble.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Trouble(cause.into()))
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::warn!(%error, "the store takes no changes");
                Self::Unavailable
            }
            StoreError::Full(_) => {
                tracing::error!(%error, "the store takes no changes");
                Self::Full
            }
            other => Self::internal(other),
        }
    }
}

impl From<CommitError> for AppError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => error.into(),
            CommitError::Unknown(cause) => {
                tracing::warn!(cause, "it is not known whether a change was made");
                Self::Unknown
            }
            other => Self::internal(other),
        }
    }
}

impl From<Behind> for AppError {
    fn from(Behind: Behind) -> Self {
        Self::Behind
    }
}

impl From<RecordError> for AppError {
    fn from(error: RecordError) -> Self {
        Self::internal(error)
    }
}

impl From<RotationError> for AppError {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Generation { .. } => Self::invalid("generation", error),
            RotationError::UnderWay(_) => Self::State(error.to_string()),
            other => Self::internal(other),
        }
    }
}

impl From<KeyringError> for AppError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Retired { .. } | KeyringError::Kms(KmsError::Missing { .. }) => {
                tracing::error!(%error, "this process does not have the master keys that it takes");
                Self::Unready
            }
            other => Self::internal(other),
        }
    }
}

impl From<IssueError> for AppError {
    fn from(error: IssueError) -> Self {
        Self::internal(error)
    }
}

impl From<RequestError> for AppError {
    fn from(error: RequestError) -> Self {
        Self::invalid("signing_request", error)
    }
}

impl From<PolicyError> for AppError {
    fn from(error: PolicyError) -> Self {
        Self::invalid("rules", error)
    }
}

impl From<SettingsError> for AppError {
    fn from(error: SettingsError) -> Self {
        Self::invalid(error.field(), error)
    }
}

impl From<PeopleError> for AppError {
    fn from(error: PeopleError) -> Self {
        use PeopleError as E;
        match error {
            E::LastOwner | E::Deleting | E::Going => Self::State(error.to_string()),
            E::NoInvitation => Self::NotFound("invitation"),
            E::Limit(limit) => Self::Exhausted(limit),
            E::Record(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<RegistryError> for AppError {
    fn from(error: RegistryError) -> Self {
        use RegistryError as E;
        match error {
            E::Invalid { field, problem } => Self::Invalid { field, problem },
            E::Changed(what) => Self::Changed(what),
            E::Filled(..) => Self::State(error.to_string()),
            E::Limit(limit) => Self::Exhausted(limit),
            E::Placement(error) => error.into(),
            E::Record(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<SecretError> for AppError {
    fn from(error: SecretError) -> Self {
        use SecretError as E;
        match error {
            E::TooLong(bytes) => Self::invalid(
                "value",
                format!("{bytes} bytes; expected at most {SECRET_BYTES_MAX}"),
            ),
            E::TooMany(versions) => Self::invalid(
                "versions",
                format!("{versions} of them; expected at most {VERSIONS_MAX}"),
            ),
            E::Changed => Self::Changed("secret"),
            E::NoVersion => Self::NotFound("version"),
            E::Destroyed(_) | E::Deleting => Self::State(error.to_string()),
            E::Limit(limit) => Self::Exhausted(limit),
            E::Record(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

/// What an environment owned is gone with its key: as if it were not there.
impl From<UseError> for AppError {
    fn from(error: UseError) -> Self {
        match error {
            UseError::Keyring(KeyringError::Destroyed { .. }) => Self::NotFound("secret"),
            UseError::Keyring(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<PlacementError> for AppError {
    fn from(error: PlacementError) -> Self {
        use PlacementError as E;
        match error {
            E::EnvironmentState(_) | E::HostState { .. } | E::Grant { .. } => {
                Self::State(error.to_string())
            }
            // As if there were no such environment: a host learns nothing of those that it has no right to.
            E::NoRight(_) => Self::NotFound("environment"),
            E::Name { .. }
            | E::Differs { .. }
            | E::Slot { .. }
            | E::SlotAddress { .. }
            | E::Role { .. } => Self::Exists(error.to_string()),
            E::Address(IpamError::Taken { .. } | IpamError::Quarantined { .. }) => {
                Self::Exists(error.to_string())
            }
            E::Address(IpamError::Exhausted { .. }) | E::Quota { .. } => {
                Self::Exhausted(error.to_string())
            }
            E::Address(_) | E::Wanted(_) => Self::invalid("addresses", error),
            other => Self::internal(other),
        }
    }
}
