use super::*;
use etherparse::PacketBuilder;
use proptest::prelude::*;

proptest! {
    /// An independent parser agrees on packets that it built itself.
    #[test]
    fn agrees_with_etherparse(
        source: [u8; 4], destination: [u8; 4], ports: (u16, u16), tcp: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut packet = Vec::new();
        let ip = PacketBuilder::ipv4(source, destination, 7);
        if tcp {
            ip.tcp(ports.0, ports.1, 1, 1).write(&mut packet, &payload).unwrap();
        } else {
            ip.udp(ports.0, ports.1).write(&mut packet, &payload).unwrap();
        }
        let inner = Inner::parse(&packet).unwrap();
        prop_assert_eq!(inner.source, IpAddr::from(source));
        prop_assert_eq!(inner.destination, IpAddr::from(destination));
        prop_assert_eq!(inner.protocol, if tcp { protocol::TCP } else { protocol::UDP });
        prop_assert_eq!(usize::from(inner.length), packet.len());
        prop_assert_eq!(inner.transport, 20);
        prop_assert_eq!(inner.fragment, Fragment::Whole);
    }

    #[test]
    fn never_panics_and_stays_in_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(inner) = Inner::parse(&bytes) {
            prop_assert!(usize::from(inner.transport) <= bytes.len());
            prop_assert!(inner.transport <= inner.length);
        }
    }

    /// Random bytes behind a plausible IPv6 start reach the extension walk.
    #[test]
    fn ipv6_extensions_stay_in_bounds(
        next in prop::sample::select(vec![0u8, 43, 44, 51, 60, 6, 17]),
        mut bytes in proptest::collection::vec(any::<u8>(), 40..200),
    ) {
        bytes[0] = 0x60;
        bytes[6] = next;
        if let Ok(inner) = Inner::parse(&bytes) {
            prop_assert!(usize::from(inner.transport) <= bytes.len());
        }
    }
}

fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
    packet[6] = next;
    packet[23] = 1;
    packet[39] = 2;
    packet.extend_from_slice(rest);
    packet
}

#[test]
fn walks_extension_headers_to_the_transport() {
    let mut rest = vec![60, 0, 1, 4, 0, 0, 0, 0]; // hop-by-hop, then destination options
    rest.extend([17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    rest.extend([0; 8]);
    let inner = Inner::parse(&v6(0, &rest)).unwrap();
    assert_eq!((inner.protocol, inner.transport), (17, 64));
}

/// Each kind of extension header alone, with its own way to count its length.
#[test]
fn walks_every_kind_of_extension_header() {
    let plain = [17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let authentication = [17, 4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
    let fragment = [17, 0, 0, 1, 0, 0, 0, 9];
    for (kind, header) in [
        (protocol::HOP_BY_HOP, &plain[..]),
        (protocol::ROUTING, &plain),
        (protocol::DESTINATION, &plain),
        (protocol::AUTHENTICATION, &authentication),
        (protocol::FRAGMENT, &fragment),
    ] {
        let inner = Inner::parse(&v6(kind, &[header, &[0; 8]].concat())).unwrap();
        let transport = 40 + u16::try_from(header.len()).unwrap();
        assert_eq!((inner.protocol, inner.transport), (17, transport), "header {kind}");
    }
}

#[test]
fn a_later_fragment_has_no_transport_header() {
    let mut rest = vec![6, 0, 0x00, 0x08, 0, 0, 0, 1];
    rest.extend([0; 8]);
    let inner = Inner::parse(&v6(44, &rest)).unwrap();
    assert_eq!(inner.fragment, Fragment::Later);
    // What looks like another header there is data, and is not walked.
    rest[0] = protocol::DESTINATION;
    rest[8..].fill(0xff);
    let inner = Inner::parse(&v6(44, &rest)).unwrap();
    assert_eq!((inner.protocol, inner.transport), (protocol::DESTINATION, 48));
    rest[0] = protocol::TCP;
    rest[3] = 1;
    assert_eq!(Inner::parse(&v6(44, &rest)).unwrap().fragment, Fragment::First);
}

/// A second fragment header must not make a whole packet of a fragment.
#[test]
fn once_a_fragment_always_a_fragment() {
    for (first, second) in [(1u8, 0u8), (0, 1), (1, 1)] {
        let mut rest = vec![44, 0, 0, first, 0, 0, 0, 1];
        rest.extend([17, 0, 0, second, 0, 0, 0, 1]);
        rest.extend([0; 8]);
        let inner = Inner::parse(&v6(44, &rest)).unwrap();
        assert_eq!(inner.fragment, Fragment::First, "{first} {second}");
        assert_eq!((inner.protocol, inner.transport), (17, 56));
    }
}

#[test]
fn endless_extension_headers_are_refused() {
    let followed_by_udp = |count: usize| {
        let mut rest: Vec<u8> = [60u8, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        rest[8 * (count - 1)] = protocol::UDP;
        rest.extend([0; 8]);
        Inner::parse(&v6(60, &rest)).map(|inner| inner.transport)
    };
    assert_eq!(followed_by_udp(8), Ok(40 + 8 * 8));
    assert_eq!(followed_by_udp(9), Err(InnerError::Extensions));
    let rest: Vec<u8> = [60u8, 0, 1, 4, 0, 0, 0, 0].repeat(20);
    assert_eq!(Inner::parse(&v6(60, &rest)), Err(InnerError::Extensions));
}

#[test]
fn refuses_short_and_false_headers() {
    assert_eq!(Inner::parse(&[]), Err(InnerError::Short));
    assert_eq!(Inner::parse(&[0x45; 19]), Err(InnerError::Short));
    assert_eq!(Inner::parse(&[0x44; 20]), Err(InnerError::Version));
    assert_eq!(Inner::parse(&[0x55; 20]), Err(InnerError::Version));
    let mut packet = [0u8; 20];
    packet[0] = 0x45;
    packet[3] = 19;
    assert_eq!(Inner::parse(&packet), Err(InnerError::Length));
    assert_eq!(Inner::parse(&v6(17, &[])), Err(InnerError::Length));
}
