//! The command line of `weft net`. What has a wrong form is refused here, with exit code 2.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use weft_api::SOCKET_PATH_DEFAULT;
use weft_types::{AttachmentName, EnvironmentId, HostId};

/// Arguments of `weft net`.
#[derive(Debug, Args)]
pub(crate) struct NetArguments {
    #[command(subcommand)]
    pub(crate) command: NetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetCommand {
    /// Show environments, attachments, peers, rates and drops
    Status(StatusArguments),
    /// Give a container's network namespace an interface of an environment
    Attach(AttachArguments),
    /// Remove an attachment and its interface
    Detach(DetachArguments),
    /// Add or remove a peer host of an environment
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Print what happens, until the daemon stops
    Events(EventsArguments),
    /// Show rates of environments and peers, live
    Top(TopArguments),
}

/// Where the daemon is.
#[derive(Debug, Args)]
pub(crate) struct SocketArgument {
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH_DEFAULT)]
    pub(crate) socket: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// Only this environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) env: Option<EnvironmentId>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// The environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) env: EnvironmentId,
    /// Name of the attachment, unique in the environment on this host
    #[arg(long)]
    pub(crate) name: AttachmentName,
    /// The container's network namespace, for example /run/netns/web1
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: PathBuf,
    /// Its overlay address; the control plane gives one, if the host follows one
    #[arg(long, value_name = "IPV4")]
    pub(crate) address: Option<Ipv4Addr>,
    /// Its IPv6 overlay address
    #[arg(long, value_name = "IPV6")]
    pub(crate) address6: Option<Ipv6Addr>,
    /// Name of the interface in the container, 1 to 15 bytes [default: weft0]
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// What it may send to other hosts while there is not enough for all, compared with other
    /// attachments of the environment: 1 to 10000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) weight: u32,
    /// Most that it may send to other hosts, Mbit/s [default: no limit]
    #[arg(long, value_name = "MBIT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) egress_mbit_max: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// The environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) env: EnvironmentId,
    /// Name of the attachment
    #[arg(long)]
    pub(crate) name: AttachmentName,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// Add a peer host, or change the endpoint and addresses of one
    Add(PeerAddArguments),
    /// Remove a peer host with its routes and sessions
    Remove(PeerRemoveArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PeerAddArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// The environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) env: EnvironmentId,
    /// The peer's host id, as in its certificate
    #[arg(long)]
    pub(crate) host: HostId,
    /// Where its daemon listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) endpoint: SocketAddr,
    /// Where it listens as well; may be given several times, best first
    #[arg(long = "alternative-endpoint", value_name = "ADDRESS:PORT")]
    pub(crate) alternatives: Vec<SocketAddr>,
    /// An overlay address that lives there; may be given several times
    #[arg(long = "address", value_name = "IP")]
    pub(crate) addresses: Vec<IpAddr>,
    /// Ask it for an answer after so many seconds without anything sent [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) keepalive_seconds: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct PeerRemoveArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// The environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) env: EnvironmentId,
    /// The peer's host id
    #[arg(long)]
    pub(crate) host: HostId,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// Only those of this environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) env: Option<EnvironmentId>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// Only this environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) env: Option<EnvironmentId>,
    /// Measure for one second, print and exit; so it does when it does not write to a terminal
    #[arg(long)]
    pub(crate) once: bool,
}

/// The environment's id as the API takes it: empty means all.
pub(crate) fn or_all(env: Option<&EnvironmentId>) -> String {
    env.map(ToString::to_string).unwrap_or_default()
}
