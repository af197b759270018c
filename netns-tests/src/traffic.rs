//! What runs between containers: pings, iperf3, numbered datagrams, hashed files.

pub mod datagrams;
pub mod heartbeat;
pub mod iperf;
pub mod ping;
pub mod transfer;
