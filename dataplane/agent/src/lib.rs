//! How a host follows its control plane.
//!
//! ```text
//!  join token ─▶ enrol ─▶ identity ─▶ connection ─▶ watch ─▶ Documents ─┐
//!                                        │                              ├─▶ desired ─▶ Dataplane
//!                                        ├─▶ leaves ────────────────────┤
//!  local API ─▶ AgentHandle ─▶ Attach ───┘            bindings ─────────┘
//!                                                     actual ─▶ reports
//! ```
//!
//! What the control plane says is kept, sealed, in a folder of the host ([`State`]): while the control plane is
//! away the host goes on, also after a restart, and admits nothing new, until its certificates end. Keys are made
//! here; only requests for certificates leave the host.

mod agent;
mod connection;
mod desired;
mod documents;
mod enrol;
mod files;
mod identities;
mod join;
mod leaves;
mod plane;
mod refusal;
mod renewal;
mod seal;
mod services;
mod state;
mod status;

pub use self::{
    agent::{Agent, AgentHandle, NewAttachment, Settings},
    connection::{ConnectError, Lookup},
    desired::Desired,
    documents::{DocumentError, Documents},
    enrol::EnrolError,
    join::{JoinToken, JoinTokenError},
    plane::{Actual, ActualAttachment, ActualPeer, Dataplane},
    refusal::RequestError,
    seal::{Seal, SealError},
    state::{State, StateError},
    status::{ALERT_AFTER, ControlStatus},
};
