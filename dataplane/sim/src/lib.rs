//! A world for the engine: virtual clock, seeded lossy network, and a plain model of what must
//! come out. A failing run prints its seed and can be replayed with it.
//!
//! ```text
//!  traffic ─▶ host ─▶ network ─▶ host ─▶ model
//!     │     (engines, relations)           ▲
//!     └────────────────────────────────────┘ what was sent, and to whom
//! ```
//! The claim that the model checks: a packet that reaches an attachment was sent to this very
//! attachment, in this environment, and is unchanged but for marks of congestion; it is delivered
//! at most once, and in the order of its flow when the network keeps the order; nothing is lost
//! when the network loses nothing; and after any weather, everything works again.

pub mod host;
pub mod model;
pub mod network;
pub mod packet;
pub mod rng;
pub mod traffic;
pub mod world;
