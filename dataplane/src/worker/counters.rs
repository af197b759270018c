//! What a worker did, for metrics and status.

use weft_proto::Counter64;

/// Counters of one worker. Batch sizes follow from the quotients.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Returns from waiting with something to do.
    pub wakeups: Counter64,
    /// Receive calls that returned something.
    pub receive_batches: Counter64,
    /// Datagrams in them.
    pub receive_datagrams: Counter64,
    /// Send calls.
    pub send_batches: Counter64,
    /// Datagrams in them.
    pub send_datagrams: Counter64,
    /// Datagrams that the kernel did not take.
    pub send_errors: Counter64,
    /// Packets read from TUNs; a superpacket is one.
    pub tun_reads: Counter64,
    /// Packets written to TUNs; a superpacket is one.
    pub tun_writes: Counter64,
    /// 1 while segmented sends are used.
    pub gso: Counter64,
}
