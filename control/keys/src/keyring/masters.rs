//! Which master keys wrap, as all processes of an installation know it.
//!
//! ```text
//!  keyring/v1/masters ──▶ {"record":"masters/1","current":"99b1c20ffe037a41","retired":["4f0c6a1e9d2b7788"]}
//! ```
//!
//! A rotation writes it before it wraps anything anew, and whoever makes a key rests on it. So a process whose key file
//! was left behind makes nothing that only a replaced master key opens, and it is found out that it was.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use weft_store::{Entry, Key, Revision, Transaction};

use super::{ATTEMPTS_MAX, Keyring, KeyringError, settled};
use crate::kms::MasterKeyId;

/// How often it is looked whether anything has changed that says which master keys this process takes.
pub const MASTERS_INTERVAL: Duration = Duration::from_secs(5);
/// How often the whole keyring is read for that though nothing has: somebody may have wrapped by another master key
/// without a rotation.
pub const PROVE_INTERVAL: Duration = Duration::from_secs(60);
/// Most master keys that are remembered after they were replaced: a file that is older by more rotations lacks the ones
/// that wrap, which is noticed, too.
const RETIRED_MAX: usize = 64;
const MASTERS: &str = "keyring/v1/masters";

/// What the store holds of master keys; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Masters {
    /// None before the first rotation.
    current: Option<MasterKeyId>,
    /// In the order in which they were replaced.
    retired: Vec<MasterKeyId>,
}

/// By what it is noticed, without a look at every key, that this process may not have the master keys that it takes.
#[derive(Debug, PartialEq, Eq)]
struct Signs {
    /// When the store's record was written; none before the first rotation.
    masters: Option<Revision>,
    current: MasterKeyId,
    held: Vec<MasterKeyId>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", deny_unknown_fields)]
enum Document {
    #[serde(rename = "masters/1")]
    Masters { current: String, retired: Vec<String> },
}

impl Masters {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document = serde_json::from_slice(bytes)
            .map_err(|error| format!("no record of master keys ({:?})", error.classify()))?;
        let Document::Masters { current, retired } = document;
        let id = |text: &String| {
            text.parse().map_err(|_| "it holds what is no id of a master key".to_owned())
        };
        let retired = retired.iter().map(id).collect::<Result<_, _>>()?;
        Ok(Self { current: Some(id(&current)?), retired })
    }

    /// With this one in the place of these.
    fn replaced(&self, current: &MasterKeyId, replaced: BTreeSet<MasterKeyId>) -> Self {
        let mut retired = self.retired.clone();
        let before = self.current.iter().cloned().chain(replaced);
        for id in before.filter(|id| id != current) {
            if !retired.contains(&id) {
                retired.push(id);
            }
        }
        let over = retired.len().saturating_sub(RETIRED_MAX);
        retired.drain(..over);
        Self { current: Some(current.clone()), retired }
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let current = self.current.as_ref()?.to_string();
        let retired = self.retired.iter().map(ToString::to_string).collect();
        let document = Document::Masters { current, retired };
        Some(serde_json::to_vec(&document).expect("texts"))
    }

    /// Goes on if this master key was not replaced.
    pub(super) fn check(&self, master: &MasterKeyId) -> Result<(), KeyringError> {
        match &self.current {
            Some(current) if self.retired.contains(master) => {
                Err(KeyringError::Retired { master: master.clone(), current: current.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl Keyring {
    /// What is known of master keys, and what rests on it.
    pub(super) async fn masters(&self) -> Result<(Masters, Transaction), KeyringError> {
        match self.store.get(&masters_key()).await? {
            None => Ok((Masters::default(), Transaction::new().absent(masters_key()))),
            Some(entry) => Ok((parse(&entry)?, Transaction::new().unchanged(&entry))),
        }
    }

    /// From now on nothing is wrapped by any other master key than this one, by whichever process.
    pub(super) async fn retire_others(&self, current: &MasterKeyId) -> Result<(), KeyringError> {
        let mut others: BTreeSet<_> = self.kms.held().await?.into_iter().collect();
        others.extend(self.wrapping().await?);
        others.remove(current);
        for _ in 0..ATTEMPTS_MAX {
            let (masters, transaction) = self.masters().await?;
            masters.check(current)?;
            // There is no rotation where there was one master key at all times.
            let is_first = masters.current.is_none() && others.is_empty();
            let after = masters.replaced(current, others.clone());
            let document = after.encode().filter(|_| after != masters && !is_first);
            let Some(document) = document else { return Ok(()) };
            settled(self.store.commit(transaction.put(masters_key(), document)).await)?;
        }
        Err(KeyringError::Contended(crate::owner::Owner::Installation))
    }

    /// Why this process does not have the master keys that it takes; `None` while it has them, as far as was looked.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Looks again and again whether this process has the master keys that it takes, for as long as it is polled: every
    /// [`MASTERS_INTERVAL`] at what a rotation or another key file changes, at every key when that has changed, while
    /// there is trouble, and every [`PROVE_INTERVAL`].
    pub async fn follow_masters(&self) -> Infallible {
        let mut proved: Option<(Signs, Instant)> = None;
        loop {
            // Before: what changes meanwhile is seen the next time.
            let (signs, now) = (self.signs().await.ok(), Instant::now());
            let is_as_proved = proved.as_ref().is_some_and(|(before, at)| {
                signs.as_ref() == Some(before) && now.duration_since(*at) < PROVE_INTERVAL
            });
            let is_well = self.trouble.borrow().is_none();
            if !(is_as_proved && is_well) {
                let is_known = self.look_at_masters().await;
                proved = signs.filter(|_| is_known).map(|signs| (signs, now));
            }
            sleep(MASTERS_INTERVAL).await;
        }
    }

    async fn signs(&self) -> Result<Signs, KeyringError> {
        let masters = self.store.get(&masters_key()).await?.map(|entry| entry.modified);
        Ok(Signs { masters, current: self.kms.current().await?, held: self.kms.held().await? })
    }

    /// Looks at every key whether this process has the master keys that it takes, and logs when that has changed. Whether
    /// it is known now.
    pub async fn look_at_masters(&self) -> bool {
        let trouble = match self.prove().await {
            Ok(()) => None,
            // Whoever has no store knows nothing new of its keys.
            Err(KeyringError::Store(_)) => return false,
            Err(error) => Some(error.to_string()),
        };
        self.trouble.send_if_modified(|known| {
            let is_new = *known != trouble;
            match &trouble {
                Some(why) if is_new => tracing::error!(
                    %why,
                    "this process does not have the master keys that it takes: put the newest key file in its place"
                ),
                None if is_new => tracing::info!("this process has the master keys that it takes"),
                _ => {}
            }
            *known = trouble;
            is_new
        });
        true
    }
}

fn parse(entry: &Entry) -> Result<Masters, KeyringError> {
    Masters::parse(&entry.value)
        .map_err(|problem| KeyringError::Corrupt { key: entry.key.clone(), problem })
}

fn masters_key() -> Key {
    Key::new(MASTERS).expect("a key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MasterKeyId {
        text.parse().unwrap()
    }

    #[test]
    fn the_record_round_trips_and_nothing_else_is_one() {
        let masters = Masters::default().replaced(&id("b"), [id("a")].into());
        let text = r#"{"record":"masters/1","current":"b","retired":["a"]}"#;
        assert_eq!(masters.encode().unwrap(), text.as_bytes());
        assert_eq!(Masters::parse(text.as_bytes()), Ok(masters));
        for (text, problem) in [
            ("{}", "no record of master keys (Data)"),
            (
                r#"{"record":"masters/1","current":"b","retired":[],"x":1}"#,
                "no record of master keys (Data)",
            ),
            (
                r#"{"record":"masters/1","current":"b","retired":["a b"]}"#,
                "it holds what is no id of a master key",
            ),
        ] {
            assert_eq!(Masters::parse(text.as_bytes()), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_was_replaced_wraps_no_more_and_as_many_are_remembered_as_may_be() {
        let mut masters = Masters::default();
        assert!(masters.check(&id("0")).is_ok(), "before the first rotation any does");
        for n in 1..=2 * RETIRED_MAX {
            masters = masters.replaced(&id(&n.to_string()), BTreeSet::new());
        }
        let newest = (2 * RETIRED_MAX).to_string();
        assert!(masters.check(&id(&newest)).is_ok() && masters.check(&id("new")).is_ok());
        let before = id(&(2 * RETIRED_MAX - 1).to_string());
        let refused = masters.check(&before);
        assert!(matches!(refused, Err(KeyringError::Retired { .. })), "{refused:?}");
        assert_eq!(masters.retired.len(), RETIRED_MAX);
    }
}
