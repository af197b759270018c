//! Buffers that the kernel chooses from (`IORING_REGISTER_PBUF_RING`).
//!
//! ```text
//!  offered to the kernel, oldest first      used by it: a Loan      free, hottest on top
//!  ┌────┬────┬────┐                         ┌────┐                  ┌────┬────┬────┐
//!  │ 7  │ 3  │ 9  │ ──── completion ──────▶ │ 7  │ ── give_back ──▶ │ 7  │ 12 │ …  │
//!  └────┴────┴────┘                         └────┘                  └────┴────┴────┘
//!        ▲                                                             │
//!        └────────────────── offer: as many as are wanted ─────────────┘
//! ```
//!
//! The kernel takes the buffer that was offered first. If all were offered all the time, large
//! messages would wander through megabytes and find each buffer cold. So only as many are offered
//! as make [`OFFERED_BYTES`] with messages as they were lately, the last used first.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::mapping::Mapping;

/// Bytes of messages that should wait in buffers at most, so that they are still in the cache when
/// their turn comes.
const OFFERED_BYTES: usize = 128 * 1024;
/// Fewest buffers offered: one to work on, others to be filled meanwhile.
pub(super) const OFFERED_MIN: u16 = 2;

/// A buffer with something in it, on its way from the kernel through the program. It belongs to
/// the pool that it came from and goes back there; one that is dropped is lost to the pool.
#[derive(Debug)]
#[must_use = "goes back to its ring"]
pub struct Loan {
    pub(super) group: u16,
    pub(super) buffer: u16,
    pub(super) len: usize,
}

/// One group of buffers.
pub(super) struct Pool {
    group: u16,
    /// What the kernel reads: entries and, in the first one, the tail.
    entries: Mapping,
    buffers: Mapping,
    count: u16,
    buffer_len: usize,
    stride: usize,
    tail: u16,
    free: Vec<u16>,
    offered: u16,
    wanted: u16,
    /// Of the messages since the last [`Pool::offer`], bytes.
    largest: usize,
}

impl Pool {
    /// Maps `count` buffers (a power of two) of `buffer_len` bytes, `stride` bytes apart.
    pub(super) fn new(
        group: u16,
        count: u16,
        buffer_len: usize,
        stride: usize,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two() && buffer_len <= stride, "see the constants");
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let buffers = Mapping::new(usize::from(count) * stride)?;
        let free = (0..count).rev().collect();
        let (tail, offered, wanted, largest) = (0, 0, count, 0);
        Ok(Self {
            group,
            entries,
            buffers,
            count,
            buffer_len,
            stride,
            tail,
            free,
            offered,
            wanted,
            largest,
        })
    }

    /// Makes the group known to the ring.
    pub(super) fn register(&self, ring: &IoUring) -> io::Result<()> {
        let address = self.entries.start().as_ptr().expose_provenance() as u64;
        // SAFETY: the entries are a mapping of their own of `count` entries, and the owner of this
        // pool keeps it until the ring is gone.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, self.count, self.group, 0) }
    }

    /// Gives the kernel as many buffers as it should have.
    #[inline]
    pub(super) fn offer(&mut self) {
        if let Some(fitting) = OFFERED_BYTES.checked_div(self.largest) {
            let fitting = u16::try_from(fitting).unwrap_or(u16::MAX);
            self.wanted = fitting.clamp(OFFERED_MIN.min(self.count), self.count);
            self.largest = 0;
        }
        if self.offered >= self.wanted {
            return;
        }
        while self.offered < self.wanted
            && let Some(buffer) = self.free.pop()
        {
            self.write_entry(buffer);
            self.offered += 1;
        }
        self.publish();
    }

    /// The kernel filled buffer `buffer` with `len` bytes.
    #[inline]
    pub(super) fn taken(&mut self, buffer: u16, len: usize) -> Loan {
        self.offered = self.offered.saturating_sub(1);
        self.largest = self.largest.max(len);
        Loan { group: self.group, buffer, len: len.min(self.buffer_len) }
    }

    /// The content of a loan of this pool.
    #[inline]
    pub(super) fn content(&mut self, loan: &mut Loan) -> &mut [u8] {
        assert!(loan.group == self.group && loan.buffer < self.count, "a loan of this pool");
        let at = usize::from(loan.buffer) * self.stride;
        // SAFETY: the buffer is inside the mapping (`buffer < count`, `len <= buffer_len <=
        // stride`), which is readable, writable and zero-filled. A loan is unique and exists only
        // while its buffer is not offered, so the kernel does not write to it, and `&mut self`
        // makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.buffers.start().as_ptr().add(at), loan.len) }
    }

    #[inline]
    pub(super) fn give_back(&mut self, loan: Loan) {
        debug_assert_eq!(loan.group, self.group, "a loan of this pool");
        self.free.push(loan.buffer);
    }

    /// Buffers that the kernel has.
    #[cfg(test)]
    pub(super) fn offered(&self) -> u16 {
        self.offered
    }

    /// Never frees the memory.
    pub(super) fn leak(&mut self) {
        self.entries.leak();
        self.buffers.leak();
    }

    #[inline]
    fn write_entry(&mut self, buffer: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        let address = self.buffers.start().as_ptr().wrapping_add(usize::from(buffer) * self.stride);
        let entries: NonNull<BufRingEntry> = self.entries.start().cast();
        // SAFETY: `at` is below `count`, the mapping is page-aligned, holds so many entries and any
        // bits are a valid entry. The kernel reads this entry only after `publish`; the setters do
        // not touch the field that is the tail.
        let entry = unsafe { &mut *entries.as_ptr().add(at) };
        entry.set_addr(address.expose_provenance() as u64);
        entry.set_len(u32::try_from(self.buffer_len).unwrap_or(0));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let entries = self.entries.start().cast::<BufRingEntry>();
        // SAFETY: the tail is the last field of the first entry, which is mapped; it is aligned
        // for a `u16`, and the kernel only reads it.
        let tail = unsafe { &*BufRingEntry::tail(entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u16 = 4;
    const LEN: usize = 60;

    fn pool() -> Pool {
        Pool::new(1, COUNT, LEN, 64).unwrap()
    }

    /// What the kernel would find in an entry.
    fn entry(pool: &Pool, at: usize) -> (u64, u32, u16) {
        let entries = pool.entries.start().cast::<BufRingEntry>();
        // SAFETY: `at` is below the count of entries that the mapping holds.
        let entry = unsafe { &*entries.as_ptr().add(at) };
        (entry.addr(), entry.len(), entry.bid())
    }

    #[test]
    fn every_buffer_is_offered_once_and_with_its_own_memory() {
        let mut pool = pool();
        pool.offer();
        assert_eq!(pool.offered(), COUNT);
        let mut seen: Vec<_> = (0..COUNT.into()).map(|at| entry(&pool, at)).collect();
        seen.sort_unstable_by_key(|(address, ..)| *address);
        let start = pool.buffers.start().as_ptr().addr() as u64;
        let expected: Vec<_> =
            (0..COUNT).map(|n| (start + u64::from(n) * 64, LEN as u32, n)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn loans_are_apart_from_one_another() {
        let mut pool = pool();
        pool.offer();
        let mut loans: Vec<_> = (0..COUNT).map(|buffer| pool.taken(buffer, LEN + 9)).collect();
        for (loan, byte) in loans.iter_mut().zip(1..) {
            assert_eq!(pool.content(loan), [0; LEN], "never more than the buffer has");
            pool.content(loan).fill(byte);
        }
        for (loan, byte) in loans.iter_mut().zip(1..) {
            assert_eq!(pool.content(loan), [byte; LEN]);
        }
        // A buffer that is offered again goes to the end, over what the kernel has read already.
        for loan in loans {
            pool.give_back(loan);
        }
        pool.offer();
        assert_eq!((pool.offered(), pool.tail), (COUNT, 2 * COUNT));
    }

    #[test]
    #[should_panic(expected = "a loan of this pool")]
    fn a_loan_of_another_pool_is_refused() {
        let mut loan = Loan { group: 2, buffer: 0, len: 1 };
        pool().content(&mut loan);
    }
}
