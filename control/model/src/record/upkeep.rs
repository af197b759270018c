//! What processes keep of the store itself.

use serde::{Deserialize, Serialize};

use super::{Record, UnixMs};

/// What a release has to read to work here, see [`crate::format`]. It is read whatever else is in it, as nothing else is: a
/// later release may add to it, and its number has to be understood by every earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The newest format in which something may be written here.
    pub format: u32,
}

impl Record for Format {
    const KIND: &'static str = "format";

    fn path(&self) -> String {
        // There is one.
        "this".to_owned()
    }
}

/// The newest time that the processes of an installation have agreed on, see [`crate::settled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// It is not earlier than this.
    pub at: UnixMs,
}

impl Record for Settled {
    const KIND: &'static str = "time";

    fn path(&self) -> String {
        // There is one.
        "v1".to_owned()
    }
}
