//! The keyring through its public interface.
#![expect(clippy::unwrap_used, reason = "tests")]

mod keyring;
mod lab;
mod masters;
mod memory;
mod rotation;
