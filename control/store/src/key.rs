//! Keys: paths of printable text.

use std::{borrow::Borrow, fmt, ops::Bound, str::FromStr, sync::Arc};

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

/// Keys are sorted and hashed as their text is.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
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

/// The keys that begin with a prefix and come after another key, as a range of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    start: String,
    /// The start is the key after which the range begins.
    start_is_excluded: bool,
    end: String,
}

impl KeyRange {
    /// Nothing when no key can be in it.
    pub(crate) fn new(prefix: &str, after: Option<&Key>) -> Option<Self> {
        // All characters of keys come before DEL, so this is after everything with the prefix.
        let end = format!("{prefix}\u{7f}");
        let (start, start_is_excluded) = match after {
            Some(after) if after.as_str() >= prefix => (after.as_str().to_owned(), true),
            _ => (prefix.to_owned(), false),
        };
        (start < end).then_some(Self { start, start_is_excluded, end })
    }

    /// The least text that is in it, of all text that ends with a zero byte or is a key.
    #[cfg(any(feature = "etcd", feature = "sqlite"))]
    pub(crate) fn start(&self) -> String {
        if self.start_is_excluded { format!("{}\0", self.start) } else { self.start.clone() }
    }

    /// What comes after everything in it.
    #[cfg(any(feature = "etcd", feature = "sqlite"))]
    pub(crate) fn end(&self) -> &str {
        &self.end
    }

    pub(crate) fn bounds(&self) -> (Bound<&str>, Bound<&str>) {
        let start = self.start.as_str();
        let start =
            if self.start_is_excluded { Bound::Excluded(start) } else { Bound::Included(start) };
        (start, Bound::Excluded(&self.end))
    }
}
