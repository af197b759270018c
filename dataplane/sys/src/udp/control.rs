//! Control messages (`cmsg`): the segment size and the ECN bits beside a datagram.
//!
//! Written as typed slots and read with bounds-checked slices, so the layout is asserted here and
//! no pointer walks the buffer.

use std::ffi::c_int;

/// One control message with room for the largest value that we send or receive (an `int`).
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct ControlSlot {
    header: libc::cmsghdr,
    value: [u8; SLOT_VALUE_LEN],
}

/// A value is padded to the alignment of the next header.
const SLOT_VALUE_LEN: usize = size_of::<usize>();
const HEADER_LEN: usize = size_of::<libc::cmsghdr>();

const _: () = {
    // SAFETY: the functions compute on their argument only.
    unsafe {
        assert!(size_of::<ControlSlot>() == libc::CMSG_SPACE(4) as usize);
        assert!(size_of::<ControlSlot>() == libc::CMSG_SPACE(2) as usize);
        assert!(HEADER_LEN == libc::CMSG_LEN(0) as usize);
    }
    assert!(align_of::<ControlSlot>() == align_of::<libc::cmsghdr>());
};

/// Two bits of the traffic class carry ECN; the other six are the DSCP.
pub(super) const ECN_MASK: u8 = 0b11;

impl ControlSlot {
    // SAFETY: plain old data for which all zeros is a valid value.
    pub(super) const EMPTY: Self = unsafe { std::mem::zeroed() };

    #[inline]
    pub(super) fn segment(bytes: u16) -> Self {
        Self::new(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes())
    }

    #[inline]
    pub(super) fn ecn(ecn: u8, ipv6: bool) -> Self {
        let value = c_int::from(ecn & ECN_MASK).to_ne_bytes();
        if ipv6 {
            Self::new(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value)
        } else {
            Self::new(libc::IPPROTO_IP, libc::IP_TOS, &value)
        }
    }

    #[inline]
    fn new(level: c_int, kind: c_int, value: &[u8]) -> Self {
        let mut slot = Self::EMPTY;
        slot.header.cmsg_len = HEADER_LEN + value.len();
        slot.header.cmsg_level = level;
        slot.header.cmsg_type = kind;
        slot.value[..value.len()].copy_from_slice(value);
        slot
    }
}

/// Where the kernel writes the control messages of one received datagram.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct ControlBuffer {
    pub(super) bytes: [u8; ControlBuffer::LEN],
}

/// What the control messages of one datagram say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// Bytes of each aggregated datagram, if there are several.
    pub(crate) segment: Option<usize>,
    /// The two ECN bits.
    pub(crate) ecn: u8,
}

impl ControlBuffer {
    /// Room for the two messages that we asked for, and one that we did not.
    pub(crate) const LEN: usize = 3 * size_of::<ControlSlot>();
    pub(super) const EMPTY: Self = Self { bytes: [0; Self::LEN] };

    /// Reads the first `len` bytes.
    #[inline]
    pub(super) fn parse(&self, len: usize) -> Control {
        Control::parse(&self.bytes[..len.min(Self::LEN)])
    }
}

impl Control {
    /// Bytes of each of the datagrams in `len` bytes of payload but the last, which may be
    /// shorter; at least 1, so that `chunks` never panics.
    #[inline]
    pub(crate) fn segment_of(self, len: usize) -> usize {
        let whole = len.max(1);
        self.segment.filter(|size| (1..whole).contains(size)).unwrap_or(whole)
    }

    /// Reads messages one behind the other; one that does not fit is ignored with all after it.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut control = Self::default();
        let mut rest = bytes;
        while let Some((level, kind, value, next)) = split_message(rest) {
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    control.segment = read_int(value).and_then(|size| usize::try_from(size).ok());
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    control.ecn = value.first().map_or(0, |tos| tos & ECN_MASK);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    control.ecn = read_int(value).map_or(0, |class| class as u8 & ECN_MASK);
                }
                _ => {}
            }
            rest = next;
        }
        control
    }
}

/// Level, type and value of the first message, and what follows it.
#[inline]
fn split_message(bytes: &[u8]) -> Option<(c_int, c_int, &[u8], &[u8])> {
    let header = bytes.get(..HEADER_LEN)?;
    let len = usize::from_ne_bytes(*header.first_chunk()?);
    let value = bytes.get(HEADER_LEN..len)?;
    let level = read_int(&header[LEVEL_OFFSET..])?;
    let kind = read_int(&header[TYPE_OFFSET..])?;
    let next = len.checked_next_multiple_of(size_of::<usize>())?;
    Some((level, kind, value, bytes.get(next..).unwrap_or(&[])))
}

const LEVEL_OFFSET: usize = std::mem::offset_of!(libc::cmsghdr, cmsg_level);
const TYPE_OFFSET: usize = std::mem::offset_of!(libc::cmsghdr, cmsg_type);

fn read_int(bytes: &[u8]) -> Option<c_int> {
    bytes.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_class_is_nothing_but_ecn() {
        for ecn in 0..=u8::MAX {
            for ipv6 in [false, true] {
                let slot = ControlSlot::ecn(ecn, ipv6);
                assert_eq!(read_int(&slot.value), Some(c_int::from(ecn % 4)));
            }
        }
    }

    fn buffer(slots: &[(c_int, c_int, &[u8])]) -> (ControlBuffer, usize) {
        let mut buffer = ControlBuffer::EMPTY;
        let mut at = 0;
        for (level, kind, value) in slots {
            buffer.bytes[at..at + 8].copy_from_slice(&(HEADER_LEN + value.len()).to_ne_bytes());
            buffer.bytes[at + 8..at + 12].copy_from_slice(&level.to_ne_bytes());
            buffer.bytes[at + 12..at + 16].copy_from_slice(&kind.to_ne_bytes());
            buffer.bytes[at + 16..at + 16 + value.len()].copy_from_slice(value);
            at += size_of::<ControlSlot>();
        }
        (buffer, at)
    }

    #[test]
    fn both_messages_are_read_in_any_order() {
        let gro = (libc::SOL_UDP, libc::UDP_GRO, &1420_i32.to_ne_bytes()[..]);
        let tos = (libc::IPPROTO_IP, libc::IP_TOS, &[0xfd_u8][..]);
        let expected = Control { segment: Some(1420), ecn: 1 };
        let (forward, len) = buffer(&[gro, tos]);
        assert_eq!(forward.parse(len), expected);
        let (backward, len) = buffer(&[tos, gro]);
        assert_eq!(backward.parse(len), expected);
    }

    #[test]
    fn broken_lengths_end_the_walk() {
        let (mut broken, len) = buffer(&[(libc::SOL_UDP, libc::UDP_GRO, &1_i32.to_ne_bytes()[..])]);
        for length in [0, 1, HEADER_LEN - 1, ControlBuffer::LEN + 1, usize::MAX] {
            broken.bytes[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(broken.parse(len), Control::default(), "length {length}");
        }
        assert_eq!(broken.parse(usize::MAX), Control::default());
    }
}
