//! Names and ids of the control plane.

use std::{fmt, str::FromStr};

use weft_types::{AttachmentName, EnvironmentId, NameError};

/// Bytes of a random id: 80 bits, so that none is met twice and none is guessed.
pub const RANDOM_LEN: usize = 10;
/// Random bytes for an id; whoever makes ids passes them in.
pub type Random = [u8; RANDOM_LEN];

/// RFC 4648 base 32 in lower case: no id is spelled in two ways.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of the random part.
const TEXT_LEN: usize = 16;

/// Why text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no id; expected {prefix}- and {TEXT_LEN} characters of a-z and 2-7")]
pub struct IdError {
    /// What was found, cut.
    found: String,
    prefix: &'static str,
}

fn spell(random: &Random) -> String {
    // 80 bits are 16 groups of 5.
    let bits = random.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let groups = (0..TEXT_LEN).rev().map(|group| (bits >> (group * 5)) as usize & 31);
    groups.map(|group| char::from(ALPHABET[group])).collect()
}

fn is_spelled(text: &str) -> bool {
    text.len() == TEXT_LEN && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident = $prefix:literal) => {
        $(#[$doc])*
        ///
        #[doc = concat!("Text form: `", $prefix, "-` and 16 characters of `a-z` and `2-7`.")]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The id of these random bytes.
            #[must_use]
            pub fn from_random(random: &Random) -> Self {
                Self(format!(concat!($prefix, "-{}"), spell(random)).into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                match text.strip_prefix(concat!($prefix, "-")) {
                    Some(random) if is_spelled(random) => Ok(Self(text.into())),
                    _ => Err(IdError { found: text.chars().take(40).collect(), prefix: $prefix }),
                }
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

        weft_types::serde_as_text!($name);
    };
}

id_type! {
    /// An organisation: a customer, to whom environments belong.
    OrganisationId = "org"
}
id_type! {
    /// A person.
    UserId = "usr"
}
id_type! {
    /// A token or invitation; not its secret.
    TokenId = "tok"
}
id_type! {
    /// A leave that the scheduler gives to a host.
    GrantId = "grt"
}
id_type! {
    /// A person's session; not its secret.
    SessionId = "ses"
}
id_type! {
    /// A person's SSH key.
    SshKeyId = "key"
}
id_type! {
    /// Which secret of a name it is: a name that is used again after its secret was deleted is of another one.
    SecretId = "sec"
}

/// The id of a new environment. Names of environments are unique in their organisation only, so that none
/// tells of another's; the id is unique in the installation and says nothing.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "what is spelled is a DNS label")]
pub fn environment_id(random: &Random) -> EnvironmentId {
    #[expect(clippy::expect_used, reason = "what is spelled is a DNS label")]
    EnvironmentId::new(&format!("env-{}", spell(random))).expect("a DNS label")
}

/// A service of an environment: `db` in `db.internal`. A DNS label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(AttachmentName);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

weft_types::serde_as_text!(ServiceName);

/// Longest name of a secret, bytes: the audit takes no longer ones, for what looks like a key is no name there.
pub const SECRET_NAME_LEN_MAX: usize = 63;

/// Why text is no name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretNameError {
    /// Too short or too long.
    #[error("has {0} bytes; expected 1 to {SECRET_NAME_LEN_MAX}")]
    Length(usize),
    /// A character that such names do not have.
    #[error(
        "{0:?} is not allowed; expected A-Z, a-z, 0-9, and '_', '-', '.' (these two not first)"
    )]
    Character(char),
    /// Small and capital letters.
    #[error("has small and capital letters; expected either, as in DATABASE_URL or tls.key")]
    Cases,
}

/// A secret of an environment, as programs call it: `DATABASE_URL`, `tls.key`. Every such name is one that the audit's
/// records can have, so they say which secret they are of: keys in base 64, which no record is to have, are of both
/// cases, so no name is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName(Box<str>);

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        if text.is_empty() || text.len() > SECRET_NAME_LEN_MAX {
            return Err(SecretNameError::Length(text.len()));
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if let Some(c) = text.chars().find(|c| !allowed(c)) {
            return Err(SecretNameError::Character(c));
        }
        let has = |class: fn(&u8) -> bool| text.as_bytes().iter().any(class);
        if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) {
            return Err(SecretNameError::Cases);
        }
        match text.chars().next().filter(|c| matches!(c, '-' | '.')) {
            Some(c) => Err(SecretNameError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

weft_types::serde_as_text!(SecretName);

/// Highest number of a slot.
pub const SLOT_INDEX_MAX: u32 = 9_999;

/// Why text is not a slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no slot; expected a number of 0 to {SLOT_INDEX_MAX}, or surge- and one")]
pub struct SlotError(String);

/// A place of a service that one container at a time fills, and that keeps its addresses over redeployments
/// and moves. Surge slots are there for the time of a redeployment: the new container runs beside the old one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SlotName {
    /// `0`, `1`, …
    Stable(u32),
    /// `surge-0`, `surge-1`, …
    Surge(u32),
}

impl FromStr for SlotName {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        let (index, make): (_, fn(u32) -> Self) = match text.strip_prefix("surge-") {
            Some(index) => (index, Self::Surge),
            None => (text, Self::Stable),
        };
        let number = index.parse().ok().filter(|number: &u32| {
            // One spelling: no sign, no leading zero.
            *number <= SLOT_INDEX_MAX && number.to_string() == index
        });
        number.map(make).ok_or_else(|| SlotError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stable(index) => write!(f, "{index}"),
            Self::Surge(index) => write!(f, "surge-{index}"),
        }
    }
}

impl fmt::Debug for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

weft_types::serde_as_text!(SlotName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = OrganisationId::from_random(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 255]);
        assert_eq!(id.as_str(), "org-aaaqeayeaudaoch7");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in [
            "",
            "org-",
            "org-aaaqeayeaudaoch",
            "org-aaaqeayeaudaoch71",
            "org-AAAQEAYEAUDAOCH7",
            "usr-aaaqeayeaudaoch7",
        ] {
            assert!(bad.parse::<OrganisationId>().is_err(), "{bad}");
        }
        assert_eq!(environment_id(&[255; 10]).as_str(), "env-7777777777777777");
    }

    #[test]
    fn secrets_are_called_as_programs_call_them() {
        for good in ["DATABASE_URL", "tls.key", "a", "_x", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<SecretName>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "ä", ".", "-a", "a\n", "databaseUrl", &"x".repeat(64)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn slots_have_one_spelling() {
        for good in ["0", "17", "9999", "surge-0", "surge-12"] {
            assert_eq!(good.parse::<SlotName>().unwrap().to_string(), good);
        }
        for bad in
            ["", "00", "+1", "-1", "10000", "surge", "surge-", "surge-01", "surge-surge-1", "a"]
        {
            assert!(bad.parse::<SlotName>().is_err(), "{bad}");
        }
    }
}
