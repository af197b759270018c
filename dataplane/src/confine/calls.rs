//! The system calls that the daemon needs; every other one fails with `EPERM` (`seccomp(2)`).
//!
//! Among those that are missing: starting programs, entering namespaces, mounting, tracing, raw and
//! netlink sockets, new rings of io_uring, other users and signals to other processes.

use std::io;

use weft_confine::Calls;

/// With any arguments, beside what every program needs.
const ALWAYS: &[libc::c_long] = &[
    // Descriptors.
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    // Rings that are there already.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Files, as far as Landlock lets them.
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    // Sockets of the kinds below.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Threads of this process.
    libc::SYS_sched_setaffinity,
];

/// An older form of one of these, which only this architecture has and its C library may use.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// Kinds of sockets: the local API and the helper, handshakes and metrics.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
const TYPES: [libc::c_int; 3] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];

/// Requests to queues of interfaces and to sockets.
const CONTROLS: [libc::Ioctl; 9] = [
    libc::TUNGETIFF,
    libc::TUNSETVNETHDRSZ,
    libc::TUNSETVNETLE,
    libc::TUNSETOFFLOAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONREAD,
    libc::TIOCOUTQ,
    // Whether the log is a terminal.
    libc::TCGETS,
];

/// Restricts this thread and all that it starts.
pub(super) fn restrict() -> io::Result<()> {
    let mut calls = Calls::of_everybody()?;
    calls.allow(ALWAYS);
    calls.allow(OLDER);
    for family in FAMILIES {
        calls.allow_sockets(family, &TYPES, None)?;
    }
    calls.allow_if(libc::SYS_socketpair, 0, &[libc::AF_UNIX])?;
    calls.allow_if(libc::SYS_ioctl, 1, &CONTROLS)?;
    calls.restrict()
}
