//! What the benchmarks share: statistics, the machine's description, single measurements, the
//! document that holds everything a run measured and its pictures, and engines without sockets.

pub mod baseline;
#[cfg(feature = "path")]
pub mod chain;
#[cfg(feature = "path")]
pub mod compare;
#[cfg(feature = "handshakes")]
pub mod cpu_time;
#[cfg(feature = "path")]
pub mod distribution;
#[cfg(feature = "path")]
pub mod document;
pub mod growth;
#[cfg(feature = "handshakes")]
pub mod handshake;
pub mod machine;
#[cfg(feature = "path")]
pub mod needs;
#[cfg(feature = "path")]
pub mod packets;
#[cfg(feature = "path")]
pub mod page;
pub mod pair;
#[cfg(feature = "path")]
pub mod plot;
pub mod policy;
pub mod report;
#[cfg(feature = "path")]
pub mod request;
pub mod routes;
#[cfg(feature = "path")]
pub mod search;
pub mod stats;
#[cfg(feature = "path")]
pub mod summary;
#[cfg(feature = "path")]
pub mod usage;
mod versioned;
