//! A configuration that has passed every check.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use weft_dns::{Outside, ServiceRecord};
use weft_pki::{Credentials, TrustAnchor};
use weft_types::{AttachmentName, EnvironmentId, HostId, Subnet};

use crate::{
    account::User,
    control::Control,
    limits::{
        EPOCH_DATAGRAMS_LIMIT, EPOCH_SECONDS_LIMIT, REHANDSHAKE_SECONDS_LIMIT, WEIGHT_DEFAULT,
    },
};

/// Where the local API is unless the file says otherwise.
pub const API_DEFAULT: &str = "/run/weft/weftd.sock";
/// Name of an attachment's interface in its container unless the file says otherwise.
pub const INTERFACE_DEFAULT: &str = "weft0";

/// Everything that the daemon needs to run. All paths are absolute or relative to the current
/// folder, no longer to the file.
#[derive(Debug, Clone)]
pub struct Config {
    /// This host's id, as in its certificates.
    pub host: HostId,
    /// Where UDP data and TCP handshakes arrive; the port is not 0.
    pub listen: SocketAddr,
    /// Whom the daemon becomes; it stays root, without capabilities, without.
    pub user: Option<User>,
    /// Path of the local API's unix socket.
    pub api: PathBuf,
    /// Where Prometheus may scrape; none without.
    pub metrics: Option<SocketAddr>,
    /// Worker threads, 1 to 64; the daemon decides without.
    pub workers: Option<u8>,
    /// How workers move packets.
    pub engine: Engine,
    /// Whether each worker has a core of its own.
    pub placement: Placement,
    /// What workers do that have no work.
    pub latency: Latency,
    /// What is logged and how.
    pub log: LogConfig,
    /// When keys change.
    pub keys: KeyLimits,
    /// The control plane that it follows; then the file has no environments.
    pub control: Option<Control>,
    /// The environments in the order of the file, each id once.
    pub environments: Vec<Environment>,
}

/// How workers wait for packets and move them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// The daemon decides.
    #[default]
    Auto,
    /// System calls when epoll says that there is something to do.
    Epoll,
    /// io_uring; the daemon does not start where it is not to be had.
    Uring,
}

/// Where workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Where the kernel puts them.
    #[default]
    Free,
    /// Each on one core, in the order of their numbers.
    Pinned,
}

/// What a worker without work does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Latency {
    /// It sleeps, but for moments under load.
    #[default]
    Normal,
    /// It looks for work without sleeping for a tenth of a second after each packet: answers come
    /// sooner, and each worker takes a whole core while there is traffic.
    Low,
}

/// Section `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// The least severe level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What an operator must see to.
    Error,
    /// What an operator should know.
    Warn,
    /// What happens in normal operation.
    #[default]
    Info,
    /// What helps to find a fault.
    Debug,
    /// Every packet.
    Trace,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl $type {
            /// Every value in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" });
words!(Engine { Auto = "auto", Epoll = "epoll", Uring = "uring" });
words!(Placement { Free = "free", Pinned = "pinned" });
words!(Latency { Normal = "normal", Low = "low" });
words!(LogFormat { Text = "text", Json = "json" });

/// Section `[keys]`: limits that make keys change earlier than the protocol demands. They can
/// only tighten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimits {
    /// Datagrams under one key before a lane starts its next epoch: 64 to 2^28.
    pub epoch_datagrams_max: u64,
    /// Seconds of use of one key before a lane starts its next epoch: 1 to 120.
    pub epoch_seconds_max: u64,
    /// Seconds between handshakes with a peer: 5 to 3,600.
    pub rehandshake_seconds: u64,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self {
            epoch_datagrams_max: EPOCH_DATAGRAMS_LIMIT,
            epoch_seconds_max: EPOCH_SECONDS_LIMIT,
            rehandshake_seconds: REHANDSHAKE_SECONDS_LIMIT,
        }
    }
}

/// What an environment, or an attachment of what its environment may, sends to other hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How much compared with the others while there is not enough for all: 1 to 10,000.
    pub weight: u16,
    /// How much at most, in Mbit/s (10^6 bits) of inner packets: 1 to 1,000,000; no limit without.
    pub egress_mbit_max: Option<u32>,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: WEIGHT_DEFAULT, egress_mbit_max: None }
    }
}

/// What an environment's gateway answers, besides the names of the attachments on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Sections `[[environment.service]]`, each name once.
    pub services: Vec<ServiceRecord>,
    /// What is said of all other names.
    pub outside: Outside,
}

/// Section `[[environment]]`.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its address ranges: one of IPv4, or one of IPv6, or one of each in this order.
    pub subnets: Vec<Subnet>,
    /// What all of its containers here may send to other hosts together.
    pub share: Share,
    /// Where its certificates came from; not from files without.
    pub files: Option<CredentialFiles>,
    /// The authority, as loaded.
    pub anchor: TrustAnchor,
    /// This host's certificate and key, as loaded: verified against the authority and valid at
    /// the time of loading.
    pub credentials: Credentials,
    /// Names of its services.
    pub names: Names,
    /// Containers of the environment on this host, each name once.
    pub attachments: Vec<Attachment>,
    /// The other hosts of the environment, each once.
    pub peers: Vec<Peer>,
}

/// Files of an environment's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFiles {
    /// Path of the authority's certificate.
    pub ca: PathBuf,
    /// Path of this host's certificate.
    pub cert: PathBuf,
    /// Path of this host's private key.
    pub key: PathBuf,
}

/// Section `[[environment.attachment]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub name: AttachmentName,
    /// Path of the container's network namespace. Whether there is one is seen when attaching.
    pub netns: PathBuf,
    /// Name of the interface there, 1 to 15 bytes.
    pub interface: String,
    /// Overlay addresses: one of IPv4, or one of IPv6, or one of each in this order.
    pub addresses: Vec<IpAddr>,
    /// What it may send to other hosts, of what its environment may.
    pub share: Share,
}

/// Section `[[environment.peer]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its host id, as in its certificate; not this host.
    pub host: HostId,
    /// Where its daemon listens.
    pub endpoint: SocketAddr,
    /// Where it listens as well, best first, at most [`crate::ALTERNATIVES_MAX`]: used when it does not answer at
    /// a better place.
    pub alternatives: Vec<SocketAddr>,
    /// Overlay addresses that live there, in the order of the file.
    pub addresses: Vec<IpAddr>,
    /// Seconds without anything sent after which it is asked for an answer, 1 to 3,600, so that
    /// address translation on the way does not forget us; never without.
    pub keepalive_seconds: Option<u16>,
}
