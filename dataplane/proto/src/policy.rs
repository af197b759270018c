//! Who may talk to whom inside an environment.
//!
//! ```text
//!  Rules ─▶ compile ─▶ Policy ─┐
//!                              ├─▶ Guard ◀─ all workers: judge(packet)
//!            Flows (kept) ─────┘      └──▶ counters, one line per worker
//! ```
//! Rules are tried in their order and the first that matches decides; whoever may be asked may answer. A
//! [`Guard`] is what an environment's policy is to the engines of all workers: the [`Policy`], which never
//! changes, the flows that it has allowed, and counters. A change of the policy makes another guard with the
//! same flows, each of which is judged anew with its next packet.
//!
//! Flows are shared by workers, since the two directions of a connection may be of different ones; a lock
//! is held for one look-up in a sixteenth of them. An environment without a policy has no guard.

mod bits;
mod compiled;
mod flows;
mod guard;
mod ports;
mod rules;
mod seen;

pub use compiled::{Decision, Ground, Policy};
pub use flows::FLOWS_MAX;
pub use guard::{Denied, Guard, Hits};
pub use rules::{
    ADDRESSES_MAX, PORT_RANGES_MAX, PolicyError, PortRange, RULES_MAX, Rule, Rules, Selector,
    Transport, Verdict,
};
pub use seen::{Protocol, Seen, Tuple};

#[cfg(test)]
mod tests;
