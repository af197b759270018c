//! What a program gives up for good once what needs privilege is done: capabilities and system calls. Each
//! program says what it needs; the rest is the same for all.
//!
//! Both belong to threads and are inherited, so they are given up while there is one.

mod calls;
mod capabilities;

pub use calls::Calls;
pub use capabilities::{empty_bounding_set, keep_capabilities};
