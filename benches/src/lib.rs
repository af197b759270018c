//! What the benchmarks share: statistics, the machine's description, reference measurements, the
//! report, and engines without sockets.

pub mod baseline;
#[cfg(feature = "path")]
pub mod chain;
pub mod machine;
#[cfg(feature = "path")]
pub mod packets;
pub mod pair;
pub mod report;
pub mod routes;
pub mod stats;
