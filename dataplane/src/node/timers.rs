//! When each peer's state machine wants to be called: one time for each, the earliest first, so that
//! a due one is found without looking at the others.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use weft_proto::LinkSlot;

/// The times of all peers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, LinkSlot)>,
    of: HashMap<LinkSlot, Instant>,
}

impl Timers {
    /// Calls a peer then, and not when it was to be called before; `None`: not at all.
    pub(super) fn set(&mut self, slot: LinkSlot, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.of.insert(slot, at),
            None => self.of.remove(&slot),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, slot));
        }
        if let Some(at) = at {
            self.by_time.insert((at, slot));
        }
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// A peer whose time has come; its time is forgotten.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<LinkSlot> {
        let (_, slot) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.set(slot, None);
        Some(slot)
    }
}

/// Waits until then; for ever without.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_peer_is_called_once_at_its_latest_time() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let [a, b, c] = [0, 1, 2].map(LinkSlot);
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(a, Some(at(5)));
        timers.set(b, Some(at(1)));
        timers.set(c, Some(at(1)));
        timers.set(c, None);
        // Later than before, and earlier than before.
        timers.set(b, Some(at(3)));
        timers.set(a, Some(at(2)));
        timers.set(a, Some(at(2)));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.take_due(at(1)), None);
        assert_eq!(timers.take_due(at(4)), Some(a));
        assert_eq!(timers.take_due(at(4)), Some(b));
        assert_eq!(timers.take_due(at(4)), None);
        assert_eq!(timers.next(), None);
    }
}
