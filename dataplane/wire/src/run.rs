//! Headers of packets that are made of a part of a superpacket's chunks.
//!
//! When datagrams are lost, each contiguous run of chunks that arrived becomes a valid packet of
//! its own, exactly as if the sender's kernel had segmented the superpacket and a receiver's had
//! merged the segments again. A sender cuts a superpacket with too many chunks in the same way.

use crate::{
    checksum,
    frame::{Frame, Gso, Offload},
    inner::{Version, protocol},
};

const TCP_FIN_PSH: u8 = 0x01 | 0x08;
const TCP_CWR: u8 = 0x80;

/// A contiguous part of a superpacket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Index of its first chunk.
    pub first: u16,
    /// How many chunks, at least 1.
    pub chunks: u16,
    /// Bytes of their payloads together.
    pub payload_len: u16,
    /// Whether the superpacket's last chunk is in it.
    pub last: bool,
}

/// Rewrites `header`, the superpacket's IP and transport header, to that of the run, and gives the
/// frame that describes the new packet: lengths, IPv4 identification and checksum, TCP sequence
/// number and flags, the pseudo header's sum.
///
/// `header` must be the `gso.header_len` bytes that `frame` was made from.
pub fn apply(frame: &Frame, gso: &Gso, run: &Run, header: &mut [u8]) -> Frame {
    let length = gso.header_len + run.payload_len;
    let mut inner = frame.inner;
    inner.length = length;
    let transport = usize::from(inner.transport);
    match inner.version {
        Version::V4 => {
            header[2..4].copy_from_slice(&length.to_be_bytes());
            let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(run.first);
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[10..12].fill(0);
            let check = checksum::internet(&header[..transport]);
            header[10..12].copy_from_slice(&check.to_be_bytes());
        }
        Version::V6 => header[4..6].copy_from_slice(&(length - 40).to_be_bytes()),
    }
    let segment_len = length - inner.transport;
    if inner.protocol == protocol::TCP {
        rewrite_tcp(&mut header[transport..], gso, run);
    } else {
        header[transport + 4..transport + 6].copy_from_slice(&segment_len.to_be_bytes());
    }
    let pseudo =
        checksum::pseudo(inner.source, inner.destination, inner.protocol, segment_len.into());
    let at = transport + usize::from(frame.checksum_offset());
    header[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    let offload = if run.chunks > 1 {
        Offload::Gso(Gso { ecn: gso.ecn && run.first == 0, ..*gso })
    } else {
        Offload::Checksum
    };
    Frame { inner, offload }
}

fn rewrite_tcp(tcp: &mut [u8], gso: &Gso, run: &Run) {
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
        .wrapping_add(u32::from(run.first) * u32::from(gso.size));
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !run.last {
        tcp[13] &= !TCP_FIN_PSH;
    }
    if run.first > 0 {
        tcp[13] &= !TCP_CWR;
    }
}

impl Run {
    /// The run that is the whole superpacket.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.first == 0 && self.last
    }
}

#[cfg(test)]
#[path = "run/tests.rs"]
mod tests;
