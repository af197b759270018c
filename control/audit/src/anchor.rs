//! Where heads are anchored: what a log had come to is kept where its writer's disk is not.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use weft_store::{CommitError, Key, LIST_LEN_MAX, Revision, Store, StoreError, Transaction};

use crate::{
    home::Home,
    shipped::Shipped,
    signed::{Signed, SignedHead, Statement},
    text::ProcessId,
};

/// Under which everything of the anchors is in the store.
pub const ANCHOR_PREFIX: &str = "audit/v1/";

/// Which write of an anchor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorVersion(pub u64);

/// A head that was anchored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    /// What was anchored; not yet believed.
    pub head: SignedHead,
    /// To be named by who replaces it.
    pub version: AnchorVersion,
}

/// Why nothing was anchored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Somebody else has anchored since: two processes have one id.
    #[error("another process writes under the same id")]
    Superseded,
    /// What is there is no anchor.
    #[error("the anchor at {0} cannot be read")]
    Malformed(Key),
    /// It may have been done.
    #[error("it is not known whether the head was anchored: {0}")]
    Unknown(String),
    /// It was not done.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where heads are anchored.
#[async_trait]
pub trait Anchors: fmt::Debug + Send + Sync {
    /// The last head of a process.
    ///
    /// # Errors
    /// [`AnchorError`].
    async fn newest(&self, process: &ProcessId) -> Result<Option<Anchored>, AnchorError>;

    /// Anchors a head in place of the one of version `replaces`, or as the first.
    ///
    /// # Errors
    /// [`AnchorError::Superseded`] when the last head is another.
    async fn anchor(
        &self,
        head: &SignedHead,
        replaces: Option<AnchorVersion>,
    ) -> Result<AnchorVersion, AnchorError>;

    /// All heads of a process that are kept, for who verifies.
    ///
    /// # Errors
    /// [`AnchorError`].
    async fn all(&self, process: &ProcessId) -> Result<Vec<SignedHead>, AnchorError>;

    /// Forgets heads of lines before `seq`, which have expired.
    ///
    /// # Errors
    /// [`AnchorError`].
    async fn forget(&self, process: &ProcessId, seq: u64) -> Result<(), AnchorError>;
}

/// Anchors in a store: the last head of each process, and the last of each day for as long as its lines are
/// kept. So somebody with the key who writes a log anew from some day on has all heads since then against it.
///
/// ```text
///  audit/v1/head/control-a             the last head, by compare-and-swap
///  audit/v1/day/control-a/2026-11-30   the last head of this day
///  audit/v1/home/control-a             where this log is
///  audit/v1/shipped/control-a          how far it is in the blob store
/// ```
#[derive(Debug, Clone)]
pub struct StoreAnchors {
    store: Arc<dyn Store>,
}

impl StoreAnchors {
    /// In this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// All processes that have anchored a head, in their order.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn processes(&self) -> Result<Vec<ProcessId>, AnchorError> {
        let prefix = format!("{ANCHOR_PREFIX}head/");
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.list(&prefix, after.as_ref(), LIST_LEN_MAX).await?;
            for entry in &page.entries {
                let name = entry.key.as_str().strip_prefix(&prefix).unwrap_or_default();
                let process = name.parse();
                found.push(process.map_err(|_| AnchorError::Malformed(entry.key.clone()))?);
            }
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.more || after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Where the log of a process is, if it has said so; not yet believed.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn home(&self, process: &ProcessId) -> Result<Option<Signed<Home>>, AnchorError> {
        self.said(home_key(process)).await
    }

    /// Says where the log of a process is.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn set_home(&self, home: &Signed<Home>) -> Result<(), AnchorError> {
        self.say(home_key(&home.unverified().process), home).await
    }

    /// How far the log of a process is in the blob store, if it has said so; not yet believed.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn shipped(
        &self,
        process: &ProcessId,
    ) -> Result<Option<Signed<Shipped>>, AnchorError> {
        self.said(shipped_key(process)).await
    }

    /// Says how far the log of a process is in the blob store.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn set_shipped(&self, shipped: &Signed<Shipped>) -> Result<(), AnchorError> {
        self.say(shipped_key(&shipped.unverified().process), shipped).await
    }

    async fn said<T: Statement>(&self, key: Key) -> Result<Option<Signed<T>>, AnchorError> {
        let Some(entry) = self.store.get(&key).await? else { return Ok(None) };
        let said = Signed::parse(&entry.value);
        Ok(Some(said.map_err(|_| AnchorError::Malformed(entry.key))?))
    }

    async fn say<T: Statement>(&self, key: Key, said: &Signed<T>) -> Result<(), AnchorError> {
        let before = self.store.get(&key).await?;
        if before.is_some_and(|before| before.value == said.encode()) {
            return Ok(());
        }
        match self.store.commit(Transaction::new().put(key, said.encode())).await {
            Ok(_) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(other) => Err(AnchorError::Unknown(other.to_string())),
        }
    }

    /// The days of a process in their order, with the revision of each.
    async fn days(&self, process: &ProcessId) -> Result<Vec<(Key, SignedHead)>, AnchorError> {
        let prefix = format!("{ANCHOR_PREFIX}day/{process}/");
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.list(&prefix, after.as_ref(), LIST_LEN_MAX).await?;
            for entry in &page.entries {
                found.push((entry.key.clone(), parse(&entry.key, &entry.value)?));
            }
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.more || after.is_none() {
                return Ok(found);
            }
        }
    }
}

#[async_trait]
impl Anchors for StoreAnchors {
    async fn newest(&self, process: &ProcessId) -> Result<Option<Anchored>, AnchorError> {
        let Some(entry) = self.store.get(&head_key(process)).await? else { return Ok(None) };
        let head = parse(&entry.key, &entry.value)?;
        Ok(Some(Anchored { head, version: AnchorVersion(entry.modified.0) }))
    }

    async fn anchor(
        &self,
        head: &SignedHead,
        replaces: Option<AnchorVersion>,
    ) -> Result<AnchorVersion, AnchorError> {
        let statement = head.unverified();
        let key = head_key(&statement.process);
        let mut change = Transaction::new()
            .put(key.clone(), head.encode())
            .put(day_key(&statement.process, &statement.at.date()), head.encode());
        change.conditions.push(match replaces {
            Some(AnchorVersion(version)) => weft_store::Condition::At(key, Revision(version)),
            None => weft_store::Condition::Absent(key),
        });
        match self.store.commit(change).await {
            Ok(revision) => Ok(AnchorVersion(revision.0)),
            Err(CommitError::Conflict { .. }) => Err(AnchorError::Superseded),
            Err(CommitError::Unknown(why)) => Err(AnchorError::Unknown(why)),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(other) => Err(AnchorError::Unknown(other.to_string())),
        }
    }

    async fn all(&self, process: &ProcessId) -> Result<Vec<SignedHead>, AnchorError> {
        let mut heads: Vec<_> =
            self.days(process).await?.into_iter().map(|(_, head)| head).collect();
        heads.extend(self.newest(process).await?.map(|newest| newest.head));
        Ok(heads)
    }

    async fn forget(&self, process: &ProcessId, seq: u64) -> Result<(), AnchorError> {
        for (key, head) in self.days(process).await? {
            if head.unverified().seq < seq {
                match self.store.commit(Transaction::new().delete(key)).await {
                    Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Unknown(_)) => {}
                    Err(CommitError::Store(error)) => return Err(error.into()),
                    Err(other) => return Err(AnchorError::Unknown(other.to_string())),
                }
            }
        }
        Ok(())
    }
}

fn parse(key: &Key, value: &[u8]) -> Result<SignedHead, AnchorError> {
    Signed::parse(value).map_err(|_| AnchorError::Malformed(key.clone()))
}

fn head_key(process: &ProcessId) -> Key {
    key(&format!("{ANCHOR_PREFIX}head/{process}"))
}

fn home_key(process: &ProcessId) -> Key {
    key(&format!("{ANCHOR_PREFIX}home/{process}"))
}

fn shipped_key(process: &ProcessId) -> Key {
    key(&format!("{ANCHOR_PREFIX}shipped/{process}"))
}

fn day_key(process: &ProcessId, date: &str) -> Key {
    key(&format!("{ANCHOR_PREFIX}day/{process}/{date}"))
}

fn key(text: &str) -> Key {
    Key::new(text).expect("short printable text")
}
