//! What is written.

use bytes::Bytes;

use crate::{
    entry::{Entry, Revision},
    error::StoreError,
    key::Key,
    limits::{OPERATIONS_MAX, TRANSACTION_BYTES_MAX, VALUE_LEN_MAX},
    store::LeaseId,
};

/// What must hold for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is at the key.
    Absent(Key),
    /// Something is at the key.
    Present(Key),
    /// What is at the key was last written at this revision.
    At(Key, Revision),
}

impl Condition {
    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Present(key) | Self::At(key, _) => key,
        }
    }

    /// Whether it holds, given what is at its key.
    #[must_use]
    pub fn holds(&self, found: Option<&Entry>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::Present(_) => found.is_some(),
            Self::At(_, revision) => found.is_some_and(|entry| entry.modified == *revision),
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put {
        /// Where.
        key: Key,
        /// What, at most [`VALUE_LEN_MAX`] bytes.
        value: Bytes,
        /// With this lease it goes; it stays without.
        lease: Option<LeaseId>,
    },
    /// Nothing is at the key from now on; nothing happens when nothing was.
    Delete(Key),
}

impl Write {
    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }

    /// The lease that it needs.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Put { lease, .. } => *lease,
            Self::Delete(_) => None,
        }
    }
}

/// Writes that happen together if every condition holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// Each key at most once.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if nothing is at `key`.
    #[must_use]
    pub fn absent(mut self, key: Key) -> Self {
        self.conditions.push(Condition::Absent(key));
        self
    }

    /// Only if something is at `key`.
    #[must_use]
    pub fn present(mut self, key: Key) -> Self {
        self.conditions.push(Condition::Present(key));
        self
    }

    /// Only if what is at the entry's key is still this entry.
    #[must_use]
    pub fn unchanged(mut self, entry: &Entry) -> Self {
        self.conditions.push(Condition::At(entry.key.clone(), entry.modified));
        self
    }

    /// Writes `value`.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put { key, value: value.into(), lease: None });
        self
    }

    /// Writes `value` for as long as `lease` lives.
    #[must_use]
    pub fn put_leased(mut self, key: Key, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.writes.push(Write::Put { key, value: value.into(), lease: Some(lease) });
        self
    }

    /// Removes what is at `key`.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.writes.push(Write::Delete(key));
        self
    }

    /// Whether every store takes it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] names the bound.
    pub fn check(&self) -> Result<(), StoreError> {
        let invalid = |what: String| Err(StoreError::Invalid(what));
        for (what, count) in [("conditions", self.conditions.len()), ("writes", self.writes.len())]
        {
            if count > OPERATIONS_MAX {
                return invalid(format!(
                    "a transaction has {count} {what}; expected at most {OPERATIONS_MAX}"
                ));
            }
        }
        let mut keys = std::collections::HashSet::new();
        for write in &self.writes {
            if !keys.insert(write.key()) {
                return invalid(format!("a transaction writes {} twice", write.key()));
            }
            if let Write::Put { key, value, .. } = write
                && value.len() > VALUE_LEN_MAX
            {
                return invalid(format!(
                    "the value of {key} has {} bytes; expected at most {VALUE_LEN_MAX}",
                    value.len()
                ));
            }
        }
        let bytes = self.bytes();
        if bytes > TRANSACTION_BYTES_MAX {
            return invalid(format!(
                "a transaction has {bytes} bytes; expected at most {TRANSACTION_BYTES_MAX}"
            ));
        }
        Ok(())
    }

    /// Bytes of its keys and values.
    pub(crate) fn bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(|c| c.key().as_str().len());
        let writes = self.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.as_str().len() + value.len(),
            Write::Delete(key) => key.as_str().len(),
        });
        conditions.chain(writes).sum()
    }
}
