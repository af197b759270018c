//! Explicit congestion notification across the tunnel (RFC 6040).

use crate::{Version, checksum};

/// The two ECN bits of an IP header (RFC 3168).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable.
    #[default]
    NotEct = 0,
    /// ECN-capable, ECT(1).
    Ect1 = 1,
    /// ECN-capable, ECT(0).
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// The lower two bits of a traffic class.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }
}

/// What the inner packet says after decapsulation (RFC 6040 figure 4), or `None` when it must be
/// dropped: congestion was marked on a packet whose sender does not understand it.
#[must_use]
pub const fn join_ecn(inner: Ecn, outer: Ecn) -> Option<Ecn> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => None,
        (Ecn::NotEct, _) => Some(Ecn::NotEct),
        (_, Ecn::Ce) | (Ecn::Ce, _) => Some(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Some(Ecn::Ect1),
        (inner, _) => Some(inner),
    }
}

/// Reads the ECN bits of an IP header of at least 2 bytes.
#[must_use]
pub fn ecn_of(header: &[u8], version: Version) -> Ecn {
    match (version, header) {
        (Version::V4, [_, tos, ..]) => Ecn::from_bits(*tos),
        (Version::V6, [_, second, ..]) => Ecn::from_bits(second >> 4),
        _ => Ecn::NotEct,
    }
}

/// Sets the ECN bits of an IP header and mends the IPv4 header checksum (RFC 1624).
pub fn set_ecn(header: &mut [u8], version: Version, ecn: Ecn) {
    match version {
        Version::V4 => {
            let Some(head) = header.first_chunk_mut::<20>() else {
                return;
            };
            let old = u16::from_be_bytes([head[0], head[1]]);
            head[1] = head[1] & !3 | ecn as u8;
            let new = u16::from_be_bytes([head[0], head[1]]);
            let check = u16::from_be_bytes([head[10], head[11]]);
            let total = u64::from(!check) + u64::from(!old) + u64::from(new);
            head[10..12].copy_from_slice(&(!checksum::fold(total)).to_be_bytes());
        }
        Version::V6 => {
            if let Some(second) = header.get_mut(1) {
                *second = *second & !0x30 | (ecn as u8) << 4;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decapsulation_table_of_rfc_6040() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        let table = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, row) in table {
            for (outer, want) in [NotEct, Ect0, Ect1, Ce].into_iter().zip(row) {
                assert_eq!(join_ecn(inner, outer), want, "{inner:?} in {outer:?}");
            }
        }
    }

    #[test]
    fn ipv4_checksum_follows() {
        let mut head = [
            0x45, 0x02, 0x00, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 192, 168, 0, 1, 192, 168, 0,
            199,
        ];
        let check = checksum::internet(&head);
        head[10..12].copy_from_slice(&check.to_be_bytes());
        for ecn in [Ecn::Ce, Ecn::NotEct, Ecn::Ect1, Ecn::Ect0] {
            set_ecn(&mut head, Version::V4, ecn);
            assert_eq!(ecn_of(&head, Version::V4), ecn);
            assert_eq!(checksum::internet(&head), 0);
        }
        let mut six = [0x60, 0x2f, 0xff, 0xff];
        set_ecn(&mut six, Version::V6, Ecn::Ce);
        assert_eq!(six, [0x60, 0x3f, 0xff, 0xff]);
        assert_eq!(ecn_of(&six, Version::V6), Ecn::Ce);
    }
}
