//! Receiver indices that belong to a handshake until it is established.

use std::{fmt, ops::Deref, sync::Arc};

use weft_types::ReceiverIndex;

/// No receiver index is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no receiver index is free on this host")]
pub struct Exhausted;

/// Where receiver indices come from. Called from the threads that run handshakes.
pub trait IndexAllocator: Send + Sync {
    /// Takes one index for each of the peer's `lanes` (1 to 64), in lane order: index `i` is
    /// received by this host's worker `i mod workers`.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing was taken then.
    fn allocate(&self, lanes: u8) -> Result<Vec<ReceiverIndex>, Exhausted>;

    /// Takes back indices of a handshake that failed. They were on the wire already, so they are
    /// to rest like those of a session that ended.
    fn release(&self, indices: &[ReceiverIndex]);
}

/// Receiver indices that go back to their allocator when this is dropped, unless somebody
/// [keeps](IndexGuard::keep) them. So no way out of a handshake, be it an error, a deadline or a
/// cancelled task, can leak one.
#[must_use = "dropping the guard releases the indices"]
pub struct IndexGuard {
    indices: Vec<ReceiverIndex>,
    allocator: Arc<dyn IndexAllocator>,
}

impl IndexGuard {
    /// Takes indices for a peer's `lanes`.
    ///
    /// # Errors
    /// [`Exhausted`], also when the allocator gave another number.
    pub fn allocate(allocator: &Arc<dyn IndexAllocator>, lanes: u8) -> Result<Self, Exhausted> {
        let guard = Self { indices: allocator.allocate(lanes)?, allocator: Arc::clone(allocator) };
        if guard.len() == usize::from(lanes) { Ok(guard) } else { Err(Exhausted) }
    }

    /// Hands the indices over to a session, which has to give them back itself.
    #[must_use]
    pub fn keep(mut self) -> Vec<ReceiverIndex> {
        std::mem::take(&mut self.indices)
    }
}

impl Deref for IndexGuard {
    type Target = [ReceiverIndex];

    fn deref(&self) -> &[ReceiverIndex] {
        &self.indices
    }
}

impl Drop for IndexGuard {
    fn drop(&mut self) {
        if !self.indices.is_empty() {
            self.allocator.release(&self.indices);
        }
    }
}

impl fmt::Debug for IndexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.indices.fmt(f)
    }
}
