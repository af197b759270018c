//! A store in memory whose commits fail as a test wants it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;
use weft_store::{
    Batch, Change, CommitError, Entry, Key, LIST_LEN_MAX, LeaseId, Page, Revision, Store,
    StoreError, Transaction, Watch, WatchError, Write,
};

/// How one commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happens.
    Refused,
    /// It happens, and the answer is lost.
    AnswerLost,
    /// Nothing happens, and nobody knows.
    RequestLost,
}

#[derive(Debug, Default)]
struct Inside {
    entries: BTreeMap<Key, Entry>,
    history: Vec<Batch>,
    revision: u64,
    commits: usize,
    fault: Option<(usize, Fault)>,
    faster: Option<Transaction>,
    lists: usize,
    down: bool,
    deaf: bool,
}

/// See the module's text. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<(Mutex<Inside>, Notify)>);

impl Memory {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.0.lock().unwrap()
    }

    /// The commit with this number, counted from 0 on from now, fails.
    pub(crate) fn fail(&self, number: usize, fault: Fault) {
        let mut inside = self.inside();
        inside.commits = 0;
        inside.fault = Some((number, fault));
    }

    /// Somebody else makes these changes just before the next commit.
    pub(crate) fn be_faster(&self, changes: Transaction) {
        self.inside().faster = Some(changes);
    }

    /// No more faults; says whether the fault happened.
    pub(crate) fn heal(&self) -> bool {
        let mut inside = self.inside();
        let happened = inside.fault.is_none();
        inside.fault = None;
        happened
    }

    /// How often something was listed since this was asked last.
    pub(crate) fn lists(&self) -> usize {
        std::mem::take(&mut self.inside().lists)
    }

    /// Whether nothing answers.
    pub(crate) fn set_down(&self, down: bool) {
        self.inside().down = down;
        self.0.1.notify_waiters();
    }

    /// Whether watches say nothing, though nothing is wrong with them.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.inside().deaf = deaf;
    }

    /// Puts something there, whatever was.
    pub(crate) fn write(&self, key: &str, value: &[u8]) {
        let write = Transaction::new().put(Key::new(key).unwrap(), value.to_vec());
        self.inside().apply(&write);
        self.0.1.notify_waiters();
    }

    /// Takes something away.
    pub(crate) fn remove(&self, key: &str) {
        let write = Transaction::new().delete(Key::new(key).unwrap());
        self.inside().apply(&write);
        self.0.1.notify_waiters();
    }

    /// What is there.
    pub(crate) fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.inside().entries.get(&Key::new(key).unwrap()).map(|entry| entry.value.to_vec())
    }
}

impl Inside {
    fn up(&self) -> Result<(), StoreError> {
        if self.down { Err(StoreError::Unavailable("a test".to_owned())) } else { Ok(()) }
    }

    fn apply(&mut self, transaction: &Transaction) -> Revision {
        self.revision += 1;
        let revision = Revision(self.revision);
        let mut changes = Vec::new();
        for write in &transaction.writes {
            match write {
                Write::Put { key, value, .. } => {
                    let created = self.entries.get(key).map_or(revision, |entry| entry.created);
                    let (key, value) = (key.clone(), value.clone());
                    let entry =
                        Entry { key: key.clone(), value, modified: revision, created, lease: None };
                    self.entries.insert(key, entry.clone());
                    changes.push(Change::Put(entry));
                }
                Write::Delete(key) => {
                    self.entries.remove(key);
                    changes.push(Change::Deleted(key.clone()));
                }
            }
        }
        self.history.push(Batch { revision, changes });
        revision
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let inside = self.inside();
        inside.up()?;
        Ok(inside.entries.get(key).cloned())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        let mut inside = self.inside();
        inside.up()?;
        inside.lists += 1;
        let mut entries: Vec<Entry> = inside
            .entries
            .values()
            .filter(|entry| entry.key.has_prefix(prefix) && after.is_none_or(|a| *a < entry.key))
            .cloned()
            .collect();
        // Small pages, so that tests see more than one.
        let len_max = len_max.min(LIST_LEN_MAX).min(7);
        let more = entries.len() > len_max;
        entries.truncate(len_max);
        Ok(Page { revision: Revision(inside.revision), entries, more })
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        transaction.check()?;
        let mut inside = self.inside();
        inside.up()?;
        if let Some(changes) = inside.faster.take() {
            inside.apply(&changes);
        }
        let number = inside.commits;
        inside.commits += 1;
        let fault = inside.fault.take_if(|(at, _)| *at == number).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Refused) => {
                return Err(StoreError::Unavailable("a test".to_owned()).into());
            }
            Some(Fault::RequestLost) => return Err(CommitError::Unknown("a test".to_owned())),
            Some(Fault::AnswerLost) | None => {}
        }
        for condition in &transaction.conditions {
            if !condition.holds(inside.entries.get(condition.key())) {
                return Err(CommitError::Conflict { key: condition.key().clone() });
            }
        }
        let revision = inside.apply(&transaction);
        drop(inside);
        self.0.1.notify_waiters();
        match fault {
            Some(_) => Err(CommitError::Unknown("a test".to_owned())),
            None => Ok(revision),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inside().up()?;
        Ok(Box::new(Changes { store: self.clone(), prefix: prefix.to_owned(), after }))
    }

    async fn grant_lease(&self, _: Duration) -> Result<LeaseId, StoreError> {
        Err(StoreError::Invalid("no leases".to_owned()))
    }

    async fn renew_lease(&self, _: LeaseId) -> Result<(), StoreError> {
        Err(StoreError::LeaseGone)
    }

    async fn revoke_lease(&self, _: LeaseId) -> Result<(), StoreError> {
        Err(StoreError::LeaseGone)
    }
}

struct Changes {
    store: Memory,
    prefix: String,
    after: Revision,
}

#[async_trait]
impl Watch for Changes {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            let told = self.store.0.1.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            {
                let inside = self.store.inside();
                inside.up()?;
                let next = inside.history.iter().find_map(|batch| {
                    let mut batch = batch.clone();
                    batch.changes.retain(|change| change.key().has_prefix(&self.prefix));
                    (batch.revision > self.after && !batch.changes.is_empty()).then_some(batch)
                });
                if let (Some(batch), false) = (next, inside.deaf) {
                    self.after = batch.revision;
                    return Ok(batch);
                }
            }
            told.await;
        }
    }
}
