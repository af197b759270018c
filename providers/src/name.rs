//! Names by which everything is asked for: asking twice for the same name is asking once.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::error::ProviderError;

/// Longest name of a resource, bytes: a label of a host name, which every cloud takes.
pub const RESOURCE_NAME_LEN_MAX: usize = 63;
/// Longest name of a blob, bytes; S3 takes 1,024 with a prefix of ours.
pub const BLOB_NAME_LEN_MAX: usize = 512;
/// Longest part of a blob's name between slashes, bytes; file systems take 255.
pub const BLOB_PART_LEN_MAX: usize = 128;

/// The name of a volume, snapshot, instance or load balancer: 1 to [`RESOURCE_NAME_LEN_MAX`] characters of `a-z`,
/// `0-9` and `-`, not first or last.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName(Arc<str>);

/// The name of a blob: parts of `A-Z`, `a-z`, `0-9`, `-`, `_` and `.`, none of which begins with a dot, with slashes
/// between them. At most [`BLOB_NAME_LEN_MAX`] bytes. Names are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobName(Arc<str>);

impl ResourceName {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] says what was expected.
    pub fn new(text: &str) -> Result<Self, ProviderError> {
        let is_good = (1..=RESOURCE_NAME_LEN_MAX).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-');
        if !is_good {
            return Err(ProviderError::Invalid(format!(
                "name: {text:?}; expected 1 to {RESOURCE_NAME_LEN_MAX} of a-z, 0-9 and '-' (not first or last)"
            )));
        }
        Ok(Self(text.into()))
    }
}

impl BlobName {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] says what was expected.
    pub fn new(text: &str) -> Result<Self, ProviderError> {
        if text.is_empty() || text.len() > BLOB_NAME_LEN_MAX || !text.split('/').all(is_part) {
            return Err(ProviderError::Invalid(format!(
                "name: {text:?}; expected parts of 1 to {BLOB_PART_LEN_MAX} of A-Z, a-z, 0-9, '-', '_' and '.' \
                 (not first), with '/' between them, at most {BLOB_NAME_LEN_MAX} bytes"
            )));
        }
        Ok(Self(text.into()))
    }

    /// Whether `prefix` may begin a name: any name, with a slash behind it or not, or nothing.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`].
    pub(crate) fn check_prefix(prefix: &str) -> Result<(), ProviderError> {
        let name = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.is_empty() { Ok(()) } else { Self::new(name).map(drop) }
    }
}

fn is_part(part: &str) -> bool {
    (1..=BLOB_PART_LEN_MAX).contains(&part.len())
        && !part.starts_with('.')
        && part
            .bytes()
            .all(|b| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

macro_rules! as_text {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

as_text!(ResourceName);
as_text!(BlobName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "vol-1", "0", &"x".repeat(63)] {
            assert!(ResourceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a/b", "..", "-a", "a-", "a.b", &"x".repeat(64)] {
            assert!(ResourceName::new(bad).is_err(), "{bad}");
        }
        for good in ["a", "a/b", "A_b-c.d/e..f/0", &"x".repeat(128)] {
            assert!(BlobName::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.b", "a\0", "a=b", "ä", "a b"]
        {
            assert!(BlobName::new(bad).is_err(), "{bad}");
        }
        assert!(BlobName::new(&"x".repeat(129)).is_err());
        assert!(BlobName::new(&vec!["x".repeat(100); 6].join("/")).is_err());
    }

    proptest! {
        /// Below any folder, a name is below that folder.
        #[test]
        fn no_name_leaves_its_folder(text in "[a./\\\\=~-]{0,12}") {
            if let Ok(name) = BlobName::new(&text) {
                let path = std::path::Path::new(name.as_str());
                let plain = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(path.components().all(plain));
                prop_assert_eq!(path.components().count(), text.split('/').count());
            }
        }
    }
}
