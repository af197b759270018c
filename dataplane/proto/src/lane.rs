//! Lanes: one direction of one session on one sending worker, with its key, counter and replay
//! window.

mod receive;
mod send;

pub use receive::{Damage, Opened, ReceiveLane, Rejected};
pub use send::{
    EPOCH_AGE_MAX, EPOCH_DATAGRAMS_MAX, EPOCH_LONG_DATAGRAMS_MAX, LONG_DATAGRAM, Limits, Rekey,
    SendLane, SendRefusal,
};

#[cfg(test)]
mod tests;
