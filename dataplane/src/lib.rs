//! The Weft network daemon: threads, sockets and wiring around [`weft_proto`].

pub mod api;
pub mod confine;
pub mod gateway;
pub mod kept;
pub mod logging;
pub mod managed;
pub mod metrics;
pub mod model;
pub mod node;
pub mod worker;

/// The daemon's version, as status and metrics tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
