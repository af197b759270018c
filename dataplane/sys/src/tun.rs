//! Multi-queue TUN devices with virtio-net headers.
//!
//! A device is made in the *caller's* namespace (the host's), all of its queues are opened there,
//! and only then is it moved ([`crate::link::move_to_netns`]): a queue opened inside a container's
//! namespace would keep that namespace alive after the container is gone, and attaching by name
//! from another namespace silently makes a second device. The device lives as long as one of its
//! queues is open, or until its namespace ends if it is persistent ([`TunQueue::set_persistent`]).
//!
//! Queue numbers are the order of opening; closing one queue renumbers the others, so the queues
//! of a device are closed together.

pub mod steering;

use std::ffi::{c_int, c_uint, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::link;
use crate::syscall::{
    check, check_len, interface_index, interface_name, interface_name_of, invalid_input, retry_busy,
};

/// Bytes of the virtio-net header before each packet.
pub const VNET_HEADER_LEN: usize = size_of::<VirtioNetHeader>();

/// Most queues of one device (lanes of a session are at most as many).
pub const QUEUES_MAX: u8 = 64;

/// The layout that the kernel writes and reads, little-endian (`TUNSETVNETLE`).
#[repr(C)]
struct VirtioNetHeader {
    flags: u8,
    gso_type: u8,
    header_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

const _: () = {
    use std::mem::offset_of;
    assert!(VNET_HEADER_LEN == 10);
    assert!(offset_of!(VirtioNetHeader, flags) == 0);
    assert!(offset_of!(VirtioNetHeader, gso_type) == 1);
    assert!(offset_of!(VirtioNetHeader, header_len) == 2);
    assert!(offset_of!(VirtioNetHeader, gso_size) == 4);
    assert!(offset_of!(VirtioNetHeader, csum_start) == 6);
    assert!(offset_of!(VirtioNetHeader, csum_offset) == 8);
};

const DEVICE_FLAGS: c_int =
    libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
// `ifr_flags` is a `short`: the flags must survive the cast bit for bit.
const _: () = assert!((DEVICE_FLAGS | libc::IFF_TUN_EXCL) & !0xffff == 0);

const OFFLOADS: c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const OFFLOADS_USO: c_uint = OFFLOADS | libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// What a new device looks like.
#[derive(Debug, Clone, Copy)]
pub struct TunOptions<'a> {
    /// Name in the caller's namespace, unique there, 1 to 15 bytes.
    pub name: &'a str,
    /// Number of queues, 1 to [`QUEUES_MAX`].
    pub queues: u8,
    /// MTU in bytes.
    pub mtu: u16,
    /// Largest superpacket in bytes, IP header included, at most 65,536.
    pub gso_max_size: u32,
    /// Most segments in one superpacket.
    pub gso_max_segs: u16,
    /// Most packets that wait in each queue; what comes then is dropped and counted by the device.
    pub queue_len: u32,
}

impl TunOptions<'_> {
    fn apply_to(&self, ifindex: u32) -> io::Result<()> {
        link::set_mtu(ifindex, u32::from(self.mtu))?;
        link::set_gso_limits(ifindex, self.gso_max_size, self.gso_max_segs)?;
        link::set_queue_len(ifindex, self.queue_len)
    }
}

/// A TUN device with all of its queues open.
#[derive(Debug)]
pub struct Tun {
    ifindex: u32,
    uso: bool,
    steering: bool,
    queues: Vec<TunQueue>,
}

impl Tun {
    /// Creates the device in the calling thread's namespace, down and without addresses.
    ///
    /// # Errors
    /// `InvalidInput` for a name or queue count out of bounds; `EBUSY` when the name is taken
    /// (after a second of retries, for a device that a killed process left behind); whatever the
    /// kernel says otherwise.
    pub fn create(options: &TunOptions<'_>) -> io::Result<Self> {
        let name = interface_name(options.name)?;
        if !(1..=QUEUES_MAX).contains(&options.queues) {
            return Err(invalid_input(format!(
                "queues {}: expected 1 to {QUEUES_MAX}",
                options.queues
            )));
        }
        let first = retry_busy(|| open_queue(&name, DEVICE_FLAGS | libc::IFF_TUN_EXCL))?;
        let uso = configure_device(first.as_fd())?;
        let mut queues = Vec::with_capacity(usize::from(options.queues));
        queues.push(TunQueue { fd: first, uso });
        for _ in 1..options.queues {
            queues.push(TunQueue { fd: open_queue(&name, DEVICE_FLAGS)?, uso });
        }
        let steering = steering::attach(queues[0].as_fd()).is_ok();
        let ifindex = interface_index(options.name)?;
        options.apply_to(ifindex)?;
        Ok(Self { ifindex, uso, steering, queues })
    }

    /// Opens queues of a persistent device that another process has left, in the calling thread's
    /// namespace; its addresses, routes and connections stay. The name in `options` means nothing:
    /// the device is known by its index.
    ///
    /// These queues keep the namespace alive: close them when the container is gone.
    ///
    /// # Errors
    /// `NotFound` when no device has the index; `InvalidInput` when it is not a persistent TUN device
    /// as [`Tun::create`] makes them, or is another one by now; whatever the kernel says otherwise.
    pub fn adopt(ifindex: u32, options: &TunOptions<'_>) -> io::Result<Self> {
        let name = interface_name_of(ifindex)?;
        let name = interface_name(&name)?;
        let mut queues = Vec::with_capacity(usize::from(options.queues));
        for _ in 0..options.queues.min(QUEUES_MAX) {
            // A device that is not there would be made here, and goes again with the error.
            let fd = retry_busy(|| open_queue(&name, DEVICE_FLAGS))?;
            let flags = device_flags(fd.as_fd())?;
            if flags & (DEVICE_FLAGS | libc::IFF_PERSIST) != DEVICE_FLAGS | libc::IFF_PERSIST {
                return Err(invalid_input(format!(
                    "interface with index {ifindex} has the flags {flags:#x}; expected a persistent \
                     TUN with several queues"
                )));
            }
            queues.push(fd);
        }
        let first = queues.first().ok_or_else(|| invalid_input("queues 0: expected at least 1"))?;
        if interface_name_of(ifindex)?.as_bytes() != name.to_bytes() {
            return Err(invalid_input(format!("interface with index {ifindex} was renamed")));
        }
        let uso = configure_device(first.as_fd())?;
        let steering = steering::attach(first.as_fd()).is_ok();
        options.apply_to(ifindex)?;
        let queues = queues.into_iter().map(|fd| TunQueue { fd, uso }).collect();
        Ok(Self { ifindex, uso, steering, queues })
    }

    /// Index of the device in the namespace where it was created or adopted.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether the kernel accepts and emits UDP superpackets (`USO4` and `USO6`).
    pub fn uso(&self) -> bool {
        self.uso
    }

    /// Whether packets are spread by [`steering::flow_hash`]; otherwise by the kernel's automatic
    /// queue choice, because it refused the program.
    pub fn steering(&self) -> bool {
        self.steering
    }

    /// The queues, in the order of their numbers.
    pub fn into_queues(self) -> Vec<TunQueue> {
        self.queues
    }
}

/// One queue of a device, non-blocking.
#[derive(Debug)]
pub struct TunQueue {
    fd: OwnedFd,
    uso: bool,
}

impl TunQueue {
    /// A queue that another process has opened and handed over; `uso` as [`Tun::uso`] said there.
    ///
    /// # Errors
    /// When the descriptor is not a queue, or its device is gone.
    pub fn from_fd(fd: OwnedFd, uso: bool) -> io::Result<Self> {
        device_flags(fd.as_fd())?;
        Ok(Self { fd, uso })
    }

    /// Whether the device is still there.
    pub fn is_there(&self) -> bool {
        device_flags(self.as_fd()).is_ok()
    }

    /// Lets the device stay when its last queue is closed, without a carrier, or not any more.
    ///
    /// # Errors
    /// `EBADFD` when the device is gone.
    pub fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes its argument by value.
        check(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETPERSIST, c_ulong::from(persistent))
        })?;
        Ok(())
    }

    /// Reads one packet with its [`VNET_HEADER_LEN`] header; returns its length. A packet longer
    /// than `buf` is cut off without notice, so `buf` holds `gso_max_size` and the header.
    ///
    /// # Errors
    /// `WouldBlock` when the queue is empty; `EBADFD` when the device is gone (with its namespace).
    #[inline]
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length describe `buf`, which is exclusively ours to write.
        check_len(unsafe { libc::read(self.fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
    }

    /// Writes one packet: `head` (virtio-net header and the first bytes of the packet) and
    /// `payload` (the rest), without joining them first.
    ///
    /// # Errors
    /// `EIO` while the device is down; `EINVAL` when the header contradicts the packet; `EBADFD`
    /// when the device is gone.
    #[inline]
    pub fn write(&self, head: &[u8], payload: &[u8]) -> io::Result<usize> {
        let parts = [
            libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() },
            libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() },
        ];
        // SAFETY: both entries describe live slices, which `writev` only reads.
        check_len(unsafe {
            libc::writev(self.fd.as_raw_fd(), parts.as_ptr(), parts.len() as c_int)
        })
    }

    /// Sets header size, byte order and offloads again: a privileged container may have changed
    /// them on its own device.
    ///
    /// # Errors
    /// `EBADFD` when the device is gone.
    pub fn reassert(&self) -> io::Result<()> {
        set_header(self.as_fd())?;
        set_offloads(self.as_fd(), if self.uso { OFFLOADS_USO } else { OFFLOADS })
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens one queue: the first makes the device (`IFF_TUN_EXCL`), the others join it.
fn open_queue(name: &std::ffi::CStr, flags: c_int) -> io::Result<OwnedFd> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain old data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // `interface_name` admits at most 15 bytes, so a terminating zero stays.
    for (slot, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.to_bytes()) {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives through the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(file.into())
}

/// The flags with which the queue's device was made, and its state.
fn device_flags(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: `ifreq` is plain old data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes one `ifreq`, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    // SAFETY: the kernel has written the flags, and every bit pattern is one.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(c_int::from(flags) & 0xffff)
}

/// Sets everything that belongs to the device; returns whether it does USO.
fn configure_device(fd: BorrowedFd<'_>) -> io::Result<bool> {
    set_header(fd)?;
    let uso = set_offloads(fd, OFFLOADS_USO).is_ok();
    if !uso {
        set_offloads(fd, OFFLOADS)?;
    }
    // An unowned device may be attached and reconfigured by any user.
    // SAFETY: `geteuid` has no preconditions; TUNSETOWNER takes its argument by value.
    check(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TUNSETOWNER, c_ulong::from(libc::geteuid()))
    })?;
    Ok(uso)
}

fn set_header(fd: BorrowedFd<'_>) -> io::Result<()> {
    let size = VNET_HEADER_LEN as c_int;
    let little_endian: c_int = 1;
    // SAFETY: both requests read one `c_int` through the pointer, which lives through the call.
    unsafe {
        check(libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size))?;
        check(libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETLE, &raw const little_endian))?;
    }
    Ok(())
}

fn set_offloads(fd: BorrowedFd<'_>, offloads: c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(offloads)) })?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod test_container;
#[cfg(test)]
mod tests;
