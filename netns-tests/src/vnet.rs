//! Raw packets out of and into a container's interface, with any virtio header.

use std::time::Duration;

use anyhow::{Context, Result};
use weft_sys::packet::PacketSocket;

use crate::namespace::Namespace;

/// Bytes of `struct virtio_net_hdr`.
pub const VIRTIO_LEN: usize = 10;
/// The checksum is still to be made.
pub const NEEDS_CSUM: u8 = 1;
/// TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// UDP datagrams of one size.
pub const GSO_UDP_L4: u8 = 5;
/// TCP with congestion marks.
pub const GSO_ECN: u8 = 0x80;
const PACKET_MAX: usize = 1 << 16;

/// `struct virtio_net_hdr` as a sender claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Virtio {
    /// Flags.
    pub flags: u8,
    /// Segmentation type.
    pub gso_type: u8,
    /// Length of the headers.
    pub header_len: u16,
    /// Segment size.
    pub gso_size: u16,
    /// Start of the checksummed area.
    pub csum_start: u16,
    /// Place of the checksum from there.
    pub csum_offset: u16,
}

impl Virtio {
    fn encode(self) -> [u8; VIRTIO_LEN] {
        let mut out = [0; VIRTIO_LEN];
        out[..2].copy_from_slice(&[self.flags, self.gso_type]);
        let words = [self.header_len, self.gso_size, self.csum_start, self.csum_offset];
        for (field, word) in out[2..].chunks_exact_mut(2).zip(words) {
            field.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    fn decode(bytes: &[u8; VIRTIO_LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }
}

/// A packet socket with virtio headers on one interface, as a container with `CAP_NET_RAW` (a
/// Docker default) can have it.
#[derive(Debug)]
pub struct RawPort(PacketSocket);

impl RawPort {
    /// Opens it inside a namespace.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn open(ns: &Namespace, interface: &str) -> Result<Self> {
        let links = ns.ip_json(&format!("link show dev {interface}"))?;
        let index = links[0]["ifindex"].as_u64().context("no ifindex")?;
        let index = u32::try_from(index)?;
        Ok(Self(ns.enter(|| Ok(PacketSocket::open(index, true)?))?))
    }

    /// Sends a packet (from its IP header on, where the interface has no link header).
    ///
    /// # Errors
    /// `InvalidInput` when the kernel itself refuses such a header.
    pub fn send(&self, virtio: Virtio, packet: &[u8]) -> std::io::Result<()> {
        self.0.send(&[&virtio.encode(), packet].concat())
    }

    /// The next packet of either direction with its virtio header, or `None` after `limit`.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn receive(&self, limit: Duration) -> Result<Option<(Virtio, Vec<u8>)>> {
        let mut buffer = vec![0; PACKET_MAX + VIRTIO_LEN];
        let len = match self.0.recv(&mut buffer, limit) {
            Ok(len) => len.min(buffer.len()),
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let (head, packet) = buffer[..len].split_first_chunk().context("a short packet")?;
        Ok(Some((Virtio::decode(head), packet.to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let virtio =
            Virtio { flags: 1, gso_type: 4, gso_size: 1340, csum_start: 40, ..Virtio::default() };
        assert_eq!(Virtio::decode(&virtio.encode()), virtio);
    }
}
