//! UDP sockets for sealed datagrams: segmentation offload out, aggregation in, ECN both ways.
//!
//! ```text
//!            one port ─┬─ group socket 0 ─▶ worker 0      lane socket 0 (own source port)
//!  datagram ──▶ BPF ───┼─ group socket 1 ─▶ worker 1      lane socket 1
//!  payload byte 4 = n  └─ group socket n ─▶ worker n      lane socket n
//! ```
//!
//! The kernel joins datagrams of one 4-tuple *before* the BPF program runs, so all datagrams of a
//! 4-tuple must name the same worker. Closing one socket of a group renumbers the others: a group
//! is closed as a whole.

mod address;
mod control;
mod receive;
mod send;

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::syscall::{check, invalid_input, retry_busy, set_buffer, set_option};
pub(crate) use address::RawAddress;
pub(crate) use control::{Control, ControlBuffer};

pub use receive::{RECEIVE_BATCH_MAX, RECEIVE_BUFFER_LEN, ReceiveBatch, Received};
pub use send::{GSO_BYTES_MAX, GSO_SEGMENTS_MAX};

/// Receive buffer of each socket in bytes (the kernel doubles it for its own bookkeeping): 3 ms at
/// 10 Gbit/s. Four times as much ended the retransmissions of four TCP streams at full speed, but
/// brought no throughput: what was lost before waited instead.
pub const SOCKET_RECEIVE_BYTES: c_int = 4 << 20;
/// Send buffer of each socket in bytes.
pub const SOCKET_SEND_BYTES: c_int = 4 << 20;
/// Most sockets of one group.
pub const GROUP_MAX: u8 = 64;
/// Payload byte that names the receiving worker.
const WORKER_BYTE: u32 = 4;

/// A bound, unconnected, non-blocking UDP socket of one address family.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    /// Cleared for good by the first send that segmentation made fail.
    gso: AtomicBool,
}

/// Binds `count` sockets to one address; payload byte 4 picks the socket by its place in the
/// result. Port 0 takes any free port.
///
/// A shorter payload goes to the first socket, a number outside the group where the kernel's hash
/// says.
///
/// # Errors
/// `AddrInUse` when anyone else, also another group of this user, holds the port (after a second
/// of retries); `InvalidInput` for a count that is not 1 to [`GROUP_MAX`].
pub fn bind_group(addr: SocketAddr, count: u8) -> io::Result<Vec<UdpSocket>> {
    if !(1..=GROUP_MAX).contains(&count) {
        return Err(invalid_input(format!("count {count}: expected 1 to {GROUP_MAX} sockets")));
    }
    // The first binds alone, so that it never joins (and steals from) a group of another process
    // of this user; sharing is switched on for the sockets that follow.
    let first = retry_busy(|| {
        let socket = UdpSocket::open(addr.ip())?;
        socket.bind(&addr)?;
        Ok(socket)
    })?;
    let addr = first.local_addr()?;
    set_option(first.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    let mut group = vec![first];
    for number in 1..count {
        let socket = UdpSocket::open(addr.ip())?;
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        socket.bind(&addr)?;
        if number == 1 {
            attach_worker_choice(socket.as_fd())?;
        }
        group.push(socket);
    }
    Ok(group)
}

/// Binds one socket, shared with nobody, to the first free port of `ports`.
///
/// # Errors
/// `AddrInUse` when none is free.
pub fn bind_lane(ip: IpAddr, ports: RangeInclusive<u16>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::open(ip)?;
    for port in ports.clone() {
        match socket.bind(&SocketAddr::new(ip, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result.map(|()| socket),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free UDP port on {ip} in {} to {}", ports.start(), ports.end()),
    ))
}

impl UdpSocket {
    /// The address and port that the socket is bound to.
    ///
    /// # Errors
    /// Not for a bound socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let mut raw = RawAddress::UNSPECIFIED;
        let mut len = RawAddress::CAPACITY;
        // SAFETY: pointer and length describe `raw`, which the kernel fills at most that far.
        check(unsafe { libc::getsockname(self.fd.as_raw_fd(), raw.as_mut_ptr(), &raw mut len) })?;
        raw.decode().ok_or_else(|| io::Error::other("socket address: expected IPv4 or IPv6"))
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, gso: AtomicBool::new(self.gso_enabled()) })
    }

    /// Bytes of this socket that are on their way to the interface, with what the kernel adds for its
    /// own bookkeeping.
    ///
    /// # Errors
    /// Not for a socket.
    #[inline]
    pub fn queued(&self) -> io::Result<usize> {
        let mut queued: c_int = 0;
        // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one `c_int`, which lives through the
        // call.
        check(unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) })?;
        Ok(usize::try_from(queued).unwrap_or(0))
    }

    /// Bytes that may wait to be received, half of what the kernel sets aside for them.
    ///
    /// # Errors
    /// Not for a socket.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        let mut bytes: c_int = 0;
        let mut len = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: both pointers are to live values of the sizes that the request has.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                (&raw mut bytes).cast(),
                &raw mut len,
            )
        })?;
        Ok(usize::try_from(bytes).unwrap_or(0) / 2)
    }

    /// Whether batches still leave as one segmented send.
    pub fn gso_enabled(&self) -> bool {
        self.gso.load(Ordering::Relaxed)
    }

    /// Switches segmented sends on or off, for tests and for paths that turned out to break them.
    pub fn set_gso(&self, enabled: bool) {
        self.gso.store(enabled, Ordering::Relaxed);
    }

    /// A new socket with every option set, not yet bound.
    fn open(ip: IpAddr) -> io::Result<Self> {
        let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: `socket` has no memory preconditions.
        let fd = check(unsafe { libc::socket(family, kind, 0) })?;
        // SAFETY: the kernel just gave us this fd; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Self { fd, gso: AtomicBool::new(true) };
        socket.set_options(ip)?;
        Ok(socket)
    }

    fn set_options(&self, ip: IpAddr) -> io::Result<()> {
        let fd = self.as_fd();
        // PROBE: the don't-fragment bit is set and ICMP does not change the path MTU; ours is
        // found by authenticated probes.
        match ip {
            IpAddr::V4(_) => {
                let probe = libc::IP_PMTUDISC_PROBE;
                set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)?;
                set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
            }
            IpAddr::V6(_) => {
                let probe = libc::IPV6_PMTUDISC_PROBE;
                set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
                set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
                set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            }
        }
        set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1)?;
        set_buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, SOCKET_RECEIVE_BYTES)?;
        set_buffer(fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SOCKET_SEND_BYTES)
    }

    fn bind(&self, addr: &SocketAddr) -> io::Result<()> {
        let raw = RawAddress::encode(addr);
        // SAFETY: pointer and length describe `raw`, which the kernel only reads.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), raw.as_ptr(), raw.len()) })?;
        Ok(())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Gives the group of this socket the program `return payload[WORKER_BYTE]` (the kernel runs it
/// with the payload at offset 0 and returns 0 for a load outside of it).
fn attach_worker_choice(fd: BorrowedFd<'_>) -> io::Result<()> {
    let filter = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        filter(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, WORKER_BYTE),
        filter(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let description = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option reads one `sock_fprog`, whose pointer and length describe `program`; both
    // live through the call and the kernel copies them.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const description).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
