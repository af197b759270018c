//! Who is in which organisation, and what people and their machines show.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_types::EnvironmentId;

use super::{Record, UnixMs};
use crate::{
    access::{EnvironmentRole, OrganisationRole},
    id::{OrganisationId, SessionId, SshKeyId, TokenId, UserId},
};

/// How many are in an organisation. Whoever decides who is in it rests on this record and writes it, so that they
/// decide one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Of which organisation.
    pub organisation: OrganisationId,
    /// Its owners.
    pub owners: u32,
    /// Its people, owners among them.
    pub people: u32,
    /// Invitations that are not accepted yet.
    pub invitations: u32,
}

impl Record for Roster {
    const KIND: &'static str = "roster";

    fn path(&self) -> String {
        self.organisation.to_string()
    }
}

/// A person's part in an organisation and in its environments: with it, all of that goes at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Who.
    pub user: UserId,
    /// Where.
    pub organisation: OrganisationId,
    /// As what.
    pub role: OrganisationRole,
    /// As what in its environments, beyond what the role says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<EnvironmentId, EnvironmentRole>,
    /// Since when.
    pub created: UnixMs,
}

impl Record for Membership {
    const KIND: &'static str = "membership";

    fn path(&self) -> String {
        format!("{}/{}", self.user, self.organisation)
    }
}

/// A person's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// SHA-256 of what the person shows, hexadecimal.
    pub secret_hash: String,
    /// How people call it.
    pub id: SessionId,
    /// Who.
    pub user: UserId,
    /// Of which of the person's eras.
    pub era: u64,
    /// Until when.
    pub expires: UnixMs,
    /// When it began.
    pub created: UnixMs,
}

impl Record for Session {
    const KIND: &'static str = "session";

    fn path(&self) -> String {
        self.secret_hash.clone()
    }
}

/// What a machine shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// SHA-256 of it, hexadecimal.
    pub secret_hash: String,
    /// How people call it.
    pub id: TokenId,
    /// Where.
    pub environment: EnvironmentId,
    /// Whose that is.
    pub organisation: OrganisationId,
    /// As what at most: no more than who made it is there now.
    pub role: EnvironmentRole,
    /// With which parts of the platform it is good; with all when there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub uses: BTreeSet<TokenUse>,
    /// What it is for, in words.
    pub name: String,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created: UnixMs,
    /// Until when it is good.
    pub expires: UnixMs,
    /// When it was used last, about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<UnixMs>,
}

/// A part of the platform that tokens are shown to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenUse {
    /// The control API itself.
    Api,
    /// Where TLS of environments ends.
    Edge,
    /// Where pushes are taken.
    Git,
    /// Where images are kept.
    Registry,
}

impl Record for Token {
    const KIND: &'static str = "token";

    fn path(&self) -> String {
        self.secret_hash.clone()
    }
}

/// What a person shows beside the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondFactor {
    /// Whose.
    pub user: UserId,
    /// The seed of one-time passwords, sealed under the installation's key for this person, base 64.
    pub sealed_seed: String,
    /// Whether the person has shown that they have it; it counts from then on.
    pub confirmed: bool,
    /// The newest step of which a code was taken: none of it or before is taken again.
    pub last_step: u64,
    /// SHA-256 of each recovery code that was not used, hexadecimal.
    pub recovery: Vec<String>,
    /// When it was made.
    pub created: UnixMs,
}

impl Record for SecondFactor {
    const KIND: &'static str = "second-factor";

    fn path(&self) -> String {
        self.user.to_string()
    }
}

/// How somebody has signed in, as far as wrong passwords are counted by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Who.
    pub user: UserId,
    /// From where, sealed under the installation's key for this person, base 64.
    pub sealed_sources: String,
    /// How often operators have unlocked the account: what was wrong before the last time counts no more.
    pub unlocks: u64,
}

impl Record for SignIn {
    const KIND: &'static str = "sign-in";

    fn path(&self) -> String {
        self.user.to_string()
    }
}

/// A public key by which a person is known over SSH. It is of one person because it is one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshKey {
    /// SHA-256 of the key as it goes over the wire (RFC 4253 section 6.6), hexadecimal.
    pub fingerprint: String,
    /// How people call it.
    pub id: SshKeyId,
    /// Whose.
    pub user: UserId,
    /// Where it is, in words.
    pub name: String,
    /// The key, as a line of OpenSSH without a comment.
    pub key: String,
    /// When it was added.
    pub created: UnixMs,
}

impl Record for SshKey {
    const KIND: &'static str = "ssh-key";

    fn path(&self) -> String {
        self.fingerprint.clone()
    }
}

/// What makes somebody a person of an organisation, or an operator, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// SHA-256 of what they show, hexadecimal.
    pub secret_hash: String,
    /// How people call it.
    pub id: TokenId,
    /// To what.
    pub to: InvitedTo,
    /// Whom.
    pub email: String,
    /// Who invites: a person of the organisation. Without, it is whoever runs the installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// When it was made.
    pub created: UnixMs,
    /// Until when.
    pub expires: UnixMs,
}

impl Record for Invitation {
    const KIND: &'static str = "invitation";

    fn path(&self) -> String {
        self.secret_hash.clone()
    }
}

/// What an invitation makes of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InvitedTo {
    /// An operator of the installation.
    Installation,
    /// A person of an organisation.
    Organisation(OrganisationId, OrganisationRole),
}
