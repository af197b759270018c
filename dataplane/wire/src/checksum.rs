//! The Internet checksum (RFC 1071) and the pseudo headers of TCP and UDP.

use std::net::IpAddr;

/// Sums 16-bit big endian words without folding or complementing. A last odd byte counts as the
/// upper half of a word.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|w| u64::from(u32::from_be_bytes(*w))).sum();
    let (pairs, last) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_be_bytes(*pair)) << 16;
    }
    if let [byte] = last {
        // What precedes is a multiple of two bytes; which half of a 32-bit word the byte falls
        // into decides the shift.
        let shift = if pairs.is_empty() { 24 } else { 8 };
        total += u64::from(*byte) << shift;
    }
    total
}

/// Folds a sum to 16 bits.
#[must_use]
pub fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let folded = total as u16;
    folded
}

/// The checksum of `bytes`: the complement of the folded sum.
#[must_use]
pub fn internet(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The folded sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), not
/// complemented: what the kernel expects in the checksum field of a packet with `NEEDS_CSUM`.
#[must_use]
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> u16 {
    let addresses = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => sum(&s.octets()) + sum(&d.octets()),
        (IpAddr::V6(s), IpAddr::V6(d)) => sum(&s.octets()) + sum(&d.octets()),
        _ => 0,
    };
    fold(addresses + u64::from(protocol) + u64::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as it is written, one word at a time.
    fn plain(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            let word = u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total += word;
            total = (total & 0xffff) + (total >> 16);
        }
        !u16::try_from(total).unwrap()
    }

    proptest! {
        #[test]
        fn equals_the_plain_form(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(internet(&bytes), plain(&bytes));
        }
    }

    #[test]
    fn rfc_1071_example() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }
}
