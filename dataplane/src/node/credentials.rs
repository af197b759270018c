//! Certificates that could not be replaced are tried again: those of before end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use weft_pki::{Credentials, TrustAnchor};
use weft_types::EnvironmentId;

use super::{EventKind, Node, NodeEvent, RequestError};

/// How soon it is tried again after a failure, at first; it doubles with each one.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// And at most.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// What could not be done in environments, one thing in each: the newest.
#[derive(Debug)]
pub(super) struct Owed<T> {
    all: BTreeMap<EnvironmentId, Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    what: T,
    /// After the last failure.
    pause: Duration,
    again: Instant,
}

impl<T> Default for Owed<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new() }
    }
}

impl<T: Clone> Owed<T> {
    /// When something is to be tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.values().map(|entry| entry.again).min()
    }

    /// What is to be tried again by now. It is owed until it is settled.
    fn due(&self, now: Instant) -> Vec<(EnvironmentId, T)> {
        let due = self.all.iter().filter(|(_, entry)| entry.again <= now);
        due.map(|(id, entry)| (id.clone(), entry.what.clone())).collect()
    }

    /// It could not be done; returns the pause before it is tried again.
    fn fail(&mut self, id: &EnvironmentId, what: T, now: Instant) -> Duration {
        let before = self.all.get(id).map_or(Duration::ZERO, |entry| entry.pause);
        let pause = (before * 2).clamp(AGAIN_MIN, AGAIN_MAX);
        self.all.insert(id.clone(), Entry { what, pause, again: now + pause });
        pause
    }

    /// It is done, or is no use any more.
    pub(super) fn settle(&mut self, id: &EnvironmentId) {
        self.all.remove(id);
    }
}

impl Node {
    /// Uses another authority or certificate from now on, or as soon as that can be done.
    pub(super) fn renew_credentials(
        &mut self,
        id: &EnvironmentId,
        anchor: TrustAnchor,
        credentials: Credentials,
    ) -> Result<(), RequestError> {
        match self.replace_credentials(id, anchor.clone(), credentials.clone()) {
            Err(RequestError::NotFound(error)) => {
                self.owed.settle(id);
                Err(RequestError::NotFound(error))
            }
            Err(error) => {
                let pause = self.owed.fail(id, (anchor, credentials), Instant::now());
                let message =
                    format!("the credentials of before stay; tried again in {} s", pause.as_secs());
                self.publish(NodeEvent::new(EventKind::ReloadFailed, message).of(id));
                Err(error)
            }
            Ok(()) => {
                self.owed.settle(id);
                Ok(())
            }
        }
    }

    /// Tries again what is due.
    pub(super) fn retry_credentials(&mut self) {
        for (id, (anchor, credentials)) in self.owed.due(Instant::now()) {
            if let Err(error) = self.renew_credentials(&id, anchor, credentials) {
                tracing::warn!(environment = %id, %error, "credentials are not replaced");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> EnvironmentId {
        name.parse().unwrap()
    }

    #[test]
    fn what_fails_is_tried_again_after_longer_and_longer_pauses_until_it_is_done() {
        let (acme, mut now) = (id("acme"), Instant::now());
        let mut owed = Owed::default();
        assert_eq!((owed.next(), owed.due(now)), (None, vec![]));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(owed.fail(&acme, "new", now), pause);
            assert_eq!(owed.next(), Some(now + pause));
            assert_eq!(owed.due(now + pause.mul_f64(0.9)), []);
            now += pause;
            assert_eq!(owed.due(now), [(acme.clone(), "new")]);
            assert_eq!(owed.due(now).len(), 1, "it is owed until it is settled");
        }
        owed.settle(&acme);
        assert_eq!((owed.next(), owed.due(now)), (None, vec![]));
        assert_eq!(owed.fail(&acme, "newer", now), AGAIN_MIN);
    }

    #[test]
    fn the_newest_is_owed_and_each_environment_has_its_own_pauses() {
        let ([acme, beta], now) = ([id("acme"), id("beta")], Instant::now());
        let mut owed = Owed::default();
        owed.fail(&acme, 1, now);
        owed.fail(&acme, 2, now);
        owed.fail(&beta, 3, now);
        assert_eq!(owed.next(), Some(now + AGAIN_MIN));
        assert_eq!(owed.due(now + AGAIN_MIN), [(beta, 3)]);
        assert_eq!(owed.due(now + AGAIN_MIN * 2)[0], (acme, 2));
    }
}
