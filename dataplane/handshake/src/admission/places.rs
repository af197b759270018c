//! The handshakes under way, and who gives way when there are too many.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::{Refusal, Source, Ticket};

/// How long a first message may be under way: then its connection gives way to others of its source.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(1);

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Where it came from, if that is known.
    known: Option<Source>,
    since: Instant,
    /// Whether its first message came.
    spoke: bool,
}

/// All of them, at most `max`, in the order in which they came. Whoever looks for one to give way
/// reads the whole table, which has 256 entries.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    places: BTreeMap<Ticket, Place>,
    next: u64,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, places: BTreeMap::new(), next: 0 }
    }

    /// A place for a newcomer, and who has to give way for it.
    pub(super) fn take(
        &mut self,
        known: Option<Source>,
        now: Instant,
    ) -> Result<(Ticket, Option<Ticket>), Refusal> {
        let evicted = self.gives_way(known, now)?;
        if let Some(evicted) = evicted {
            self.places.remove(&evicted);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.places.insert(ticket, Place { known, since: now, spoke: false });
        Ok((ticket, evicted))
    }

    fn gives_way(&self, known: Option<Source>, now: Instant) -> Result<Option<Ticket>, Refusal> {
        if self.places.len() < self.max {
            return Ok(None);
        }
        if let Some(oldest) = self.oldest(|place| place.known.is_none()) {
            return Ok(Some(oldest));
        }
        let Some(source) = known else { return Err(Refusal::HalfOpen) };
        let mut held: HashMap<Source, usize> = HashMap::new();
        for place in self.places.values() {
            *held.entry(place.known.unwrap_or(source)).or_default() += 1;
        }
        let own = held.get(&source).copied().unwrap_or_default();
        let largest = held.values().copied().max().unwrap_or_default();
        // Only from whoever keeps at least as many as the newcomer then has: they never take turns.
        let gives = if largest >= own + 2 {
            self.oldest(|place| place.known.is_some_and(|other| held[&other] == largest))
        } else {
            self.oldest(|place| {
                let silence = now.saturating_duration_since(place.since);
                place.known == Some(source) && !place.spoke && silence >= SILENCE_MAX
            })
        };
        gives.map(Some).ok_or(Refusal::HalfOpen)
    }

    fn oldest(&self, of: impl Fn(&Place) -> bool) -> Option<Ticket> {
        self.places.iter().find(|(_, place)| of(place)).map(|(ticket, _)| *ticket)
    }

    /// The first message is there; returns whether its source is known. `false` for one that gave way.
    pub(super) fn spoke(&mut self, ticket: Ticket) -> bool {
        let Some(place) = self.places.get_mut(&ticket) else { return false };
        place.spoke = true;
        place.known.is_some()
    }

    pub(super) fn release(&mut self, ticket: Ticket) {
        self.places.remove(&ticket);
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
