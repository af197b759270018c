//! What is said on the socket: one JSON object in each packet, with descriptors beside it.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use weft_sys::tun::{QUEUES_MAX, TunOptions};
use weft_types::{AttachmentName, EnvironmentId};

/// Version of the protocol. Every version understands [`Request::Hello`] and [`Request::Retire`].
pub const VERSION: u32 = 2;
/// Longest message in bytes: a path, names and two addresses fit many times.
pub const MESSAGE_LEN_MAX: usize = 16 << 10;

/// Why bytes are not a message.
#[derive(Debug)]
pub struct ParseError(String);

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

/// Which attachment: unique on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "(String, String)", into = "(String, String)")]
pub struct Name {
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its name there.
    pub attachment: AttachmentName,
}

impl TryFrom<(String, String)> for Name {
    type Error = String;

    fn try_from((environment, attachment): (String, String)) -> Result<Self, String> {
        Ok(Self {
            environment: EnvironmentId::new(&environment)
                .map_err(|e| format!("environment {environment:?} {e}"))?,
            attachment: AttachmentName::new(&attachment)
                .map_err(|e| format!("attachment {attachment:?} {e}"))?,
        })
    }
}

impl From<Name> for (String, String) {
    fn from(name: Name) -> Self {
        (name.environment.to_string(), name.attachment.to_string())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.environment, self.attachment)
    }
}

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Number of the user.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
}

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl std::str::FromStr for Ids {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (uid, gid) = text.split_once(':')?;
            Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        };
        parse().ok_or("expected the numbers UID:GID")
    }
}

/// An interface as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Whose.
    pub name: Name,
    /// Path of the container's network namespace.
    pub netns: PathBuf,
    /// Its name there, 1 to 15 bytes.
    pub interface: String,
    /// Addresses with their prefix lengths in bits.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Queues, 1 to [`QUEUES_MAX`], one for each worker.
    pub queues: u8,
    /// MTU in bytes.
    pub mtu: u16,
    /// Largest superpacket in bytes.
    pub gso_max_size: u32,
    /// Most segments in one superpacket.
    pub gso_max_segs: u16,
    /// Most packets that wait in each queue.
    pub queue_len: u32,
}

impl Interface {
    /// Whether a container that has the one has the other, but for the number of queues.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        Self { queues: other.queues, ..self.clone() } == *other
    }

    /// What the form of a message does not say by itself.
    pub(crate) fn check(&self) -> Result<(), ParseError> {
        match self.queues {
            1..=QUEUES_MAX => Ok(()),
            queues => Err(ParseError(format!("queues {queues}: expected 1 to {QUEUES_MAX}"))),
        }
    }

    pub(crate) fn options<'a>(&self, name: &'a str, queues: u8) -> TunOptions<'a> {
        TunOptions {
            name,
            queues,
            mtu: self.mtu,
            gso_max_size: self.gso_max_size,
            gso_max_segs: self.gso_max_segs,
            queue_len: self.queue_len,
        }
    }
}

/// What the daemon asks for. Each has one [`Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first on a connection. Whoever was connected before is not any more.
    Hello {
        /// [`VERSION`] of the daemon.
        version: u32,
    },
    /// The queues of an interface, which is made if it is not there as it is wanted.
    Open(Interface),
    /// An interface is not wanted any more. One that is not there is gone already.
    Close(Name),
    /// Whatever was not opened since the greeting is not wanted any more.
    Settle,
    /// An attachment belongs into the namespace at this path. It is said on a connection of its own, by
    /// root and not by the daemon, and serves the next [`Request::Open`] within a minute.
    Register {
        /// Which attachment.
        name: Name,
        /// Path of the container's network namespace.
        netns: PathBuf,
    },
    /// Which interfaces have lost their container although their queues keep its namespace alive.
    Ended,
    /// The daemon ends and leaves all interfaces to the next one. What it has beside the helper's socket
    /// and may not remove itself goes, but for what it keeps.
    Leave,
    /// Nothing is wanted any more: as [`Request::Leave`], remove all interfaces and end.
    End,
    /// End and leave all interfaces to the next helper.
    Retire,
}

/// How an interface came to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It was made.
    New,
    /// It was held all the time.
    Held,
    /// It had stayed without a carrier, and is attached again. [`Request::Ended`] tells its end.
    Adopted,
}

/// What the helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Welcome {
        /// [`VERSION`] of the helper.
        version: u32,
        /// The configuration by which it judges.
        #[serde(default)]
        config: Option<PathBuf>,
        /// Who may be the daemon besides root.
        #[serde(default)]
        user: Option<Ids>,
    },
    /// To [`Request::Open`], with the queues in the order of their numbers.
    Opened(Opened),
    /// It is done.
    Done,
    /// To [`Request::Ended`].
    Ended(Vec<Name>),
    /// To [`Request::Open`]: the namespace is not there; in one sentence.
    Absent(String),
    /// It could not be done, why, in one sentence; nothing changed.
    Failed(String),
}

/// An interface that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Whether the kernel accepts and emits UDP superpackets on it.
    pub uso: bool,
    /// Where it came from.
    pub origin: Origin,
}

pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, ParseError> {
    let bytes = serde_json::to_vec(message).map_err(|error| ParseError(error.to_string()))?;
    match bytes.len() {
        0..=MESSAGE_LEN_MAX => Ok(bytes),
        len => Err(ParseError(format!("{len} bytes; expected at most {MESSAGE_LEN_MAX}"))),
    }
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ParseError> {
    serde_json::from_slice(bytes).map_err(|error| ParseError(error.to_string()))
}

impl Request {
    /// Writes a request as the daemon does.
    ///
    /// # Errors
    /// When it is longer than [`MESSAGE_LEN_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, ParseError> {
        encode(self)
    }

    /// Reads a request as the helper does.
    ///
    /// # Errors
    /// When it is none, or a field is out of bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let request: Self = decode(bytes)?;
        if let Self::Open(interface) = &request {
            interface.check()?;
        }
        Ok(request)
    }
}

impl Reply {
    /// Writes a reply as the helper does.
    ///
    /// # Errors
    /// When it is longer than [`MESSAGE_LEN_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, ParseError> {
        encode(self)
    }

    /// Reads a reply as the daemon does.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn interface() -> Interface {
        Interface {
            name: ("acme".to_owned(), "web-1".to_owned()).try_into().unwrap(),
            netns: "/run/netns/web1".into(),
            interface: "weft0".into(),
            addresses: vec![("10.40.0.2".parse().unwrap(), 16), ("fd40::2".parse().unwrap(), 64)],
            queues: 2,
            mtu: 1408,
            gso_max_size: 60_500,
            gso_max_segs: 64,
            queue_len: 1000,
        }
    }

    #[test]
    fn messages_survive_the_way() {
        let name = interface().name;
        for request in [
            Request::Hello { version: VERSION },
            Request::Open(interface()),
            Request::Close(name.clone()),
            Request::Settle,
            Request::Register { name: name.clone(), netns: "/run/netns/web1".into() },
            Request::Ended,
            Request::Leave,
            Request::End,
            Request::Retire,
        ] {
            assert_eq!(Request::parse(&encode(&request).unwrap()).unwrap(), request);
        }
        let opened = Opened { uso: true, origin: Origin::Held };
        for reply in [
            Reply::Welcome { version: VERSION, config: None, user: None },
            Reply::Welcome {
                version: VERSION,
                config: Some("/etc/weft.toml".into()),
                user: Some("998:997".parse().unwrap()),
            },
            Reply::Opened(opened),
            Reply::Done,
            Reply::Ended(vec![name]),
            Reply::Absent("no".into()),
            Reply::Failed("no".into()),
        ] {
            assert_eq!(decode::<Reply>(&encode(&reply).unwrap()).unwrap(), reply);
        }
    }

    #[test]
    fn every_version_understands_greeting_and_farewell() {
        assert_eq!(
            Request::parse(br#"{"hello":{"version":7}}"#).unwrap(),
            Request::Hello { version: 7 }
        );
        assert_eq!(Request::parse(br#""retire""#).unwrap(), Request::Retire);
    }

    #[test]
    fn users_are_two_numbers() {
        let ids = Ids { uid: 998, gid: 997 };
        assert_eq!(ids.to_string().parse(), Ok(ids));
        for text in ["", "998", "998:", ":997", "weft:weft", "-1:0", "4294967296:0"] {
            assert!(text.parse::<Ids>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_are_paths_and_queues_without_number_are_refused() {
        for text in [
            r#"{"close":["acme","../../etc/passwd"]}"#,
            r#"{"close":["","web-1"]}"#,
            r#"{"close":["acme"]}"#,
            r#"{"open":{}}"#,
            r#""unknown""#,
            "",
        ] {
            assert!(Request::parse(text.as_bytes()).is_err(), "{text}");
        }
        for queues in [0, QUEUES_MAX + 1] {
            let open = Request::Open(Interface { queues, ..interface() });
            let error = Request::parse(&encode(&open).unwrap()).unwrap_err();
            assert!(error.to_string().contains("queues"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = Request::parse(&bytes);
        }
    }
}
