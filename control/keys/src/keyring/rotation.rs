//! What master keys wrap, and wrapping it anew.

use std::collections::BTreeMap;

use weft_store::{Entry, LIST_LEN_MAX, Transaction};

use super::{Keyring, KeyringError, OWNER_PREFIX, context, parse, record::Record, settled};
use crate::{
    kms::{KmsError, MasterKeyId, Wrapped},
    owner::Owner,
};

/// What is in a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// The master key that wraps now.
    pub current: MasterKeyId,
    /// How many owners' keys each master key wraps; none for who wraps nothing. A master key that is not
    /// here may go.
    pub wrapped: BTreeMap<MasterKeyId, u64>,
    /// How many keys were destroyed.
    pub destroyed: u64,
}

/// What [`Keyring::rewrap`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrapped {
    /// Keys that were wrapped anew.
    pub changed: u64,
    /// Keys that the current master key wrapped already.
    pub unchanged: u64,
}

impl Keyring {
    /// Wraps every key that is not under the current master key anew; before, every other master key is retired for all
    /// processes. Touches nothing that is sealed. May be stopped anywhere, go on in any process, and run in several at
    /// once.
    ///
    /// # Errors
    /// [`KeyringError::Retired`] when the current master key is one that was replaced itself. Whatever it is, what was done stays, the next call does the rest.
    pub async fn rewrap(&self) -> Result<Rewrapped, KeyringError> {
        let current = self.kms.current().await?;
        self.retire_others(&current).await?;
        let mut done = Rewrapped::default();
        let mut after = None;
        loop {
            let page = self.store.list(OWNER_PREFIX, after.as_ref(), LIST_LEN_MAX).await?;
            for entry in &page.entries {
                match self.rewrap_one(&current, entry.clone()).await? {
                    Some(true) => done.changed += 1,
                    Some(false) => done.unchanged += 1,
                    None => {}
                }
            }
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.more || after.is_none() {
                return Ok(done);
            }
        }
    }

    /// Whether it had to be done; `None` for a tombstone.
    async fn rewrap_one(
        &self,
        current: &MasterKeyId,
        mut entry: Entry,
    ) -> Result<Option<bool>, KeyringError> {
        let owner = owner_of(&entry)?;
        let mut changed = false;
        for _ in 0..super::ATTEMPTS_MAX {
            let Record::Live { created, wrapped } = parse(&entry)? else { return Ok(None) };
            if wrapped.master == *current {
                return Ok(Some(changed));
            }
            let key = self.kms.unwrap(&wrapped, &context(&owner)).await?;
            let wrapped = self.kms.wrap(&key, &context(&owner)).await?;
            let newer = Record::Live { created, wrapped };
            let change =
                Transaction::new().unchanged(&entry).put(entry.key.clone(), newer.encode());
            settled(self.store.commit(change).await)?;
            changed = true;
            // Whether it was this, or somebody else was faster, or the key is destroyed: it stands there.
            match self.store.get(&entry.key).await? {
                Some(newer) => entry = newer,
                None => return Ok(None),
            }
        }
        Err(KeyringError::Contended(owner))
    }

    /// Counts what each master key wraps.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn census(&self) -> Result<Census, KeyringError> {
        let (counts, destroyed) = self.count().await?;
        let wrapped = counts.into_iter().map(|(master, (count, ..))| (master, count)).collect();
        Ok(Census { current: self.kms.current().await?, wrapped, destroyed })
    }

    /// Which master keys wrap something.
    pub(super) async fn wrapping(&self) -> Result<impl Iterator<Item = MasterKeyId>, KeyringError> {
        Ok(self.count().await?.0.into_keys())
    }

    /// Makes sure that every master key that is needed is there, and is what it was, and that what wraps from now on was
    /// not replaced.
    pub(super) async fn prove(&self) -> Result<(), KeyringError> {
        self.masters().await?.0.check(&self.kms.current().await?)?;
        let held = self.kms.held().await?;
        for (master, (_, owner, wrapped)) in self.count().await?.0 {
            if !held.contains(&master) {
                return Err(KmsError::Missing { needed: master, held }.into());
            }
            self.kms.unwrap(&wrapped, &context(&owner)).await?;
        }
        Ok(())
    }

    /// For each master key how many it wraps and one of them, and how many were destroyed.
    async fn count(
        &self,
    ) -> Result<(BTreeMap<MasterKeyId, (u64, Owner, Wrapped)>, u64), KeyringError> {
        let mut counts = BTreeMap::new();
        let (mut destroyed, mut after) = (0, None);
        loop {
            let page = self.store.list(OWNER_PREFIX, after.as_ref(), LIST_LEN_MAX).await?;
            for entry in &page.entries {
                let owner = owner_of(entry)?;
                match parse(entry)? {
                    Record::Destroyed { .. } => destroyed += 1,
                    Record::Live { wrapped, .. } => {
                        let master = wrapped.master.clone();
                        counts.entry(master).or_insert((0, owner, wrapped)).0 += 1;
                    }
                }
            }
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.more || after.is_none() {
                return Ok((counts, destroyed));
            }
        }
    }
}

fn owner_of(entry: &Entry) -> Result<Owner, KeyringError> {
    let name = entry.key.as_str().strip_prefix(OWNER_PREFIX).unwrap_or_default();
    name.parse().map_err(|error: crate::owner::OwnerError| KeyringError::Corrupt {
        key: entry.key.clone(),
        problem: error.to_string(),
    })
}
