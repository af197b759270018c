//! Whose names a question is about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;
use weft_types::Subnet;

use crate::zone::Zone;

/// Where a name is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In `internal.`: labels below it, in lower case.
    Internal(Vec<Vec<u8>>),
    /// Below `in-addr.arpa.` or `ip6.arpa.`, in a zone that is answered here and has so many labels.
    Reverse { range: Subnet, apex_labels: usize },
    /// Below such a zone, but the name of no range of addresses.
    ReverseNonsense { apex_labels: usize },
    /// Nobody outside can know it: never sent there.
    Private,
    /// Somebody else's.
    Outside,
}

/// Names that never leave (RFC 6761, 6762, 7686, 8375).
const PRIVATE: [&[u8]; 5] = [b"local", b"localhost", b"onion", b"invalid", b"test"];

/// Address ranges whose names are answered where they are asked (RFC 6303 section 4, RFC 7793). A query for one
/// of them would tell strangers which addresses are in use here.
const LOCAL_V4: [(Ipv4Addr, u8); 11] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(255, 255, 255, 255), 32),
];
const LOCAL_V6: [(Ipv6Addr, u8); 5] = [
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::LOCALHOST, 128),
    // RFC 6303 has fd00::/8; the other half of RFC 4193 is as private.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
];

impl Place {
    pub(crate) fn of(name: &Name, zone: &Zone) -> Self {
        let lower = name.to_lowercase();
        let labels: Vec<&[u8]> = lower.iter().collect();
        match labels.as_slice() {
            [below @ .., b"internal"] => {
                Self::Internal(below.iter().map(|label| label.to_vec()).collect())
            }
            [below @ .., b"in-addr", b"arpa"] => reverse(below, 8, octet, zone),
            [below @ .., b"ip6", b"arpa"] => reverse(below, 4, nibble, zone),
            [.., b"home", b"arpa"] => Self::Private,
            // A word without a domain is a service's name that was asked without `.internal`.
            [last] if *last != b"arpa" => Self::Private,
            [.., last] if PRIVATE.contains(last) => Self::Private,
            _ => Self::Outside,
        }
    }
}

/// One label of a reverse name: `0` to `255`, without leading zeros.
fn octet(label: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(label).ok()?;
    let octet: u8 = text.parse().ok()?;
    (octet.to_string() == text).then_some(octet.into())
}

/// One label of a reverse name of IPv6: a digit (RFC 3596 section 2.5).
fn nibble(label: &[u8]) -> Option<u128> {
    match label {
        [digit] => char::from(*digit).to_digit(16).map(u128::from),
        _ => None,
    }
}

/// Reads labels as the first bits of an address, `bits` each, the last label first. What is below a name that
/// stands for no address is in the zone that the labels before it name.
fn reverse(below: &[&[u8]], bits: u8, digit: fn(&[u8]) -> Option<u128>, zone: &Zone) -> Place {
    let width = if bits == 8 { 32 } else { 128 };
    let mut value = 0;
    let mut len = 0u8;
    let mut is_whole_name = true;
    for label in below.iter().rev() {
        match digit(label) {
            Some(digit) if len < width => {
                value = value << bits | digit;
                len += bits;
            }
            _ => {
                is_whole_name = false;
                break;
            }
        }
    }
    let shifted = value.checked_shl(u32::from(width - len)).unwrap_or(0);
    let address = if width == 32 {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(shifted).unwrap_or_default()))
    } else {
        IpAddr::V6(Ipv6Addr::from(shifted))
    };
    let Ok(range) = Subnet::new(address, len) else { return Place::Outside };
    let ours = zone.subnets().iter().copied();
    let Some(apex_len) = ours.chain(local()).find_map(|subnet| apex_len(&subnet, &range, bits))
    else {
        return Place::Outside;
    };
    // `in-addr.arpa` and `ip6.arpa` are the two labels above.
    let apex_labels = usize::from(apex_len / bits) + 2;
    if is_whole_name {
        Place::Reverse { range, apex_labels }
    } else {
        Place::ReverseNonsense { apex_labels }
    }
}

/// How many bits the zone's name has in which `range` is, if that is in `subnet`. Names end at whole labels, so a
/// subnet that does not is several zones.
fn apex_len(subnet: &Subnet, range: &Subnet, bits: u8) -> Option<u8> {
    let len = subnet.prefix_len().div_ceil(bits) * bits;
    (range.prefix_len() >= len && subnet.contains(range.address())).then_some(len)
}

fn local() -> impl Iterator<Item = Subnet> {
    let v4 = LOCAL_V4.into_iter().map(|(address, len)| (IpAddr::V4(address), len));
    let v6 = LOCAL_V6.into_iter().map(|(address, len)| (IpAddr::V6(address), len));
    v4.chain(v6).filter_map(|(address, len)| Subnet::new(address, len).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::ZoneRecords;

    fn place(name: &str) -> Place {
        let subnets = ["10.40.0.0/16", "fd40::/64"].map(|s| s.parse().unwrap()).to_vec();
        let zone = Zone::new(ZoneRecords { subnets, ..ZoneRecords::default() }).unwrap();
        Place::of(&Name::from_ascii(name).unwrap(), &zone)
    }

    fn range(text: &str, apex_labels: usize) -> Place {
        Place::Reverse { range: text.parse().unwrap(), apex_labels }
    }

    #[test]
    fn internal_in_any_case() {
        let labels = |labels: &[&str]| {
            Place::Internal(labels.iter().map(|label| label.as_bytes().to_vec()).collect())
        };
        assert_eq!(place("internal."), labels(&[]));
        assert_eq!(place("0.wEb.INTERNAL."), labels(&["0", "web"]));
        assert_eq!(place("internal.example.com."), Place::Outside);
        assert_eq!(place("xinternal.com."), Place::Outside);
    }

    #[test]
    fn reverse_names_of_private_ranges_stay_here() {
        assert_eq!(place("7.0.40.10.in-addr.arpa."), range("10.40.0.7/32", 4));
        assert_eq!(place("40.10.IN-ADDR.arpa."), range("10.40.0.0/16", 4));
        assert_eq!(place("41.10.in-addr.arpa."), range("10.41.0.0/16", 3));
        assert_eq!(place("10.in-addr.arpa."), range("10.0.0.0/8", 3));
        assert_eq!(place("16.172.in-addr.arpa."), range("172.16.0.0/16", 4));
        assert_eq!(place("32.172.in-addr.arpa."), Place::Outside);
        assert_eq!(place("172.in-addr.arpa."), Place::Outside);
        assert_eq!(place("8.8.8.8.in-addr.arpa."), Place::Outside);
        assert_eq!(place("in-addr.arpa."), Place::Outside);
        assert_eq!(place("0.0.0.0.0.0.0.0.0.0.0.0.0.4.d.f.ip6.arpa."), range("fd40::/64", 18));
        assert_eq!(place("D.F.ip6.arpa."), range("fd00::/8", 4));
        assert_eq!(place("f.ip6.arpa."), Place::Outside);
    }

    #[test]
    fn what_is_no_address_is_nonsense_in_its_zone() {
        for nonsense in ["256.40.10", "00.40.10", "x.40.10", "1.2.3.40.10"] {
            let found = place(&format!("{nonsense}.in-addr.arpa."));
            assert_eq!(found, Place::ReverseNonsense { apex_labels: 4 }, "{nonsense}");
        }
        assert_eq!(place("x.8.in-addr.arpa."), Place::Outside);
        assert_eq!(place("x.d.f.ip6.arpa."), Place::ReverseNonsense { apex_labels: 4 });
    }

    #[test]
    fn names_that_nobody_outside_knows_stay_here() {
        for private in ["web.", "printer.local.", "localhost.", "x.onion.", "a.home.arpa."] {
            assert_eq!(place(private), Place::Private, "{private}");
        }
        for outside in [".", "example.com.", "arpa.", "as112.arpa."] {
            assert_eq!(place(outside), Place::Outside, "{outside}");
        }
    }
}
