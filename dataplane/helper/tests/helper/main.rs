//! The real helper with real interfaces in namespaces of its own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test")]

mod asking;
mod host;
mod keeping;
