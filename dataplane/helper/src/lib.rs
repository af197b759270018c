//! The helper of `weftd`: a small process that makes the interfaces of containers and keeps a
//! duplicate of each of their queues, so that interfaces outlive the daemon.
//!
//! ```text
//!            requests                       ┌────────────┐ TUNSETIFF, netlink, setns
//!  weftd ──────────────▶ unix socket ─────▶ │ Keeper     │──────────────────────────▶ containers
//!        ◀────────────── (SOCK_SEQPACKET)   │  held      │
//!         queues (SCM_RIGHTS)               │  left ─────┼──▶ one record file for each interface
//!                                           └────────────┘
//! ```
//!
//! - The daemon ends, in whatever way: the helper holds the queues, the carrier stays, packets wait.
//!   The next daemon gets the same queues.
//! - The helper ends: the devices are persistent and stay while the daemon has their queues. The next
//!   helper knows them by its records.
//! - Both end: the devices stay without a carrier, with addresses, routes and connections. The next
//!   helper attaches to them from inside their namespaces ([`weft_sys::tun::Tun::adopt`]), if they
//!   are the ones of its records.
//!
//! It listens to root and to the daemon's user, and enters only the namespaces that the configuration names or that root has registered: the daemon, which
//! has given up its privileges, cannot name others.
//!
//! It ends by itself when nobody is connected and nothing is held.

mod client;
mod confine;
mod keeper;
mod message;
mod permit;
mod place;
mod record;
mod server;
mod socket;

pub use client::{Client, ClientError, reach, register};
pub use confine::confine;
pub use message::{
    Ids, Interface, MESSAGE_LEN_MAX, Name, Opened, Origin, ParseError, Reply, Request, VERSION,
};
pub use permit::namespaces;
pub use place::{socket_beside, state_beside};
pub use record::Record;
pub use server::{ServeError, Service};
