//! The control API of Weft: generated messages, clients and servers.
//!
//! The protocol is `proto/weft/control/v1/*.proto`, which is the contract; [`v1`] is generated from it. This
//! crate knows nothing of what the calls do, and its types stop at the API: the server converts them at its edge.

/// Largest message of either side, bytes: a page of 1,000 entries of 1 KiB, with room.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The description of the protocol (`google.protobuf.FileDescriptorSet`), for reflection and documentation.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weft.control.v1.bin"));

/// The generated messages, clients and servers of package `weft.control.v1`.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code; it brings its own attributes"
)]
pub mod v1 {
    tonic::include_proto!("weft.control.v1");
}
