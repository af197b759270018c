//! The tunnel engine: sessions, keys, replay windows, routing, and the decisions about them.
//!
//! Sans-IO: no sockets, no clock, no threads, no randomness. Every call takes `now`; packets go in
//! by `handle_*` and out through [`Io`], which the daemon and the simulator implement.
//!
//! ```text
//!  TUN ─▶ handle_packet ─▶ route ─▶ seal ─▶ Io::datagram ─▶ UDP
//!  UDP ─▶ handle_datagrams ─▶ open ─▶ replay ─▶ route ─▶ join ─▶ Io::deliver ─▶ TUN
//! ```
//!
//! One [`Engine`] per worker, nothing shared between them but counters and, in an environment with a
//! [`policy`], the flows that it has allowed. [`peer`] decides when to handshake and
//! which session is used; it runs once per daemon, outside the workers.

pub mod aead;
mod bucket;
mod counters;
mod drop_reason;
mod engine;
pub mod fallback;
mod indices;
pub mod keys;
pub mod lane;
mod pace;
mod path;
pub mod peer;
pub mod policy;
pub mod reading;
pub mod replay;
pub mod roam;
mod route;
pub mod segmentation;
pub mod silence;
pub mod way;

/// The atomics of files that `weft-loom` compiles with others.
mod sync {
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
}

pub use bucket::Bucket;
pub use counters::{AttachmentCounters, Counter64, EnvironmentCounters, LinkCounters};
pub use drop_reason::DropReason;
pub use engine::{
    AttachmentSlot, Denial, Direction, Engine, EnvironmentSlot, Event, GATEWAY_PACKET_LEN_MAX, Io,
    LinkSlot, NewAttachment, NewEnvironment, NewLink, NewSession, SessionId, SessionStatus,
    Unanswered, Undeliverable,
};
pub use indices::IndexTable;
pub use pace::{Pace, Share, Weight};
pub use route::{RouteTable, Target};
