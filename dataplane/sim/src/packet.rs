//! Inner packets, made and cut by the plainest means: from their fields, byte by byte.
//!
//! Nothing here uses `weft-wire` or `weft-proto`: it is the other opinion about what a packet is,
//! what a kernel makes of a superpacket, and what the checksums are.

use std::net::IpAddr;

/// Bytes of `struct virtio_net_hdr`.
pub const VIRTIO_LEN: usize = 10;
/// TCP flags by their bits (RFC 9293 section 3.1, RFC 3168).
pub mod tcp {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Source and destination port; for ICMP identifier and sequence number.
    pub ports: (u16, u16),
}

/// What stands behind the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP with a sequence number, flags and so many bytes of options (a multiple of four).
    Tcp {
        /// Sequence number of the first payload byte.
        sequence: u32,
        /// See [`tcp`].
        flags: u8,
        /// Bytes of options, all of them *no operation*.
        options: u8,
    },
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 echo request.
    Echo,
    /// Another protocol, nothing but payload.
    Other(u8),
}

/// A packet by its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Addresses and ports.
    pub flow: Flow,
    /// The transport header.
    pub transport: Transport,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 *don't fragment*.
    pub dont_fragment: bool,
    /// ECN bits, 0 to 3.
    pub ecn: u8,
    /// What the packet carries, at most 65,000 bytes.
    pub payload: Vec<u8>,
}

/// What stands in a packet's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// The checksum.
    Full,
    /// The pseudo header's sum: the rest is left to do.
    Pseudo,
    /// Nothing: UDP without a checksum.
    Zero,
}

impl Packet {
    /// A packet with *don't fragment* set, identification 0, without ECN.
    #[must_use]
    pub fn new(flow: Flow, transport: Transport, payload: Vec<u8>) -> Self {
        Self { flow, transport, id: 0, dont_fragment: true, ecn: 0, payload }
    }

    /// Length of the IP header.
    #[must_use]
    pub fn ip_len(&self) -> usize {
        if self.flow.source.is_ipv4() { 20 } else { 40 }
    }

    /// Length of IP and transport header.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.ip_len()
            + match self.transport {
                Transport::Tcp { options, .. } => 20 + usize::from(options),
                Transport::Udp | Transport::Echo => 8,
                Transport::Other(_) => 0,
            }
    }

    /// The packet's bytes.
    #[must_use]
    pub fn bytes(&self, sum: Sum) -> Vec<u8> {
        let mut segment = self.transport_header();
        segment.extend_from_slice(&self.payload);
        if let Some(at) = self.checksum_at() {
            let pseudo = pseudo(self.flow.source, self.flow.destination, self.protocol());
            let with_len = add(pseudo, low16(segment.len()));
            let value = match sum {
                Sum::Zero => 0,
                Sum::Pseudo => with_len,
                Sum::Full => {
                    let base = match (self.transport, self.flow.source) {
                        // ICMP for IPv4 has no pseudo header.
                        (Transport::Echo, IpAddr::V4(_)) => 0,
                        _ => with_len,
                    };
                    finished(base, &segment, self.transport == Transport::Udp)
                }
            };
            segment[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        let mut out = self.ip_header(segment.len());
        out.extend_from_slice(&segment);
        out
    }

    /// As a TUN gives the packet when nothing is left to do.
    #[must_use]
    pub fn complete(&self) -> Vec<u8> {
        let mut out = vec![0; VIRTIO_LEN];
        out.extend_from_slice(&self.bytes(Sum::Full));
        out
    }

    /// As a TUN gives the packet when its checksum is left to do.
    #[must_use]
    pub fn unfinished(&self) -> Vec<u8> {
        let mut out = self.virtio(0, 0, 0).to_vec();
        out.extend_from_slice(&self.bytes(Sum::Pseudo));
        out
    }

    /// As a TUN gives a superpacket with segments of `gso_size` bytes.
    #[must_use]
    pub fn superpacket(&self, gso_size: u16) -> Vec<u8> {
        let is_cwr =
            matches!(self.transport, Transport::Tcp { flags, .. } if flags & tcp::CWR != 0);
        let gso_type = match (self.transport, self.flow.source) {
            (Transport::Udp, _) => GSO_UDP,
            (_, IpAddr::V4(_)) => GSO_TCPV4,
            (_, IpAddr::V6(_)) => GSO_TCPV6,
        };
        let ecn = if is_cwr { GSO_ECN } else { 0 };
        let mut out = self.virtio(gso_type | ecn, gso_size, low16(self.header_len())).to_vec();
        out.extend_from_slice(&self.bytes(Sum::Pseudo));
        out
    }

    /// The part of a superpacket that chunks `first..first + count` make, as a packet by itself:
    /// what a kernel would have merged out of these segments.
    #[must_use]
    pub fn part(&self, gso_size: u16, first: usize, count: usize) -> Self {
        let size = usize::from(gso_size);
        let end = (size * (first + count)).min(self.payload.len());
        let is_last = end == self.payload.len();
        let mut part = self.clone();
        part.payload = self.payload[size * first..end].to_vec();
        part.id = self.id.wrapping_add(low16(first));
        if let Transport::Tcp { sequence, flags, .. } = &mut part.transport {
            *sequence = sequence.wrapping_add(low32(size * first));
            if !is_last {
                *flags &= !(tcp::PSH | tcp::FIN);
            }
            if first > 0 {
                *flags &= !tcp::CWR;
            }
        }
        part
    }

    /// As a TUN takes or gives it: a superpacket when it has more than one segment.
    #[must_use]
    pub fn offloaded(&self, gso_size: u16) -> Vec<u8> {
        if self.payload.len() > usize::from(gso_size) {
            self.superpacket(gso_size)
        } else {
            self.unfinished()
        }
    }

    fn protocol(&self) -> u8 {
        match (self.transport, self.flow.source) {
            (Transport::Tcp { .. }, _) => 6,
            (Transport::Udp, _) => 17,
            (Transport::Echo, IpAddr::V4(_)) => 1,
            (Transport::Echo, IpAddr::V6(_)) => 58,
            (Transport::Other(protocol), _) => protocol,
        }
    }

    fn checksum_at(&self) -> Option<usize> {
        match self.transport {
            Transport::Tcp { .. } => Some(16),
            Transport::Udp => Some(6),
            Transport::Echo => Some(2),
            Transport::Other(_) => None,
        }
    }

    fn virtio(&self, gso_type: u8, gso_size: u16, header_len: u16) -> [u8; VIRTIO_LEN] {
        let mut out = [0; VIRTIO_LEN];
        out[0] = NEEDS_CSUM;
        out[1] = gso_type;
        out[2..4].copy_from_slice(&header_len.to_ne_bytes());
        out[4..6].copy_from_slice(&gso_size.to_ne_bytes());
        out[6..8].copy_from_slice(&low16(self.ip_len()).to_ne_bytes());
        let offset = self.checksum_at().unwrap_or(0);
        out[8..10].copy_from_slice(&low16(offset).to_ne_bytes());
        out
    }

    fn ip_header(&self, behind: usize) -> Vec<u8> {
        match (self.flow.source, self.flow.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut out = vec![0x45, self.ecn];
                out.extend(low16(20 + behind).to_be_bytes());
                out.extend(self.id.to_be_bytes());
                out.extend(if self.dont_fragment { [0x40, 0] } else { [0, 0] });
                out.extend([64, self.protocol(), 0, 0]);
                out.extend(source.octets());
                out.extend(destination.octets());
                let check = !sum(0, &out);
                out[10..12].copy_from_slice(&check.to_be_bytes());
                out
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut out = vec![0x60, self.ecn << 4, 0, 0];
                out.extend(low16(behind).to_be_bytes());
                out.extend([self.protocol(), 64]);
                out.extend(source.octets());
                out.extend(destination.octets());
                out
            }
            _ => panic!("a flow is of one family"),
        }
    }

    fn transport_header(&self) -> Vec<u8> {
        let (a, b) = (self.flow.ports.0.to_be_bytes(), self.flow.ports.1.to_be_bytes());
        match self.transport {
            Transport::Tcp { sequence, flags, options } => {
                let mut out = vec![a[0], a[1], b[0], b[1]];
                out.extend(sequence.to_be_bytes());
                out.extend([0, 0, 0, 7, (5 + options / 4) << 4, flags, 1, 0, 0, 0, 0, 0]);
                out.resize(20 + usize::from(options), 1);
                out
            }
            Transport::Udp => {
                let len = low16(8 + self.payload.len()).to_be_bytes();
                vec![a[0], a[1], b[0], b[1], len[0], len[1], 0, 0]
            }
            Transport::Echo => {
                let kind = if self.flow.source.is_ipv4() { 8 } else { 128 };
                vec![kind, 0, 0, 0, a[0], a[1], b[0], b[1]]
            }
            Transport::Other(_) => Vec::new(),
        }
    }
}

fn low16(n: usize) -> u16 {
    u16::try_from(n).expect("below 2^16")
}

fn low32(n: usize) -> u32 {
    u32::try_from(n).expect("below 2^32")
}

/// RFC 1071, one word at a time.
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

fn sum(start: u16, bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(start, |total, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        add(total, u16::from_be_bytes([pair[0], low]))
    })
}

fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let addresses = sum(sum(0, &octets(source)), &octets(destination));
    add(addresses, u16::from(protocol))
}

fn finished(base: u16, bytes: &[u8], zero_means_none: bool) -> u16 {
    match !sum(base, bytes) {
        0 if zero_means_none => 0xffff,
        check => check,
    }
}

/// What a kernel makes of a packet that is written to a TUN with its virtio header: segments it
/// and finishes the checksums.
///
/// # Panics
/// When the packet is not one that a kernel would take; the simulator only asks for those that
/// the engine delivered.
#[must_use]
pub fn kernel_output(data: &[u8]) -> Vec<Vec<u8>> {
    let (head, packet) = data.split_at(VIRTIO_LEN);
    let field = |at: usize| usize::from(u16::from_ne_bytes([head[at], head[at + 1]]));
    let (gso_size, start, offset) = (field(4), field(6), field(8));
    if head[1] == 0 {
        let mut packet = packet.to_vec();
        if head[0] & NEEDS_CSUM != 0 {
            let at = start + offset;
            let check = finished(0, &packet[start..], offset == 6);
            packet[at..at + 2].copy_from_slice(&check.to_be_bytes());
        }
        return vec![packet];
    }
    assert_eq!(head[0], NEEDS_CSUM, "segmentation needs checksums");
    let is_tcp = head[1] & !GSO_ECN != GSO_UDP;
    let transport_len = if is_tcp { usize::from(packet[start + 12] >> 4) * 4 } else { 8 };
    let (header, payload) = packet.split_at(start + transport_len);
    let count = payload.len().div_ceil(gso_size);
    let cut = |(i, segment): (usize, &[u8])| {
        let mut out = header.to_vec();
        out.extend_from_slice(segment);
        finish_segment(&mut out, start, is_tcp, i, gso_size, i + 1 == count);
        out
    };
    payload.chunks(gso_size).enumerate().map(cut).collect()
}

fn finish_segment(
    out: &mut [u8],
    start: usize,
    is_tcp: bool,
    i: usize,
    size: usize,
    is_last: bool,
) {
    let total = out.len();
    if is_tcp {
        let before = u32::from_be_bytes(out[start + 4..start + 8].try_into().expect("four bytes"));
        let sequence = before.wrapping_add(low32(i * size));
        out[start + 4..start + 8].copy_from_slice(&sequence.to_be_bytes());
        if !is_last {
            out[start + 13] &= !(tcp::PSH | tcp::FIN);
        }
        if i > 0 {
            out[start + 13] &= !tcp::CWR;
        }
    } else {
        out[start + 4..start + 6].copy_from_slice(&low16(total - start).to_be_bytes());
    }
    let octets = if out[0] >> 4 == 4 {
        out[2..4].copy_from_slice(&low16(total).to_be_bytes());
        let id = u16::from_be_bytes([out[4], out[5]]).wrapping_add(low16(i));
        out[4..6].copy_from_slice(&id.to_be_bytes());
        refresh_ipv4(out);
        12..20
    } else {
        out[4..6].copy_from_slice(&low16(total - 40).to_be_bytes());
        8..40
    };
    let protocol = if is_tcp { 6 } else { 17 };
    let pseudo = add(add(sum(0, &out[octets]), protocol), low16(total - start));
    let at = start + if is_tcp { 16 } else { 6 };
    out[at..at + 2].fill(0);
    let check = finished(pseudo, &out[start..], !is_tcp);
    out[at..at + 2].copy_from_slice(&check.to_be_bytes());
}

/// The Internet checksum of `bytes` (RFC 1071).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(0, bytes)
}

fn refresh_ipv4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let len = usize::from(packet[0] & 0x0f) * 4;
    let check = checksum(&packet[..len]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
}

/// Takes away what may differ between a packet sent and the same packet delivered: the IPv4
/// identification of UDP packets that must not be fragmented, which means nothing (RFC 6864
/// section 4) and is made anew when a kernel cuts what was merged.
pub fn forget_meaningless_id(packet: &mut [u8]) {
    let is_unfragmentable_udp = packet[0] >> 4 == 4 && packet[9] == 17 && packet[6] & 0x40 != 0;
    if is_unfragmentable_udp {
        packet[4..6].fill(0);
        refresh_ipv4(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source: &str, destination: &str) -> Flow {
        Flow {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ports: (1000, 2000),
        }
    }

    /// Two ways to the same segments: cut the superpacket's bytes, or make each from its fields.
    #[test]
    fn cutting_equals_making() {
        let tcp = Transport::Tcp {
            sequence: u32::MAX - 150,
            flags: tcp::ACK | tcp::PSH | tcp::FIN | tcp::CWR,
            options: 12,
        };
        for (source, destination) in [("10.0.0.2", "10.0.0.9"), ("fd00::2", "fd00::9")] {
            for transport in [tcp, Transport::Udp] {
                let payload = (0..=255).chain(0..=94).collect();
                let mut whole = Packet::new(flow(source, destination), transport, payload);
                whole.id = 0xffff;
                let made: Vec<_> = (0..4).map(|i| whole.part(100, i, 1).bytes(Sum::Full)).collect();
                assert_eq!(kernel_output(&whole.superpacket(100)), made);
                let finished = kernel_output(&whole.unfinished());
                assert_eq!(finished, [whole.bytes(Sum::Full)]);
            }
        }
    }

    #[test]
    fn checksums_are_those_of_known_packets() {
        // IPv4 header of RFC 1071's descendants' favourite example.
        let mut head =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 192, 168, 0, 1, 192, 168, 0, 199];
        refresh_ipv4(&mut head);
        assert_eq!(head[10..12], [0xb8, 0x61]);
    }
}
