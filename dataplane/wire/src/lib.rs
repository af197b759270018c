//! The Weft wire format: how datagrams, frames and inner packets look, and how to read and write
//! them. Pure functions on byte slices; no I/O, no keys, no state.
//!
//! ```text
//!  UDP payload (one datagram)
//!  ┌──────────────┬───────────────────────────────────────────────────────────┬──────────┐
//!  │ Header 16 B  │ sealed: payload chunk ‖ inner header ‖ Metadata 12 B      │ tag 16 B │
//!  │ clear, AAD   │                        (GSO only)                         │          │
//!  └──────────────┴───────────────────────────────────────────────────────────┴──────────┘
//! ```
//!
//! The inner header stands *behind* the payload so that a receiver that opens datagram after
//! datagram overwrites it with the next payload chunk: the payloads join without a copy.

pub mod checksum;
mod control;
mod datagram;
mod ecn;
mod frame;
pub mod hello;
pub mod icmp;
mod inner;
mod metadata;
pub mod record;
mod run;
pub mod virtio;

pub use control::{CONTROL_LEN, Control, ControlError};
pub use datagram::{
    DATAGRAM_MAX, DATAGRAM_MIN, HEADER_LEN, Header, HeaderError, Kind, OVERHEAD, PROTOCOL_VERSION,
    TAG_LEN,
};
pub use ecn::{Ecn, ecn_of, join_ecn, set_ecn};
pub use frame::{Frame, FrameError, GSO_HEADER_MAX, Gso, Offload, SEGMENTS_MAX};
pub use inner::{Fragment, Inner, InnerError, Version, protocol};
pub use metadata::{
    ALWAYS_CARRIED_LEN, CHUNKS_MAX, METADATA_LEN, Metadata, MetadataError, PIECED_LEN_MAX,
    PIECES_MAX,
};
pub use run::{Run, apply as apply_run};
pub use virtio::{VIRTIO_HEADER_LEN, VirtioHeader};
