//! Where the log of a process is, for who looks for it from another machine.

use serde::{Deserialize, Serialize};

use crate::{signed::Statement, text::ProcessId};

/// Where a process keeps its log: signed and in the store, so that a log that is gone is told from one that is
/// elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// Whose log.
    pub process: ProcessId,
    /// The machine, as it calls itself.
    pub machine: String,
    /// The log's own folder there.
    pub folder: String,
    /// The folder of the second host's copy, as that machine sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
}

impl Statement for Home {
    const LABEL: &'static str = "weft audit home v1";
}
