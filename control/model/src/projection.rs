//! What each host has to know, and nothing else.
//!
//! ```text
//!   store's changes ──▶ Fact ──▶ Projection ──┬── snapshot(host)          everything, as Updates
//!                                             ├── changes(host, revision)  what is different since
//!                                             └── next_services(cursor)    an environment's services, in parts
//! ```
//!
//! A host knows an environment while it has an attachment there: the environment's settings, its own
//! attachments, where the other hosts of the environment are and which addresses live there, the services with
//! their addresses, and the policy. When the last attachment goes, so does all of it.
//!
//! Every document remembers at which revision it last changed, and what is gone is remembered for a while, so that
//! a host that comes back gets only what it missed. A host that is slow gets the newest state and not each step to it.
//! Whatever happens between, whoever applies all updates in order has what a snapshot has.

mod document;
mod fact;
mod gone;
mod part;
mod tenancy;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use weft_store::Revision;
use weft_types::{AttachmentName, EnvironmentId, HostId};

pub use self::{
    document::{
        AttachmentDocument, Document, DocumentId, EnvironmentDocument, Instance, InstanceState,
        PeerDocument, RoleHolder, ServiceDocument, Update,
    },
    fact::{EnvironmentFact, Fact},
    part::{ServiceCursor, ServicePart},
};
use self::{gone::Gone, tenancy::Tenancy};
use crate::record::{Host, HostState, Lost};

/// How much that is gone is remembered, at most.
pub const GONE_MAX: usize = 20_000;

/// The changes since that revision are not known any more: take a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what changed before revision {oldest} is forgotten")]
pub struct Forgotten {
    /// Changes after this one are known.
    pub oldest: Revision,
}

/// The state of the installation, as hosts see it.
#[derive(Debug, Default)]
pub struct Projection {
    revision: Revision,
    hosts: BTreeMap<HostId, Host>,
    lost: BTreeSet<HostId>,
    environments: BTreeMap<EnvironmentId, Tenancy>,
    /// Where each host is a member.
    memberships: BTreeMap<HostId, BTreeSet<EnvironmentId>>,
    gone: Gone,
    /// Of which environments something was in what was applied last.
    touched: BTreeSet<EnvironmentId>,
    /// When what a host may see of all others last changed: it has to begin anew.
    reset: BTreeMap<HostId, Revision>,
}

impl Projection {
    /// What is so at `revision`. Whoever has an older state has to begin anew: what went before is not known.
    #[must_use]
    pub fn of(revision: Revision, facts: impl IntoIterator<Item = Fact>) -> Self {
        let mut projection = Self { gone: Gone::since(revision), ..Self::default() };
        projection.apply(revision, facts);
        projection
    }

    /// What was applied last.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The environments of which something may be different since what was applied last.
    pub fn touched(&self) -> impl Iterator<Item = &EnvironmentId> {
        self.touched.iter()
    }

    /// What is known of a host.
    #[must_use]
    pub fn host(&self, host: &HostId) -> Option<&Host> {
        self.hosts.get(host)
    }

    /// Whether a host has attachments of an environment. It takes as long for one that is not there.
    #[must_use]
    pub fn is_on(&self, environment: &EnvironmentId, host: &HostId) -> bool {
        self.environments.get(environment).is_some_and(|found| found.is_on(host))
    }

    /// What is to be on a host, by environment, those after `after`; whether the host takes part or not.
    pub fn placed(
        &self,
        host: &HostId,
        after: Option<&EnvironmentId>,
    ) -> impl Iterator<Item = (&EnvironmentId, &BTreeSet<AttachmentName>)> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let environments = self.environments.range::<EnvironmentId, _>(behind);
        environments.filter_map(|(id, tenancy)| tenancy.on(host).map(|names| (id, names)))
    }

    /// What is to be on a host of one environment; `None` when nothing is.
    #[must_use]
    pub fn placed_in(
        &self,
        environment: &EnvironmentId,
        host: &HostId,
    ) -> Option<&BTreeSet<AttachmentName>> {
        self.environments.get(environment).and_then(|tenancy| tenancy.on(host))
    }

    /// Everything that happened at `revision`, which is later than all before. Returns the hosts that have
    /// something new to know.
    pub fn apply(
        &mut self,
        revision: Revision,
        facts: impl IntoIterator<Item = Fact>,
    ) -> BTreeSet<HostId> {
        self.revision = revision;
        let (mut touched, mut told) = (BTreeSet::new(), BTreeSet::new());
        for fact in facts {
            match fact {
                Fact::Host(id, host) => {
                    // Whether it may still listen is looked at again: it may have another key by now.
                    told.insert(id.clone());
                    self.set_host(id, host, &mut touched);
                }
                Fact::Lost(id, lost) => self.set_lost(id, lost.as_ref(), &mut touched),
                Fact::Of(environment, fact) => {
                    self.environments.entry(environment.clone()).or_default().learn(fact);
                    touched.insert(environment);
                }
            }
        }
        for id in &touched {
            self.settle(id, &mut told);
        }
        self.touched = touched;
        told
    }

    fn set_host(&mut self, id: HostId, host: Option<Host>, touched: &mut BTreeSet<EnvironmentId>) {
        self.host_changed(&id, touched);
        let before = match host {
            Some(host) => {
                let pod = host.place.pod.clone();
                self.hosts.insert(id.clone(), host).is_some_and(|before| before.place.pod != pod)
            }
            None => self.hosts.remove(&id).is_some(),
        };
        // Which endpoints of others it sees depends on its pod.
        if before {
            self.reset.insert(id, self.revision);
        }
    }

    fn set_lost(&mut self, id: HostId, lost: Option<&Lost>, touched: &mut BTreeSet<EnvironmentId>) {
        self.host_changed(&id, touched);
        match lost {
            Some(_) => self.lost.insert(id),
            None => self.lost.remove(&id),
        };
    }

    fn host_changed(&mut self, id: &HostId, touched: &mut BTreeSet<EnvironmentId>) {
        touched.extend(self.memberships.get(id).into_iter().flatten().cloned());
        // Not a member while it is not known or revoked: then it has attachments somewhere all the same.
        let has_attachments = self.environments.iter().filter(|(_, tenancy)| tenancy.is_on(id));
        touched.extend(has_attachments.map(|(environment, _)| environment.clone()));
        for tenancy in self.environments.values_mut() {
            tenancy.host_changed(id);
        }
    }

    /// Makes the documents of an environment again that may be different.
    fn settle(&mut self, id: &EnvironmentId, told: &mut BTreeSet<HostId>) {
        let Some(tenancy) = self.environments.get_mut(id) else { return };
        told.extend(tenancy.members().cloned());
        let around =
            tenancy::Around { hosts: &self.hosts, lost: &self.lost, revision: self.revision };
        let change = tenancy.settle(id, &around, &mut self.gone);
        for host in change.joined {
            self.memberships.entry(host).or_default().insert(id.clone());
        }
        for host in change.left {
            if let Some(memberships) = self.memberships.get_mut(&host) {
                memberships.remove(id);
                if memberships.is_empty() {
                    self.memberships.remove(&host);
                }
            }
        }
        told.extend(tenancy.members().cloned());
        if tenancy.is_empty() {
            self.environments.remove(id);
        }
        self.gone.trim(GONE_MAX);
    }

    /// Everything that a host has to know, in an order in which it can be applied: what belongs to an environment
    /// comes after it. A host that is not known, or revoked, has nothing to know.
    #[must_use]
    pub fn snapshot(&self, host: &HostId) -> Vec<Update> {
        let mut updates = Vec::new();
        for (id, tenancy) in self.tenancies(host) {
            tenancy.tell(id, self.viewer(host), Revision(0), &mut updates);
        }
        updates
    }

    /// What is different for a host since `after`.
    ///
    /// # Errors
    /// [`Forgotten`] when that is not known.
    pub fn changes(&self, host: &HostId, after: Revision) -> Result<Vec<Update>, Forgotten> {
        let oldest = self.gone.oldest().max(self.reset.get(host).copied().unwrap_or_default());
        if after < oldest {
            return Err(Forgotten { oldest });
        }
        let mut updates: Vec<Update> = self.gone.of(host, after).map(Update::Remove).collect();
        for (id, tenancy) in self.tenancies(host) {
            if tenancy.since(host).is_some_and(|since| since > after) {
                // It may have been here before, and have left since.
                updates.push(Update::Remove(DocumentId::Environment(id.clone())));
                tenancy.tell(id, self.viewer(host), Revision(0), &mut updates);
            } else {
                updates.extend(
                    self.gone
                        .within(id, after)
                        .filter(|gone| !tenancy.has(gone))
                        .map(Update::Remove),
                );
                tenancy.tell(id, self.viewer(host), after, &mut updates);
            }
        }
        Ok(updates)
    }

    fn viewer<'a>(&'a self, id: &'a HostId) -> tenancy::Viewer<'a> {
        let pod = self.hosts.get(id).map_or("", |host| host.place.pod.as_str());
        tenancy::Viewer { id, pod }
    }

    fn tenancies(&self, host: &HostId) -> impl Iterator<Item = (&EnvironmentId, &Tenancy)> {
        let ids = self.memberships.get(host).into_iter().flatten();
        ids.filter_map(|id| self.environments.get_key_value(id))
    }
}

/// Whether a host takes part in anything.
fn takes_part(host: &Host) -> bool {
    host.state != HostState::Revoked
}

#[cfg(test)]
mod tests;
