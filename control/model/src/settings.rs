//! What may be changed about an environment after it was made, and by whom.

use std::ops::RangeInclusive;

use crate::{
    access::Action,
    record::{Environment, UnixMs},
};

/// Shortest and longest life of a host's leaf, seconds: an hour to 7 days.
pub const LEAF_SECONDS: RangeInclusive<u32> = 3_600..=7 * 24 * 3_600;

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Leaves that would be valid for too long, or not long enough.
    #[error("{0}; expected {least} to {most}", least = LEAF_SECONDS.start(), most = LEAF_SECONDS.end())]
    LeafSeconds(u32),
}

impl SettingsError {
    /// Which field of a request it is about.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::LeafSeconds(_) => "leaf_seconds",
        }
    }
}

/// Goes on if leaves may be valid for so many seconds.
///
/// # Errors
/// [`SettingsError::LeafSeconds`].
pub fn check_leaf_seconds(seconds: u32) -> Result<(), SettingsError> {
    if LEAF_SECONDS.contains(&seconds) { Ok(()) } else { Err(SettingsError::LeafSeconds(seconds)) }
}

/// What is to be otherwise; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// For how many seconds leaves are valid, from each host's next renewal on.
    pub leaf_seconds: Option<u32>,
}

impl Change {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether somebody may do this who may do what `may` says in the environment.
    #[must_use]
    pub fn is_allowed(&self, may: impl Fn(Action) -> bool) -> bool {
        self.leaf_seconds.is_none() || may(Action::ManageEnvironment)
    }

    /// What an environment is after it, from `now` on.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn of(&self, before: &Environment, now: UnixMs) -> Result<Environment, SettingsError> {
        let mut after = before.clone();
        if let Some(seconds) = self.leaf_seconds {
            check_leaf_seconds(seconds)?;
            after.lifetimes = before.lifetimes.changed(seconds, now);
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests;
