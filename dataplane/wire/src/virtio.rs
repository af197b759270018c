//! The header that a TUN with `IFF_VNET_HDR` puts before every packet.

/// Bytes of `struct virtio_net_hdr` as the kernel's TUN uses it by default.
pub const VIRTIO_HEADER_LEN: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum at `csum_start + csum_offset` is still to be made.
pub const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`: the kernel verified the checksum already.
pub const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_NONE`.
pub const GSO_NONE: u8 = 0;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
pub const GSO_TCPV4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV6`.
pub const GSO_TCPV6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`.
pub const GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`: a TCP superpacket with CWR set.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr` (OASIS virtio 1.2, 5.1.6). As it comes from a container or a peer it is
/// a claim; [`crate::Frame`] is what remains after checking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_…` types, perhaps with [`GSO_ECN`].
    pub gso_type: u8,
    /// Length of all headers; a hint that is never believed.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where the checksummed area begins.
    pub csum_start: u16,
    /// Where the checksum stands, from `csum_start`.
    pub csum_offset: u16,
}

impl VirtioHeader {
    /// Reads the header; the TUN is set to little endian (`TUNSETVNETLE`).
    #[must_use]
    pub fn decode(bytes: &[u8; VIRTIO_HEADER_LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// Writes the header, little endian.
    #[must_use]
    pub fn encode(&self) -> [u8; VIRTIO_HEADER_LEN] {
        let mut out = [0; VIRTIO_HEADER_LEN];
        out[0] = self.flags;
        out[1] = self.gso_type;
        out[2..4].copy_from_slice(&self.hdr_len.to_le_bytes());
        out[4..6].copy_from_slice(&self.gso_size.to_le_bytes());
        out[6..8].copy_from_slice(&self.csum_start.to_le_bytes());
        out[8..10].copy_from_slice(&self.csum_offset.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bytes: [u8; VIRTIO_HEADER_LEN]) {
            prop_assert_eq!(VirtioHeader::decode(&bytes).encode(), bytes);
        }
    }
}
