//! The twelve bytes at the end of every sealed payload.

use crate::virtio::{GSO_ECN, GSO_NONE, VirtioHeader};

/// Bytes of the metadata.
pub const METADATA_LEN: usize = 12;
/// Most chunks of one superpacket, the kernel's limit of segments in one GSO send that every
/// kernel has (`UDP_MAX_SEGMENTS` was 64 before Linux 6.9).
pub const CHUNKS_MAX: u8 = 64;

/// Most pieces of one packet.
pub const PIECES_MAX: u8 = 8;
/// Longest packet that is sent in pieces, bytes: longer ones no interface of ours takes.
pub const PIECED_LEN_MAX: usize = 9_216;
/// A packet that may be sent in pieces whatever it says itself, bytes: every link carries it (RFC 8200
/// section 5).
pub const ALWAYS_CARRIED_LEN: usize = 1_280;

/// Why twelve bytes are no metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Chunk index not below the count, or a count of 0 or beyond [`CHUNKS_MAX`], or [`PIECES_MAX`]
    /// for pieces.
    #[error("chunk index or count out of range")]
    Chunk,
    /// Reserved bits are set.
    #[error("unknown flag or segmentation type")]
    Unknown,
}

/// How the payload of a datagram is to be handed to the kernel, and which chunk it is.
///
/// ```text
///  0      1          2         4          6            8             10      11      12
///  ┌──────┬──────────┬─────────┬──────────┬────────────┬─────────────┬───────┬───────┐
///  │flags │ gso type │ hdr len │ gso size │ csum start │ csum offset │ chunk │ count │
///  └──────┴──────────┴─────────┴──────────┴────────────┴─────────────┴───────┴───────┘
/// ```
/// The first ten bytes are the fields of `struct virtio_net_hdr` (OASIS virtio 1.2, 5.1.6), but
/// big endian. `hdr_len` is the length of the inner header behind the payload, 0 when there is
/// none (a whole packet, or a piece of one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Checksum and segmentation fields; never believed, see [`crate::Frame`].
    pub virtio: VirtioHeader,
    /// Which chunk of the superpacket, or piece of the packet, this is, from 0.
    pub chunk: u8,
    /// How many chunks the superpacket has, 1 to [`CHUNKS_MAX`], or pieces the packet, to
    /// [`PIECES_MAX`].
    pub count: u8,
}

impl Metadata {
    /// Whether the datagram holds a piece of a packet that is no superpacket. All pieces but the last
    /// have `gso_size` bytes.
    #[must_use]
    pub const fn is_piece(&self) -> bool {
        self.virtio.gso_type == GSO_NONE && self.count > 1
    }

    /// Writes the metadata.
    #[must_use]
    pub fn encode(&self) -> [u8; METADATA_LEN] {
        let v = &self.virtio;
        let mut out = [0; METADATA_LEN];
        out[0] = v.flags;
        out[1] = v.gso_type;
        out[2..4].copy_from_slice(&v.hdr_len.to_be_bytes());
        out[4..6].copy_from_slice(&v.gso_size.to_be_bytes());
        out[6..8].copy_from_slice(&v.csum_start.to_be_bytes());
        out[8..10].copy_from_slice(&v.csum_offset.to_be_bytes());
        out[10] = self.chunk;
        out[11] = self.count;
        out
    }

    /// Reads metadata and checks what can be checked without the packet.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn decode(bytes: &[u8; METADATA_LEN]) -> Result<Self, MetadataError> {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, chunk, count] = *bytes;
        if flags > 1 || !matches!(gso_type & !GSO_ECN, 0 | 1 | 4 | 5) {
            return Err(MetadataError::Unknown);
        }
        let count_max = if gso_type == GSO_NONE { PIECES_MAX } else { CHUNKS_MAX };
        if chunk >= count || count > count_max {
            return Err(MetadataError::Chunk);
        }
        let virtio = VirtioHeader {
            flags,
            gso_type,
            hdr_len: u16::from_be_bytes([h0, h1]),
            gso_size: u16::from_be_bytes([g0, g1]),
            csum_start: u16::from_be_bytes([s0, s1]),
            csum_offset: u16::from_be_bytes([o0, o1]),
        };
        Ok(Self { virtio, chunk, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_then_encode_is_the_identity(bytes: [u8; METADATA_LEN]) {
            if let Ok(metadata) = Metadata::decode(&bytes) {
                prop_assert_eq!(metadata.encode(), bytes);
                prop_assert!(metadata.chunk < metadata.count && metadata.count <= CHUNKS_MAX);
            }
        }
    }

    #[test]
    fn refuses_impossible_chunks_and_unknown_types() {
        let mut bytes = [0; METADATA_LEN];
        assert_eq!(Metadata::decode(&bytes), Err(MetadataError::Chunk));
        for (gso_type, max) in [(0, 8), (1, 64)] {
            (bytes[1], bytes[10], bytes[11]) = (gso_type, 0, max + 1);
            assert_eq!(Metadata::decode(&bytes), Err(MetadataError::Chunk));
            bytes[11] = max;
            bytes[10] = max - 1;
            let metadata = Metadata::decode(&bytes).unwrap();
            assert_eq!(metadata.is_piece(), gso_type == 0);
        }
        bytes[11] = 1;
        bytes[10] = 0;
        assert!(!Metadata::decode(&bytes).unwrap().is_piece());
        for gso_type in [2, 3, 6, 0x41] {
            bytes[1] = gso_type;
            assert_eq!(Metadata::decode(&bytes), Err(MetadataError::Unknown), "{gso_type}");
        }
        bytes[1] = 0;
        bytes[0] = 2;
        assert_eq!(Metadata::decode(&bytes), Err(MetadataError::Unknown));
    }
}
