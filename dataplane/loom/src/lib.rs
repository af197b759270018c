//! What workers share without a lock, compiled once more with the atomics of `loom`, which tries
//! every interleaving and every value that a relaxed load may give.
//!
//! The files are those of `weft-proto`, without their own tests. They name their atomics by
//! `crate::sync`, which is another module here.

#[cfg(not(test))]
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[cfg(not(test))]
#[path = "../../proto/src/counters.rs"]
pub mod counters;
#[cfg(not(test))]
#[expect(dead_code, reason = "the rest of the engine uses it")]
#[path = "../../proto/src/pace.rs"]
pub mod pace;

/// Stands for the engine's: only how many there are counts here.
#[cfg(not(test))]
#[derive(Debug, Clone, Copy)]
pub enum DropReason {
    /// Any.
    Some,
}

#[cfg(not(test))]
impl DropReason {
    const COUNT: usize = 1;
}
