//! What the benchmarks share: statistics, the machine's description, single measurements, and the
//! document that holds everything a run measured.

pub mod chain;
pub mod compare;
pub mod document;
pub mod figures;
pub mod machine;
pub mod needs;
pub mod packets;
pub mod page;
pub mod plot;
pub mod report;
pub mod request;
pub mod search;
pub mod stats;
pub mod usage;
