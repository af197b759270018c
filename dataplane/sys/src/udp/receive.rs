//! Receiving: a batch of messages in one system call, each maybe several datagrams of one sender.
//!
//! ```text
//!  one mapping:  │ buffer 0 (65,536 B) │pad│ buffer 1 │pad│ … │ buffer 31 │pad│
//!  used pages:   ██                        ██             …    ░             (small packets)
//!                ██████████████████████    ███████████    …                  (aggregated)
//! ```
//!
//! The pad shifts the start of each buffer by 33 cache lines, so that the headers of a batch of
//! small packets do not all fall into one cache set; pages that were never touched cost nothing.

use std::ffi::c_uint;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use super::UdpSocket;
use super::address::RawAddress;
use super::control::ControlBuffer;
use crate::mapping::Mapping;
use crate::syscall::check;

/// Most messages of one batch.
pub const RECEIVE_BATCH_MAX: usize = 32;
/// Bytes of each buffer: more than the largest UDP payload, aggregated or not.
pub const RECEIVE_BUFFER_LEN: usize = 65_536;

/// Distance between two buffers in bytes.
const STRIDE: usize = RECEIVE_BUFFER_LEN + 33 * 64;
const MAPPING_LEN: usize = RECEIVE_BATCH_MAX * STRIDE;

/// Bytes that a batch should not exceed, so that it is still in the cache when it is opened.
const BATCH_BYTES: usize = 128 * 1024;
/// Fewest messages asked for: at 64 KiB each, `BATCH_BYTES` are reached by two.
const BATCH_MIN: usize = 2;

/// Buffers and descriptors for [`UdpSocket::receive`], reused for every batch.
pub struct ReceiveBatch {
    buffers: Buffers,
    names: Box<[RawAddress; RECEIVE_BATCH_MAX]>,
    controls: Box<[ControlBuffer; RECEIVE_BATCH_MAX]>,
    results: [MessageResult; RECEIVE_BATCH_MAX],
    /// Messages of the last batch.
    received: usize,
    /// Messages to ask for next.
    wanted: usize,
    drained: bool,
}

/// What the kernel said about one message.
#[derive(Clone, Copy, Default)]
struct MessageResult {
    len: usize,
    control_len: usize,
    flags: libc::c_int,
}

/// One received message: a datagram, or several of one sender that the kernel joined.
#[derive(Debug)]
pub struct Received<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// ECN bits of the outer IP header, 0 to 3.
    pub ecn: u8,
    /// Bytes of each datagram but the last, which may be shorter; the length of `data` for a
    /// single datagram, and 1 for an empty one, so that `data.chunks(segment)` never panics.
    pub segment: usize,
    /// The message or its metadata did not fit and must not be trusted.
    pub truncated: bool,
    /// The payload.
    pub data: &'a mut [u8],
}

impl ReceiveBatch {
    /// Maps the buffers.
    ///
    /// # Errors
    /// When the kernel has no address space (about 2.1 MiB) left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            buffers: Buffers(Mapping::new(MAPPING_LEN)?),
            names: Box::new([RawAddress::UNSPECIFIED; RECEIVE_BATCH_MAX]),
            controls: Box::new([ControlBuffer::EMPTY; RECEIVE_BATCH_MAX]),
            results: [MessageResult::default(); RECEIVE_BATCH_MAX],
            received: 0,
            wanted: RECEIVE_BATCH_MAX,
            drained: false,
        })
    }

    /// Messages in the last batch.
    pub fn len(&self) -> usize {
        self.received
    }

    /// Whether the last batch was empty.
    pub fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// Whether the last [`UdpSocket::receive`] emptied the socket: it got fewer messages than it
    /// asked for, so another call would only say `WouldBlock`.
    pub fn drained(&self) -> bool {
        self.drained
    }

    /// Message `index` of the last batch.
    ///
    /// # Panics
    /// When `index` is not below [`ReceiveBatch::len`].
    #[inline]
    pub fn message_mut(&mut self, index: usize) -> Received<'_> {
        assert!(index < self.received, "message {index} of {}", self.received);
        let result = self.results[index];
        let control = self.controls[index].parse(result.control_len);
        Received {
            from: self.names[index]
                .decode()
                .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            ecn: control.ecn,
            segment: control.segment_of(result.len),
            truncated: result.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
            data: &mut self.buffers.get(index)[..result.len],
        }
    }

    /// Fewer messages when they are large: `BATCH_BYTES` in all, as the last batch would have it.
    fn adapt(&mut self) {
        let results = &self.results[..self.received];
        let largest = results.iter().map(|result| result.len).max().unwrap_or(0).max(1);
        self.wanted = (BATCH_BYTES / largest).clamp(BATCH_MIN, RECEIVE_BATCH_MAX);
    }
}

impl UdpSocket {
    /// Receives what is there, at most [`RECEIVE_BATCH_MAX`] messages (fewer while they are
    /// large); returns their number, at least 1.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    #[inline]
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.received = 0;
        let wanted = batch.wanted;
        let mut parts =
            [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; RECEIVE_BATCH_MAX];
        // SAFETY: plain old data for which all zeros (null pointers of no length) is valid.
        let mut messages: [libc::mmsghdr; RECEIVE_BATCH_MAX] = unsafe { std::mem::zeroed() };
        for index in 0..wanted {
            parts[index].iov_base = batch.buffers.get(index).as_mut_ptr().cast();
            parts[index].iov_len = RECEIVE_BUFFER_LEN;
            let header = &mut messages[index].msg_hdr;
            header.msg_name = batch.names[index].as_mut_ptr().cast();
            header.msg_namelen = RawAddress::CAPACITY;
            header.msg_iov = &raw mut parts[index];
            header.msg_iovlen = 1;
            header.msg_control = batch.controls[index].bytes.as_mut_ptr().cast();
            header.msg_controllen = ControlBuffer::LEN;
        }
        // SAFETY: `messages` holds `wanted` entries; each points to an address, a vector with one
        // buffer and a control buffer, all distinct, of the lengths given, exclusively borrowed
        // through `batch` and alive through the call. No timeout is given.
        let count = check(unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                wanted as c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        });
        let count = match count {
            Ok(count) => usize::try_from(count).unwrap_or(0).min(wanted),
            Err(error) => {
                batch.drained = error.kind() == io::ErrorKind::WouldBlock;
                return Err(error);
            }
        };
        for (result, message) in batch.results.iter_mut().zip(&messages[..count]) {
            *result = MessageResult {
                len: (message.msg_len as usize).min(RECEIVE_BUFFER_LEN),
                control_len: message.msg_hdr.msg_controllen,
                flags: message.msg_hdr.msg_flags,
            };
        }
        batch.received = count;
        batch.drained = count < wanted;
        batch.adapt();
        Ok(count)
    }
}

/// The mapping that holds all buffers.
struct Buffers(Mapping);

impl Buffers {
    #[inline]
    fn get(&mut self, index: usize) -> &mut [u8] {
        assert!(index < RECEIVE_BATCH_MAX, "buffer {index} of {RECEIVE_BATCH_MAX}");
        // SAFETY: `index * STRIDE + RECEIVE_BUFFER_LEN` is at most `MAPPING_LEN`, the mapping is
        // readable, writable and zero-filled, and `&mut self` makes the borrow exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.0.start().as_ptr().add(index * STRIDE),
                RECEIVE_BUFFER_LEN,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_apart_from_one_another() {
        let mut buffers = Buffers(Mapping::new(MAPPING_LEN).unwrap());
        let at = [0, RECEIVE_BUFFER_LEN - 1];
        for index in 0..RECEIVE_BATCH_MAX {
            let buffer = buffers.get(index);
            assert_eq!(at.map(|at| buffer[at]), [0, 0]);
            for at in at {
                buffer[at] = index as u8 + 1;
            }
        }
        for index in 0..RECEIVE_BATCH_MAX {
            assert_eq!(at.map(|at| buffers.get(index)[at]), [index as u8 + 1; 2]);
        }
    }

    #[test]
    #[should_panic(expected = "buffer 32 of 32")]
    fn there_is_no_buffer_behind_the_last() {
        Buffers(Mapping::new(MAPPING_LEN).unwrap()).get(RECEIVE_BATCH_MAX);
    }
}
