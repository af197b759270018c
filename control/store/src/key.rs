//! Keys: paths of printable text.

use std::{fmt, str::FromStr, sync::Arc};

use crate::limits::KEY_LEN_MAX;

/// Why text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too short or too long.
    #[error("has {0} bytes; expected 1 to {KEY_LEN_MAX}")]
    Length(usize),
    /// A character that keys do not have.
    #[error("{0:?} is not allowed in a key; expected printable ASCII without spaces")]
    Character(char),
}

/// A path such as `environment/e1/attachment/web-1`: 1 to [`KEY_LEN_MAX`] bytes of printable ASCII without
/// spaces. Keys are ordered by their bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// [`KeyError`] says what was expected.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() || text.len() > KEY_LEN_MAX {
            return Err(KeyError::Length(text.len()));
        }
        match text.chars().find(|c| !c.is_ascii_graphic()) {
            Some(c) => Err(KeyError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this key begins with `prefix`, which may be any text, also one that is no key.
    #[must_use]
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.0.starts_with(prefix)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
