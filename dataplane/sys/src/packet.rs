//! Raw packet sockets, for tests: to inject packets with any virtio-net header into an interface
//! and to capture what leaves one.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::syscall::{check, check_len, set_buffer, set_option};

/// Receive buffer in bytes, so that a capture survives a burst.
const CAPTURE_BYTES: c_int = 16 << 20;

/// A raw socket on one interface: sees and sends whole frames, link header included.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on interface `ifindex` of the calling thread's namespace. With
    /// `vnet_header`, each packet is preceded by [`crate::VNET_HEADER_LEN`] bytes of virtio-net
    /// header, in both directions, in the byte order of the machine.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_RAW`; `ENODEV` when there is no such interface.
    pub fn open(ifindex: u32, vnet_header: bool) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing is received before the socket is bound to its interface.
        // SAFETY: `socket` has no memory preconditions.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel just gave us this fd; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if vnet_header {
            set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        }
        set_buffer(fd.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, CAPTURE_BYTES)?;
        // SAFETY: plain old data for which all zeros is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = ifindex.cast_signed();
        // SAFETY: pointer and length describe `address`, which the kernel only reads.
        check(unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        })?;
        Ok(Self { fd })
    }

    /// Sends one packet out of the interface.
    ///
    /// # Errors
    /// `InvalidInput` when the kernel rejects the virtio-net header; `ENETDOWN` while the
    /// interface is down.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length describe `packet`, which the kernel only reads.
        check_len(unsafe {
            libc::send(self.fd.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0)
        })?;
        Ok(())
    }

    /// Receives one packet of either direction and returns its length, which is more than that of
    /// `buf` if the packet was cut off.
    ///
    /// # Errors
    /// `TimedOut` when none came within `timeout`.
    pub fn recv(&self, buf: &mut [u8], timeout: Duration) -> io::Result<usize> {
        let deadline = Instant::now() + timeout;
        loop {
            // SAFETY: the pointer and length describe `buf`, which is exclusively ours to write.
            let result = check_len(unsafe {
                libc::recv(self.fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_TRUNC)
            });
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut wait =
                libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let millis = i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
            // A signal ends the wait early; the loop looks again.
            // SAFETY: the pointer and the count describe one live `pollfd`.
            unsafe { libc::poll(&raw mut wait, 1, millis) };
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
