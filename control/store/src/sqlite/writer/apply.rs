//! Requests of one group, made one after the other in one SQLite transaction.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    leases::{LeaseChanges, Leases},
    request::{Answered, Request},
};
use crate::{
    entry::Revision,
    error::StoreError,
    key::Key,
    limits::HISTORY_REVISIONS_MIN,
    sqlite::{
        reader::key,
        record::Record,
        schema::{CHANGES_MAX, Stored, change_id, revision_of},
    },
    store::LeaseId,
    transaction::{Condition, Transaction, Write},
    watch::{Batch, Change},
};

/// History is compacted when it is so many revisions longer than it must be, and then by twice what the group
/// adds at least: a little with each group instead of much at once.
const COMPACT_STEP: u64 = 64;

/// What was made, to be taken over when it is durable.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) stored: Stored,
    pub(super) leases: LeaseChanges,
    pub(super) batches: Vec<Batch>,
    /// Whether something is not to be found any more that was.
    pub(super) removed: bool,
}

/// Where a key's current value is.
struct Current {
    change: i64,
    created: Revision,
}

/// A group that is being made.
pub(super) struct Changes<'a> {
    connection: &'a Connection,
    leases: &'a Leases,
    erase: bool,
    before: &'a Stored,
    granted: HashSet<LeaseId>,
    gone: HashSet<LeaseId>,
    done: Done,
}

impl<'a> Changes<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        before: &'a Stored,
        leases: &'a Leases,
        erase: bool,
    ) -> Self {
        let done = Done {
            stored: before.clone(),
            leases: LeaseChanges::default(),
            batches: Vec::new(),
            removed: false,
        };
        let (granted, gone) = (HashSet::new(), HashSet::new());
        Self { connection, leases, erase, before, granted, gone, done }
    }

    pub(super) fn make(
        &mut self,
        requests: &[Request],
        ending: &[LeaseId],
    ) -> rusqlite::Result<Vec<Answered>> {
        for lease in ending {
            self.revoke(*lease)?;
        }
        requests
            .iter()
            .map(|request| match request {
                Request::Commit(transaction, _) => self.commit(transaction),
                Request::Grant(ttl, _) => self.grant(*ttl).map(Answered::Granted),
                Request::Revoke(lease, _) => self.revoke(*lease),
                // Renewals do not come here.
                Request::Renew(..) => Ok(Answered::Refused(StoreError::LeaseGone)),
            })
            .collect()
    }

    fn commit(&mut self, transaction: &Transaction) -> rusqlite::Result<Answered> {
        for condition in &transaction.conditions {
            if !self.holds(condition)? {
                return Ok(Answered::Conflict(condition.key().clone()));
            }
        }
        if transaction.writes.iter().filter_map(Write::lease).any(|lease| !self.lease_lives(lease))
        {
            return Ok(Answered::Refused(StoreError::LeaseGone));
        }
        let mut writes: Vec<_> = transaction.writes.iter().collect();
        writes.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        let revision = Revision(self.done.stored.revision.0 + 1);
        let mut changes = Vec::with_capacity(writes.len());
        for write in writes {
            let id = change_id(revision, changes.len());
            let change = match write {
                Write::Put { key, value, lease } => Some(self.put(id, key, value, *lease)?),
                Write::Delete(key) => self.delete(id, key)?,
            };
            changes.extend(change);
        }
        self.changed(changes);
        Ok(Answered::Committed(self.done.stored.revision))
    }

    fn changed(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.done.stored.revision.0 += 1;
            self.done.batches.push(Batch { revision: self.done.stored.revision, changes });
        }
    }

    fn holds(&self, condition: &Condition) -> rusqlite::Result<bool> {
        let current = self.current(condition.key())?;
        Ok(match condition {
            Condition::Absent(_) => current.is_none(),
            Condition::Present(_) => current.is_some(),
            Condition::At(_, revision) => {
                current.is_some_and(|current| revision_of(current.change) == *revision)
            }
        })
    }

    fn current(&self, key: &Key) -> rusqlite::Result<Option<Current>> {
        self.connection
            .prepare_cached("SELECT change, created FROM entry WHERE key = ?1")?
            .query_row([key.as_str()], |row| {
                Ok(Current { change: row.get(0)?, created: Revision(row.get(1)?) })
            })
            .optional()
    }

    fn put(
        &mut self,
        id: i64,
        key: &Key,
        value: &Bytes,
        lease: Option<LeaseId>,
    ) -> rusqlite::Result<Change> {
        let modified = revision_of(id);
        let old = self.current(key)?;
        let created = old.as_ref().map_or(modified, |old| old.created);
        let record = Record { id, key: key.clone(), value: Some(value.clone()), created, lease };
        self.insert(&record)?;
        self.connection
            .prepare_cached(
                "INSERT INTO entry (key, change, created, lease) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET change = ?2, created = ?3, lease = ?4",
            )?
            .execute(params![key.as_str(), id, created.0, lease.map(|lease| lease.0)])?;
        if let Some(old) = old {
            self.forget(old.change)?;
        }
        Ok(record.change())
    }

    fn insert(&self, record: &Record) -> rusqlite::Result<()> {
        let (id, key, created) = (record.id, record.key.as_str(), record.created.0);
        let (value, lease) = (record.value.as_deref(), record.lease.map(|lease| lease.0));
        self.connection
            .prepare_cached(
                "INSERT INTO change (id, key, value, created, lease, sum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![id, key, value, created, lease, record.sum()])?;
        Ok(())
    }

    fn delete(&mut self, id: i64, key: &Key) -> rusqlite::Result<Option<Change>> {
        let Some(old) = self.current(key)? else { return Ok(None) };
        self.connection
            .prepare_cached("DELETE FROM entry WHERE key = ?1")?
            .execute([key.as_str()])?;
        if !self.erase {
            let (value, created, lease) = (None, Revision(0), None);
            self.insert(&Record { id, key: key.clone(), value, created, lease })?;
        }
        self.forget(old.change)?;
        Ok(Some(Change::Deleted(key.clone())))
    }

    /// A value is not the current one any more. What history still covers stays.
    fn forget(&mut self, change: i64) -> rusqlite::Result<()> {
        if self.erase || revision_of(change) <= self.before.compacted {
            self.connection
                .prepare_cached("DELETE FROM change WHERE id = ?1")?
                .execute([change])?;
            self.done.removed = true;
        }
        Ok(())
    }

    fn lease_lives(&self, lease: LeaseId) -> bool {
        (self.leases.contains(lease) && !self.gone.contains(&lease))
            || self.granted.contains(&lease)
    }

    fn grant(&mut self, ttl: Duration) -> rusqlite::Result<LeaseId> {
        self.done.stored.last_lease += 1;
        let lease = LeaseId(self.done.stored.last_lease);
        // An hour at most, so it fits.
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.connection
            .prepare_cached("INSERT INTO lease (id, ttl_ms) VALUES (?1, ?2)")?
            .execute([lease.0, ttl_ms])?;
        self.granted.insert(lease);
        self.done.leases.granted.push((lease, ttl));
        Ok(lease)
    }

    fn revoke(&mut self, lease: LeaseId) -> rusqlite::Result<Answered> {
        if !self.lease_lives(lease) {
            return Ok(Answered::Refused(StoreError::LeaseGone));
        }
        let keys: Vec<Key> = self
            .connection
            .prepare_cached("SELECT key FROM entry WHERE lease = ?1 ORDER BY key LIMIT ?2")?
            .query_map(params![lease.0, CHANGES_MAX], |row| key(row, 0))?
            .collect::<rusqlite::Result<_>>()?;
        let revision = Revision(self.done.stored.revision.0 + 1);
        let mut changes = Vec::with_capacity(keys.len());
        for key in &keys {
            let change = self.delete(change_id(revision, changes.len()), key)?;
            changes.extend(change);
        }
        self.changed(changes);
        self.connection.prepare_cached("DELETE FROM lease WHERE id = ?1")?.execute([lease.0])?;
        self.granted.remove(&lease);
        self.gone.insert(lease);
        self.done.leases.gone.push(lease);
        Ok(Answered::Done)
    }

    /// Compacts and notes how far the store is. None when nothing was changed.
    pub(super) fn finish(mut self) -> rusqlite::Result<Option<Done>> {
        let made = self.done.stored.revision.0 - self.before.revision.0;
        if made == 0 && self.done.leases.granted.is_empty() && self.done.leases.gone.is_empty() {
            return Ok(None);
        }
        if self.erase {
            self.done.stored.compacted = self.done.stored.revision;
        } else {
            self.compact(made)?;
        }
        let mut set =
            self.connection.prepare_cached("UPDATE state SET value = ?2 WHERE name = ?1")?;
        let (before, now) = (self.before, &self.done.stored);
        for (name, before, now) in [
            ("revision", before.revision.0, now.revision.0),
            ("compacted", before.compacted.0, now.compacted.0),
            ("lease", before.last_lease, now.last_lease),
        ] {
            if before != now {
                set.execute(params![name, now])?;
            }
        }
        Ok(Some(self.done))
    }

    fn compact(&mut self, made: u64) -> rusqlite::Result<()> {
        let stored = &mut self.done.stored;
        let oldest = stored.revision.0.saturating_sub(HISTORY_REVISIONS_MIN);
        let behind = oldest.saturating_sub(stored.compacted.0);
        if behind < COMPACT_STEP {
            return Ok(());
        }
        let from = change_id(Revision(stored.compacted.0 + 1), 0);
        stored.compacted.0 += behind.min(COMPACT_STEP.max(2 * made));
        let to = change_id(Revision(stored.compacted.0 + 1), 0);
        self.connection
            .prepare_cached(
                "DELETE FROM change WHERE id >= ?1 AND id < ?2 AND NOT EXISTS
                 (SELECT 1 FROM entry WHERE entry.key = change.key AND entry.change = change.id)",
            )?
            .execute([from, to])?;
        Ok(())
    }
}
