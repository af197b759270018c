//! What the daemon asks of a worker.

use std::{net::TcpStream, sync::Arc};

use tokio::sync::oneshot;
use weft_proto::{
    AttachmentSlot, EnvironmentSlot, LinkSlot, NewAttachment, NewEnvironment, NewLink, NewSession,
    RouteTable, SessionId, Share, fallback::Opener, policy::Guard, way::Way,
};
use weft_sys::tun::TunQueue;

use super::StreamKey;
use crate::gateway::Inlet;

/// A change of a worker's tables. Carried out in order, between packets.
pub enum Command {
    /// See [`weft_proto::Engine::add_environment`]; what is sent to its gateway goes into the inlet.
    AddEnvironment(EnvironmentSlot, NewEnvironment, Inlet),
    /// See [`weft_proto::Engine::remove_environment`].
    RemoveEnvironment(EnvironmentSlot),
    /// See [`weft_proto::Engine::set_environment_share`].
    SetEnvironmentShare(EnvironmentSlot, Share),
    /// See [`weft_proto::Engine::set_policy`].
    SetPolicy(EnvironmentSlot, Option<Arc<Guard>>),
    /// See [`weft_proto::Engine::set_routes`].
    SetRoutes(EnvironmentSlot, Arc<RouteTable>),
    /// See [`weft_proto::Engine::add_attachment`]; the worker owns the queue from now on.
    AddAttachment(AttachmentSlot, NewAttachment, TunQueue),
    /// See [`weft_proto::Engine::set_attachment_share`].
    SetAttachmentShare(AttachmentSlot, Share),
    /// Forgets the attachment and gives its queue back: closing the last queue of a device takes
    /// the kernel some 20 ms, which no packet should wait for.
    RemoveAttachment(AttachmentSlot, oneshot::Sender<TunQueue>),
    /// See [`weft_proto::Engine::add_link`].
    AddLink(LinkSlot, NewLink),
    /// See [`weft_proto::Engine::set_way`].
    SetWay(LinkSlot, Way),
    /// See [`weft_proto::Engine::set_segmented`].
    SetSegmented(LinkSlot, bool),
    /// See [`weft_proto::Engine::challenge`].
    Challenge(SessionId, Way, u64),
    /// Datagrams of a link go and come on this connection as well, which does not block.
    AddStream(StreamKey, TcpStream),
    /// Closes the streams of a link that one side opened.
    RemoveStreams(LinkSlot, Opener),
    /// See [`weft_proto::Engine::remove_link`]. Its streams go, too.
    RemoveLink(LinkSlot),
    /// See [`weft_proto::Engine::install_session`].
    Install(Box<NewSession>),
    /// See [`weft_proto::Engine::activate`].
    Activate(SessionId),
    /// See [`weft_proto::Engine::ask`].
    Ask(SessionId),
    /// See [`weft_proto::Engine::remove_session`].
    RemoveSession {
        /// Which.
        id: SessionId,
        /// Whether the peer is told.
        say_so: bool,
    },
    /// See [`weft_proto::Engine::handle_gateway_packet`].
    Answer(EnvironmentSlot, Vec<u8>),
    /// Answers when all commands before are done.
    Barrier(oneshot::Sender<()>),
    /// Ends the worker.
    Stop,
}
