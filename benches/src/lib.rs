//! What the benchmarks share: statistics, the machine's description, reference measurements, and
//! the report.

pub mod chain;
pub mod machine;
pub mod packets;
pub mod page;
pub mod plot;
pub mod report;
pub mod stats;
