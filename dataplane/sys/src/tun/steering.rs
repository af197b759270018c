//! Which queue a packet that leaves a container takes: [`flow_hash`], the same for both directions
//! of a flow, computed in the kernel by an eBPF program.
//!
//! ```text
//!  x  = source ^ destination          IPv4 addresses as numbers, IPv6 as the xor of four words
//!  x ^= source port ^ destination port       TCP and UDP only, directly after the IP header,
//!                                            not in a fragment
//!  x ^= protocol                             IPv4 protocol or IPv6 next header
//!  h  = (x * 0x9E3779B1 mod 2^32) >> 16      queue = h mod queues
//! ```

mod program;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::syscall::check;

/// Knuth's multiplicative constant, 2^32 divided by the golden ratio.
const MULTIPLIER: u32 = 0x9E37_79B1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The hash of an IP packet's flow, below 2^16; 0 for what is not IP.
#[inline]
pub fn flow_hash(packet: &[u8]) -> u32 {
    flow_key(packet).map_or(0, |key| key.wrapping_mul(MULTIPLIER) >> 16)
}

fn flow_key(packet: &[u8]) -> Option<u32> {
    // Both versions have at least this many bytes of header.
    let head: &[u8; 20] = packet.first_chunk()?;
    let (addresses, protocol, ports_at) = match head[0] >> 4 {
        4 => {
            let whole = u16::from_be_bytes([head[6], head[7]]) & 0x3fff == 0;
            let ports_at = usize::from(head[0] & 0xf) * 4;
            (&packet[12..20], head[9], whole.then_some(ports_at))
        }
        6 => (packet.get(8..40)?, head[6], Some(40)),
        _ => return None,
    };
    let mut key = 0;
    for word in addresses.as_chunks::<4>().0 {
        key ^= u32::from_be_bytes(*word);
    }
    if let Some(at) = ports_at
        && matches!(protocol, TCP | UDP)
        && let Some([a, b, c, d]) = packet.get(at..).and_then(<[u8]>::first_chunk)
    {
        key ^= u32::from(u16::from_be_bytes([*a, *b]) ^ u16::from_be_bytes([*c, *d]));
    }
    Some(key ^ u32::from(protocol))
}

/// Gives a device the program; it belongs to the device, whose queues may be moved and closed.
pub(super) fn attach(queue: BorrowedFd<'_>) -> io::Result<()> {
    let program: OwnedFd = program::load(&program::assemble())?;
    let fd = program.as_raw_fd();
    // SAFETY: TUNSETSTEERINGEBPF reads one `c_int` through the pointer, which lives through the
    // call; the kernel takes its own reference to the program.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const fd) })?;
    Ok(())
}

#[cfg(test)]
mod tests;
