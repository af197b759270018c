//! `io_uring_enter` with a registered descriptor and a timeout.
//!
//! The crate's own calls look the descriptor up each time; a registered one is an index into a
//! table of the thread.

use std::ffi::c_uint;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::{EnterFlags, IoUring};

use crate::syscall::check;

/// How the calling thread names its ring to the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handle {
    Descriptor(RawFd),
    /// Index in the thread's table of registered rings.
    Registered(RawFd),
}

const _: () = assert!(size_of::<WaitArgument>() == 24);

/// `struct io_uring_getevents_arg` of the kernel.
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_len: u32,
    min_wait_microseconds: u32,
    timeout: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct Timeout {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_rsrc_update`, as `IORING_REGISTER_RING_FDS` reads and writes it.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

pub(super) const REGISTER_RING_FDS: c_uint = 20;

impl Handle {
    /// Registers the ring with the calling thread, which alone may use the handle; by descriptor
    /// where that is refused.
    pub(super) fn register(ring: &IoUring) -> Self {
        let fd = ring.as_raw_fd();
        let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: fd as u64 };
        // SAFETY: the call reads and writes one `io_uring_rsrc_update`, which lives through it.
        let registered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                fd,
                REGISTER_RING_FDS,
                &raw mut update,
                1 as c_uint,
            )
        };
        match (registered, RawFd::try_from(update.offset)) {
            (1, Ok(index)) => Self::Registered(index),
            _ => Self::Descriptor(fd),
        }
    }

    /// Submits `submit` entries, lets the kernel work off what arrived, and waits until `want`
    /// completions are there or `timeout` is over (`None`: for ever).
    #[inline]
    pub(super) fn enter(
        self,
        submit: u32,
        want: u32,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| Timeout {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: timeout.subsec_nanos().into(),
        });
        let argument = WaitArgument {
            signal_mask: 0,
            signal_mask_len: 0,
            min_wait_microseconds: 0,
            timeout: timeout.as_ref().map_or(0, |t| (&raw const *t).expose_provenance() as u64),
        };
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let fd = match self {
            Self::Descriptor(fd) => fd,
            Self::Registered(index) => {
                flags |= EnterFlags::REGISTERED_RING;
                index
            }
        };
        // SAFETY: argument and timeout live through the call, the length is the argument's, and
        // the kernel only reads them.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                submit,
                want,
                flags.bits(),
                &raw const argument,
                size_of::<WaitArgument>(),
            )
        };
        let submitted = check(i32::try_from(submitted).unwrap_or(-1))?;
        Ok(usize::try_from(submitted).unwrap_or(0))
    }
}
