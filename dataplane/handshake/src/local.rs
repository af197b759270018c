//! This host's part in a handshake.

use std::sync::Arc;

use crate::indices::IndexAllocator;

/// What this host tells a peer of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalParams {
    /// Lanes on which this host will send, 1 to 64.
    pub lanes: u8,
    /// Whether this host can write UDP superpackets to its interfaces.
    pub uso: bool,
    /// Largest UDP payload that this host accepts, in bytes, at least 1232.
    pub datagram_max: u16,
    /// Random for each process and peer.
    pub instance: [u8; 16],
    /// For a client: one more than the greatest generation that it knows of this peer.
    pub generation: u32,
    /// Whether this host's processor has no AES instructions.
    pub no_aes: bool,
}

/// This host's part in one handshake.
#[derive(Clone)]
pub struct LocalSide {
    /// What it tells of itself.
    pub params: LocalParams,
    /// Where its receiver indices come from.
    pub indices: Arc<dyn IndexAllocator>,
}

/// Which side of TLS this host was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It connected.
    Client,
    /// It accepted.
    Server,
}
