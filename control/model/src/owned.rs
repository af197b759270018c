//! Records by whose they are, for those whose paths begin with something else.
//!
//! ```text
//!   session/HASH ──▶ { user: usr-a }     ┐         session, usr-a ──▶ session/HASH, …
//!   token/HASH ────▶ { environment: … }  ┴ Index ─▶ token, env-a ──▶ token/HASH, …
//! ```
//!
//! So whoever asks for what is its own costs what that takes, and not what all others have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Bound,
    sync::Arc,
};

use serde::{Deserialize, de::DeserializeOwned};
use weft_store::{Change, Key};
use weft_types::EnvironmentId;

use crate::{
    id::{OrganisationId, UserId},
    record::{Environment, Invitation, InvitedTo, Membership, Record, Session, SshKey, Token},
};

/// A record that is asked for by whose it is.
pub trait Owned: Record {
    /// Whose it can be.
    type Owner: fmt::Display;

    /// Whose the record is that is in this document. Nothing else of it is read: what a newer process has written is
    /// found, too, and whoever asks for it is told what is wrong with it. What does not say whose it is is nobody's.
    fn owner(document: &[u8]) -> Option<Self::Owner>;
}

fn read<T: DeserializeOwned>(document: &[u8]) -> Option<T> {
    serde_json::from_slice(document).ok()
}

#[derive(Deserialize)]
struct OfUser {
    user: UserId,
}

#[derive(Deserialize)]
struct OfOrganisation {
    organisation: OrganisationId,
}

#[derive(Deserialize)]
struct OfEnvironment {
    environment: EnvironmentId,
}

#[derive(Deserialize)]
struct To {
    to: InvitedTo,
}

impl Owned for Session {
    type Owner = UserId;

    fn owner(document: &[u8]) -> Option<UserId> {
        read(document).map(|OfUser { user }| user)
    }
}

impl Owned for SshKey {
    type Owner = UserId;

    fn owner(document: &[u8]) -> Option<UserId> {
        read(document).map(|OfUser { user }| user)
    }
}

impl Owned for Token {
    type Owner = EnvironmentId;

    fn owner(document: &[u8]) -> Option<EnvironmentId> {
        read(document).map(|OfEnvironment { environment }| environment)
    }
}

/// Paths begin with the person's id: by that they are found without an index.
impl Owned for Membership {
    type Owner = OrganisationId;

    fn owner(document: &[u8]) -> Option<OrganisationId> {
        read(document).map(|OfOrganisation { organisation }| organisation)
    }
}

impl Owned for Environment {
    type Owner = OrganisationId;

    fn owner(document: &[u8]) -> Option<OrganisationId> {
        read(document).map(|OfOrganisation { organisation }| organisation)
    }
}

/// Invitations of operators are no organisation's.
impl Owned for Invitation {
    type Owner = OrganisationId;

    fn owner(document: &[u8]) -> Option<OrganisationId> {
        match read(document)? {
            To { to: InvitedTo::Organisation(organisation, _) } => Some(organisation),
            To { to: InvitedTo::Installation } => None,
        }
    }
}

/// Whose the record of one of the kinds is that are asked for so.
fn owner_of(kind: &str, document: &[u8]) -> Option<String> {
    fn text<R: Owned>(document: &[u8]) -> Option<String> {
        R::owner(document).map(|owner| owner.to_string())
    }
    match kind {
        Environment::KIND => text::<Environment>(document),
        Invitation::KIND => text::<Invitation>(document),
        Membership::KIND => text::<Membership>(document),
        Session::KIND => text::<Session>(document),
        SshKey::KIND => text::<SshKey>(document),
        Token::KIND => text::<Token>(document),
        _ => None,
    }
}

/// Which keys hold what is somebody's; see the module's text.
#[derive(Debug, Default)]
pub struct Index {
    /// By kind and owner, as `KIND owner`.
    keys: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// Under what a key is in `keys`.
    places: HashMap<Key, Arc<str>>,
}

impl Index {
    /// Takes a change of the store, of any kind.
    pub fn handle(&mut self, change: &Change) {
        let key = change.key();
        let (kind, _) = key.as_str().split_once('/').unwrap_or_default();
        let owner = match change {
            Change::Put(entry) => owner_of(kind, &entry.value),
            Change::Deleted(_) => None,
        };
        let place = owner.map(|owner| place(kind, &owner));
        if self.places.get(key).map(|place| &**place) == place.as_deref() {
            return;
        }
        if let Some(before) = self.places.remove(key)
            && let Some(keys) = self.keys.get_mut(&before)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(&before);
            }
        }
        if let Some(place) = place {
            // One text for all keys of one owner.
            let place = match self.keys.get_key_value(&*place) {
                Some((place, _)) => Arc::clone(place),
                None => place.into(),
            };
            self.keys.entry(Arc::clone(&place)).or_default().insert(key.clone());
            self.places.insert(key.clone(), place);
        }
    }

    /// Keys of a kind that are somebody's and come after `after`, in their order.
    pub fn keys<'a, R: Owned>(
        &'a self,
        owner: &R::Owner,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = &'a Key> + use<'a, R> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.keys.get(&*place(R::KIND, &owner.to_string()));
        keys.into_iter().flat_map(move |keys| keys.range::<Key, _>((from, Bound::Unbounded)))
    }
}

/// No kind has a space in it.
fn place(kind: &str, owner: &str) -> String {
    format!("{kind} {owner}")
}

#[cfg(test)]
mod tests;
