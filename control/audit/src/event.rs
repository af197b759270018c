//! What happened.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::text::{Name, Object, TextError, Word, json_as_text};

/// Most facts of one event.
pub const FACTS_MAX: usize = 8;

/// Who did what from where on what, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Who.
    pub who: Actor,
    /// From where.
    pub from: Origin,
    /// What was done or asked for, such as `secret.read`.
    pub action: Word,
    /// On what.
    pub object: Object,
    /// What came of it.
    pub outcome: Outcome,
    /// Which request.
    pub request: RequestId,
    /// What else is worth keeping.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
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

impl Outcome {
    /// The outcome without its reason, as [`crate::Query::outcome`] has it.
    #[must_use]
    pub fn kind(&self) -> Word {
        match self {
            Self::Begun => Word::new("begun"),
            Self::Done => Word::new("done"),
            Self::Denied(_) => Word::new("denied"),
            Self::Failed(_) => Word::new("failed"),
            Self::Unknown => Word::new("unknown"),
        }
    }
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

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Is(is) => is.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
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

    /// These and more; where both say something of one thing, the latter is right.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        more.0.into_iter().fold(self, |facts, (about, fact)| facts.with(about, fact))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, about: &Word) -> Option<&Fact> {
        self.0.get(about)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&Word, &Fact)> {
        self.0.iter()
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

json_as_text!(Actor);
json_as_text!(Origin);
json_as_text!(Outcome);
json_as_text!(RequestId);

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
        same::<RequestId>(&["000102030405060708090a0b0c0d0e0f"]);
        refused::<RequestId>(&["", "00", "000102030405060708090A0B0C0D0E0F"]);
    }

    #[test]
    fn facts_have_a_bound() {
        let words = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let facts = words
            .into_iter()
            .fold(Facts::none(), |facts, word| facts.with(Word::new(word), Fact::Number(1)));
        assert_eq!(facts.get(&Word::new("i")), None);
        let (a, one) = (Word::new("a"), |n| Facts::none().with(Word::new("a"), Fact::Number(n)));
        assert_eq!(one(1).and(one(2)).get(&a), Some(&Fact::Number(2)));
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
        assert!(serde_json::from_str::<Facts>(&text.replace('}', ",\"i\":1}")).is_err());
    }
}
