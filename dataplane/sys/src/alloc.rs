//! An allocator that wipes what it frees, so that keys never survive in freed heap memory.
//!
//! Neither TLS nor AEAD libraries wipe everything that they hold; this catches what they leave.
//! It costs a `memset` per free, which the packet path never does.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system allocator, with every block overwritten by zeros when it is given back. Growing and
/// shrinking moves to a new block (the default of [`GlobalAlloc`]) and wipes the old one.
#[derive(Debug, Default, Clone, Copy)]
pub struct WipingAllocator;

// SAFETY: all blocks come from and go back to `System` with their layout unchanged; wiping touches
// only the block being freed. `realloc` is the trait's own: alloc, copy, dealloc.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a block of this layout that nobody uses any more, so its
        // `layout.size()` bytes are ours to write, and `System` made it.
        unsafe {
            wipe(block, layout.size());
            System.dealloc(block, layout);
        }
    }
}

/// Overwrites `len` bytes with zeros, and not only in the optimiser's mind.
///
/// # Safety
/// The bytes are valid for writes and nobody else uses them.
unsafe fn wipe(start: *mut u8, len: usize) {
    // SAFETY: the caller promises that the range is valid for writes.
    unsafe { start.write_bytes(0, len) };
    // The block is dead to the compiler after `free`; an assembly block that may read it keeps the
    // stores above. Miri optimises nothing and knows no assembly.
    #[cfg(not(miri))]
    // SAFETY: the block is empty.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: [u8; 48] = *b"canary canary canary canary canary canary canary";

    #[test]
    fn so_many_bytes_are_wiped_and_no_other() {
        let mut bytes = CANARY;
        // SAFETY: the range is inside `bytes`, which nobody else has.
        unsafe { wipe(bytes.as_mut_ptr().add(3), 40) };
        assert_eq!((&bytes[..3], &bytes[43..]), (&CANARY[..3], &CANARY[43..]));
        assert_eq!(bytes[3..43], [0; 40]);
    }

    #[test]
    fn a_block_keeps_its_content_while_it_grows_and_shrinks() {
        let layout = |len| Layout::from_size_align(len, 16).unwrap();
        // SAFETY: no layout is empty, each block is used within its own, and given back once.
        unsafe {
            let block = WipingAllocator.alloc_zeroed(layout(48));
            assert_eq!(std::slice::from_raw_parts(block, 48), [0; 48]);
            block.copy_from_nonoverlapping(CANARY.as_ptr(), CANARY.len());
            let block = WipingAllocator.realloc(block, layout(48), 4096);
            assert_eq!(std::slice::from_raw_parts(block, 48), CANARY);
            let block = WipingAllocator.realloc(block, layout(4096), 20);
            assert_eq!(std::slice::from_raw_parts(block, 20), &CANARY[..20]);
            WipingAllocator.dealloc(block, layout(20));
        }
    }

    /// Whether the canary is in freed memory at `address`. The first 16 bytes of a freed block
    /// belong to the system allocator's lists.
    fn survives(address: *const u8) -> bool {
        let mut seen = [0_u8; 32];
        // Through the kernel: reading freed memory directly would be undefined.
        let local = libc::iovec { iov_base: seen.as_mut_ptr().cast(), iov_len: seen.len() };
        let remote =
            libc::iovec { iov_base: address.wrapping_add(16).cast_mut().cast(), iov_len: 32 };
        // SAFETY: the local vector describes `seen`; the remote one is checked by the kernel.
        let read = unsafe {
            libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
        };
        read == 32 && seen == CANARY[16..]
    }

    /// Fills a new block with the canary, lets `end` get rid of it, looks at what is left there.
    fn survives_end(allocator: &impl GlobalAlloc, end: fn(*mut u8, Layout)) -> bool {
        let layout = Layout::new::<[u8; CANARY.len()]>().align_to(16).unwrap();
        // SAFETY: the layout is not empty; the copy fits the block.
        let block = unsafe {
            let block = allocator.alloc(layout);
            assert!(!block.is_null());
            block.copy_from_nonoverlapping(CANARY.as_ptr(), CANARY.len());
            // Somebody might have read it, so the copy is not optimised away.
            std::hint::black_box(block)
        };
        end(block, layout);
        survives(block)
    }

    fn free_plain(block: *mut u8, layout: Layout) {
        // SAFETY: `survives_end` gives away a block of this layout.
        unsafe { System.dealloc(block, layout) }
    }

    fn free_wiping(block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { WipingAllocator.dealloc(block, layout) }
    }

    fn grow_wiping(block: *mut u8, layout: Layout) {
        // SAFETY: as above; the grown block is freed with the layout that it then has.
        unsafe {
            let grown = WipingAllocator.realloc(block, layout, 4096);
            assert_eq!(std::slice::from_raw_parts(grown, CANARY.len()), CANARY);
            WipingAllocator.dealloc(grown, Layout::from_size_align(4096, 16).unwrap());
        }
    }

    #[test]
    fn freed_and_moved_blocks_are_wiped() {
        assert!(survives_end(&System, free_plain), "the check must see ordinary leftovers");
        assert!(!survives_end(&WipingAllocator, free_wiping));
        assert!(!survives_end(&WipingAllocator, grow_wiping));
    }
}
