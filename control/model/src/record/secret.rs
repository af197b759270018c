//! Secrets of environments, sealed.

use std::fmt;

use serde::{Deserialize, Serialize};
use weft_types::EnvironmentId;

use super::{Record, UnixMs};
use crate::id::{SecretId, SecretName};

/// A secret: what is known of it without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Where.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: SecretName,
    /// Which one of that name.
    pub id: SecretId,
    /// The version that was given last, counted from 1; it only grows.
    pub version: u64,
    /// Versions that are remembered, in their order.
    pub versions: Vec<SecretVersion>,
    /// When it was made.
    pub created: UnixMs,
}

impl Record for Secret {
    const KIND: &'static str = "secret";

    fn path(&self) -> String {
        format!("{}/{}", self.environment, self.name)
    }
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretVersion {
    /// Which.
    pub version: u64,
    /// Bytes of its value.
    pub bytes: u32,
    /// When it was written.
    pub created: UnixMs,
    /// When its value was destroyed; it is there without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<UnixMs>,
}

/// The value of one version, which only the environment's key opens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSecret {
    /// Where.
    pub environment: EnvironmentId,
    /// Of which secret.
    pub name: SecretName,
    /// Which version.
    pub version: u64,
    /// Sealed under the environment's key for [`Secret::context`], base 64.
    pub sealed: String,
}

impl SealedSecret {
    /// Where the value of a version is.
    #[must_use]
    pub fn path_of(environment: &EnvironmentId, name: &SecretName, version: u64) -> String {
        // In the order of their versions.
        format!("{environment}/{name}/{version:020}")
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({} of {})", self.version, self.name)
    }
}

impl Record for SealedSecret {
    const KIND: &'static str = "secret-value";

    fn path(&self) -> String {
        Self::path_of(&self.environment, &self.name, self.version)
    }
}

/// How many secrets an environment has. Every change of one rests on this record and writes it, so that limits hold
/// exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretUsage {
    /// Whose.
    pub environment: EnvironmentId,
    /// Secrets.
    pub secrets: u32,
    /// Bytes of all values that are there.
    pub bytes: u64,
}

impl Record for SecretUsage {
    const KIND: &'static str = "secret-usage";

    fn path(&self) -> String {
        self.environment.to_string()
    }
}
