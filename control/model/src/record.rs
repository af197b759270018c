//! What is kept in the store, and where.
//!
//! A record is one JSON document at one key, `KIND/path`. Documents are read strictly: a field that is
//! not known is an error and not dropped, so that an older process never rewrites what it does not understand.

mod attachment;
mod environment;
mod host;
mod identity;
mod membership;
mod peering;
mod secret;
mod service;
mod upkeep;

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weft_store::{Entry, Key, KeyError, Revision};

pub use self::{
    attachment::{
        Address, AddressUse, Attachment, Basis, Binding, Grant, Share, Slot, SlotKey, Usage,
    },
    environment::{
        Authority, AuthorityState, Environment, EnvironmentState, Lifetimes, OtherNames, Quotas,
    },
    host::{
        Capacity, Endpoint, Heartbeat, Host, HostKey, HostState, LABELS_MAX, Lost, Place, Turn,
    },
    identity::{
        AuditKey, EMAIL_LEN_MAX, ENVIRONMENTS, ENVIRONMENTS_MAX, EnvironmentName, Installation,
        JoinToken, JoinTokenUse, Organisation, OrganisationName, Remains, User, UserEmail,
    },
    membership::{
        Invitation, InvitedTo, Membership, Roster, SecondFactor, Session, SignIn, SshKey, Token,
        TokenUse,
    },
    peering::{PeerSession, Peering},
    secret::{SealedSecret, Secret, SecretUsage, SecretVersion},
    service::{Drain, Health, HealthState, Interface, Port, Protocol, Role, Service},
    upkeep::{Format, Settled},
};

/// Milliseconds since 1970 (UTC), as in all documents and messages.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// So much later.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Why what is stored is not a record. Nobody can go on with it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the document that belongs there.
    #[error("{key} does not hold a {kind}: {cause}")]
    Document {
        /// Where.
        key: Key,
        /// What was expected.
        kind: &'static str,
        /// What is wrong.
        cause: serde_json::Error,
    },
    /// The document belongs elsewhere.
    #[error("{key} holds what belongs to {belongs}")]
    Place {
        /// Where it is.
        key: Key,
        /// Where it should be.
        belongs: Key,
    },
    /// Its parts are longer than a key can be.
    #[error("a {kind} has no key: {cause}")]
    Key {
        /// What it is.
        kind: &'static str,
        /// What is wrong.
        cause: KeyError,
    },
}

impl RecordError {
    /// Where it is that cannot be read, which may be said anywhere: [`fmt::Display`] may say what is stored there.
    #[must_use]
    pub fn place(&self) -> Option<&Key> {
        match self {
            Self::Document { key, .. } | Self::Place { key, .. } => Some(key),
            Self::Key { .. } => None,
        }
    }
}

/// A record as it was read, with what a transaction needs to say that it rests on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<R> {
    /// What was read.
    pub record: R,
    /// When it was written.
    pub modified: Revision,
}

/// A document with its place.
pub trait Record: Serialize + DeserializeOwned + fmt::Debug {
    /// The first part of its key.
    const KIND: &'static str;

    /// The rest of its key.
    fn path(&self) -> String;

    /// Where it is.
    ///
    /// # Errors
    /// [`RecordError::Key`].
    fn key(&self) -> Result<Key, RecordError> {
        Self::key_at(&self.path())
    }

    /// Where the record with this path is.
    ///
    /// # Errors
    /// [`RecordError::Key`].
    fn key_at(path: &str) -> Result<Key, RecordError> {
        Key::new(&format!("{}/{path}", Self::KIND))
            .map_err(|cause| RecordError::Key { kind: Self::KIND, cause })
    }

    /// What all keys of this kind whose paths begin with `path` begin with. To list what belongs to an
    /// environment, `path` ends with a slash: `env-a` is the beginning of `env-ab`, too.
    #[must_use]
    fn prefix(path: &str) -> String {
        format!("{}/{path}", Self::KIND)
    }

    /// The document.
    ///
    /// # Errors
    /// [`RecordError::Document`] for what JSON cannot say; no record has such a thing.
    fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let key = self.key()?;
        serde_json::to_vec(self).map_err(|cause| RecordError::Document {
            key,
            kind: Self::KIND,
            cause,
        })
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`RecordError`] when it is not a record of this kind that belongs there.
    fn decode(entry: &Entry) -> Result<Decoded<Self>, RecordError> {
        let record: Self = serde_json::from_slice(&entry.value).map_err(|cause| {
            RecordError::Document { key: entry.key.clone(), kind: Self::KIND, cause }
        })?;
        let belongs = record.key()?;
        if belongs != entry.key {
            return Err(RecordError::Place { key: entry.key.clone(), belongs });
        }
        Ok(Decoded { record, modified: entry.modified })
    }
}

#[cfg(test)]
mod tests;
