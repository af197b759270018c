//! Packets made by hand, right or wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ESP.
pub const ESP: u8 = 50;
/// IPv6 next header number of destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// An IPv4 packet with this payload, TTL 64, not to be fragmented, header checksum right.
#[must_use]
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    fix_ipv4_checksum(&mut packet);
    packet.extend(payload);
    packet
}

/// An IPv6 packet with this payload, hop limit 64.
#[must_use]
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A packet of either version.
///
/// # Panics
/// When the addresses are of different versions.
#[must_use]
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, protocol, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, protocol, payload),
        _ => panic!("{from} and {to} are of different versions"),
    }
}

/// A whole UDP packet with the right checksum.
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut segment = udp_segment(from, to, payload);
    let sum = checksum(from.ip(), to.ip(), UDP, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), UDP, &segment)
}

/// A UDP header with checksum 0 and its payload.
#[must_use]
pub fn udp_segment(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut segment = from.port().to_be_bytes().to_vec();
    segment.extend(to.port().to_be_bytes());
    segment.extend(u16::try_from(8 + payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    segment
}

/// A TCP header (flags ACK and PSH) with checksum 0 and its payload.
#[must_use]
pub fn tcp_segment(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut segment = from.port().to_be_bytes().to_vec();
    segment.extend(to.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0x10, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    segment
}

/// The Internet checksum of a transport segment whose checksum field is 0.
#[must_use]
pub fn checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    match fold(pseudo_header(from, to, protocol, segment.len()) + sum(segment)) {
        0xffff => 0xffff,
        folded => !folded,
    }
}

/// What stands in the checksum field while the kernel is to finish it.
#[must_use]
pub fn pseudo_checksum(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u16 {
    fold(pseudo_header(from, to, protocol, len))
}

/// Makes the header checksum of an IPv4 packet right after a field was changed.
pub fn fix_ipv4_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header = usize::from(packet[0] & 15) * 4;
    let sum = !fold(sum(&packet[..header.min(packet.len())]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    address(from) + address(to) + u64::from(protocol) + len as u64
}

fn sum(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2);
    pairs.map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_ipv4_header_has_its_checksum() {
        // RFC 1071 style check: the sum over a right header is all ones.
        let packet = ipv4(Ipv4Addr::new(10, 40, 0, 2), Ipv4Addr::new(10, 40, 0, 3), UDP, &[1, 2]);
        assert_eq!(fold(sum(&packet[..20])), 0xffff);
        assert_eq!(packet.len(), 22);
    }

    #[test]
    fn udp_checksums_add_up_in_both_versions() {
        for (from, to) in [("10.40.0.2:1", "10.40.0.3:2"), ("[fd40::2]:1", "[fd40::3]:2")] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let packet = udp(from, to, b"abc");
            let segment = &packet[packet.len() - 11..];
            let total = pseudo_header(from.ip(), to.ip(), UDP, segment.len()) + sum(segment);
            assert_eq!(fold(total), 0xffff);
        }
    }
}
