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
