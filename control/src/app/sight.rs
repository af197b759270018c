//! What is answered while the store is away: what this process has seen last, for so long and no longer.
//!
//! ```text
//!   a call that only looks (Manner::Seen) ──▶ store ─────────────────▶ answer
//!                                               │ does not answer
//!                                               ▼
//!                                             view, not too old ─────▶ answer, with its age
//!   everything else ────────────────────────▶ store, or it is refused
//! ```
//!
//! While the store has no majority nobody takes a right away: what was seen last is so. But a process may be cut off from
//! a store that others reach, and there rights are taken away. So what it knows of people counts for
//! [`PEOPLE_SEEN_MAX`] and of hosts for [`HOSTS_SEEN_MAX`]. What changes something, tells a secret or anything of one,
//! admits somebody for another part of the platform, or makes a key or certificate is never decided by it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use weft_model::{Decoded, Record, record::Usage};
use weft_store::StoreError;
use weft_types::EnvironmentId;

use super::{App, AppError, STANDING_INTERVAL, watch};

/// How long people and tokens may look by what was seen last. Somebody who lost a right elsewhere meanwhile sees for so
/// long what was there before, no secret among it: long enough to look after an outage by what is known, and shorter
/// than any session.
pub const PEOPLE_SEEN_MAX: Duration = Duration::from_secs(3_600);
/// The same for hosts, and how long one is told nothing new before it is sent to another process: those that are shut
/// out, and those that hear of it, must be so in [`SHUT_OUT_MAX`].
pub const HOSTS_SEEN_MAX: Duration = Duration::from_secs(30);
/// In what time a host that is revoked has no session left.
const SHUT_OUT_MAX: Duration = Duration::from_secs(60);
/// What a live copy may be behind without knowing: a member that hangs is given up after two keepalives of 2 s, and the
/// next ones are asked for 4 s.
const SILENT_MAX: Duration = Duration::from_secs(8);
/// How long a host takes to reach another process.
const ELSEWHERE_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(
    HOSTS_SEEN_MAX.as_secs()
        + SILENT_MAX.as_secs()
        + watch::RECHECK.as_secs()
        + STANDING_INTERVAL.as_secs()
        + ELSEWHERE_MAX.as_secs()
        <= SHUT_OUT_MAX.as_secs()
);

/// When the store has answered last.
#[derive(Debug)]
pub(super) struct Contact(Mutex<Heard>);

#[derive(Debug)]
struct Heard {
    /// When it was asked what it has answered last.
    at: Instant,
    /// It was asked since then, and did not answer.
    is_away: bool,
}

impl Default for Contact {
    fn default() -> Self {
        Self(Mutex::new(Heard { at: Instant::now(), is_away: false }))
    }
}

impl Contact {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of a request that was begun at `asked`.
    pub(super) fn note<T>(&self, asked: Instant, answer: &Result<T, StoreError>) {
        let mut heard = self.heard();
        match answer {
            Err(StoreError::Unavailable(_)) => heard.is_away |= asked > heard.at,
            _ if asked >= heard.at => *heard = Heard { at: asked, is_away: false },
            _ => {}
        }
    }

    /// For how long it has been away, if it is.
    pub(super) fn away(&self) -> Option<Duration> {
        let heard = self.heard();
        heard.is_away.then(|| heard.at.elapsed())
    }
}

/// Where a call looks.
#[derive(Debug, Clone, Default)]
pub struct Sight(Option<Arc<Mutex<Option<Duration>>>>);

impl Sight {
    /// In the store, or it is refused.
    #[must_use]
    pub fn stored() -> Self {
        Self(None)
    }

    /// In the store, or in what was seen last.
    #[must_use]
    pub fn seen() -> Self {
        Self(Some(Arc::default()))
    }

    /// How old what it has seen may be, at most; `None` when all of it is of the store itself.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        *self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, age: Duration) {
        if let Some(noted) = &self.0 {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            *noted = Some(noted.map_or(age, |before| before.max(age)));
        }
    }
}

impl App {
    /// A record as it is in the store, or, where the call only looks and the store is away, as it was seen last.
    pub(super) async fn look_up<R: Record>(
        &self,
        sight: &Sight,
        path: &str,
    ) -> Result<Option<Decoded<R>>, AppError> {
        if self.asks_store(sight) {
            match self.read(path).await {
                Err(AppError::Unavailable) => self.turn_to_view(sight)?,
                answered => return answered,
            }
        } else {
            self.turn_to_view(sight)?;
        }
        Ok(self.view.read(|state| state.get(path))?)
    }

    /// The same of records whose paths begin with `path`.
    pub(super) async fn look_for<R: Record>(
        &self,
        sight: &Sight,
        path: &str,
    ) -> Result<Vec<Decoded<R>>, AppError> {
        if self.asks_store(sight) {
            match self.stored(path).await {
                Err(AppError::Unavailable) => self.turn_to_view(sight)?,
                answered => return answered,
            }
        } else {
            self.turn_to_view(sight)?;
        }
        Ok(self.view.read(|state| state.list(path, None, usize::MAX))?)
    }

    /// What an environment uses, when the view has all of its addresses, attachments, roles and services: every change of
    /// them is one of its usage too.
    pub(super) async fn caught_up(
        &self,
        environment: &EnvironmentId,
        sight: &Sight,
    ) -> Result<Option<Decoded<Usage>>, AppError> {
        let usage: Option<Decoded<Usage>> = self.look_up(sight, environment.as_str()).await?;
        if let Some(usage) = &usage {
            self.view.reached(usage.modified).await?;
        }
        Ok(usage)
    }

    /// Goes on while what was seen of hosts counts; always, where the store itself was asked.
    pub(super) fn counts_for_hosts(&self, sight: &Sight) -> Result<(), AppError> {
        match sight.age() {
            Some(age) if age > HOSTS_SEEN_MAX => Err(AppError::Unavailable),
            _ => Ok(()),
        }
    }

    /// Whether hosts had better listen to another process: this one has not heard of the store for too long.
    pub(super) fn is_cut_off(&self) -> bool {
        self.seen_ago().is_some_and(|age| age > HOSTS_SEEN_MAX)
    }

    /// A call stays with what it has begun with; and nobody waits for a store of which it is known that it is away:
    /// whoever looks after the process's standing asks it all the time.
    fn asks_store(&self, sight: &Sight) -> bool {
        sight.0.is_none() || (sight.age().is_none() && self.contact.away().is_none())
    }

    fn turn_to_view(&self, sight: &Sight) -> Result<(), AppError> {
        if sight.0.is_none() {
            return Err(AppError::Unavailable);
        }
        // What is known to be behind is of no moment that could be named.
        if self.view.trouble().borrow().is_some() {
            return Err(AppError::Behind);
        }
        let age = self.seen_ago().or_else(|| sight.age()).unwrap_or_default();
        if age > PEOPLE_SEEN_MAX {
            return Err(AppError::Unavailable);
        }
        sight.note(age);
        Ok(())
    }

    /// How old what is seen may be; `None` while the store answers and its live copy follows.
    fn seen_ago(&self) -> Option<Duration> {
        self.contact.away().max(self.view.cut_off())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("a test".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_is_as_old_as_the_question() {
        let contact = Contact::default();
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        let asked = Instant::now();
        tokio::time::advance(second).await;
        contact.note(asked, &Ok(()));
        assert_eq!(contact.away(), None);
        let again = Instant::now();
        tokio::time::advance(second).await;
        contact.note(again, &away());
        assert_eq!(contact.away(), Some(2 * second));
        // An answer that was on its way longer says nothing of now, and neither does a refusal.
        contact.note(asked - second, &Ok(()));
        assert_eq!(contact.away(), Some(2 * second));
        contact.note(Instant::now(), &Err::<(), _>(StoreError::LeaseGone));
        assert_eq!(contact.away(), None);
        contact.note(again, &away());
        assert_eq!(contact.away(), None, "it was asked before what was answered");
    }

    #[test]
    fn a_call_is_as_old_as_the_oldest_that_it_saw() {
        let (stored, seen) = (Sight::stored(), Sight::seen());
        for age in [1, 3, 2] {
            stored.note(Duration::from_secs(age));
            seen.note(Duration::from_secs(age));
        }
        assert_eq!((stored.age(), seen.age()), (None, Some(Duration::from_secs(3))));
    }
}
