//! The clear header of a datagram: what a receiver needs to find the key, and the associated data
//! of the seal.

use weft_types::{Counter, Epoch, ReceiverIndex};

/// Version of the protocol, in the upper half of a datagram's first byte.
pub const PROTOCOL_VERSION: u8 = 1;
/// Bytes of the clear header.
pub const HEADER_LEN: usize = 16;
/// Bytes of the AEAD tag at the end (RFC 5116: 128 bits).
pub const TAG_LEN: usize = 16;
/// Bytes that a datagram adds to an inner packet: header, metadata, tag.
pub const OVERHEAD: usize = HEADER_LEN + crate::METADATA_LEN + TAG_LEN;
/// The smallest datagram: an empty payload.
pub const DATAGRAM_MIN: usize = OVERHEAD;
/// The largest datagram: what UDP over IPv4 carries (65,535 − 20 − 8).
pub const DATAGRAM_MAX: usize = 65_507;

/// What a datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An inner packet or a chunk of one.
    Data = 1,
    /// A message between the two daemons, see [`crate::Control`].
    Control = 2,
}

/// Why bytes are no datagram of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than [`DATAGRAM_MIN`].
    #[error("shorter than a header, metadata and a tag")]
    Short,
    /// Not version 1, or an unknown kind.
    #[error("unknown version or kind")]
    Kind,
    /// Longer than [`DATAGRAM_MAX`].
    #[error("longer than {DATAGRAM_MAX} bytes")]
    Long,
    /// The length field differs from the datagram's real length.
    #[error("length field differs from the real length")]
    Length,
}

/// The clear header.
///
/// ```text
///  0        1        2        4                 8                               16
///  ┌────────┬────────┬────────┬─────────────────┬───────────────────────────────┐
///  │ver·kind│ epoch  │ length │ receiver index  │            counter            │
///  └────────┴────────┴────────┴─────────────────┴───────────────────────────────┘
/// ```
/// All numbers big endian. Byte 4 is the receiving worker: a classic BPF program steers by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Byte 0: protocol version (upper four bits) and kind (lower four).
    pub kind: Kind,
    /// Byte 1: the lane's epoch.
    pub epoch: Epoch,
    /// Bytes 2–3: length of the whole datagram in bytes, header and tag included.
    pub length: u16,
    /// Bytes 4–7: chosen by the receiver, names session and lane.
    pub index: ReceiverIndex,
    /// Bytes 8–15: the datagram's number on its lane.
    pub counter: Counter,
}

const _: () = assert!(1 + 1 + 2 + 4 + 8 == HEADER_LEN);

impl Header {
    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = PROTOCOL_VERSION << 4 | self.kind as u8;
        out[1] = self.epoch.0;
        out[2..4].copy_from_slice(&self.length.to_be_bytes());
        out[4..8].copy_from_slice(&self.index.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.counter.0.to_be_bytes());
        out
    }

    /// Reads the header of a whole datagram.
    ///
    /// # Errors
    /// [`HeaderError`]; nothing is known of a datagram that gives one.
    pub fn decode(datagram: &[u8]) -> Result<Self, HeaderError> {
        if datagram.len() < DATAGRAM_MIN {
            return Err(HeaderError::Short);
        }
        if datagram.len() > DATAGRAM_MAX {
            return Err(HeaderError::Long);
        }
        let (head, _) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(HeaderError::Short)?;
        let kind = match (head[0] >> 4, head[0] & 0x0f) {
            (PROTOCOL_VERSION, 1) => Kind::Data,
            (PROTOCOL_VERSION, 2) => Kind::Control,
            _ => return Err(HeaderError::Kind),
        };
        let [_, epoch, l0, l1, i0, i1, i2, i3, counter @ ..] = *head;
        let length = u16::from_be_bytes([l0, l1]);
        if usize::from(length) != datagram.len() {
            return Err(HeaderError::Length);
        }
        Ok(Self {
            kind,
            epoch: Epoch(epoch),
            length,
            index: ReceiverIndex(u32::from_be_bytes([i0, i1, i2, i3])),
            counter: Counter(u64::from_be_bytes(counter)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(kind: bool, epoch: u8, length in 44u16..2000, index: u32, counter: u64) {
            let header = Header {
                kind: if kind { Kind::Data } else { Kind::Control },
                epoch: Epoch(epoch),
                length,
                index: ReceiverIndex(index),
                counter: Counter(counter),
            };
            let mut datagram = header.encode().to_vec();
            datagram.resize(usize::from(length), 0);
            prop_assert_eq!(Header::decode(&datagram), Ok(header));
            datagram.push(0);
            prop_assert_eq!(Header::decode(&datagram), Err(HeaderError::Length));
        }
    }

    #[test]
    fn refuses_what_is_longer_than_any_datagram() {
        for (length, known) in [(65_507u16, true), (65_508, false), (u16::MAX, false)] {
            let mut datagram = vec![0; usize::from(length)];
            datagram[0] = 0x11;
            datagram[2..4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(Header::decode(&datagram).is_ok(), known, "{length} bytes");
        }
    }

    #[test]
    fn refuses_what_is_not_ours() {
        assert_eq!(Header::decode(&[0x11; 43]), Err(HeaderError::Short));
        for first in [0x01, 0x10, 0x13, 0x21, 0xff] {
            let mut datagram = [0; 44];
            datagram[0] = first;
            datagram[3] = 44;
            assert_eq!(Header::decode(&datagram), Err(HeaderError::Kind), "{first:#x}");
        }
    }
}
