//! The measurements behind the figures that have targets.

use serde::{Deserialize, Serialize};

use crate::packets::Packets;

/// Everything that one round measured. Throughput is in bits per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// One stream without any overlay.
    pub bare_1: f64,
    /// Four streams.
    pub bare_4: f64,
    /// One stream over kernel VXLAN.
    pub vxlan_1: f64,
    /// Four streams.
    pub vxlan_4: f64,
    /// Median round trip without any overlay, microseconds.
    pub ping_bare_us: f64,
    /// Median of four wake-ups in a row, microseconds, wherever the scheduler puts the threads.
    pub chain_free_us: f64,
    /// The same, threads pinned to cores in turn.
    pub chain_pinned_us: f64,
    /// The same at the rate of the pings.
    pub chain_slow_us: f64,
    /// What needs the daemons; absent without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weft: Option<Weft>,
}

/// The part of a round that needs the daemons.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Weft {
    /// One stream between two hosts.
    pub stream_1: f64,
    /// Four streams.
    pub stream_4: f64,
    /// One stream between containers of one host.
    pub local_1: f64,
    /// Four streams.
    pub local_4: f64,
    /// Median round trip, microseconds.
    pub ping_us: f64,
    /// Throughput that the next two figures belong to.
    pub offered: f64,
    /// CPU time of the sending daemon, percent of one core.
    pub cpu_sender_percent: f64,
    /// CPU time of the receiving daemon, percent of one core.
    pub cpu_receiver_percent: f64,
    /// Small packets at each offered rate.
    pub packets: Vec<Packets>,
    /// Largest resident memory of either daemon under load, bytes.
    pub resident_bytes: u64,
}
