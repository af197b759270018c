//! What the control plane and the scheduler keep: a small transactional key-value store.
//!
//! ```text
//!   control, scheduler ──▶ dyn Store ──┬── Memory   for tests and simulations
//!                                      ├── Sqlite   one management host; every commit is on the disk
//!                                      └── Etcd     several management hosts
//! ```
//!
//! Keys are paths, values are bytes, and every change has a [`Revision`] that only grows. A [`Transaction`]
//! is a compare-and-swap over any of its keys: all of its writes happen at one revision, or none does. So
//! whatever two processes think of who leads, nothing is done twice: locks alone exclude nobody, conditions
//! on revisions do. Reads see the newest committed state (linearizable). A [`Watch`] tells every change after
//! a revision, in order, each revision whole, and says so when history no longer reaches that far back.
//!
//! This crate knows nothing of what the bytes mean.

mod clock;
mod entry;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod export;
mod feed;
mod key;
mod limits;
mod memory;
pub mod mirror;
mod new_file;
mod open;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod store;
mod transaction;
mod url;
mod watch;

pub use self::{
    clock::Clock,
    entry::{Entry, Page, Revision},
    error::{CommitError, StoreError, WatchError},
    key::{Key, KeyError},
    limits::{
        HISTORY_REVISIONS_MIN, KEY_LEN_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN, LIST_BYTES_MAX,
        LIST_LEN_MAX, OPERATIONS_MAX, TRANSACTION_BYTES_MAX, VALUE_LEN_MAX,
    },
    memory::{Fault, Memory},
    mirror::{Fold, Mirror, Standing},
    open::{OpenStoreError, StoreOptions, connect, open},
    store::{LeaseId, Store},
    transaction::{Condition, Transaction, Write},
    url::{ETCD_PREFIX_DEFAULT, StoreUrl, UrlError},
    watch::{Batch, Change, Watch},
};

#[cfg(feature = "etcd")]
pub use self::etcd::{Etcd, EtcdOptions, EtcdTls};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Sqlite, SqliteOptions};
