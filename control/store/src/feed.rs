//! The newest changes, in memory, for all watches of one store. Sans-IO apart from waking readers.
//!
//! ```text
//!   forgotten or on the disk only │ start ─── batch ─── batch ─── batch ─── newest │ to come
//!                                 └─────────── in the ring, whole ─────────────────┘
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    entry::Revision,
    watch::{Batch, Change},
};

/// How much is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Most revisions back from the newest; revisions without a change count too.
    pub(crate) revisions: u64,
    /// Most bytes of keys and values, apart from the newest batch.
    pub(crate) bytes: usize,
}

/// Batches that one call looks at, so that no reader holds the lock for long.
const SCAN_MAX: usize = 256;
/// What a change takes besides its key and value, bytes.
const CHANGE_OVERHEAD: usize = 64;

/// What comes after a revision, under one prefix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This is next.
    Batch(Batch),
    /// Nothing up to here. When that is before the newest revision there may be more.
    Nothing(Revision),
    /// The ring begins after this revision, later than what was asked for.
    Before(Revision),
}

#[derive(Debug)]
struct Ring {
    kept: Kept,
    start: Revision,
    newest: Revision,
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    /// Wakes watches; what it holds means nothing.
    news: watch::Sender<()>,
}

impl Feed {
    /// Nothing is known of what happened up to `newest`.
    pub(crate) fn new(newest: Revision, kept: Kept) -> Self {
        let ring = Ring { kept, start: newest, newest, batches: VecDeque::new(), bytes: 0 };
        Self { ring: Mutex::new(ring), news: watch::Sender::new(()) }
    }

    /// Takes batches in the order of their revisions, and wakes readers.
    pub(crate) fn publish(&self, batches: impl IntoIterator<Item = Batch>) {
        {
            let mut ring = self.ring();
            for batch in batches {
                ring.push(batch);
            }
        }
        self.wake();
    }

    /// Lets every reader look again.
    pub(crate) fn wake(&self) {
        self.news.send_replace(());
    }

    /// Forgets everything up to `revision`.
    pub(crate) fn forget(&self, revision: Revision) {
        self.ring().forget(revision);
        self.wake();
    }

    /// Forgets everything up to `revision`, which may be one that was not published: what happened up to there
    /// is to be read elsewhere.
    #[cfg(feature = "sqlite")]
    pub(crate) fn forget_up_to(&self, revision: Revision) {
        {
            let mut ring = self.ring();
            ring.newest = ring.newest.max(revision);
            ring.forget(revision);
        }
        self.wake();
    }

    /// Told when it is worth asking again. To be taken before [`Feed::next`] is asked, so that nothing is
    /// missed in between.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The first batch after `after` with changes under `prefix`, with only those.
    pub(crate) fn next(&self, prefix: &str, after: Revision) -> Next {
        let (batches, newest) = {
            let ring = self.ring();
            if after < ring.start {
                return Next::Before(ring.start);
            }
            let first = ring.batches.partition_point(|batch| batch.revision <= after);
            let batches: Vec<_> = ring.batches.iter().skip(first).take(SCAN_MAX).cloned().collect();
            (batches, ring.newest)
        };
        let whole = batches.len() < SCAN_MAX;
        let last = batches.last().map(|batch| batch.revision);
        for batch in batches {
            let changes: Vec<_> =
                batch.changes.iter().filter(|c| c.key().has_prefix(prefix)).cloned().collect();
            if !changes.is_empty() {
                return Next::Batch(Batch { revision: batch.revision, changes });
            }
        }
        Next::Nothing(if whole { newest.max(after) } else { last.unwrap_or(after) })
    }

    /// The revision of the last batch.
    pub(crate) fn newest(&self) -> Revision {
        self.ring().newest
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A reader that panicked has changed nothing.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, batch: Batch) {
        self.newest = batch.revision;
        self.bytes += size(&batch);
        self.batches.push_back(Arc::new(batch));
        let oldest = Revision(self.newest.0.saturating_sub(self.kept.revisions));
        if oldest > self.start {
            self.forget(oldest);
        }
        while self.bytes > self.kept.bytes && self.batches.len() > 1 {
            let revision = self.batches[0].revision;
            self.forget(revision);
        }
    }

    fn forget(&mut self, revision: Revision) {
        self.start = self.start.max(revision);
        while self.batches.front().is_some_and(|batch| batch.revision <= revision) {
            self.bytes -= self.batches.pop_front().map_or(0, |batch| size(&batch));
        }
    }
}

fn size(batch: &Batch) -> usize {
    let of_change = |change: &Change| {
        let value = match change {
            Change::Put(entry) => entry.value.len(),
            Change::Deleted(_) => 0,
        };
        change.key().as_str().len() + value + CHANGE_OVERHEAD
    };
    batch.changes.iter().map(of_change).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    const ALL: Kept = Kept { revisions: 1_000, bytes: usize::MAX };

    fn batch(revision: u64, keys: &[&str]) -> Batch {
        let changes = keys.iter().map(|key| Change::Deleted(Key::new(key).unwrap())).collect();
        Batch { revision: Revision(revision), changes }
    }

    #[test]
    fn only_what_has_the_prefix_is_told_and_only_what_comes_after() {
        let feed = Feed::new(Revision(5), ALL);
        feed.publish([batch(6, &["a/1", "b/1"]), batch(7, &["b/2"]), batch(9, &["a/2"])]);
        assert_eq!(feed.next("a/", Revision(5)), Next::Batch(batch(6, &["a/1"])));
        assert_eq!(feed.next("a/", Revision(6)), Next::Batch(batch(9, &["a/2"])));
        assert_eq!(feed.next("a/", Revision(9)), Next::Nothing(Revision(9)));
        assert_eq!(feed.next("a/", Revision(20)), Next::Nothing(Revision(20)));
        assert_eq!(feed.next("a/", Revision(4)), Next::Before(Revision(5)));
    }

    #[test]
    fn a_long_scan_is_continued() {
        let feed = Feed::new(Revision(0), ALL);
        feed.publish((1..=600).map(|revision| batch(revision, &["b"])));
        assert_eq!(feed.next("a", Revision(0)), Next::Nothing(Revision(256)));
        assert_eq!(feed.next("a", Revision(512)), Next::Nothing(Revision(600)));
    }

    #[test]
    fn the_ring_is_bounded_by_revisions_and_bytes() {
        let feed = Feed::new(Revision(0), Kept { revisions: 3, bytes: usize::MAX });
        feed.publish((1..=5).map(|revision| batch(revision, &["a"])));
        assert_eq!(feed.next("a", Revision(1)), Next::Before(Revision(2)));
        assert_eq!(feed.next("a", Revision(2)), Next::Batch(batch(3, &["a"])));

        let feed =
            Feed::new(Revision(0), Kept { revisions: 1_000, bytes: 2 * (CHANGE_OVERHEAD + 1) });
        feed.publish((1..=5).map(|revision| batch(revision, &["a"])));
        assert_eq!(feed.next("a", Revision(2)), Next::Before(Revision(3)));
        feed.publish([batch(6, &["a", "b", "c"])]);
        assert_eq!(feed.next("a", Revision(5)), Next::Batch(batch(6, &["a"])));
    }
}
