//! Faults that tests inject.

use std::collections::BTreeMap;

use crate::error::{CommitError, StoreError};

/// How a commit ends that is told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was changed: [`StoreError::Unavailable`].
    Unavailable,
    /// Nothing was changed: [`StoreError::Full`].
    Full,
    /// All of it happened, but the answer is [`CommitError::Unknown`].
    UnknownMade,
    /// Nothing happened, but the answer is [`CommitError::Unknown`].
    UnknownNotMade,
}

impl Fault {
    /// The answer, unless the transaction is to be made first.
    pub(super) fn refusal(&self) -> Option<CommitError> {
        let text = "an injected fault".to_owned();
        match self {
            Self::Unavailable => Some(StoreError::Unavailable(text).into()),
            Self::Full => Some(StoreError::Full(text).into()),
            Self::UnknownNotMade => Some(CommitError::Unknown(text)),
            Self::UnknownMade => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    unavailable: bool,
    /// Goes up whenever all watches end.
    generation: u64,
    commits: usize,
    planned: BTreeMap<usize, Fault>,
}

impl Faults {
    pub(super) fn fail_commit(&mut self, n: usize, fault: Fault) {
        self.planned.insert(self.commits + n, fault);
    }

    pub(super) fn next_commit(&mut self) -> Option<Fault> {
        self.commits += 1;
        self.planned.remove(&self.commits)
    }

    pub(super) fn set_unavailable(&mut self, unavailable: bool) {
        self.unavailable = unavailable;
        self.break_watches();
    }

    pub(super) fn break_watches(&mut self) {
        self.generation += 1;
    }

    /// The generation that a new watch belongs to.
    pub(super) fn check(&self) -> Result<u64, StoreError> {
        if self.unavailable {
            return Err(StoreError::Unavailable("an injected fault".to_owned()));
        }
        Ok(self.generation)
    }
}
