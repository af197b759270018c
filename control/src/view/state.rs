//! What is known at one revision, and how it is found.

use std::collections::HashMap;

use weft_model::{
    Decoded, Record, RecordError, UnixMs,
    due::{Due, Ending},
    ipam::Ledger,
    owned::{Index, Owned},
    projection::{Fact, Projection},
    record::Address,
};
use weft_store::{Batch, Change, Fold, Key, Revision};
use weft_types::{EnvironmentId, HostId};

/// What is known at one revision.
#[derive(Debug, Default)]
pub struct State {
    fold: Fold,
    projection: Projection,
    ledgers: HashMap<EnvironmentId, Ledger>,
    index: Index,
    due: Due,
}

/// Of whom something is different.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) hosts: Vec<HostId>,
    pub(super) environments: Vec<EnvironmentId>,
}

impl State {
    pub(super) fn of(fold: Fold) -> Result<Self, RecordError> {
        let mut facts = Vec::new();
        let (mut ledgers, mut index, mut due) = (HashMap::new(), Index::default(), Due::default());
        for entry in fold.entries().values() {
            let change = Change::Put(entry.clone());
            facts.extend(Fact::of(&change)?);
            note_address(&mut ledgers, &change)?;
            index.handle(&change);
            due.handle(&change);
        }
        let projection = Projection::of(fold.revision(), facts);
        Ok(Self { fold, projection, ledgers, index, due })
    }

    /// Returns who has news.
    pub(super) fn apply(&mut self, batch: Batch) -> Result<Told, RecordError> {
        let mut facts = Vec::new();
        for change in &batch.changes {
            facts.extend(Fact::of(change)?);
            note_address(&mut self.ledgers, change)?;
        }
        for change in &batch.changes {
            self.index.handle(change);
            self.due.handle(change);
        }
        let told = self.projection.apply(batch.revision, facts);
        self.fold.handle_batch(batch);
        let environments = self.projection.touched().cloned().collect();
        Ok(Told { hosts: told.into_iter().collect(), environments })
    }

    pub(super) fn revision(&self) -> Revision {
        self.fold.revision()
    }

    /// What hosts have to know.
    #[must_use]
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// The addresses of an environment that are not free.
    #[must_use]
    pub fn ledger(&self, environment: &EnvironmentId) -> Ledger {
        self.ledgers.get(environment).cloned().unwrap_or_default()
    }

    /// A record.
    ///
    /// # Errors
    /// [`RecordError`] when it is damaged.
    pub fn get<R: Record>(&self, path: &str) -> Result<Option<Decoded<R>>, RecordError> {
        let key = R::key_at(path)?;
        self.fold.entries().get(&key).map(R::decode).transpose()
    }

    /// Records of a kind whose paths begin with `path`, after the one with the path `after`.
    ///
    /// # Errors
    /// [`RecordError`] when one is damaged.
    pub fn list<R: Record>(
        &self,
        path: &str,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<Vec<Decoded<R>>, RecordError> {
        self.list_some(path, after, |_| true, len_max)
    }

    /// Those of them of which `is_listed` says so; no more is read than it takes to find so many.
    ///
    /// # Errors
    /// [`RecordError`] when one is damaged.
    pub fn list_some<R: Record>(
        &self,
        path: &str,
        after: Option<&str>,
        is_listed: impl Fn(&R) -> bool,
        len_max: usize,
    ) -> Result<Vec<Decoded<R>>, RecordError> {
        let prefix = R::prefix(path);
        let from = match after {
            Some(after) => R::key_at(after)?,
            // Text that ends in a slash is a key as well.
            None => Key::new(&prefix).map_err(|cause| RecordError::Key { kind: R::KIND, cause })?,
        };
        let of_kind = self.fold.entries().range(from.clone()..);
        let found = of_kind
            .take_while(|(key, _)| key.has_prefix(&prefix))
            .filter(|(key, _)| after.is_none() || **key != from)
            .map(|(_, entry)| R::decode(entry));
        some(found, is_listed, len_max)
    }

    /// Records of a kind that are somebody's, in the order of their paths, after `after`, of which `is_listed` says so.
    /// Nothing that others have is read.
    ///
    /// # Errors
    /// [`RecordError`] when one is damaged.
    pub fn owned<R: Owned>(
        &self,
        owner: &R::Owner,
        after: Option<&str>,
        is_listed: impl Fn(&R) -> bool,
        len_max: usize,
    ) -> Result<Vec<Decoded<R>>, RecordError> {
        let after = after.map(R::key_at).transpose()?;
        let keys = self.index.keys::<R>(owner, after.as_ref());
        let found = keys.filter_map(|key| self.fold.entries().get(key)).map(R::decode);
        some(found, is_listed, len_max)
    }

    /// All records of a kind that are somebody's.
    ///
    /// # Errors
    /// [`RecordError`] when one is damaged.
    pub fn all_of<R: Owned>(&self, owner: &R::Owner) -> Result<Vec<Decoded<R>>, RecordError> {
        self.owned(owner, None, |_| true, usize::MAX)
    }

    /// Records of a kind whose time has come, in the order in which it has. Nothing else is read.
    ///
    /// # Errors
    /// [`RecordError`] when one is damaged.
    pub fn due<R: Ending>(
        &self,
        now: UnixMs,
        len_max: usize,
    ) -> Result<Vec<Decoded<R>>, RecordError> {
        let due = self.due.keys::<R>(now).filter_map(|key| self.fold.entries().get(key));
        due.take(len_max).map(R::decode).collect()
    }
}

fn some<R: Record>(
    found: impl Iterator<Item = Result<Decoded<R>, RecordError>>,
    is_listed: impl Fn(&R) -> bool,
    len_max: usize,
) -> Result<Vec<Decoded<R>>, RecordError> {
    let listed = found.filter(|found| match found {
        Ok(found) => is_listed(&found.record),
        Err(_) => true,
    });
    listed.take(len_max).collect()
}

fn note_address(
    ledgers: &mut HashMap<EnvironmentId, Ledger>,
    change: &Change,
) -> Result<(), RecordError> {
    let parts: Vec<&str> = change.key().as_str().split('/').collect();
    let [Address::KIND, environment, address] = parts[..] else { return Ok(()) };
    let (Ok(environment), Ok(address)) = (environment.parse(), address.parse()) else {
        return Ok(());
    };
    let ledger = ledgers.entry(environment).or_default();
    match change {
        Change::Put(entry) => ledger.put(Address::decode(entry)?),
        Change::Deleted(_) => ledger.remove(address),
    }
    Ok(())
}
