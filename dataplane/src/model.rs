//! What the node is asked and what it answers, free of any wire format.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use weft_config::Share;
use weft_proto::{DropReason, keys::Role, policy::Hits};
use weft_types::{AttachmentName, EnvironmentId, HostId, Subnet};

use crate::worker::EngineKind;

pub use crate::gateway::GatewayStatus;

/// An attachment to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSpec {
    /// Its name.
    pub name: AttachmentName,
    /// Path of the container's network namespace.
    pub netns: PathBuf,
    /// Name of the interface there.
    pub interface: String,
    /// Overlay addresses: one of each family at most, one at least.
    pub addresses: Vec<IpAddr>,
    /// What it may send to other hosts.
    pub share: Share,
}

/// A peer to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// Its host id.
    pub host: HostId,
    /// Where its daemon listens.
    pub endpoint: SocketAddr,
    /// Where it listens as well, best first.
    pub alternatives: Vec<SocketAddr>,
    /// Overlay addresses that live there.
    pub addresses: Vec<IpAddr>,
    /// Time without anything sent after which it is asked for an answer; never without.
    pub keepalive: Option<Duration>,
}

impl PeerSpec {
    /// All places where its daemon listens, best first.
    pub(crate) fn places(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::once(self.endpoint).chain(self.alternatives.iter().copied())
    }
}

/// Bytes and packets of both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// What an attachment is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachmentState {
    /// Its turn to be made comes.
    Waiting,
    /// The interface is there.
    Up,
    /// The interface or its namespace disappeared.
    Gone,
    /// The interface could not be made; why.
    Failed(String),
}

/// One attachment.
#[derive(Debug, Clone)]
pub struct AttachmentStatus {
    /// As it was asked for.
    pub spec: AttachSpec,
    /// What it is doing.
    pub state: AttachmentState,
    /// As the container's interface counts.
    pub traffic: Traffic,
}

/// What the session with a peer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// None, and nothing asks for one.
    Idle,
    /// A handshake runs.
    Handshaking,
    /// The last handshake failed.
    Backoff,
    /// It carries data.
    Established {
        /// This host's side.
        role: Role,
        /// Time since its handshake.
        age: Duration,
        /// Newest epoch of this host's lanes.
        epoch: u64,
        /// Age of the oldest sending key in use.
        key_age: Option<Duration>,
        /// Longest datagram that every worker sends, bytes of UDP payload.
        datagram_max: u64,
        /// For how long packets have gone and nothing has come back, once that is long.
        silent: Option<Duration>,
    },
}

/// One peer.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// As it was asked for.
    pub spec: PeerSpec,
    /// Where datagrams go to it, if that is not its endpoint.
    pub reached_at: Option<SocketAddr>,
    /// Whether datagrams go over TCP, because UDP does not get through.
    pub is_over_tcp: bool,
    /// Whether datagrams may leave in segmented sends.
    pub is_segmented: bool,
    /// What the session is doing.
    pub session: SessionState,
    /// Handshakes that succeeded.
    pub handshakes_ok: u64,
    /// Handshakes that failed, by cause.
    pub handshakes_failed: Vec<(&'static str, u64)>,
    /// How long successful handshakes took, together.
    pub handshake_time: Duration,
    /// Why the last handshake failed; empty when the last one succeeded.
    pub last_error: String,
    /// UDP payload of datagrams opened and sealed.
    pub traffic: Traffic,
}

/// One environment.
#[derive(Debug, Clone)]
pub struct EnvironmentStatus {
    /// Its id.
    pub id: EnvironmentId,
    /// Its ranges.
    pub subnets: Vec<Subnet>,
    /// What it may send to other hosts.
    pub share: Share,
    /// When this host's certificate expires.
    pub certificate_expires: SystemTime,
    /// Its attachments.
    pub attachments: Vec<AttachmentStatus>,
    /// The other hosts.
    pub peers: Vec<PeerStatus>,
    /// Packets relayed on this host, and their bytes.
    pub relayed: (u64, u64),
    /// Packets dropped, all causes.
    pub drops: Vec<(DropReason, u64)>,
    /// How often each rule of its policy decided, if it has one.
    pub policy: Vec<Hits>,
    /// What its gateway did.
    pub gateway: GatewayStatus,
    /// Sessions, active or not.
    pub sessions: usize,
}

/// One worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerStatus {
    /// Core that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Port that it sends from.
    pub lane_port: u16,
    /// Returns from waiting with something to do.
    pub wakeups: u64,
    /// Receive calls that returned something.
    pub receive_batches: u64,
    /// Datagrams in them.
    pub receive_datagrams: u64,
    /// Send calls.
    pub send_batches: u64,
    /// Datagrams in them.
    pub send_datagrams: u64,
    /// Datagrams that the kernel did not take.
    pub send_errors: u64,
    /// Packets read from interfaces.
    pub tun_reads: u64,
    /// Packets written to interfaces.
    pub tun_writes: u64,
    /// Whether segmented sends are used.
    pub gso: bool,
}

/// Everything that the daemon knows about itself.
#[derive(Debug, Clone)]
pub struct Status {
    /// This host.
    pub host: HostId,
    /// Time since the daemon's start.
    pub uptime: Duration,
    /// Where it listens.
    pub listen: SocketAddr,
    /// How its workers move packets.
    pub engine: EngineKind,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// By worker.
    pub workers: Vec<WorkerStatus>,
    /// By environment.
    pub environments: Vec<EnvironmentStatus>,
    /// Datagrams dropped before they belonged to any environment.
    pub drops: Vec<(DropReason, u64)>,
    /// Handshakes of others that failed before they belonged to a peer, by cause.
    pub rejected_handshakes: Vec<(&'static str, u64)>,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// An interface is there.
    Attached,
    /// An attachment was removed.
    Detached,
    /// An interface disappeared or could not be made.
    AttachmentLost,
    /// An attachment may send another share.
    AttachmentChanged,
    /// A peer was added.
    PeerAdded,
    /// A peer's endpoint or addresses changed.
    PeerChanged,
    /// Packets go to a peer and nothing comes back.
    PeerSilent,
    /// A peer answers again.
    PeerAnswers,
    /// A peer is at another address.
    PeerMoved,
    /// Datagrams go to a peer over TCP, or by UDP again.
    PeerTransport,
    /// Datagrams are damaged on their way to a peer.
    PeerSegmentation,
    /// A peer was removed.
    PeerRemoved,
    /// A session carries data.
    SessionEstablished,
    /// A session ended and none took its place.
    SessionEnded,
    /// A handshake failed.
    HandshakeFailed,
    /// An environment was added or its credentials replaced.
    EnvironmentChanged,
    /// An environment was removed.
    EnvironmentRemoved,
    /// The configuration was reloaded.
    Reloaded,
    /// A reload was refused, or one of its changes was.
    ReloadFailed,
    /// The daemon stops.
    Stopping,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct NodeEvent {
    /// What kind of thing.
    pub kind: EventKind,
    /// When.
    pub time: SystemTime,
    /// Whose, if it is not the daemon's own.
    pub environment: Option<EnvironmentId>,
    /// About which attachment.
    pub attachment: Option<AttachmentName>,
    /// About which peer.
    pub host: Option<HostId>,
    /// One sentence.
    pub message: String,
}

impl NodeEvent {
    pub(crate) fn new(kind: EventKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            time: SystemTime::now(),
            environment: None,
            attachment: None,
            host: None,
            message: message.into(),
        }
    }

    pub(crate) fn of(self, environment: &EnvironmentId) -> Self {
        Self { environment: Some(environment.clone()), ..self }
    }

    pub(crate) fn attachment(self, name: &AttachmentName) -> Self {
        Self { attachment: Some(name.clone()), ..self }
    }

    pub(crate) fn peer(self, host: &HostId) -> Self {
        Self { host: Some(host.clone()), ..self }
    }
}
