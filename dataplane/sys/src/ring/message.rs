//! What a multishot `recvmsg` leaves in a buffer:
//!
//! ```text
//!  16 B lengths and flags │ 32 B address │ 72 B control messages │ payload
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use crate::udp::{Control, ControlBuffer, RECEIVE_BUFFER_LEN, RawAddress, Received};

const HEADER_LEN: usize = 16;
/// Room for the address: that of IPv6, up to the alignment of what follows.
pub(super) const NAME_LEN: usize = 32;
const CONTROL_AT: usize = HEADER_LEN + NAME_LEN;
pub(super) const CONTROL_LEN: usize = ControlBuffer::LEN;
/// Where the payload begins.
const PAYLOAD_AT: usize = CONTROL_AT + CONTROL_LEN;
/// Bytes that a buffer must have.
pub(super) const MESSAGE_LEN_MAX: usize = PAYLOAD_AT + RECEIVE_BUFFER_LEN;

/// The message in `buffer`. One that is too short for its header counts as truncated.
#[inline]
pub fn read_message(buffer: &mut [u8]) -> Received<'_> {
    let Some((head, payload)) = buffer.split_at_mut_checked(PAYLOAD_AT) else {
        return message(RawAddress::UNSPECIFIED, Control::default(), true, &mut []);
    };
    let word = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let (name_len, control_len) = (word(0) as usize, word(4) as usize);
    let (payload_len, flags) = (word(8) as usize, word(12).cast_signed());
    let name = &head[HEADER_LEN..CONTROL_AT];
    let control = &head[CONTROL_AT..];
    let from = RawAddress::from_bytes(&name[..name_len.min(NAME_LEN)]);
    let control = Control::parse(&control[..control_len.min(CONTROL_LEN)]);
    let truncated = flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0
        || payload_len > payload.len()
        || control_len > CONTROL_LEN;
    let len = payload_len.min(payload.len());
    message(from, control, truncated, &mut payload[..len])
}

#[inline]
fn message(from: RawAddress, control: Control, truncated: bool, data: &mut [u8]) -> Received<'_> {
    Received {
        from: from.decode().unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        ecn: control.ecn,
        segment: control.segment_of(data.len()),
        truncated,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes it, with a payload of as many bytes as it says.
    fn message(name_len: u32, control_len: u32, payload_len: u32, flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; PAYLOAD_AT + payload_len as usize];
        for (word, at) in [name_len, control_len, payload_len, flags].into_iter().zip([0, 4, 8, 12])
        {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[HEADER_LEN..HEADER_LEN + 2]
            .copy_from_slice(&(libc::AF_INET as libc::sa_family_t).to_ne_bytes());
        bytes[HEADER_LEN + 2..HEADER_LEN + 8].copy_from_slice(&[0x16, 0xbc, 192, 0, 2, 1]);
        bytes
    }

    #[test]
    fn a_message_has_sender_and_payload() {
        let mut bytes = message(16, 0, 3, 0);
        bytes[PAYLOAD_AT..].copy_from_slice(&[1, 2, 3]);
        let received = read_message(&mut bytes);
        assert_eq!(received.from, "192.0.2.1:5820".parse().unwrap());
        assert_eq!((&*received.data, received.truncated), (&[1, 2, 3][..], false));
    }

    #[test]
    fn what_does_not_fit_its_buffer_is_truncated() {
        let truncated = |mut bytes: Vec<u8>| read_message(&mut bytes).truncated;
        for len in 0..PAYLOAD_AT {
            assert!(truncated(message(16, 0, 0, 0)[..len].to_vec()), "{len} bytes");
        }
        let mut long = message(16, 0, 3, 0);
        long.pop();
        assert!(truncated(long));
        assert!(truncated(message(16, CONTROL_LEN as u32 + 1, 3, 0)));
        for flag in [libc::MSG_TRUNC, libc::MSG_CTRUNC] {
            assert!(truncated(message(16, 0, 3, flag.cast_unsigned())));
        }
        assert!(!truncated(message(16, CONTROL_LEN as u32, 3, 0)));
    }

    #[test]
    fn an_address_of_any_length_is_read_within_it() {
        for len in [0, 1, 2, 8, 16, 28, 32, 33, u32::MAX] {
            let mut bytes = message(len, 0, 0, 0);
            let from = read_message(&mut bytes).from;
            // Whatever is cut off is zero: below two bytes there is no family.
            let port = if len >= 4 { 5820 } else { 0 };
            assert_eq!(from.port(), port, "{len} bytes");
            assert_eq!(from.ip().is_unspecified(), len < 8, "{len} bytes");
        }
    }
}
