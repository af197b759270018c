//! The words of a record. They are names and nothing else: there is no place in a record for what a request
//! said, and what looks like a key does not fit where a name does.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::IpAddr, str::FromStr, sync::Arc};

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use weft_types::HostId;

/// Longest name and longest word, characters. 32 bytes in hexadecimal are 64.
pub const NAME_LEN_MAX: usize = 63;
/// Most names in an object's path.
pub const OBJECT_NAMES_MAX: usize = 8;
/// Most facts of one event.
pub const FACTS_MAX: usize = 8;

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
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
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

/// Who.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// A person, by the id of the account.
    User(Name),
    /// A host, by its certificate.
    Host(Name),
    /// Another service of the installation.
    Service(Name),
    /// An API or deploy token, by its id, never by itself.
    Token(Name),
    /// Whoever has the machine: a command of the administrator, by the number of the user.
    Operator(Name),
    /// The control plane itself.
    System,
    /// Somebody who has not shown who it is.
    Anonymous,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user/{id}"),
            Self::Host(id) => write!(f, "host/{id}"),
            Self::Service(id) => write!(f, "service/{id}"),
            Self::Token(id) => write!(f, "token/{id}"),
            Self::Operator(id) => write!(f, "operator/{id}"),
            Self::System => f.write_str("system"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

impl FromStr for Actor {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        const EXPECTED: &str =
            "user/ID, host/ID, service/ID, token/ID, operator/ID, system or anonymous";
        match text.split_once('/') {
            Some(("user", id)) => id.parse().map(Self::User),
            Some(("host", id)) => id.parse().map(Self::Host),
            Some(("service", id)) => id.parse().map(Self::Service),
            Some(("token", id)) => id.parse().map(Self::Token),
            Some(("operator", id)) => id.parse().map(Self::Operator),
            None if text == "system" => Ok(Self::System),
            None if text == "anonymous" => Ok(Self::Anonymous),
            _ => Err(TextError { what: "an actor", expected: EXPECTED }),
        }
    }
}

/// From where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Over the network.
    Address(IpAddr),
    /// Over a socket of this machine.
    Local,
    /// From inside the process: a timer, a rule.
    Internal,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Local => f.write_str("local"),
            Self::Internal => f.write_str("internal"),
        }
    }
}

impl FromStr for Origin {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "local" => Ok(Self::Local),
            "internal" => Ok(Self::Internal),
            _ => text.parse().map(Self::Address).map_err(|_| TextError {
                what: "an origin",
                expected: "an IP address, local or internal",
            }),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is about to be done; another record with the same request says what came of it. Where there is none,
    /// the process ended in between.
    Begun,
    /// It was done.
    Done,
    /// It was not allowed.
    Denied(Word),
    /// It was allowed, and could not be done.
    Failed(Word),
    /// It may have been done.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("begun"),
            Self::Done => f.write_str("done"),
            Self::Denied(why) => write!(f, "denied/{why}"),
            Self::Failed(why) => write!(f, "failed/{why}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl FromStr for Outcome {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        const EXPECTED: &str = "begun, done, denied/WORD, failed/WORD or unknown";
        match (text, text.split_once('/')) {
            ("begun", _) => Ok(Self::Begun),
            ("done", _) => Ok(Self::Done),
            ("unknown", _) => Ok(Self::Unknown),
            (_, Some(("denied", why))) => why.parse().map(Self::Denied),
            (_, Some(("failed", why))) => why.parse().map(Self::Failed),
            _ => Err(TextError { what: "an outcome", expected: EXPECTED }),
        }
    }
}

/// Which request: the id that is in logs and in the answer too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let mut id = [0; 16];
        rand::fill(&mut id).expect("the kernel has random numbers");
        Self(id)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for RequestId {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let id = HEXLOWER.decode(text.as_bytes()).ok().and_then(|id| id.try_into().ok());
        id.map(Self).ok_or(TextError { what: "a request", expected: "32 hexadecimal digits" })
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

/// What else is worth keeping of an event: a number, a name, a yes or no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// How many, or which version.
    Number(u64),
    /// Whether.
    Is(bool),
    /// Which.
    Name(Name),
}

/// Facts by what they are about, at most [`FACTS_MAX`]; more are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Facts(BTreeMap<Word, Fact>);

impl Facts {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, about: Word, fact: Fact) -> Self {
        if self.0.len() < FACTS_MAX {
            self.0.insert(about, fact);
        }
        self
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, about: &Word) -> Option<&Fact> {
        self.0.get(about)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Facts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let facts = BTreeMap::deserialize(deserializer)?;
        if facts.len() > FACTS_MAX {
            return Err(serde::de::Error::custom("too many facts; expected at most 8"));
        }
        Ok(Self(facts))
    }
}

json_as_text!(Word);
json_as_text!(Name);
json_as_text!(Object);
json_as_text!(Actor);
json_as_text!(Origin);
json_as_text!(Outcome);
json_as_text!(RequestId);
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
        same::<Actor>(&[
            "user/a",
            "host/h",
            "service/s",
            "token/t-1",
            "operator/0",
            "system",
            "anonymous",
        ]);
        refused::<Actor>(&["", "user", "user/", "user/a/b", "system/", "root", "User/a"]);
        same::<Origin>(&["192.0.2.1", "2001:db8::1", "local", "internal"]);
        refused::<Origin>(&["", "here", "192.0.2.1:80", "host-a"]);
        same::<Outcome>(&["begun", "done", "unknown", "denied/role", "failed/store-full"]);
        refused::<Outcome>(&["", "denied", "denied/", "failed/a b", "ok"]);
        same::<Object>(&[
            "environment/acme/secret/DB_PASSWORD",
            "user/a@example.org",
            "a/b/c/d/e/f/g/h",
        ]);
        refused::<Object>(&["", "/", "a/", "/a", "a//b", "a/b/c/d/e/f/g/h/i", "a b"]);
        same::<RequestId>(&["000102030405060708090a0b0c0d0e0f"]);
        refused::<RequestId>(&["", "00", "000102030405060708090A0B0C0D0E0F"]);
        same::<ProcessId>(&["control-a"]);
        refused::<ProcessId>(&["", "-a", "a.b", "A"]);
    }

    #[test]
    fn a_key_is_no_name() {
        for key in [
            HEXLOWER.encode(&[7; 32]),
            data_encoding::BASE64.encode(b"0123456789abcdef0123456789abcdef"),
            data_encoding::BASE64URL_NOPAD.encode(b"0123456789abcdef0123456789abcdef"),
            "hunter 2".to_owned(),
            "{\"password\":1}".to_owned(),
        ] {
            assert!(key.parse::<Name>().is_err() && key.parse::<Object>().is_err(), "{key}");
        }
    }

    #[test]
    fn an_object_is_within_what_holds_it() {
        let object = |text: &str| text.parse::<Object>().unwrap();
        let secret = object("environment/acme/secret/x");
        assert!(secret.is_within(&object("environment/acme")) && secret.is_within(&secret));
        assert!(!secret.is_within(&object("environment/ac")));
        assert!(!object("environment/acme").is_within(&secret));
    }

    #[test]
    fn facts_have_a_bound() {
        let words = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let facts = words
            .into_iter()
            .fold(Facts::none(), |facts, word| facts.with(Word::new(word), Fact::Number(1)));
        assert_eq!(facts.get(&Word::new("i")), None);
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
        assert!(serde_json::from_str::<Facts>(&text.replace('}', ",\"i\":1}")).is_err());
    }
}
