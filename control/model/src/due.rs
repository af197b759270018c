//! Records by when they are over.
//!
//! ```text
//!   session/HASH ──▶ { expires: 17 }                    ┐           session: 17 session/HASH, 40 …
//!   environment/env-a ──▶ { state: { deleting: 40 } }   ┴ Due ───▶  environment: 40 environment/env-a, …
//! ```
//!
//! So whoever removes what is over costs what that takes, and not what all others have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};
use weft_store::{Change, Key};

use crate::record::{
    Address, AddressUse, Environment, EnvironmentState, Grant, Invitation, JoinToken, JoinTokenUse,
    Organisation, Record, Remains, Session, Token, UnixMs,
};

/// For so long after it was used a join token is remembered: its host may ask again, when the answer was lost.
pub const JOIN_AGAIN: Duration = Duration::from_secs(3_600);
/// What goes as soon as somebody looks.
const AT_ONCE: UnixMs = UnixMs(0);

/// A record that is over at some time.
pub trait Ending: Record {
    /// When the record is over that is in this document; it stays without. Nothing else of it is read.
    fn end(document: &[u8]) -> Option<UnixMs>;
}

fn read<T: DeserializeOwned>(document: &[u8]) -> Option<T> {
    serde_json::from_slice(document).ok()
}

#[derive(Deserialize)]
struct Expiring {
    expires: UnixMs,
}

impl Ending for Session {
    fn end(document: &[u8]) -> Option<UnixMs> {
        read(document).map(|Expiring { expires }| expires)
    }
}

impl Ending for Token {
    fn end(document: &[u8]) -> Option<UnixMs> {
        read(document).map(|Expiring { expires }| expires)
    }
}

impl Ending for Invitation {
    fn end(document: &[u8]) -> Option<UnixMs> {
        read(document).map(|Expiring { expires }| expires)
    }
}

#[derive(Deserialize)]
struct Used {
    expires: UnixMs,
    used: Option<JoinTokenUse>,
}

impl Ending for JoinToken {
    fn end(document: &[u8]) -> Option<UnixMs> {
        let Used { expires, used } = read(document)?;
        Some(used.map_or(expires, |used| used.at.after(JOIN_AGAIN)))
    }
}

#[derive(Deserialize)]
struct UsedBy {
    expires: UnixMs,
    used_by: Option<serde::de::IgnoredAny>,
}

/// One that was used goes with what was made with it.
impl Ending for Grant {
    fn end(document: &[u8]) -> Option<UnixMs> {
        let UsedBy { expires, used_by } = read(document)?;
        used_by.is_none().then_some(expires)
    }
}

#[derive(Deserialize)]
struct Use {
    used: AddressUse,
}

impl Ending for Address {
    fn end(document: &[u8]) -> Option<UnixMs> {
        match read(document)? {
            Use { used: AddressUse::Quarantine { until, .. } } => Some(until),
            Use { used: AddressUse::Slot(_) } => None,
        }
    }
}

#[derive(Deserialize)]
struct State {
    state: EnvironmentState,
}

impl Ending for Environment {
    fn end(document: &[u8]) -> Option<UnixMs> {
        match read(document)? {
            State { state: EnvironmentState::Deleting { purge } } => Some(purge),
            State { state: EnvironmentState::Purging } => Some(AT_ONCE),
            State { state: EnvironmentState::Active | EnvironmentState::Suspended } => None,
        }
    }
}

#[derive(Deserialize)]
struct Purge {
    purge: Option<UnixMs>,
}

impl Ending for Organisation {
    fn end(document: &[u8]) -> Option<UnixMs> {
        read(document).and_then(|Purge { purge }| purge)
    }
}

impl Ending for Remains {
    fn end(_: &[u8]) -> Option<UnixMs> {
        Some(AT_ONCE)
    }
}

/// When the record of one of the kinds is over that are asked for so, and which kind it is.
fn end_of(kind: &str, document: &[u8]) -> Option<(&'static str, UnixMs)> {
    fn end<R: Ending>(document: &[u8]) -> Option<(&'static str, UnixMs)> {
        R::end(document).map(|end| (R::KIND, end))
    }
    match kind {
        Address::KIND => end::<Address>(document),
        Environment::KIND => end::<Environment>(document),
        Grant::KIND => end::<Grant>(document),
        Invitation::KIND => end::<Invitation>(document),
        JoinToken::KIND => end::<JoinToken>(document),
        Organisation::KIND => end::<Organisation>(document),
        Remains::KIND => end::<Remains>(document),
        Session::KIND => end::<Session>(document),
        Token::KIND => end::<Token>(document),
        _ => None,
    }
}

/// Which keys hold what is over when; see the module's text.
#[derive(Debug, Default)]
pub struct Due {
    keys: BTreeMap<&'static str, BTreeSet<(UnixMs, Key)>>,
    /// Under what a key is in `keys`.
    places: HashMap<Key, (&'static str, UnixMs)>,
}

impl Due {
    /// Takes a change of the store, of any kind.
    pub fn handle(&mut self, change: &Change) {
        let key = change.key();
        let (kind, _) = key.as_str().split_once('/').unwrap_or_default();
        let place = match change {
            Change::Put(entry) => end_of(kind, &entry.value),
            Change::Deleted(_) => None,
        };
        if let Some((kind, end)) = self.places.remove(key)
            && let Some(keys) = self.keys.get_mut(kind)
        {
            keys.remove(&(end, key.clone()));
        }
        if let Some((kind, end)) = place {
            self.keys.entry(kind).or_default().insert((end, key.clone()));
            self.places.insert(key.clone(), (kind, end));
        }
    }

    /// Keys of a kind whose time has come, in the order in which it has.
    pub fn keys<R: Ending>(&self, now: UnixMs) -> impl Iterator<Item = &Key> {
        let keys = self.keys.get(R::KIND).into_iter().flatten();
        keys.take_while(move |(end, _)| *end <= now).map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests;
