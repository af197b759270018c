//! The handshake between two Weft hosts: TLS 1.3 with certificates of both sides, a few frames,
//! one exported secret, and then TLS is gone.
//!
//! ```text
//!  client                               server
//!    │ ── ClientHello, SNI = tag ──────▶ │  tag → environment, unknown tag → decoy
//!    │ ◀── certificate, Finished ─────── │
//!    │  verify_peer + expected host      │
//!    │ ── certificate, Finished, Hello ▶ │  verify_peer, then: a configured peer?
//!    │ ◀────────────── Hello, Indices ── │
//!    │ ── Indices ─────────────────────▶ │
//!    │ ◀──────────────────────── Ready ─ │
//!    ▼ exporter, drop TLS, close         ▼ exporter, drop TLS, close
//! ```
//!
//! Or, where UDP does not get through, the connection stays to carry datagrams, which are sealed with
//! their sessions' keys as always ([`Stream`]):
//!
//! ```text
//!    │ ── certificate, Finished, Stream ▶│
//!    │ ◀──────────────────────── Ready ─ │
//!    ▼ drop TLS                          ▼ drop TLS
//!    │ ◀══ records with datagrams ═════▶ │
//! ```
//!
//! What holds on every path:
//! - One environment's authority judges a peer; no function sees two environments' roots, except
//!   the table that picks one by tag.
//! - No resumption: no tickets, no session storage, no early data. Each handshake checks both
//!   certificates and makes fresh keys (X25519MLKEM768, or X25519 where policy allows).
//! - Before the peer's certificate is verified it is sent nothing but TLS; after a failure nothing
//!   but a TLS alert, the same for an unknown environment as for an unknown certificate.
//! - The exporter is used once, the TLS state dropped right after, stack and all.
//! - A failed handshake gives its receiver indices back ([`IndexGuard`]).
//!
//! [`admission`] is pure decisions with the time passed in; the rest is tokio.

pub mod admission;
mod close;
mod dial;
mod environment;
mod error;
mod establish;
mod exchange;
mod exporter;
mod indices;
mod local;
mod scrub;
mod stream;
#[cfg(any(test, feature = "test-hooks"))]
pub mod test_hooks;
mod time;
mod tls;
mod verifier;

pub use dial::{RACE_AFTER, dial};
pub use environment::{Environment, EnvironmentError, KeyExchange, ServerEnvironments};
pub use error::{Fault, HandshakeError, ProtocolError, Step};
pub use establish::{Accepted, DEADLINE, Established, Stream, accept, connect, connect_stream};
pub use exporter::{EXPORTER_LABEL, ExporterContext, SessionSecret};
pub use indices::{Exhausted, IndexAllocator, IndexGuard};
pub use local::{LocalParams, LocalSide, Role};
pub use time::TrustedTime;
pub use tls::ALPN;
pub use weft_wire::hello::Hello;

#[cfg(test)]
mod tests;
