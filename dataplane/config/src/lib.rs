//! The daemon's configuration file: its form, its checks, and what a reload must do.
//!
//! [`load`] reads the file and every certificate that it names, as the user that the daemon becomes,
//! and either returns a [`Config`] that the daemon can run, or every [`Problem`] at once. [`plan()`] compares two configurations.
//! Nothing here opens a socket or a namespace.
//!
//! ```text
//!  weftd.toml ─▶ document (tables, lines) ─▶ host, environment (fields) ─▶ Config ─┐
//!  *.pem *.key ─────────────────────────────▶ credentials ────────────────┘        ├─▶ plan
//!                                                        the running Config ───────┘
//! ```

mod account;
mod context;
mod control;
mod credentials;
mod document;
mod environment;
mod host;
mod limits;
mod load;
mod member;
mod model;
mod names;
pub mod plan;
mod problem;
mod space;

pub use account::{Account, User};
pub use control::{Control, ControlUrl, STATE_DEFAULT, Seal, UrlError};
pub use limits::{
    ADDRESSES_PER_PEER_MAX, ALTERNATIVES_MAX, ATTACHMENTS_PER_ENVIRONMENT_MAX, EGRESS_MBIT_LIMIT,
    ENVIRONMENTS_MAX, EPOCH_DATAGRAMS_LIMIT, EPOCH_DATAGRAMS_MIN, EPOCH_SECONDS_LIMIT,
    FILE_LEN_MAX, INTERFACE_LEN_MAX, KEEPALIVE_SECONDS_LIMITS, PEERS_PER_ENVIRONMENT_MAX,
    REHANDSHAKE_SECONDS_LIMIT, REHANDSHAKE_SECONDS_MIN, SOCKET_PATH_LEN_MAX, SUBNET_PREFIX_MAX,
    SUBNET6_PREFIX_MAX, USER_LEN_MAX, WEIGHT_DEFAULT, WEIGHT_MAX,
};
pub use load::{check_text, load, load_at, reload};
pub use member::check_interface;
pub use model::{
    API_DEFAULT, Attachment, Config, CredentialFiles, Engine, Environment, INTERFACE_DEFAULT,
    KeyLimits, Latency, LogConfig, LogFormat, LogLevel, Names, Peer, Placement, Share,
};
pub use plan::{Change, RestartNeeded, plan};
pub use problem::Problem;
