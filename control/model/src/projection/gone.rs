//! What is no more, for those who have not heard of it yet.

use std::collections::BTreeMap;

use weft_store::Revision;
use weft_types::{EnvironmentId, HostId};

use super::DocumentId;

type Entries = BTreeMap<DocumentId, Revision>;

/// What is gone, each with the revision at which it went.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// What one host knew.
    hosts: BTreeMap<HostId, Entries>,
    /// What all members of an environment knew.
    members: BTreeMap<EnvironmentId, Entries>,
    len: usize,
    oldest: Revision,
}

impl Gone {
    /// What went before is not known.
    pub(super) fn since(oldest: Revision) -> Self {
        Self { oldest, ..Self::default() }
    }

    /// Something that one host knew.
    pub(super) fn for_host(&mut self, host: HostId, id: DocumentId, at: Revision) {
        let new = self.hosts.entry(host).or_default().insert(id, at).is_none();
        self.len += usize::from(new);
    }

    /// Something that all members knew.
    pub(super) fn for_members(&mut self, id: DocumentId, at: Revision) {
        let entries = self.members.entry(id.environment().clone()).or_default();
        self.len += usize::from(entries.insert(id, at).is_none());
    }

    /// One host knows it again.
    pub(super) fn is_back(&mut self, host: &HostId, id: &DocumentId) {
        if let Some(entries) = self.hosts.get_mut(host) {
            self.len -= usize::from(entries.remove(id).is_some());
        }
    }

    /// What one host has to hear.
    pub(super) fn of(&self, host: &HostId, after: Revision) -> impl Iterator<Item = DocumentId> {
        since(self.hosts.get(host), after)
    }

    /// What members of an environment have to hear.
    pub(super) fn within(
        &self,
        environment: &EnvironmentId,
        after: Revision,
    ) -> impl Iterator<Item = DocumentId> {
        since(self.members.get(environment), after)
    }

    /// Forgets the older half when there is too much.
    pub(super) fn trim(&mut self, len_max: usize) {
        if self.len <= len_max {
            return;
        }
        let all = self.hosts.values().chain(self.members.values()).flat_map(BTreeMap::values);
        let mut revisions: Vec<Revision> = all.copied().collect();
        revisions.sort_unstable();
        self.oldest = revisions[revisions.len() / 2];
        let oldest = self.oldest;
        let keep = |entries: &mut Entries| {
            entries.retain(|_, at| *at > oldest);
            !entries.is_empty()
        };
        self.hosts.retain(|_, entries| keep(entries));
        self.members.retain(|_, entries| keep(entries));
        let left = self.hosts.values().chain(self.members.values());
        self.len = left.map(BTreeMap::len).sum();
    }

    /// Whoever knows the state of this revision or a later one can be told what is gone.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }
}

fn since(entries: Option<&Entries>, after: Revision) -> impl Iterator<Item = DocumentId> {
    let entries = entries.into_iter().flatten();
    entries.filter(move |(_, at)| **at > after).map(|(id, _)| id.clone())
}
