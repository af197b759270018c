//! Counters that one worker writes and anybody reads.

use crate::{
    DropReason,
    sync::{AtomicU64, Ordering::Relaxed},
};

/// A number with one writer. Reading it from another thread gives some recent value; adding is a
/// plain load and store, since nobody else writes.
#[derive(Debug, Default)]
pub struct Counter64(AtomicU64);

impl Counter64 {
    /// Adds; only the owning worker may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets; only the owning worker may.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker did for one environment.
#[derive(Debug, Default)]
pub struct EnvironmentCounters {
    /// Inner packets from attachments here to attachments here.
    pub relayed_packets: Counter64,
    /// Their bytes.
    pub relayed_bytes: Counter64,
    /// Inner packets dropped, by [`DropReason`].
    pub drops: [Counter64; DropReason::COUNT],
}

impl EnvironmentCounters {
    /// Counts a drop.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    /// Counts several drops of one cause.
    #[inline]
    pub fn dropped_many(&self, reason: DropReason, count: usize) {
        self.drops[reason as usize].add(count as u64);
    }
}

/// What one worker did for one attachment. A superpacket counts as the packets it is made of, in
/// bytes as they are inside the container (headers of a superpacket once).
#[derive(Debug, Default)]
pub struct AttachmentCounters {
    /// Packets from the container.
    pub sent_packets: Counter64,
    /// Bytes from the container.
    pub sent_bytes: Counter64,
    /// Packets given to the container.
    pub received_packets: Counter64,
    /// Bytes given to the container.
    pub received_bytes: Counter64,
}

/// What one worker did for one peer in one environment.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Datagrams sealed.
    pub sent_datagrams: Counter64,
    /// Bytes of UDP payload sealed.
    pub sent_bytes: Counter64,
    /// Datagrams opened.
    pub received_datagrams: Counter64,
    /// Bytes of UDP payload opened.
    pub received_bytes: Counter64,
    /// Epoch of this worker's sending lane.
    pub epoch: Counter64,
    /// Seconds since the first use of this worker's sending key.
    pub key_age_seconds: Counter64,
    /// Longest datagram that this worker sends to the peer, bytes of UDP payload; 0 before a session.
    pub datagram_max: Counter64,
}
