//! Whose a key is.

use std::{fmt, str::FromStr};

use weft_types::{EnvironmentId, NameError};

const INSTALLATION: &str = "installation";
const ENVIRONMENT: &str = "environment/";

/// Who has a key of its own. An owner never gets a second one, so the id of an environment must not come
/// back: an environment that is made anew under an old name has another id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The installation itself: what belongs to no environment.
    Installation,
    /// One environment.
    Environment(EnvironmentId),
}

/// Why text names no owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Of no known kind.
    #[error("{0:?} is no owner of a key; expected {INSTALLATION:?} or \"{ENVIRONMENT}ID\"")]
    Kind(String),
    /// The id is none.
    #[error("the id of an environment {0}")]
    Environment(#[from] NameError),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installation => f.write_str(INSTALLATION),
            Self::Environment(id) => write!(f, "{ENVIRONMENT}{id}"),
        }
    }
}

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        match (text, text.strip_prefix(ENVIRONMENT)) {
            (INSTALLATION, _) => Ok(Self::Installation),
            (_, Some(id)) => Ok(Self::Environment(EnvironmentId::new(id)?)),
            _ => Err(OwnerError::Kind(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_round_trip() {
        for text in ["installation", "environment/acme"] {
            assert_eq!(text.parse::<Owner>().unwrap().to_string(), text);
        }
        for text in ["", "environment", "environment/", "environment/A", "installation/", "acme"] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }
}
