//! Handshakes between good hosts, with bad ones, and with programs that are no hosts at all.

mod agreement;
mod certificates;
mod frames;
mod lab;
mod memory;
mod offer;
mod resumption;
mod strangers;
mod streams;

/// The daemon has the same one; `memory` looks at what is left.
#[global_allocator]
static ALLOCATOR: weft_sys::alloc::WipingAllocator = weft_sys::alloc::WipingAllocator;
