//! Sending: one system call for a batch of datagrams to one address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::UdpSocket;
use super::address::RawAddress;
use super::control::{ControlSlot, ECN_MASK};
use crate::syscall::{check, check_len, invalid_input};

/// Most datagrams of one segmented send (`UDP_MAX_SEGMENTS` of kernels before 6.9).
pub const GSO_SEGMENTS_MAX: usize = 64;
/// Most bytes of one segmented send: 65,535 less the IPv4 and UDP headers.
pub const GSO_BYTES_MAX: usize = 65_507;

const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl UdpSocket {
    /// Sends `buf` to `to` as datagrams of `segment` bytes; the last may be shorter. `ecn` is
    /// written to the two ECN bits; the DSCP is 0.
    ///
    /// Normally all go as one `UDP_SEGMENT` send. If the kernel refuses that and takes the same
    /// datagrams singly, this socket sends singly from then on ([`UdpSocket::gso_enabled`]).
    ///
    /// # Errors
    /// `InvalidInput` when `segment` is 0 or above 65,535, or the batch is over
    /// [`GSO_SEGMENTS_MAX`] or [`GSO_BYTES_MAX`]; `WouldBlock` when the send buffer is full;
    /// `EMSGSIZE` when a datagram is over the interface's MTU. In single mode an error may leave
    /// the first datagrams sent.
    #[inline]
    pub fn send(&self, to: &SocketAddr, ecn: u8, segment: usize, buf: &[u8]) -> io::Result<()> {
        let to = RawAddress::encode(to);
        let mut control = [ControlSlot::EMPTY; 2];
        let mut controls = 0;
        if ecn & ECN_MASK != 0 {
            control[0] = ControlSlot::ecn(ecn, to.is_ipv6());
            controls = 1;
        }
        if buf.len() <= segment {
            return self.send_message(&to, &control[..controls], buf);
        }
        let segment_size = check_batch(segment, buf.len())?;
        if !self.gso_enabled() {
            return self.send_singly(&to, &control[..controls], segment, buf);
        }
        control[controls] = ControlSlot::segment(segment_size);
        match self.send_message(&to, &control[..=controls], buf) {
            Err(error) if may_blame_gso(&error) => {
                let single = self.send_singly(&to, &control[..controls], segment, buf);
                // Failing singly as well would show that segmentation was not the cause.
                if single.is_ok() {
                    self.set_gso(false);
                }
                single
            }
            result => result,
        }
    }

    /// Waits until half of the send buffer is empty, at most `timeout` (rounded down to
    /// milliseconds).
    ///
    /// # Errors
    /// `WouldBlock` when it is not by then; a send may succeed even so.
    #[cold]
    pub fn wait_writable(&self, timeout: Duration) -> io::Result<()> {
        let mut wanted =
            libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        let ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the pointer and the count of 1 describe `wanted`, which lives through the call.
        match check(unsafe { libc::poll(&raw mut wanted, 1, ms) })? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }

    #[inline]
    fn send_message(&self, to: &RawAddress, control: &[ControlSlot], buf: &[u8]) -> io::Result<()> {
        let mut part = io_vector(buf);
        let message = message_header(to, control, &mut part);
        // SAFETY: `message` points to the address, control slots and vector above, which live
        // through the call; `sendmsg` only reads them.
        let sent =
            check_len(unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const message, FLAGS) })?;
        debug_assert_eq!(sent, buf.len(), "a UDP send is whole or not at all");
        Ok(())
    }

    #[cold]
    fn send_singly(
        &self,
        to: &RawAddress,
        control: &[ControlSlot],
        segment: usize,
        buf: &[u8],
    ) -> io::Result<()> {
        let mut parts = [io_vector(&[]); GSO_SEGMENTS_MAX];
        // SAFETY: plain old data for which all zeros (null pointers of no length) is valid.
        let mut messages: [libc::mmsghdr; GSO_SEGMENTS_MAX] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        for ((datagram, part), message) in buf.chunks(segment).zip(&mut parts).zip(&mut messages) {
            *part = io_vector(datagram);
            message.msg_hdr = message_header(to, control, part);
            count += 1;
        }
        let mut first = 0;
        while first < count {
            let rest = &mut messages[first..count];
            // SAFETY: the pointer and length describe `rest`; each entry points to the address,
            // control slots and its own vector, which live through the call.
            let sent = check(unsafe {
                libc::sendmmsg(
                    self.fd.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    FLAGS,
                )
            })?;
            // The kernel sends at least one or reports an error; never spin on a zero.
            first += usize::try_from(sent).unwrap_or(0).max(1);
        }
        Ok(())
    }
}

/// The segment size for the kernel, if the batch fits one segmented send.
#[inline]
fn check_batch(segment: usize, len: usize) -> io::Result<u16> {
    let size = u16::try_from(segment).ok().filter(|size| *size > 0);
    match size {
        Some(size) if len <= GSO_BYTES_MAX && len.div_ceil(segment) <= GSO_SEGMENTS_MAX => Ok(size),
        _ => Err(invalid_input(format!(
            "batch of {len} bytes in datagrams of {segment}: expected at most {GSO_SEGMENTS_MAX} \
             datagrams and {GSO_BYTES_MAX} bytes"
        ))),
    }
}

/// `EIO` is a path that cannot checksum segments, `EINVAL` a socket or device that cannot segment
/// (or, before kernel 6.14, a segment over the MTU).
fn may_blame_gso(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

#[inline]
fn io_vector(buf: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() }
}

/// A header over borrowed parts; valid for system calls that only read, while the parts live.
#[inline]
fn message_header(
    to: &RawAddress,
    control: &[ControlSlot],
    part: &mut libc::iovec,
) -> libc::msghdr {
    // SAFETY: plain old data for which all zeros (null pointers of no length) is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = part;
    message.msg_iovlen = 1;
    if !control.is_empty() {
        message.msg_control = control.as_ptr().cast_mut().cast();
        message.msg_controllen = size_of_val(control);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded() {
        assert_eq!(check_batch(1000, 64_000).unwrap(), 1000);
        assert_eq!(check_batch(1023, 65_472).unwrap(), 1023);
        for (segment, len) in [(0, 1), (1000, 64_001), (2000, 65_508), (65_536, 65_537)] {
            let error = check_batch(segment, len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{segment} {len}");
        }
    }

    #[test]
    fn only_two_errors_may_be_about_segmentation() {
        let os = io::Error::from_raw_os_error;
        assert!(may_blame_gso(&os(libc::EIO)));
        assert!(may_blame_gso(&os(libc::EINVAL)));
        for other in [libc::EAGAIN, libc::EMSGSIZE, libc::EPERM, libc::ENETUNREACH, libc::ENOBUFS] {
            assert!(!may_blame_gso(&os(other)));
        }
    }
}
