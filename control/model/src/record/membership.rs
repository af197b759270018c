//! Who is in which organisation, and what people and their machines show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_types::EnvironmentId;

use super::{Record, UnixMs};
use crate::{
    access::{EnvironmentRole, OrganisationRole},
    id::{OrganisationId, TokenId, UserId},
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
    /// Who.
    pub user: UserId,
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
    /// As what.
    pub role: EnvironmentRole,
    /// What it is for.
    pub description: String,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created: UnixMs,
    /// Until when it is good.
    pub expires: UnixMs,
}

impl Record for Token {
    const KIND: &'static str = "token";

    fn path(&self) -> String {
        self.secret_hash.clone()
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
