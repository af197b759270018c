//! Names that people and certificates give to things.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// Longest name in bytes: one DNS label (RFC 1035 section 2.3.4), so that every name can be part
/// of a host name.
pub const NAME_LEN_MAX: usize = 63;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The string is empty.
    #[error("is empty; expected 1 to {NAME_LEN_MAX} characters")]
    Empty,
    /// The string is longer than [`NAME_LEN_MAX`].
    #[error("has {0} characters; expected at most {NAME_LEN_MAX}")]
    TooLong(usize),
    /// The string holds a character that a DNS label may not.
    #[error("{0:?} is not allowed; expected a-z, 0-9 and '-' (not first or last)")]
    Character(char),
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong(name.chars().count()));
    }
    if let Some(c) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::Character(c));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err(NameError::Character('-'));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 63 characters of `a-z`, `0-9` and `-`, not first or last (a DNS label in lower
        /// case). Cheap to clone.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `name` and takes it.
            ///
            /// # Errors
            /// [`NameError`] says what was expected.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
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

        #[cfg(feature = "serde")]
        $crate::serde_as_text!($name);

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// An environment: the unit of isolation, with its own certificate authority and addresses.
    EnvironmentId
}
name_type! {
    /// A host that runs `weftd`, unique in the installation.
    HostId
}
name_type! {
    /// The installation, the trust domain of every SPIFFE id.
    InstallationId
}
name_type! {
    /// A part of the platform that hosts and people talk to: the control plane, the scheduler, an edge.
    ComponentId
}
name_type! {
    /// A rule of an environment's policy, unique in it; what counters and logs call it.
    RuleName
}
name_type! {
    /// A container's interface on its environment's overlay, unique in the environment on a host.
    AttachmentName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "acme", "web-1", "0", &"x".repeat(63)] {
            assert_eq!(EnvironmentId::new(good).unwrap().as_str(), good);
        }
        assert_eq!(HostId::new(""), Err(NameError::Empty));
        assert_eq!(HostId::new(&"x".repeat(64)), Err(NameError::TooLong(64)));
        for (bad, c) in
            [("Acme", 'A'), ("a.b", '.'), ("-a", '-'), ("a-", '-'), ("ä", 'ä'), ("a/b", '/')]
        {
            assert_eq!(EnvironmentId::new(bad), Err(NameError::Character(c)), "{bad}");
        }
    }
}
