//! What runs between containers: pings, iperf3, numbered datagrams, hashed files; and what they ask for.

pub mod datagrams;
pub mod heartbeat;
pub mod iperf;
pub mod names;
pub mod ping;
pub mod transfer;
