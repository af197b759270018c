//! Reading packets, with every checksum, and making those that answer them.

use std::net::IpAddr;

use weft_wire::{Fragment, Inner, Version, checksum, protocol};

use super::DropReason;
use crate::server::Asker;

const HOP_LIMIT: u8 = 64;
const V4_HEADER_LEN: usize = 20;
const V6_HEADER_LEN: usize = 40;
const UDP_HEADER_LEN: usize = 8;
const TCP_HEADER_LEN: usize = 20;
const ICMP_HEADER_LEN: usize = 8;

/// Bits of a TCP header (RFC 9293 section 3.1).
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A whole packet whose IP header is as it must be.
#[derive(Debug)]
pub(super) struct Packet<'p> {
    inner: Inner,
    bytes: &'p [u8],
}

/// What of a TCP segment has to be known to refuse it or to find its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) from: u16,
    pub(super) to: u16,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    payload_len: usize,
}

impl Segment {
    /// Whether it asks for a connection.
    pub(super) fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }
}

impl<'p> Packet<'p> {
    pub(super) fn read(bytes: &'p [u8]) -> Result<Self, DropReason> {
        let inner = Inner::parse(bytes).map_err(|_| DropReason::Malformed)?;
        // What is behind the packet's end is not of it.
        let bytes = bytes.get(..usize::from(inner.length)).ok_or(DropReason::Malformed)?;
        let plain = match inner.version {
            Version::V4 => V4_HEADER_LEN,
            Version::V6 => V6_HEADER_LEN,
        };
        if usize::from(inner.transport) != plain || inner.fragment != Fragment::Whole {
            return Err(DropReason::Unusual);
        }
        if inner.version == Version::V4 && checksum::internet(&bytes[..plain]) != 0 {
            return Err(DropReason::Checksum);
        }
        Ok(Self { inner, bytes })
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn bytes(&self) -> &'p [u8] {
        self.bytes
    }

    pub(super) fn source(&self) -> IpAddr {
        self.inner.source
    }

    pub(super) fn destination(&self) -> IpAddr {
        self.inner.destination
    }

    pub(super) fn protocol(&self) -> u8 {
        self.inner.protocol
    }

    fn payload(&self) -> &'p [u8] {
        &self.bytes[usize::from(self.inner.transport)..]
    }

    fn sum(&self, covered: &[u8]) -> u16 {
        let len = u32::try_from(covered.len()).unwrap_or(u32::MAX);
        let pseudo = checksum::pseudo(self.source(), self.destination(), self.protocol(), len);
        !checksum::fold(checksum::sum(covered) + u64::from(pseudo))
    }

    /// Ports and payload of a UDP datagram (RFC 768).
    pub(super) fn udp(&self) -> Result<(u16, u16, &'p [u8]), DropReason> {
        let payload = self.payload();
        let header = payload.first_chunk::<UDP_HEADER_LEN>().ok_or(DropReason::Malformed)?;
        if usize::from(u16_at(header, 4)) != payload.len() {
            return Err(DropReason::Malformed);
        }
        // Without a checksum is allowed in IPv4 only (RFC 8200 section 8.1).
        let is_summed = u16_at(header, 6) != 0;
        let is_good = if is_summed { self.sum(payload) == 0 } else { self.source().is_ipv4() };
        if !is_good {
            return Err(DropReason::Checksum);
        }
        let from = u16_at(header, 0);
        if from == 0 {
            return Err(DropReason::Source);
        }
        Ok((from, u16_at(header, 2), &payload[UDP_HEADER_LEN..]))
    }

    /// The header of a TCP segment.
    pub(super) fn tcp(&self) -> Result<Segment, DropReason> {
        let payload = self.payload();
        let header = payload.first_chunk::<TCP_HEADER_LEN>().ok_or(DropReason::Malformed)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        let payload_len = payload.len().checked_sub(header_len).ok_or(DropReason::Malformed)?;
        if header_len < TCP_HEADER_LEN {
            return Err(DropReason::Malformed);
        }
        if self.sum(payload) != 0 {
            return Err(DropReason::Checksum);
        }
        let segment = Segment {
            from: u16_at(header, 0),
            to: u16_at(header, 2),
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            acknowledged: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            flags: header[13],
            payload_len,
        };
        if segment.from == 0 { Err(DropReason::Source) } else { Ok(segment) }
    }
}

fn u16_at<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// The reply to a ping (RFC 792, RFC 4443 section 4.2); `None` to any other ICMP message.
pub(super) fn echo_reply(packet: &Packet<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let request = packet.payload();
    if request.len() < ICMP_HEADER_LEN {
        return Err(DropReason::Malformed);
    }
    let (sum, kind, reply_kind) = match (packet.inner.version, packet.protocol()) {
        (Version::V4, protocol::ICMP) => (checksum::internet(request), 8, 0),
        (Version::V6, protocol::ICMPV6) => (packet.sum(request), 128, 129),
        _ => return Ok(None),
    };
    if sum != 0 {
        return Err(DropReason::Checksum);
    }
    if request[..2] != [kind, 0] {
        return Ok(None);
    }
    let mut reply = header(packet.destination(), packet.source(), packet.protocol(), request.len());
    reply.extend_from_slice(request);
    let at = reply.len() - request.len();
    reply[at] = reply_kind;
    reply[at + 2..at + 4].fill(0);
    let sum = match packet.inner.version {
        Version::V4 => checksum::internet(&reply[at..]),
        Version::V6 => {
            transport_sum(packet.destination(), packet.source(), protocol::ICMPV6, &reply[at..])
        }
    };
    reply[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    Ok(Some(reply))
}

/// The reset that a closed port gives (RFC 9293 section 3.10.7.1); `None` to a reset.
pub(super) fn reset(packet: &Packet<'_>, segment: &Segment) -> Option<Vec<u8>> {
    if segment.flags & RST != 0 {
        return None;
    }
    let (sequence, acknowledged, flags) = if segment.flags & ACK != 0 {
        (segment.acknowledged, 0, RST)
    } else {
        let flags = [SYN, FIN].into_iter().filter(|flag| segment.flags & flag != 0).count();
        let len = u32::try_from(segment.payload_len + flags).unwrap_or(0);
        (0, segment.sequence.wrapping_add(len), RST | ACK)
    };
    let mut tcp = [0; TCP_HEADER_LEN];
    tcp[..2].copy_from_slice(&segment.to.to_be_bytes());
    tcp[2..4].copy_from_slice(&segment.from.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    let (from, to) = (packet.destination(), packet.source());
    let sum = transport_sum(from, to, protocol::TCP, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut reply = header(from, to, protocol::TCP, tcp.len());
    reply.extend_from_slice(&tcp);
    Some(reply)
}

/// A datagram with an answer, from the address that was asked.
pub(super) fn udp(asker: &Asker, port: u16, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (asker.asked, asker.address.ip());
    let len = UDP_HEADER_LEN + payload.len();
    let mut packet = header(from, to, protocol::UDP, len);
    let at = packet.len();
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&asker.address.port().to_be_bytes());
    packet.extend_from_slice(&length_field(len));
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    let sum = match transport_sum(from, to, protocol::UDP, &packet[at..]) {
        // Zero would mean that there is none (RFC 768).
        0 => u16::MAX,
        sum => sum,
    };
    packet[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn transport_sum(from: IpAddr, to: IpAddr, protocol: u8, covered: &[u8]) -> u16 {
    let len = u32::try_from(covered.len()).unwrap_or(u32::MAX);
    let pseudo = checksum::pseudo(from, to, protocol, len);
    !checksum::fold(checksum::sum(covered) + u64::from(pseudo))
}

/// An IP header for `payload_len` bytes. IPv4 packets are never cut on their way, so need no id (RFC 6864).
fn header(from: IpAddr, to: IpAddr, protocol: u8, payload_len: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(V6_HEADER_LEN + payload_len);
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.resize(V6_HEADER_LEN, 0);
            header[0] = 0x60;
            header[4..6].copy_from_slice(&length_field(payload_len));
            header[6] = protocol;
            header[7] = HOP_LIMIT;
            header[8..24].copy_from_slice(&from.octets());
            header[24..40].copy_from_slice(&to.octets());
        }
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.resize(V4_HEADER_LEN, 0);
            header[0] = 0x45;
            header[2..4].copy_from_slice(&length_field(V4_HEADER_LEN + payload_len));
            header[6] = 0x40;
            header[8] = HOP_LIMIT;
            header[9] = protocol;
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            let sum = checksum::internet(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        // Both are of one packet, so of one family; what is empty here is no packet, and is not sent.
        _ => {}
    }
    header
}

/// Of packets that answer one that had no more, or are made of messages of a known length.
fn length_field(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}
