//! Who may shake hands with this host, as the tasks that accept handshakes see it.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use weft_handshake::LocalSide;
use weft_types::{EnvironmentId, HostId};

/// This host's part in a handshake, by environment and peer. A host that is not here is refused.
#[derive(Default)]
pub(super) struct Directory(RwLock<HashMap<(EnvironmentId, HostId), LocalSide>>);

impl Directory {
    pub(super) fn admit(&self, environment: &EnvironmentId, host: &HostId) -> Option<LocalSide> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(environment.clone(), host.clone())).cloned()
    }

    pub(super) fn insert(&self, environment: &EnvironmentId, host: &HostId, side: LocalSide) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert((environment.clone(), host.clone()), side);
    }

    pub(super) fn remove(&self, environment: &EnvironmentId, host: &HostId) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(environment.clone(), host.clone()));
    }
}
