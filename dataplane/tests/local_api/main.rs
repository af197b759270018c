//! The real daemon, its local API, its metrics, and its end. Needs root.
//!
//! ```text
//!  test ── host-1.sock ──▶ weftd (own namespace, lo) ◀── 127.0.0.1:9820 ── test
//!                            └── weft0 ──▶ container (own namespace)
//! ```

// `cfg(test)` always holds here; it tells clippy that helpers of tests may unwrap.
#[cfg(test)]
mod answers;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod end;
#[cfg(test)]
mod names;
#[cfg(test)]
mod policy;
