//! What environments and attachments may send, as workers know it.

use std::{sync::Arc, time::Instant};

use weft_config::Share;
use weft_proto::{Pace, Weight};

/// A share as workers know it, with one pace for all of them.
pub(super) fn proto_share(share: Share) -> weft_proto::Share {
    let bits_per_second = share.egress_mbit_max.map(|mbit| u64::from(mbit) * 1_000_000);
    weft_proto::Share {
        weight: Weight::new(share.weight),
        pace: bits_per_second.map(|rate| Arc::new(Pace::new(Instant::now(), rate))),
    }
}
