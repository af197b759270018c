//! A checked packet: an inner packet with offload fields that are true of it.
//!
//! The virtio header of a container and the metadata of a peer are claims. A container with
//! `CAP_NET_RAW` can make its TUN emit any, for example a checksum field that lies on a port, to
//! be overwritten behind the policy check. So the claims are compared with what the packet itself
//! says, and only the few combinations of an honest kernel pass.

use crate::{
    Metadata, checksum,
    inner::{Fragment, Inner, InnerError, Version, protocol},
    metadata::CHUNKS_MAX,
    virtio::{self, VirtioHeader},
};

/// Most segments of a superpacket that a container may send: what `UDP_SEGMENT` allows since
/// Linux 6.9 (`UDP_MAX_SEGMENTS`); TCP is held to 64 by the device's `gso_max_segs`. Beyond it, one
/// read could cost thousands of datagrams.
pub const SEGMENTS_MAX: usize = 128;

/// Longest IP and transport header of a superpacket, in bytes: IPv4 with all options and TCP with
/// all options is 120, IPv6 with TCP 100; the rest is room for extension headers. Every datagram
/// of the superpacket repeats it.
pub const GSO_HEADER_MAX: usize = 192;

/// Why a packet with its offload fields is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The IP header cannot be read.
    #[error("inner packet: {0}")]
    Inner(#[from] InnerError),
    /// The IP or UDP length differs from the real one.
    #[error("length field differs from the real length")]
    Length,
    /// Checksum fields that no honest kernel gives.
    #[error("checksum offload fields do not fit the packet")]
    Checksum,
    /// Segmentation fields that no honest kernel gives.
    #[error("segmentation offload fields do not fit the packet")]
    Segmentation,
    /// More than [`SEGMENTS_MAX`] segments.
    #[error("more than {SEGMENTS_MAX} segments")]
    Segments,
}

/// How the segments of a superpacket are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// Payload bytes of each segment but the last, which has 1 to `size`.
    pub size: u16,
    /// Bytes of IP and transport header, which every segment repeats.
    pub header_len: u16,
    /// TCP with CWR set: only the first segment keeps it.
    pub ecn: bool,
}

/// What the kernel is still to do to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Nothing.
    None,
    /// Fill the TCP or UDP checksum.
    Checksum,
    /// Segment and fill the checksums.
    Gso(Gso),
}

/// An inner packet and offload fields that were checked against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The IP header.
    pub inner: Inner,
    /// What is left to do; fits the packet.
    pub offload: Offload,
}

impl Frame {
    /// Checks a packet that a container sent. A checksum that is left to do at a place other than
    /// the transport header's (a VXLAN in the container) is made here, *before* the header is
    /// read, so that nothing changes behind the policy check.
    ///
    /// # Errors
    /// [`FrameError`]; the packet is to be dropped.
    pub fn from_container(claim: VirtioHeader, packet: &mut [u8]) -> Result<Self, FrameError> {
        if claim.flags & !(virtio::NEEDS_CSUM | virtio::DATA_VALID) != 0 {
            return Err(FrameError::Checksum);
        }
        let inner = parse_whole(packet)?;
        let needs_checksum = claim.flags & virtio::NEEDS_CSUM != 0;
        if claim.gso_type == virtio::GSO_NONE {
            if !needs_checksum {
                return Ok(Self { inner, offload: Offload::None });
            }
            if checksum_is_canonical(&claim, &inner, packet) {
                return Ok(Self { inner, offload: Offload::Checksum });
            }
            complete_checksum(&claim, packet)?;
            return Ok(Self { inner: parse_whole(packet)?, offload: Offload::None });
        }
        if !needs_checksum || !checksum_is_canonical(&claim, &inner, packet) {
            return Err(FrameError::Checksum);
        }
        Self::segmented(&claim, inner, packet)
    }

    /// Checks a whole packet from a peer.
    ///
    /// # Errors
    /// [`FrameError`]; the packet is to be dropped.
    pub fn from_peer(metadata: &Metadata, packet: &[u8]) -> Result<Self, FrameError> {
        let claim = &metadata.virtio;
        if claim.gso_type != virtio::GSO_NONE || metadata.count != 1 || claim.hdr_len != 0 {
            return Err(FrameError::Segmentation);
        }
        let inner = parse_whole(packet)?;
        match claim.flags {
            0 => Ok(Self { inner, offload: Offload::None }),
            virtio::NEEDS_CSUM if checksum_is_canonical(claim, &inner, packet) => {
                Ok(Self { inner, offload: Offload::Checksum })
            }
            _ => Err(FrameError::Checksum),
        }
    }

    /// Checks one chunk of a superpacket from a peer: `header` is the superpacket's IP and
    /// transport header, `payload_len` the bytes of this chunk.
    ///
    /// # Errors
    /// [`FrameError`]; the chunk is to be dropped.
    pub fn from_chunk(
        metadata: &Metadata,
        header: &[u8],
        payload_len: usize,
    ) -> Result<Self, FrameError> {
        let claim = &metadata.virtio;
        let inner = Inner::parse(header)?;
        if claim.flags != virtio::NEEDS_CSUM || !checksum_is_canonical(claim, &inner, header) {
            return Err(FrameError::Checksum);
        }
        let frame = Self::segmented(claim, inner, header)?;
        let Offload::Gso(gso) = frame.offload else {
            return Err(FrameError::Segmentation);
        };
        if usize::from(gso.header_len) != header.len() {
            return Err(FrameError::Segmentation);
        }
        let total = usize::from(inner.length - gso.header_len);
        let size = usize::from(gso.size);
        if total.div_ceil(size) != usize::from(metadata.count) {
            return Err(FrameError::Segmentation);
        }
        let is_last = metadata.chunk + 1 == metadata.count;
        let expected = if is_last { total - size * usize::from(metadata.chunk) } else { size };
        if payload_len != expected {
            return Err(FrameError::Length);
        }
        Ok(frame)
    }

    /// Checks segmentation fields; `bytes` holds at least the headers of a packet whose checksum
    /// fields are canonical.
    fn segmented(claim: &VirtioHeader, inner: Inner, bytes: &[u8]) -> Result<Self, FrameError> {
        let ecn = claim.gso_type & virtio::GSO_ECN != 0;
        let fits = match claim.gso_type & !virtio::GSO_ECN {
            virtio::GSO_TCPV4 => inner.version == Version::V4 && inner.protocol == protocol::TCP,
            virtio::GSO_TCPV6 => inner.version == Version::V6 && inner.protocol == protocol::TCP,
            virtio::GSO_UDP_L4 => inner.protocol == protocol::UDP && !ecn,
            _ => false,
        };
        if !fits || claim.gso_size == 0 {
            return Err(FrameError::Segmentation);
        }
        let header_len = header_len(&inner, bytes).ok_or(FrameError::Segmentation)?;
        if usize::from(header_len) > GSO_HEADER_MAX {
            return Err(FrameError::Segmentation);
        }
        let payload_len = inner.length.checked_sub(header_len).ok_or(FrameError::Length)?;
        if payload_len <= claim.gso_size {
            return if payload_len == 0 {
                Err(FrameError::Segmentation)
            } else {
                Ok(Self { inner, offload: Offload::Checksum })
            };
        }
        if usize::from(payload_len.div_ceil(claim.gso_size)) > SEGMENTS_MAX {
            return Err(FrameError::Segments);
        }
        let gso = Gso { size: claim.gso_size, header_len, ecn };
        Ok(Self { inner, offload: Offload::Gso(gso) })
    }

    /// Where the transport checksum stands, from the transport header; only TCP and UDP have
    /// offloads.
    #[must_use]
    pub fn checksum_offset(&self) -> u16 {
        checksum_offset(self.inner.protocol).unwrap_or(0)
    }

    /// The offload fields as the kernel and a peer take them. `hdr_len` is set for superpackets
    /// only.
    #[must_use]
    pub fn virtio(&self) -> VirtioHeader {
        let checksum = VirtioHeader {
            flags: virtio::NEEDS_CSUM,
            csum_start: self.inner.transport,
            csum_offset: self.checksum_offset(),
            ..VirtioHeader::default()
        };
        match self.offload {
            Offload::None => VirtioHeader::default(),
            Offload::Checksum => checksum,
            Offload::Gso(gso) => VirtioHeader {
                gso_type: self.gso_type(gso.ecn),
                gso_size: gso.size,
                hdr_len: gso.header_len,
                ..checksum
            },
        }
    }

    fn gso_type(&self, ecn: bool) -> u8 {
        match (self.inner.protocol, self.inner.version) {
            (protocol::UDP, _) => virtio::GSO_UDP_L4,
            (_, Version::V4) => virtio::GSO_TCPV4 | if ecn { virtio::GSO_ECN } else { 0 },
            (_, Version::V6) => virtio::GSO_TCPV6 | if ecn { virtio::GSO_ECN } else { 0 },
        }
    }

    /// How many datagrams the packet needs, each with at most `gso.size` bytes of payload.
    #[must_use]
    pub fn segments(&self) -> usize {
        match self.offload {
            Offload::Gso(gso) => {
                usize::from((self.inner.length - gso.header_len).div_ceil(gso.size))
            }
            _ => 1,
        }
    }
}

const _: () = assert!(SEGMENTS_MAX <= 2 * CHUNKS_MAX as usize);

fn parse_whole(packet: &[u8]) -> Result<Inner, FrameError> {
    let inner = Inner::parse(packet)?;
    if usize::from(inner.length) != packet.len() {
        return Err(FrameError::Length);
    }
    Ok(inner)
}

fn checksum_offset(protocol: u8) -> Option<u16> {
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        _ => None,
    }
}

/// Whether the checksum that is left to do is the TCP or UDP checksum of this very packet, which
/// is whole, holds its transport header and, for UDP, states its true length.
fn checksum_is_canonical(claim: &VirtioHeader, inner: &Inner, bytes: &[u8]) -> bool {
    let at = usize::from(inner.transport);
    let header_fits = match inner.protocol {
        protocol::TCP => bytes.len() >= at + 20 && inner.length >= inner.transport + 20,
        protocol::UDP => {
            bytes
                .get(at + 4..at + 6)
                .is_some_and(|l| u16::from_be_bytes([l[0], l[1]]) == inner.length - inner.transport)
                && bytes.len() >= at + 8
                && inner.length >= inner.transport + 8
        }
        _ => false,
    };
    header_fits
        && inner.fragment == Fragment::Whole
        && claim.csum_start == inner.transport
        && Some(claim.csum_offset) == checksum_offset(inner.protocol)
}

fn header_len(inner: &Inner, bytes: &[u8]) -> Option<u16> {
    let transport_len = match inner.protocol {
        protocol::TCP => u16::from(bytes.get(usize::from(inner.transport) + 12)? >> 4) * 4,
        _ => 8,
    };
    let whole = inner.transport + transport_len;
    (transport_len >= checksum_offset(inner.protocol)? + 2 && bytes.len() >= usize::from(whole))
        .then_some(whole)
}

/// Does what the kernel would have done: sums from `csum_start` to the end and stores the
/// complement. A result of 0 is stored as it is, as the kernel's `skb_checksum_help` does except
/// for UDP, where 0 means *none*; storing `0xffff` is right for both.
fn complete_checksum(claim: &VirtioHeader, packet: &mut [u8]) -> Result<(), FrameError> {
    let start = usize::from(claim.csum_start);
    let covered = packet.get(start..).ok_or(FrameError::Checksum)?;
    let at = start + usize::from(claim.csum_offset);
    if at + 2 > packet.len() {
        return Err(FrameError::Checksum);
    }
    let check = match checksum::internet(covered) {
        0 => 0xffff,
        check => check,
    };
    packet[at..at + 2].copy_from_slice(&check.to_be_bytes());
    Ok(())
}

#[cfg(test)]
#[path = "frame/tests.rs"]
mod tests;
