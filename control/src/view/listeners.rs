//! Who listens for news of what.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{PoisonError, RwLock},
};

use tokio::sync::watch;
use weft_store::Revision;

/// Those who listen, by what for; the value is the revision of the last news of it.
#[derive(Debug)]
pub(super) struct Listeners<K>(RwLock<HashMap<K, watch::Sender<Revision>>>);

impl<K> Default for Listeners<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash + Clone> Listeners<K> {
    /// Tells whenever there is news of this from now on.
    pub(super) fn listen(&self, of: &K) -> watch::Receiver<Revision> {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more to those without receivers.
        listeners.retain(|_, news| news.receiver_count() > 0);
        listeners.entry(of.clone()).or_default().subscribe()
    }

    /// There is news of these, and of nothing else.
    pub(super) fn tell(&self, of: &[K], revision: Revision) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for news in of.iter().filter_map(|of| listeners.get(of)) {
            news.send_replace(revision);
        }
    }

    /// There may be news of everything.
    pub(super) fn tell_all(&self, revision: Revision) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for news in listeners.values() {
            news.send_replace(revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_hears_of_that_and_of_nothing_else() {
        let listeners = Listeners::default();
        let (mut one, mut other) = (listeners.listen(&"one"), listeners.listen(&"other"));
        listeners.tell(&["one", "nobody's"], Revision(3));
        assert!(one.has_changed().unwrap() && !other.has_changed().unwrap());
        assert_eq!(*one.borrow_and_update(), Revision(3));
        listeners.tell_all(Revision(4));
        assert!(one.has_changed().unwrap() && other.has_changed().unwrap());
        other.mark_unchanged();
        drop(one);
        listeners.listen(&"third");
        assert_eq!(listeners.0.read().unwrap().len(), 2, "nobody listens to one any more");
    }
}
