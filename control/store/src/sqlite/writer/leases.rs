//! When leases end. That is kept in memory only: renewing one writes nothing, and after a restart each has all
//! of its time again.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::request::{Answered, Request};
use crate::{error::StoreError, store::LeaseId};

/// After a failure, a lease that should have ended is tried again so much later.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends: Instant,
}

/// What a group does to leases.
#[derive(Debug, Default)]
pub(super) struct LeaseChanges {
    pub(super) granted: Vec<(LeaseId, Duration)>,
    pub(super) gone: Vec<LeaseId>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: HashMap<LeaseId, Lease>,
    ends: BTreeSet<(Instant, LeaseId)>,
}

impl Leases {
    pub(super) fn new(leases: Vec<(LeaseId, Duration)>, now: Instant) -> Self {
        let mut all = Self::default();
        all.apply(LeaseChanges { granted: leases, gone: Vec::new() }, now);
        all
    }

    pub(super) fn contains(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// The first that have ended, at most `len_max`.
    pub(super) fn ended(&self, now: Instant, len_max: usize) -> Vec<LeaseId> {
        let over = self.ends.iter().take_while(|(end, _)| *end <= now);
        over.take(len_max).map(|(_, lease)| *lease).collect()
    }

    /// Renews a lease that has not ended; gives every other request back.
    pub(super) fn handle_renewal(&mut self, request: Request, now: Instant) -> Option<Request> {
        let Request::Renew(id, _) = request else { return Some(request) };
        let answered = match self.leases.get(&id) {
            Some(lease) if lease.ends > now => {
                let ends = now + lease.ttl;
                self.set_end(id, ends);
                Answered::Done
            }
            _ => Answered::Refused(StoreError::LeaseGone),
        };
        request.answer(answered);
        None
    }

    /// It could not be ended now.
    pub(super) fn end_later(&mut self, lease: LeaseId, now: Instant) {
        self.set_end(lease, now + RETRY);
    }

    fn set_end(&mut self, id: LeaseId, ends: Instant) {
        if let Some(lease) = self.leases.get_mut(&id) {
            self.ends.remove(&(lease.ends, id));
            lease.ends = ends;
            self.ends.insert((ends, id));
        }
    }

    pub(super) fn apply(&mut self, changes: LeaseChanges, now: Instant) {
        for (id, ttl) in changes.granted {
            let ends = now + ttl;
            self.leases.insert(id, Lease { ttl, ends });
            self.ends.insert((ends, id));
        }
        for id in changes.gone {
            if let Some(lease) = self.leases.remove(&id) {
                self.ends.remove(&(lease.ends, id));
            }
        }
    }
}
