//! The installation, organisations, people, and what makes hosts.

use serde::{Deserialize, Serialize};
use weft_types::EnvironmentId;

use super::{Record, UnixMs};
use crate::id::{OrganisationId, ServiceName, TokenId, UserId};

/// Longest e-mail address (RFC 5321 section 4.5.3.1: 64 bytes, @, 255 bytes).
pub const EMAIL_LEN_MAX: usize = 320;

/// Environments of an organisation unless an operator says otherwise: each takes a key, an authority, and up to 64 MiB
/// of secrets, so 3 GiB.
pub const ENVIRONMENTS: u32 = 50;
/// The same at most: as many as an installation is made for.
pub const ENVIRONMENTS_MAX: u32 = 1_024;

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Unique in the installation.
    pub id: OrganisationId,
    /// What people call it, a DNS label, unique in the installation.
    pub name: ServiceName,
    /// When it was made.
    pub created: UnixMs,
    /// When it goes, once it has no environment any more; it stays without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge: Option<UnixMs>,
    /// Most environments, those that are being deleted among them; [`ENVIRONMENTS`] without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments_max: Option<u32>,
}

impl Organisation {
    /// Most environments.
    #[must_use]
    pub fn environments_max(&self) -> u32 {
        self.environments_max.unwrap_or(ENVIRONMENTS)
    }
}

impl Record for Organisation {
    const KIND: &'static str = "organisation";

    fn path(&self) -> String {
        self.id.to_string()
    }
}

/// Which organisation has a name. It is of one because it is one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganisationName {
    /// The name.
    pub name: ServiceName,
    /// Whose it is.
    pub id: OrganisationId,
}

impl Record for OrganisationName {
    const KIND: &'static str = "organisation-name";

    fn path(&self) -> String {
        self.name.to_string()
    }
}

/// What is gone, and something of it may be left: it is found by this, which goes last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Remains {
    /// An environment.
    Environment {
        /// Which.
        id: EnvironmentId,
        /// Whose it was.
        organisation: OrganisationId,
    },
    /// An organisation.
    Organisation {
        /// Which.
        id: OrganisationId,
    },
}

impl Record for Remains {
    const KIND: &'static str = "remains";

    fn path(&self) -> String {
        match self {
            Self::Environment { id, .. } => id.to_string(),
            Self::Organisation { id } => id.to_string(),
        }
    }
}

/// Which environment of an organisation has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentName {
    /// In which organisation.
    pub organisation: OrganisationId,
    /// The name.
    pub name: ServiceName,
    /// Whose it is.
    pub id: EnvironmentId,
}

impl Record for EnvironmentName {
    const KIND: &'static str = "environment-name";

    fn path(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }
}

/// A person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// As it was given.
    pub email: String,
    /// What people call them.
    pub name: String,
    /// Whether the installation is theirs to run.
    pub operator: bool,
    /// Argon2id in the PHC string format; nothing of the password but this is kept.
    pub password_hash: String,
    /// Sessions of this number are good, and no others: with it, all of them end at once.
    #[serde(default)]
    pub era: u64,
    /// Whether everything that the person shows is good for nothing.
    #[serde(default)]
    pub suspended: bool,
    /// When they were made.
    pub created: UnixMs,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, email, operator, .. } = self;
        f.debug_struct("User")
            .field("id", id)
            .field("email", email)
            .field("operator", operator)
            .finish()
    }
}

impl Record for User {
    const KIND: &'static str = "user";

    fn path(&self) -> String {
        self.id.to_string()
    }
}

/// Whose an e-mail address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEmail {
    /// SHA-256 of the address in lower case, hexadecimal.
    pub email_hash: String,
    /// Whose.
    pub id: UserId,
}

impl Record for UserEmail {
    const KIND: &'static str = "user-email";

    fn path(&self) -> String {
        self.email_hash.clone()
    }
}

/// What makes a machine a host, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// SHA-256 of what it shows, hexadecimal.
    pub secret_hash: String,
    /// How people call it.
    pub id: TokenId,
    /// The host that it is for; any new one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<weft_types::HostId>,
    /// Where that host stands.
    pub place: super::Place,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// When it was made.
    pub created: UnixMs,
    /// Until when it is good.
    pub expires: UnixMs,
    /// Who used it, and when: the same host may ask again for an hour, for the case that the answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<JoinTokenUse>,
}

/// Who used a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenUse {
    /// The host that it made.
    pub host: weft_types::HostId,
    /// SHA-256 of the key that was shown, hexadecimal.
    pub key_hash: String,
    /// When.
    pub at: UnixMs,
}

impl Record for JoinToken {
    const KIND: &'static str = "join-token";

    fn path(&self) -> String {
        self.secret_hash.clone()
    }
}

/// The installation itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// The trust domain of all certificates.
    pub name: weft_types::InstallationId,
    /// Certificate of its authority, PEM.
    pub certificate: String,
    /// The authority's private key, sealed under the installation's key, base 64.
    pub sealed_key: String,
    /// When it was made.
    pub created: UnixMs,
}

/// Who signs the audit's heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditKey {
    /// By which its signatures are verified: Ed25519, 64 hexadecimal digits.
    pub public_key: String,
    /// The private key in PKCS #8, sealed under the installation's key, base 64.
    pub sealed_key: String,
    /// When it was made.
    pub created: UnixMs,
}

impl Record for AuditKey {
    const KIND: &'static str = "audit-key";

    fn path(&self) -> String {
        "this".to_owned()
    }
}

impl Record for Installation {
    const KIND: &'static str = "installation";

    fn path(&self) -> String {
        "this".to_owned()
    }
}
