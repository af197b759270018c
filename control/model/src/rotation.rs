//! How an environment's authority gives way to its next generation.
//!
//! ```text
//!              begin              switch                           retire
//!   1 current ──────▶ 1 current ─────────▶ 2 current ──────────────────▶ 2 current
//!                     2 next     every     1 previous   after the life
//!                                host                   of its last leaf
//!                                has it
//!
//!   1 current ── its key is stolen: replace ──▶ 2 current, and nothing of 1 is trusted
//! ```
//!
//! All generations that are there are trusted, and one issues. So whichever host has heard of which step, each trusts
//! whoever issued the leaf of each other: before a generation issues, every host has it or holds no leaf any more that
//! counts; before one is forgotten, no leaf of it counts. A generation's private key is gone when it issues no more.
//!
//! Every step rests on all generations as they were read, so two that decide at once do it once.

use std::time::Duration;

use weft_store::{Condition, Transaction};

use crate::record::{
    Authority, AuthorityState, Decoded, Environment, Lifetimes, Record, RecordError, UnixMs,
};

/// How long a generation of an authority is valid, days.
pub const AUTHORITY_DAYS: u32 = 3_650;
/// So long before its end the next one begins by itself, days.
pub const ROTATE_BEFORE_DAYS: u32 = 365;
/// Shortest time for which a generation is trusted before it issues: hosts that have heard of it hand it to their
/// daemons.
pub const PREPARE_MIN: Duration = Duration::from_secs(60);
/// Leaves are taken to be valid for so much longer than they are: clocks differ, and who issues may be a little behind.
pub const LEAF_MARGIN: Duration = Duration::from_secs(600);

const _: () = assert!(ROTATE_BEFORE_DAYS < AUTHORITY_DAYS);

/// Why there is no such rotation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// No generation issues; no decision leads there.
    #[error("an environment has no authority that issues")]
    NoCurrent,
    /// There was never such a generation.
    #[error("{asked}; expected {current}, the generation that issues")]
    Generation {
        /// Which was asked for.
        asked: u32,
        /// Which one issues.
        current: u32,
    },
    /// The last rotation is not over.
    #[error(
        "generation {0} of the authority is still trusted until no leaf of it counts; then the next may be replaced"
    )]
    UnderWay(u32),
    /// What is stored is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What a call for a rotation comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: it is so already, or under way.
    Already,
    /// A new generation of this number.
    New(u32),
    /// Older generations are to be forgotten; the one that issues is not concerned.
    Distrust,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next generation issues from now on.
    Switch,
    /// No leaf of earlier generations counts any more: they are forgotten.
    Retire,
}

/// All generations of an environment's authority.
#[derive(Debug, Clone)]
pub struct Generations {
    /// The one that issues first, as hosts are told of them.
    all: Vec<Decoded<Authority>>,
}

impl Generations {
    /// Puts them in their order.
    #[must_use]
    pub fn new(mut all: Vec<Decoded<Authority>>) -> Self {
        all.sort_by_key(|authority| (authority.record.rank(), authority.record.generation));
        Self { all }
    }

    /// All of them, the one that issues first.
    pub fn iter(&self) -> impl Iterator<Item = &Authority> {
        self.all.iter().map(|authority| &authority.record)
    }

    /// The one that issues.
    ///
    /// # Errors
    /// [`RotationError::NoCurrent`].
    pub fn current(&self) -> Result<&Decoded<Authority>, RotationError> {
        self.in_state(AuthorityState::Current).next().ok_or(RotationError::NoCurrent)
    }

    /// The one that is to issue.
    #[must_use]
    pub fn next(&self) -> Option<&Decoded<Authority>> {
        self.in_state(AuthorityState::Next).next()
    }

    fn previous(&self) -> impl Iterator<Item = &Decoded<Authority>> {
        self.in_state(AuthorityState::Previous)
    }

    fn in_state(&self, state: AuthorityState) -> impl Iterator<Item = &Decoded<Authority>> {
        self.all.iter().filter(move |authority| authority.record.state == state)
    }

    fn newest(&self) -> u32 {
        self.iter().map(|authority| authority.generation).max().unwrap_or_default()
    }

    /// What it takes to replace the generation `replaces`, which somebody has seen: asked again, nothing more happens.
    ///
    /// # Errors
    /// [`RotationError`].
    pub fn wanted(&self, replaces: u32) -> Result<Wanted, RotationError> {
        let current = self.current()?.record.generation;
        if replaces > current {
            return Err(RotationError::Generation { asked: replaces, current });
        }
        if replaces < current || self.next().is_some() {
            return Ok(Wanted::Already);
        }
        match self.previous().next() {
            Some(previous) => Err(RotationError::UnderWay(previous.record.generation)),
            None => Ok(Wanted::New(self.newest() + 1)),
        }
    }

    /// What it takes that nothing of the generations up to `stolen` is trusted any more.
    ///
    /// # Errors
    /// [`RotationError`].
    pub fn wanted_at_once(&self, stolen: u32) -> Result<Wanted, RotationError> {
        let current = self.current()?.record.generation;
        if stolen > self.newest() {
            return Err(RotationError::Generation { asked: stolen, current });
        }
        if stolen >= current {
            return Ok(Wanted::New(self.newest() + 1));
        }
        let is_trusted = self.iter().any(|authority| authority.generation <= stolen);
        Ok(if is_trusted { Wanted::Distrust } else { Wanted::Already })
    }

    /// Whether a rotation is to begin by itself at `now`.
    #[must_use]
    pub fn ends_soon(&self, now: UnixMs) -> bool {
        let is_rotating = self.all.len() > 1;
        let days = u64::from(AUTHORITY_DAYS - ROTATE_BEFORE_DAYS);
        let begins = |current: &Decoded<Authority>| {
            current.record.created.after(Duration::from_secs(days * 24 * 3_600))
        };
        !is_rotating && self.current().is_ok_and(|current| begins(current) <= now)
    }

    /// What is to be done at `now`, where leaves are valid for `lives` and the next generation, if there is one, is known
    /// to every host of the environment or not.
    #[must_use]
    pub fn due(&self, lives: Lifetimes, everybody_has_it: bool, now: UnixMs) -> Option<Step> {
        let is_over = |authority: &Decoded<Authority>| {
            self.until(&authority.record, lives).is_some_and(|until| until <= now)
        };
        if self.previous().any(is_over) {
            return Some(Step::Retire);
        }
        let next = self.next()?;
        let is_prepared = next.record.since().after(PREPARE_MIN) <= now;
        (everybody_has_it && is_prepared || is_over(next)).then_some(Step::Switch)
    }

    /// When a generation comes to its next state at the latest; that which issues waits for somebody's word.
    #[must_use]
    pub fn until(&self, authority: &Authority, lives: Lifetimes) -> Option<UnixMs> {
        let is_waiting = authority.state != AuthorityState::Current;
        // Whoever has heard nothing for the life of a leaf has none that counts.
        is_waiting.then(|| lives.end_of_all(authority.since()).after(LEAF_MARGIN))
    }

    /// `new` is trusted from now on.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn begin(
        &self,
        environment: &Decoded<Environment>,
        new: &Authority,
    ) -> Result<Transaction, RecordError> {
        self.add(environment, new)
    }

    /// `new` issues from now on, and nothing of any other generation is trusted.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn replace(
        &self,
        environment: &Decoded<Environment>,
        new: &Authority,
    ) -> Result<Transaction, RecordError> {
        self.iter().try_fold(self.add(environment, new)?, |transaction, old| {
            Ok(transaction.delete(old.key()?))
        })
    }

    /// Nothing of earlier generations up to `stolen` is trusted any more.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn distrust(&self, stolen: u32) -> Result<Transaction, RecordError> {
        let stolen = self.previous().filter(|old| old.record.generation <= stolen);
        self.forget(stolen)
    }

    /// Does what is due at `now`.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn step(
        &self,
        step: Step,
        lives: Lifetimes,
        now: UnixMs,
    ) -> Result<Transaction, RecordError> {
        match step {
            Step::Retire => self
                .forget(self.previous().filter(|old| {
                    self.until(&old.record, lives).is_some_and(|until| until <= now)
                })),
            Step::Switch => {
                let mut transaction = self.rests_on_all()?;
                for authority in self.iter() {
                    let changed = match authority.state {
                        AuthorityState::Next => Authority {
                            state: AuthorityState::Current,
                            since: Some(now),
                            ..authority.clone()
                        },
                        AuthorityState::Current => Authority {
                            state: AuthorityState::Previous,
                            since: Some(now),
                            // It issues nothing any more.
                            sealed_key: String::new(),
                            ..authority.clone()
                        },
                        AuthorityState::Previous => continue,
                    };
                    transaction = transaction.put(changed.key()?, changed.encode()?);
                }
                Ok(transaction)
            }
        }
    }

    fn add(
        &self,
        environment: &Decoded<Environment>,
        new: &Authority,
    ) -> Result<Transaction, RecordError> {
        let mut transaction = self.rests_on_all()?;
        let at = environment.record.key()?;
        transaction.conditions.push(Condition::At(at, environment.modified));
        Ok(transaction.absent(new.key()?).put(new.key()?, new.encode()?))
    }

    fn forget<'a>(
        &self,
        mut old: impl Iterator<Item = &'a Decoded<Authority>>,
    ) -> Result<Transaction, RecordError> {
        old.try_fold(self.rests_on_all()?, |transaction, old| {
            Ok(transaction.delete(old.record.key()?))
        })
    }

    fn rests_on_all(&self) -> Result<Transaction, RecordError> {
        let mut transaction = Transaction::new();
        for authority in &self.all {
            let at = authority.record.key()?;
            transaction.conditions.push(Condition::At(at, authority.modified));
        }
        Ok(transaction)
    }
}

#[cfg(test)]
mod tests;
