//! What can be wrong with a certificate, a key or a chain.

use std::{fmt, time::SystemTime};

use crate::{clock::format_utc, identity::IdentityError};

/// Whose certificate an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A host's own certificate.
    Host,
    /// A certificate between the host's and the authority's.
    Intermediate,
    /// The environment's certificate authority.
    Authority,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host certificate",
            Self::Intermediate => "intermediate certificate",
            Self::Authority => "authority certificate",
        })
    }
}

/// The kinds of fault that metrics and alerts tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Past its `notAfter`.
    Expired,
    /// Before its `notBefore`.
    NotYetValid,
    /// Not signed by this environment's authority.
    Untrusted,
    /// Speaks for nobody, or for somebody else.
    Identity,
    /// Not meant for this use.
    Usage,
    /// Cannot be read.
    Malformed,
}

/// What is wrong with a certificate, a key or a chain.
///
/// The text says what was found and what was expected; it holds no key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The text is not the PEM that was expected.
    #[error("{0}")]
    Pem(String),
    /// A certificate is not readable as X.509.
    #[error("{subject} cannot be read: {reason}")]
    Malformed {
        /// Whose certificate.
        subject: Subject,
        /// What the parser said.
        reason: String,
    },
    /// A certificate or a chain is larger than any of ours.
    #[error("{what} is {found}; expected at most {max}")]
    TooLarge {
        /// What is measured, with its unit.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Past its end.
    #[error("{subject} expired at {}", format_utc(*.not_after))]
    Expired {
        /// Whose certificate.
        subject: Subject,
        /// When it ended.
        not_after: SystemTime,
    },
    /// Before its start.
    #[error("{subject} is not valid before {}; check both clocks", format_utc(*.not_before))]
    NotYetValid {
        /// Whose certificate.
        subject: Subject,
        /// When it starts.
        not_before: SystemTime,
    },
    /// No path to this environment's authority.
    #[error("host certificate is not signed by this environment's authority: {0}")]
    Untrusted(String),
    /// The URI SAN is not an id.
    #[error("{subject}: {cause}")]
    Identity {
        /// Whose certificate.
        subject: Subject,
        /// What is wrong with the id.
        #[source]
        cause: IdentityError,
    },
    /// The SAN extension does not hold exactly one URI and nothing else.
    #[error(
        "{subject} has {uris} URI and {others} other subject alternative names; expected exactly one URI and no other"
    )]
    Names {
        /// Whose certificate.
        subject: Subject,
        /// URI names found.
        uris: usize,
        /// Names of other kinds found.
        others: usize,
    },
    /// A good certificate of somebody else.
    #[error("{subject} is for {found}; expected {expected}")]
    WrongIdentity {
        /// Whose certificate.
        subject: Subject,
        /// The id found.
        found: String,
        /// The id expected.
        expected: String,
    },
    /// A certificate that is not meant for this.
    #[error("{subject} {found}; expected {expected}")]
    Usage {
        /// Whose certificate.
        subject: Subject,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The private key is of another certificate.
    #[error("the private key does not belong to the host certificate")]
    KeyMismatch,
    /// The private key cannot be used.
    #[error("the private key cannot be used: {0}; expected ECDSA P-256, P-384 or Ed25519")]
    Key(String),
}

impl PkiError {
    /// Which kind of fault it is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Expired { .. } => ErrorClass::Expired,
            Self::NotYetValid { .. } => ErrorClass::NotYetValid,
            Self::Untrusted(_) => ErrorClass::Untrusted,
            Self::Identity { .. } | Self::Names { .. } | Self::WrongIdentity { .. } => {
                ErrorClass::Identity
            }
            Self::Usage { .. } => ErrorClass::Usage,
            Self::Pem(_)
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::KeyMismatch
            | Self::Key(_) => ErrorClass::Malformed,
        }
    }
}
