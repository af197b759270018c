//! Reading the IP header of an inner packet, as far as the dataplane must know it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Ecn, ecn_of};

/// IP protocol numbers (IANA) that the dataplane treats by name.
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200 section 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
}

/// Most IPv6 extension headers that are followed. RFC 8200 recommends at most seven kinds, each
/// once but for one; a packet with more is dropped, so that no packet costs much to read.
const EXTENSIONS_MAX: usize = 8;

/// IP version of an inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether a packet is a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet.
    Whole,
    /// The first fragment: has the transport header.
    First,
    /// A later fragment: has no transport header.
    Later,
}

/// Why bytes are no IP packet that the overlay carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InnerError {
    /// The bytes end inside a header.
    #[error("ends inside a header")]
    Short,
    /// Neither IPv4 nor IPv6, or a header length below the minimum.
    #[error("not IPv4 or IPv6")]
    Version,
    /// The length in the header is shorter than the header, or an IPv6 jumbogram.
    #[error("impossible length field")]
    Length,
    /// More than eight IPv6 extension headers.
    #[error("too many extension headers")]
    Extensions,
}

/// What the dataplane knows of an inner packet. All of it is the sender's claim except what a
/// [`crate::Frame`] has checked against the real bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// IP version.
    pub version: Version,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol at `transport`: the last one reached behind IPv6 extension headers.
    pub protocol: u8,
    /// Offset of the transport header from the packet's start.
    pub transport: u16,
    /// Length of the whole packet as the IP header has it.
    pub length: u16,
    /// Fragment or whole.
    pub fragment: Fragment,
    /// ECN bits.
    pub ecn: Ecn,
}

impl Inner {
    /// Reads the IP header at the start of `bytes`, which need not hold the whole packet.
    ///
    /// # Errors
    /// [`InnerError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InnerError> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => parse_v4(bytes),
            Some(6) => parse_v6(bytes),
            Some(_) => Err(InnerError::Version),
            None => Err(InnerError::Short),
        }
    }
}

fn parse_v4(bytes: &[u8]) -> Result<Inner, InnerError> {
    let head = bytes.first_chunk::<20>().ok_or(InnerError::Short)?;
    let header_len = u16::from(head[0] & 0x0f) * 4;
    if header_len < 20 {
        return Err(InnerError::Version);
    }
    let length = u16::from_be_bytes([head[2], head[3]]);
    if length < header_len {
        return Err(InnerError::Length);
    }
    if bytes.len() < usize::from(header_len) {
        return Err(InnerError::Short);
    }
    let fragment_field = u16::from_be_bytes([head[6], head[7]]);
    let fragment = match (fragment_field & 0x1fff, fragment_field & 0x2000) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    Ok(Inner {
        version: Version::V4,
        source: Ipv4Addr::new(head[12], head[13], head[14], head[15]).into(),
        destination: Ipv4Addr::new(head[16], head[17], head[18], head[19]).into(),
        protocol: head[9],
        transport: header_len,
        length,
        fragment,
        ecn: ecn_of(head, Version::V4),
    })
}

fn parse_v6(bytes: &[u8]) -> Result<Inner, InnerError> {
    let (head, _) = bytes.split_first_chunk::<40>().ok_or(InnerError::Short)?;
    let payload_len = u16::from_be_bytes([head[4], head[5]]);
    // A payload length of 0 is a jumbogram (RFC 2675) or an empty packet; neither is carried.
    let length = match payload_len.checked_add(40) {
        Some(length) if payload_len > 0 => length,
        _ => return Err(InnerError::Length),
    };
    let address = |at: usize| -> Result<IpAddr, InnerError> {
        let octets = head[at..].first_chunk::<16>().ok_or(InnerError::Short)?;
        Ok(Ipv6Addr::from(*octets).into())
    };
    let walk = walk_extensions(bytes, head[6])?;
    if length < walk.transport {
        return Err(InnerError::Length);
    }
    Ok(Inner {
        version: Version::V6,
        source: address(8)?,
        destination: address(24)?,
        protocol: walk.protocol,
        transport: walk.transport,
        length,
        fragment: walk.fragment,
        ecn: ecn_of(head, Version::V6),
    })
}

struct Walk {
    protocol: u8,
    transport: u16,
    fragment: Fragment,
}

fn walk_extensions(bytes: &[u8], first: u8) -> Result<Walk, InnerError> {
    let mut walk = Walk { protocol: first, transport: 40, fragment: Fragment::Whole };
    for _ in 0..=EXTENSIONS_MAX {
        let at = usize::from(walk.transport);
        let extension_len = match walk.protocol {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                let len = bytes.get(at + 1).ok_or(InnerError::Short)?;
                (u16::from(*len) + 1) * 8
            }
            protocol::AUTHENTICATION => {
                let len = bytes.get(at + 1).ok_or(InnerError::Short)?;
                (u16::from(*len) + 2) * 4
            }
            protocol::FRAGMENT => {
                let field = bytes.get(at + 2..at + 4).ok_or(InnerError::Short)?;
                let field = u16::from_be_bytes([field[0], field[1]]);
                walk.fragment = match (field & 0xfff8, field & 1) {
                    // A whole packet, unless an earlier header has said otherwise.
                    (0, 0) => walk.fragment,
                    (0, _) => Fragment::First,
                    _ => Fragment::Later,
                };
                8
            }
            _ => return Ok(walk),
        };
        let is_fragment_header = walk.protocol == protocol::FRAGMENT;
        walk.protocol = *bytes.get(at).ok_or(InnerError::Short)?;
        walk.transport = walk.transport.checked_add(extension_len).ok_or(InnerError::Length)?;
        if bytes.len() < usize::from(walk.transport) {
            return Err(InnerError::Short);
        }
        if is_fragment_header && walk.fragment == Fragment::Later {
            return Ok(walk);
        }
    }
    Err(InnerError::Extensions)
}

#[cfg(test)]
#[path = "inner/tests.rs"]
mod tests;
