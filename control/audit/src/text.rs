//! The words of a record. They are names and nothing else: there is no place in a record for what a request
//! said, and what looks like a key does not fit where a name does.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use weft_types::HostId;

/// Longest name and longest word, characters. 32 bytes in hexadecimal are 64.
pub const NAME_LEN_MAX: usize = 63;
/// Most names in an object's path.
pub const OBJECT_NAMES_MAX: usize = 8;

/// Why text is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is wrong; expected {expected}")]
pub struct TextError {
    /// What it should have been.
    pub what: &'static str,
    /// What it looks like.
    pub expected: &'static str,
}

/// Text in JSON for a type that prints and parses itself.
macro_rules! json_as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use json_as_text;

/// A word of the program's own vocabulary: what was done, why it was denied, what a number counts. 1 to
/// [`NAME_LEN_MAX`] characters of `a-z`, `0-9`, `-` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(Cow<'static, str>);

impl Word {
    /// A word that stands in the program: `const READ: Word = Word::new("secret.read");`
    ///
    /// # Panics
    /// When it is none; in a constant, that is a compile error.
    #[must_use]
    pub const fn new(word: &'static str) -> Self {
        assert!(is_word(word.as_bytes()), "a word has 1 to 63 characters of a-z, 0-9, - and .");
        Self(Cow::Borrowed(word))
    }

    /// The word as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_word(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        if !matches!(text[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.') {
            return false;
        }
        at += 1;
    }
    !text.is_empty() && text.len() <= NAME_LEN_MAX
}

impl FromStr for Word {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if is_word(text.as_bytes()) {
            return Ok(Self(Cow::Owned(text.to_owned())));
        }
        Err(TextError { what: "a word", expected: "1 to 63 characters of a-z, 0-9, - and ." })
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name or id of something: 1 to [`NAME_LEN_MAX`] characters of `a-z` or `A-Z`, but not of both, `0-9`,
/// `-`, `.`, `_`, `@`, `+` and `:`. Keys in hexadecimal are longer, in base64 they have letters of both cases.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// What somebody asked for, also where that is no name: then it is `_`, so that a record of it can be made.
    #[must_use]
    pub fn asked(text: &str) -> Self {
        Self(if is_name(text) { text } else { "_" }.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    let known = |c: u8| c.is_ascii_alphanumeric() || b"-._@+:".contains(&c);
    let has = |class: fn(&u8) -> bool| text.as_bytes().iter().any(class);
    (1..=NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(known)
        && !(has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase))
}

impl FromStr for Name {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        const EXPECTED: &str =
            "1 to 63 letters, all small or all capital, digits, and characters of -._@+:";
        let wrong = TextError { what: "a name", expected: EXPECTED };
        if is_name(text) { Ok(Self(text.into())) } else { Err(wrong) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// On what: a path of 1 to [`OBJECT_NAMES_MAX`] names, such as `environment/acme/secret/DB_PASSWORD`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object(Arc<str>);

impl Object {
    /// What has this name, and is not a part of anything.
    #[must_use]
    pub fn named(name: &Name) -> Self {
        Self(Arc::clone(&name.0))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A part of it. What has [`OBJECT_NAMES_MAX`] names already is its own part.
    #[must_use]
    pub fn with(self, name: &Name) -> Self {
        if self.0.split('/').count() >= OBJECT_NAMES_MAX {
            return self;
        }
        Self(format!("{}/{name}", self.0).into())
    }

    /// Whether it is `whole` or a part of it: `environment/acme/secret/x` is within `environment/acme`.
    #[must_use]
    pub fn is_within(&self, whole: &Self) -> bool {
        self.0.strip_prefix(&*whole.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for Object {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let names = text.split('/').count();
        if names <= OBJECT_NAMES_MAX && text.split('/').all(is_name) {
            return Ok(Self(text.into()));
        }
        Err(TextError { what: "an object", expected: "1 to 8 names with / between them" })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose log: one process of the control plane, a DNS label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(HostId);

impl ProcessId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ProcessId {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = TextError {
            what: "the id of a process",
            expected: "1 to 63 characters of a-z, 0-9 and - (not first or last)",
        };
        text.parse().map(Self).map_err(|_| wrong)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

json_as_text!(Word);
json_as_text!(Name);
json_as_text!(Object);
json_as_text!(ProcessId);

#[cfg(test)]
mod tests {
    use super::*;

    fn same<T: FromStr<Err = TextError> + fmt::Display>(texts: &[&str]) {
        for text in texts {
            assert_eq!(
                text.parse::<T>().unwrap_or_else(|e| panic!("{text}: {e}")).to_string(),
                *text
            );
        }
    }

    fn refused<T: FromStr<Err = TextError>>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text}");
        }
    }

    #[test]
    fn texts_are_read_as_they_are_written() {
        same::<Object>(&[
            "environment/acme/secret/DB_PASSWORD",
            "user/a@example.org",
            "a/b/c/d/e/f/g/h",
        ]);
        refused::<Object>(&["", "/", "a/", "/a", "a//b", "a/b/c/d/e/f/g/h/i", "a b"]);
        same::<ProcessId>(&["control-a"]);
        refused::<ProcessId>(&["", "-a", "a.b", "A"]);
        same::<Word>(&["secret.read", "a-1"]);
        refused::<Word>(&["", "A", "a_b", "a/b", &"x".repeat(64)]);
    }

    #[test]
    fn a_key_is_no_name() {
        for key in [
            data_encoding::HEXLOWER.encode(&[7; 32]),
            data_encoding::BASE64.encode(b"0123456789abcdef0123456789abcdef"),
            data_encoding::BASE64URL_NOPAD.encode(b"0123456789abcdef0123456789abcdef"),
            "hunter 2".to_owned(),
            "{\"password\":1}".to_owned(),
        ] {
            assert!(key.parse::<Name>().is_err() && key.parse::<Object>().is_err(), "{key}");
            assert_eq!(Name::asked(&key).as_str(), "_");
        }
        assert_eq!(Name::asked("acme").as_str(), "acme");
    }

    #[test]
    fn an_object_is_within_what_holds_it() {
        let object = |text: &str| text.parse::<Object>().unwrap();
        let secret = object("environment/acme/secret/x");
        assert!(secret.is_within(&object("environment/acme")) && secret.is_within(&secret));
        assert!(!secret.is_within(&object("environment/ac")));
        assert!(!object("environment/acme").is_within(&secret));
        let acme = Object::named(&Name::asked("environment")).with(&"acme".parse().unwrap());
        assert_eq!(acme, object("environment/acme"));
        let eight = object("a/b/c/d/e/f/g/h");
        assert_eq!(eight.clone().with(&"i".parse().unwrap()), eight);
    }
}
