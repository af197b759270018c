//! What can go wrong, by who can do something about it.

/// Who can do something about a [`ProviderError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The caller asked for what is never given: the same will fail again.
    Caller,
    /// What is there is not what the caller thinks: look again, then decide.
    State,
    /// Nothing now, later perhaps: the same may be asked again.
    Passing,
    /// An operator: the same fails until somebody has repaired something.
    Operator,
}

/// Why a provider did not do what it was asked. Unless it says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// A value that no provider takes; the text begins with the field.
    #[error("{0}")]
    Invalid(String),
    /// This kind of provider cannot do that.
    #[error("{0} is not supported here")]
    Unsupported(&'static str),
    /// There is no such thing.
    #[error("{0} does not exist")]
    Absent(String),
    /// Something else is there: another specification under the same name, other content, a newer generation.
    #[error("{0}")]
    Conflict(String),
    /// No answer, or none in time: it may have happened or not. Everything here may be asked again by its name.
    #[error("the provider does not answer: {0}")]
    Unavailable(String),
    /// No room, or no more of it than there is.
    #[error("the provider is full: {0}")]
    Full(String),
    /// The provider does not accept who we are.
    #[error("the provider refuses: {0}")]
    Denied(String),
    /// What was read is not what was written.
    #[error("{0} is damaged")]
    Corrupt(String),
}

impl ProviderError {
    /// Who can do something about it.
    #[must_use]
    pub fn tier(&self) -> Tier {
        match self {
            Self::Invalid(_) | Self::Unsupported(_) => Tier::Caller,
            Self::Absent(_) | Self::Conflict(_) => Tier::State,
            Self::Unavailable(_) => Tier::Passing,
            Self::Full(_) | Self::Denied(_) | Self::Corrupt(_) => Tier::Operator,
        }
    }

    /// A fault of the local system, at work on `what`.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let text = format!("{what}: {error}");
        match error.kind() {
            ErrorKind::NotFound => Self::Absent(what.to_owned()),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Full(text)
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied(text),
            _ => Self::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_system_are_told_apart() {
        let of = |code: i32| ProviderError::io("a disk", &std::io::Error::from_raw_os_error(code));
        let no_space = of(rustix::io::Errno::NOSPC.raw_os_error());
        assert!(matches!(no_space, ProviderError::Full(_)));
        assert_eq!(no_space.tier(), Tier::Operator);
        let absent = of(rustix::io::Errno::NOENT.raw_os_error());
        assert_eq!(
            (absent.to_string().as_str(), absent.tier()),
            ("a disk does not exist", Tier::State)
        );
        assert!(matches!(of(rustix::io::Errno::ROFS.raw_os_error()), ProviderError::Denied(_)));
        assert_eq!(of(rustix::io::Errno::IO.raw_os_error()).tier(), Tier::Passing);
    }
}
