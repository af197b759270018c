//! Linux system calls of the Weft dataplane: the one crate that may contain `unsafe`.
//!
//! Each file wraps one kernel feature behind a safe, small interface and nothing more: no policy,
//! no packet parsing, no retries beyond a short busy wait. Calls on the packet path
//! ([`tun::TunQueue::read`], [`tun::TunQueue::write`], [`udp::UdpSocket::send`],
//! [`udp::UdpSocket::receive`]) never allocate and never block.
//!
//! ```text
//!  container's namespace          │ host's namespace
//!                                 │
//!  weft0 (TUN) ◀── link ──────────┼── tun: queue 0..n  ──▶ worker 0..n ──▶ udp: lane sockets
//!   addresses, routes, limits     │    steered by tun::steering    ◀──  udp: SO_REUSEPORT group
//!                                 │                  poll or ring: one for each worker
//! ```

pub mod alloc;
pub mod link;
mod mapping;
pub mod netns;
pub mod packet;
pub mod poll;
pub mod process;
pub mod ring;
mod syscall;
pub mod thread;
pub mod tun;
pub mod udp;

pub use tun::VNET_HEADER_LEN;
