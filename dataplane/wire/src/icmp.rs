//! ICMP errors that the dataplane gives to a container about its own packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Fragment, Inner, Version, checksum, inner::protocol};

/// Longest ICMP error that is made, in bytes: RFC 1812 section 4.3.2.3 (576 for IPv4); IPv6 may
/// have up to 1,280 (RFC 4443 section 3.1), but the same is enough there.
pub const ICMP_ERROR_MAX: usize = 576;

const HOP_LIMIT: u8 = 64;
/// Where an IPv6 header says what follows it.
const NEXT_HEADER_AT: u8 = 6;

/// Whether an ICMP error may be sent about a packet (RFC 1122 section 3.2.2, RFC 4443 section
/// 2.4): not about ICMP errors, later fragments, or to and from group addresses.
#[must_use]
pub fn may_answer(inner: &Inner, packet: &[u8]) -> bool {
    if inner.fragment == Fragment::Later || !is_unicast(inner.destination) {
        return false;
    }
    let kind = packet.get(usize::from(inner.transport));
    match (inner.version, inner.protocol) {
        // Echo, timestamp and their replies are no errors.
        (Version::V4, protocol::ICMP) => matches!(kind, Some(0 | 8 | 13 | 14)),
        // Types below 128 are errors.
        (Version::V6, protocol::ICMPV6) => kind.is_some_and(|k| *k >= 128),
        _ => true,
    }
}

/// Whether an address names one interface: neither a group nor everybody nor nobody.
#[must_use]
pub fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !a.is_multicast() && !a.is_broadcast() && !a.is_unspecified(),
        IpAddr::V6(a) => !a.is_multicast() && !a.is_unspecified(),
    }
}

/// Why a packet goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody has the address: *host unreachable* (ICMP type 3 code 1, RFC 792), *address
    /// unreachable* (ICMPv6 type 1 code 3, RFC 4443 section 3.1).
    NoHost,
    /// The way to the destination carries packets of so many bytes at most: *fragmentation needed*
    /// (ICMP type 3 code 4, RFC 1191 section 4), *packet too big* (ICMPv6 type 2, RFC 4443 section
    /// 3.2).
    TooBig(u16),
    /// A rule forbids it: *communication administratively prohibited* (ICMP type 3 code 13, RFC 1812 section 5.2.7.1;
    /// ICMPv6 type 1 code 1).
    Prohibited,
    /// The destination has no such port: *port unreachable* (ICMP type 3 code 3, ICMPv6 type 1 code 4).
    NoPort,
    /// The destination does not speak this protocol: *protocol unreachable* (ICMP type 3 code 2), *unrecognized
    /// next header* in the IPv6 header (ICMPv6 type 4 code 1, RFC 4443 section 3.4).
    NoProtocol,
}

/// Writes an ICMP error about `packet` into `out`, from `gateway` to the packet's source. Gives the
/// length of the ICMP packet, or `None` when the families do not match.
pub fn unreachable(
    cause: Cause,
    inner: &Inner,
    packet: &[u8],
    gateway: IpAddr,
    out: &mut [u8; ICMP_ERROR_MAX],
) -> Option<usize> {
    match (gateway, inner.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Some(unreachable_v4(cause, packet, from, to, out)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Some(unreachable_v6(cause, packet, from, to, out)),
        _ => None,
    }
}

fn unreachable_v4(
    cause: Cause,
    packet: &[u8],
    from: Ipv4Addr,
    to: Ipv4Addr,
    out: &mut [u8; ICMP_ERROR_MAX],
) -> usize {
    const HEADERS: usize = 20 + 8;
    let quoted = packet.len().min(ICMP_ERROR_MAX - HEADERS);
    let length = HEADERS + quoted;
    out[..HEADERS].fill(0);
    out[0] = 0x45;
    out[2..4].copy_from_slice(&length_field(length));
    out[8] = HOP_LIMIT;
    out[9] = protocol::ICMP;
    out[12..16].copy_from_slice(&from.octets());
    out[16..20].copy_from_slice(&to.octets());
    let check = checksum::internet(&out[..20]);
    out[10..12].copy_from_slice(&check.to_be_bytes());
    out[20] = 3;
    match cause {
        Cause::NoHost => out[21] = 1,
        Cause::TooBig(mtu) => {
            out[21] = 4;
            out[26..28].copy_from_slice(&mtu.to_be_bytes());
        }
        Cause::Prohibited => out[21] = 13,
        Cause::NoPort => out[21] = 3,
        Cause::NoProtocol => out[21] = 2,
    }
    out[HEADERS..length].copy_from_slice(&packet[..quoted]);
    let check = checksum::internet(&out[20..length]);
    out[22..24].copy_from_slice(&check.to_be_bytes());
    length
}

fn unreachable_v6(
    cause: Cause,
    packet: &[u8],
    from: Ipv6Addr,
    to: Ipv6Addr,
    out: &mut [u8; ICMP_ERROR_MAX],
) -> usize {
    const HEADERS: usize = 40 + 8;
    let quoted = packet.len().min(ICMP_ERROR_MAX - HEADERS);
    let length = HEADERS + quoted;
    out[..HEADERS].fill(0);
    out[0] = 0x60;
    out[4..6].copy_from_slice(&length_field(length - 40));
    out[6] = protocol::ICMPV6;
    out[7] = HOP_LIMIT;
    out[8..24].copy_from_slice(&from.octets());
    out[24..40].copy_from_slice(&to.octets());
    match cause {
        Cause::NoHost => (out[40], out[41]) = (1, 3),
        Cause::TooBig(mtu) => {
            out[40] = 2;
            out[46..48].copy_from_slice(&mtu.to_be_bytes());
        }
        Cause::Prohibited => (out[40], out[41]) = (1, 1),
        Cause::NoPort => (out[40], out[41]) = (1, 4),
        Cause::NoProtocol => (out[40], out[41], out[47]) = (4, 1, NEXT_HEADER_AT),
    }
    out[HEADERS..length].copy_from_slice(&packet[..quoted]);
    let pseudo = checksum::pseudo(
        from.into(),
        to.into(),
        protocol::ICMPV6,
        u32::from(u16::from_be_bytes(length_field(length - 40))),
    );
    let check = !checksum::fold(checksum::sum(&out[40..length]) + u64::from(pseudo));
    out[42..44].copy_from_slice(&check.to_be_bytes());
    length
}

fn length_field(length: usize) -> [u8; 2] {
    // At most ICMP_ERROR_MAX, so it fits; saturating keeps the function total.
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

    fn built(cause: Cause, packet: &[u8], gateway: &str) -> Vec<u8> {
        let inner = Inner::parse(packet).unwrap();
        assert!(may_answer(&inner, packet));
        let mut out = [0; ICMP_ERROR_MAX];
        let gateway = gateway.parse().unwrap();
        let length = unreachable(cause, &inner, packet, gateway, &mut out).unwrap();
        out[..length].to_vec()
    }

    #[test]
    fn v4_is_well_formed_and_quotes_the_packet() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 9], 9)
            .udp(1, 2)
            .write(&mut packet, &[7; 700])
            .unwrap();
        let error = built(Cause::NoHost, &packet, "10.0.0.1");
        assert_eq!(error.len(), ICMP_ERROR_MAX);
        assert_eq!(checksum::internet(&error[..20]), 0);
        assert_eq!(checksum::internet(&error[20..]), 0);
        assert_eq!(error[28..], packet[..548]);
        let sliced = SlicedPacket::from_ip(&error).unwrap();
        assert!(matches!(sliced.transport, Some(TransportSlice::Icmpv4(_))));
    }

    #[test]
    fn v6_is_well_formed() {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([2; 16], [3; 16], 9).udp(1, 2).write(&mut packet, &[7; 10]).unwrap();
        let error = built(Cause::NoHost, &packet, "fd00::1");
        let sliced = SlicedPacket::from_ip(&error).unwrap();
        let Some(NetSlice::Ipv6(ip)) = sliced.net else { panic!("no IPv6") };
        let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else { panic!("no ICMPv6") };
        let header = ip.header();
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (1, 3));
    }

    #[test]
    fn what_is_too_big_is_told_how_big_it_may_be() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 9], 9)
            .udp(1, 2)
            .write(&mut packet, &[7; 100])
            .unwrap();
        let error = built(Cause::TooBig(1_408), &packet, "10.0.0.1");
        assert_eq!(error[20..28], [3, 4, error[22], error[23], 0, 0, 5, 128]);
        assert_eq!(checksum::internet(&error[20..]), 0);
        let mut packet = Vec::new();
        PacketBuilder::ipv6([2; 16], [3; 16], 9).udp(1, 2).write(&mut packet, &[7; 10]).unwrap();
        let error = built(Cause::TooBig(1_408), &packet, "fd00::1");
        assert_eq!(error[40..48], [2, 0, error[42], error[43], 0, 0, 5, 128]);
        let sliced = SlicedPacket::from_ip(&error).unwrap();
        let Some(NetSlice::Ipv6(ip)) = sliced.net else { panic!("no IPv6") };
        let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else { panic!("no ICMPv6") };
        let header = ip.header();
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
    }

    #[test]
    fn what_nobody_listens_for_is_refused_as_by_a_host() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 9], 9)
            .udp(1, 2)
            .write(&mut packet, &[7])
            .unwrap();
        for (cause, code) in [(Cause::NoPort, 3), (Cause::NoProtocol, 2), (Cause::Prohibited, 13)] {
            let error = built(cause, &packet, "10.0.0.1");
            assert_eq!(error[20..22], [3, code]);
            assert_eq!(checksum::internet(&error[20..]), 0);
        }
        let mut packet = Vec::new();
        PacketBuilder::ipv6([2; 16], [3; 16], 9).udp(1, 2).write(&mut packet, &[7]).unwrap();
        for (cause, head) in [
            (Cause::NoPort, [1, 4, 0, 0]),
            (Cause::NoProtocol, [4, 1, 0, 6]),
            (Cause::Prohibited, [1, 1, 0, 0]),
        ] {
            let error = built(cause, &packet, "fd00::1");
            assert_eq!([error[40], error[41], error[46], error[47]], head);
        }
    }

    #[test]
    fn errors_about_errors_and_groups_are_never_sent() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [224, 0, 0, 9], 9)
            .udp(1, 2)
            .write(&mut packet, &[])
            .unwrap();
        assert!(!may_answer(&Inner::parse(&packet).unwrap(), &packet));
        let mut error = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 9, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 9];
        error.extend([3, 1, 0, 0, 0, 0, 0, 0]);
        assert!(!may_answer(&Inner::parse(&error).unwrap(), &error));
        error[20] = 8;
        assert!(may_answer(&Inner::parse(&error).unwrap(), &error));
    }
}
