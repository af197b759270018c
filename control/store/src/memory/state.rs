//! What the store holds, and how it changes. Sans-IO: the time comes in, batches go out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    entry::{Entry, Page, Revision},
    error::{CommitError, StoreError},
    key::{Key, KeyRange},
    limits::{LIST_BYTES_MAX, LIST_LEN_MAX},
    store::LeaseId,
    transaction::{Transaction, Write},
    watch::{Batch, Change},
};

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends: Duration,
    keys: BTreeSet<Key>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    revision: Revision,
    entries: BTreeMap<Key, Entry>,
    leases: HashMap<LeaseId, Lease>,
    last_lease: u64,
}

impl State {
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&Key>, len_max: usize) -> Page {
        let mut page = Page { revision: self.revision, ..Page::default() };
        let Some(range) = KeyRange::new(prefix, after) else { return page };
        let mut bytes = 0;
        for entry in self.entries.range::<str, _>(range.bounds()).map(|(_, entry)| entry) {
            if page.entries.len() >= len_max.min(LIST_LEN_MAX) || bytes >= LIST_BYTES_MAX {
                page.more = true;
                break;
            }
            bytes += entry.key.as_str().len() + entry.value.len();
            page.entries.push(entry.clone());
        }
        page
    }

    /// Checks the conditions and makes the writes; tells what changed, if anything did.
    pub(super) fn commit(
        &mut self,
        transaction: Transaction,
    ) -> Result<Option<Batch>, CommitError> {
        if let Some(failed) =
            transaction.conditions.iter().find(|c| !c.holds(self.entries.get(c.key())))
        {
            return Err(CommitError::Conflict { key: failed.key().clone() });
        }
        let mut leases = transaction.writes.iter().filter_map(Write::lease);
        if leases.any(|lease| !self.leases.contains_key(&lease)) {
            return Err(StoreError::LeaseGone.into());
        }
        let revision = Revision(self.revision.0 + 1);
        let changes =
            transaction.writes.into_iter().filter_map(|write| self.write(write, revision));
        let changes: Vec<_> = changes.collect();
        Ok(self.changed(changes))
    }

    fn write(&mut self, write: Write, revision: Revision) -> Option<Change> {
        match write {
            Write::Put { key, value, lease } => {
                let created = self.remove(&key).map_or(revision, |old| old.created);
                if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
                    lease.keys.insert(key.clone());
                }
                let entry = Entry { key: key.clone(), value, modified: revision, created, lease };
                self.entries.insert(key, entry.clone());
                Some(Change::Put(entry))
            }
            Write::Delete(key) => self.remove(&key).map(|_| Change::Deleted(key)),
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let old = self.entries.remove(key)?;
        if let Some(lease) = old.lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.keys.remove(key);
        }
        Some(old)
    }

    fn changed(&mut self, mut changes: Vec<Change>) -> Option<Batch> {
        if changes.is_empty() {
            return None;
        }
        changes.sort_by(|a, b| a.key().cmp(b.key()));
        self.revision.0 += 1;
        Some(Batch { revision: self.revision, changes })
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Duration) -> LeaseId {
        self.last_lease += 1;
        let lease = LeaseId(self.last_lease);
        self.leases.insert(lease, Lease { ttl, ends: now + ttl, keys: BTreeSet::new() });
        lease
    }

    pub(super) fn renew(&mut self, lease: LeaseId, now: Duration) -> Result<(), StoreError> {
        let lease = self.leases.get_mut(&lease).ok_or(StoreError::LeaseGone)?;
        lease.ends = now + lease.ttl;
        Ok(())
    }

    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<Option<Batch>, StoreError> {
        let lease = self.leases.remove(&lease).ok_or(StoreError::LeaseGone)?;
        let gone = lease.keys.into_iter().filter_map(|key| {
            self.entries.remove(&key)?;
            Some(Change::Deleted(key))
        });
        let gone = gone.collect();
        Ok(self.changed(gone))
    }

    /// Ends every lease whose time is over, the first first.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Batch> {
        let mut over: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.ends <= now)
            .map(|(id, lease)| (lease.ends, *id))
            .collect();
        over.sort_unstable();
        over.into_iter().filter_map(|(_, lease)| self.revoke(lease).ok().flatten()).collect()
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.leases.values().map(|lease| lease.ends).min()
    }
}
