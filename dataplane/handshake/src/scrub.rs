//! Overwrites what a handshake left on the stack.
//!
//! Key schedules are computed in stack buffers, and neither TLS nor the cryptography library wipes
//! all of them. Freed heap memory is the allocator's matter (`weft-sys` has one that wipes); this
//! is its counterpart for the stack.

use std::{future::poll_fn, hint::black_box, pin::pin};

/// Deeper than any call chain of a handshake below the function that calls this, in bytes, and
/// far below the 2 MiB of a thread's stack.
const DEPTH: usize = 128 * 1024;

/// Overwrites the stack below the caller with zeros. To be called after the secrets went out of
/// scope, from a frame no deeper than the one that called the code which used them.
#[inline(never)]
fn scrub_stack() {
    let mut below = [0u8; DEPTH];
    black_box(&mut below);
}

/// Runs `work` and overwrites, after each time that it was polled, what that left on the stack.
/// Each time, because the next may be on another thread. A handshake is polled about six times,
/// and once costs a few microseconds.
pub(crate) async fn scrubbed<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        scrub_stack();
        polled
    })
    .await
}
