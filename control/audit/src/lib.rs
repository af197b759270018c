//! The audit: who did what, when, from where, on what, and what came of it. Append-only, and so that it shows
//! when it was not.
//!
//! ```text
//!  Audit::record ─▶ segment files of this process ─▶ a second host
//!     │              each line has the hash of the one before
//!     │              each minute a signed head ─▶ anchored in the store
//!     ▼
//!  only then the API answers
//!
//!  files ─▶ query: a page of events        files + anchors + public keys ─▶ verify: whole, or the first fault
//! ```
//!
//! - **Nothing happens without its record.** What changes something calls [`Audit::begin`] before and
//!   [`Pending::finish`] after; what only reads, or was denied, calls [`Audit::record`]. When the log cannot be
//!   written, both refuse, and so must the caller.
//! - **No secret in a record.** An [`Event`] is made of names and numbers; there is no field for what a request
//!   said, and keys do not fit where names do.
//! - **Any change is found** up to the last anchored head, by whoever has the heads and the public keys,
//!   with `sha256sum` and `jq` if need be: `docs/audit.md`.
//! - Lines are kept for six years ([`RETENTION_DAYS`]), then whole segments go and leave a signed stub.
//!
//! This crate does not decide who may read the audit.

mod anchor;
mod audit;
mod chain;
mod compare;
mod copy;
mod digest;
mod disk;
mod ended;
mod event;
mod fault;
mod home;
mod line;
mod log;
mod query;
mod recover;
mod replica;
mod segment;
mod shipped;
mod signed;
mod stub;
mod text;
mod time;
mod verify;

pub use self::{
    anchor::{ANCHOR_PREFIX, AnchorError, AnchorVersion, Anchored, Anchors, StoreAnchors},
    audit::{
        ANCHOR_INTERVAL, Audit, BATCH_LEN_MAX, Clock, ExpireError, OpenError, Options, Pending,
        QUEUE_LEN_MAX, Refused, Running, Status,
    },
    chain::Position,
    compare::{Compared, compare},
    copy::{NewLog, copy},
    digest::Digest,
    ended::{check_segment, ended, read_segment},
    event::{Actor, Event, FACTS_MAX, Fact, Facts, Origin, Outcome, RequestId},
    fault::{Fault, Finding},
    home::Home,
    line::{Body, Close, Cut, LINE_LEN_MAX, Line, LineError, Open},
    log::{Place, RETENTION_DAYS, SEGMENT_LEN_MAX},
    query::{
        Cursor, Found, PAGE_LEN_MAX, PAGE_LINES_MAX, PROCESSES_MAX, Page, Query, QueryError, query,
    },
    recover::RecoverError,
    replica::{FolderReplica, Held, PIECE_LEN_MAX, Replica, ReplicaError, TAIL_LEN_MAX},
    shipped::{ObjectKind, ObjectName, PIECE_OF_SEGMENT_LEN, PIECES_MAX, Shipped},
    signed::{
        Expired, Head, PublicKey, SIGNED_LEN_MAX, Signed, SignedError, SignedHead, Signer,
        SignerError, Statement,
    },
    stub::stub,
    text::{NAME_LEN_MAX, Name, OBJECT_NAMES_MAX, Object, ProcessId, TextError, Word},
    time::Timestamp,
    verify::{Verification, Verified, verify},
};
