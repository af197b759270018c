//! The local API of the Weft daemon: generated messages, and both ends of its unix socket.
//!
//! The protocol is `proto/weft/local/v1/local.proto`; [`v1`] is generated from it. [`bind()`] is the
//! daemon's end and [`connect()`] the caller's. This crate knows nothing of what the calls do, and
//! its types stop at the API: the daemon converts them at its edge.
//!
//! ```text
//!   weft net, agent ── connect ──▶ /run/weft/weftd.sock (0600) ──▶ bind ── weftd
//! ```

pub mod bind;
pub mod connect;

pub use bind::{BindError, Bound, Listener, bind};
pub use connect::{ConnectError, client, connect};

/// Where the daemon listens unless its configuration says otherwise.
pub const SOCKET_PATH_DEFAULT: &str = "/run/weft/weftd.sock";

/// Longest path of a unix socket in bytes: `sun_path` has 108 with the closing zero (unix(7)).
pub const SOCKET_PATH_LEN_MAX: usize = 107;

/// Largest message of either side in bytes. A status of 64 environments with 1,000 peers each
/// and 200 bytes per peer is 12.8 MB.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The generated messages, client and server of package `weft.local.v1`.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code; it brings its own attributes"
)]
pub mod v1 {
    tonic::include_proto!("weft.local.v1");
}
