//! What the helper gives up once it listens. It stays root, with three capabilities, and does with them only
//! what making interfaces in containers takes.
//!
//! Files are not restricted: under Landlock no process may look at another that is not confined with it,
//! and a container's namespace is opened through one of its processes (`/proc/PID/ns/net`).

use std::io;

use rustix::thread::{CapabilitySet, set_no_new_privs};
use weft_confine::{Calls, empty_bounding_set, keep_capabilities};

/// With any arguments, beside what every program needs.
const ALWAYS: &[libc::c_long] = &[
    // Whether a file is a namespace.
    libc::SYS_fstatfs,
    // The daemon and others that ask; requests to the kernel's network configuration.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
];

/// Requests to TUN devices, to namespaces, and for numbers and names of interfaces.
const CONTROLS: [libc::Ioctl; 11] = [
    libc::TUNSETIFF,
    libc::TUNGETIFF,
    libc::TUNSETVNETHDRSZ,
    libc::TUNSETVNETLE,
    libc::TUNSETOFFLOAD,
    libc::TUNSETOWNER,
    libc::TUNSETPERSIST,
    libc::TUNSETSTEERINGEBPF,
    libc::NS_GET_NSTYPE,
    libc::SIOCGIFINDEX,
    libc::SIOCGIFNAME,
];

/// `BPF_PROG_LOAD` (`bpf(2)`): the program that chooses a queue.
const BPF_PROG_LOAD: libc::c_int = 5;

/// Gives up everything but what making interfaces in containers takes: to configure the network, to enter
/// network namespaces, to load a program for a device, and to look which namespace a process has.
///
/// # Errors
/// When the kernel refuses one of the steps.
pub fn confine() -> io::Result<()> {
    empty_bounding_set();
    set_no_new_privs(true)?;
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
    keep_capabilities(needed)?;
    let mut calls = Calls::of_everybody()?;
    calls.allow(ALWAYS);
    calls.allow_if(libc::SYS_ioctl, 1, &CONTROLS)?;
    calls.allow_if(libc::SYS_setns, 1, &[libc::CLONE_NEWNET])?;
    calls.allow_if(libc::SYS_bpf, 0, &[BPF_PROG_LOAD])?;
    calls.allow_sockets(libc::AF_UNIX, &[libc::SOCK_DGRAM], None)?;
    let netlink = [libc::SOCK_DGRAM, libc::SOCK_RAW];
    calls.allow_sockets(libc::AF_NETLINK, &netlink, Some(libc::NETLINK_ROUTE))?;
    calls.restrict()
}
