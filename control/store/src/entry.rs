//! What is read.

use std::fmt;

use bytes::Bytes;

use crate::{key::Key, store::LeaseId};

/// When a change happened, counted over the whole store from 1 on; it never goes back. 0 is before
/// everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub key: Key,
    /// What is there.
    pub value: Bytes,
    /// When it was last written.
    pub modified: Revision,
    /// When it was first written after it had not been there.
    pub created: Revision,
    /// With which lease it goes; it stays without.
    pub lease: Option<LeaseId>,
}

/// A part of what begins with a prefix.
///
/// The pages of one list are not of one moment. Whoever needs all of it takes the first page's
/// [`Page::revision`], reads to the end, watches from that revision on and lets every change win that is
/// newer than the entry it is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The state that was read: everything up to this revision, nothing later.
    pub revision: Revision,
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// Whether there are entries after the last of these: a page ends early when it is full, see
    /// [`crate::LIST_BYTES_MAX`].
    pub more: bool,
}
