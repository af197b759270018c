//! Memory for the kernel to fill: page-aligned, zero-filled, in nobody's allocator.

use std::io;
use std::ptr::NonNull;

/// Pages are not reserved; Miri, which knows no such thing, is not asked for it.
const RESERVE: libc::c_int = if cfg!(miri) { 0 } else { libc::MAP_NORESERVE };

/// An anonymous private mapping. Pages that were never touched cost nothing.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that this value alone owns.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of
        // ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | RESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Datagrams are opened in place: keep them out of core dumps. Best effort, since dumps are
        // off for the process anyway.
        #[cfg(not(miri))]
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        unsafe {
            libc::madvise(start, len, libc::MADV_DONTDUMP);
        }
        let start = NonNull::new(start.cast())
            .ok_or_else(|| io::Error::other("mmap returned the null page"))?;
        Ok(Self { start, len })
    }

    /// Keeps the memory mapped for good.
    pub(crate) fn leak(&mut self) {
        self.len = 0;
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: `new` made exactly this mapping and no borrow of it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
