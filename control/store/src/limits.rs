//! Every bound of a store, the same for each kind of it, so that what fits one fits all.

use std::time::Duration;

/// Longest key, bytes.
pub const KEY_LEN_MAX: usize = 512;
/// Longest value, bytes.
pub const VALUE_LEN_MAX: usize = 256 << 10;
/// Most conditions of a transaction, and most writes: what etcd takes unless told otherwise
/// (`--max-txn-ops`).
pub const OPERATIONS_MAX: usize = 128;
/// Most bytes of keys and values of a transaction, so that it fits in one request to etcd
/// (`--max-request-bytes`, 1.5 MiB).
pub const TRANSACTION_BYTES_MAX: usize = 1 << 20;
/// Most entries of one answer to [`crate::Store::list`].
pub const LIST_LEN_MAX: usize = 1_000;
/// An answer to [`crate::Store::list`] ends with the entry that takes its keys and values to this many bytes
/// or more: one request never costs more memory than this and one value.
pub const LIST_BYTES_MAX: usize = 4 << 20;
/// A watch may begin at least this many revisions back.
pub const HISTORY_REVISIONS_MIN: u64 = 10_000;
/// Shortest life of a lease that is not renewed.
pub const LEASE_TTL_MIN: Duration = Duration::from_secs(2);
/// Longest life of a lease that is not renewed.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(3_600);
