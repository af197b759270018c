//! A superpacket as the packets that it stands for, for whoever takes none.

use weft_wire::{Frame, GSO_HEADER_MAX, Gso, Run, VIRTIO_HEADER_LEN, apply_run};

/// Calls `each` with every packet of a superpacket in order: what is left to do to it, its virtio header with
/// the packet's own headers, and its payload.
///
/// `header` must be the `gso.header_len` bytes that `frame` was made from.
pub(super) fn each_packet(
    frame: &Frame,
    gso: &Gso,
    header: &[u8],
    payload: &[u8],
    mut each: impl FnMut(&Frame, &mut [u8], &[u8]),
) {
    let count = frame.segments();
    for (i, segment) in payload.chunks(usize::from(gso.size)).enumerate() {
        let mut head = [0; VIRTIO_HEADER_LEN + GSO_HEADER_MAX];
        let head = &mut head[..VIRTIO_HEADER_LEN + header.len()];
        let (virtio, own) = head.split_at_mut(VIRTIO_HEADER_LEN);
        own.copy_from_slice(header);
        #[expect(clippy::cast_possible_truncation, reason = "both are below 2^16")]
        let run = Run {
            first: i as u16,
            chunks: 1,
            payload_len: segment.len() as u16,
            last: i + 1 == count,
        };
        let one = apply_run(frame, gso, &run, own);
        virtio.copy_from_slice(&one.virtio().encode());
        each(&one, head, segment);
    }
}
