//! What can be wrong with a log.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::line::LineError;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not a line that Weft wrote.
    #[error("the line {0}")]
    Line(LineError),
    /// A line was taken out, put in, or moved.
    #[error("the line has number {found}; expected {expected}")]
    Sequence {
        /// Its number.
        found: u64,
        /// Its place.
        expected: u64,
    },
    /// The line before is not the one that was there when this was written.
    #[error("the line does not follow the one before: one of them was changed")]
    Link,
    /// Of another process or another place.
    #[error("the segment is of another process, or was another segment")]
    Foreign,
    /// A segment that begins in its middle or goes on after its end.
    #[error("such a line is not expected here")]
    Order,
    /// The last line of a segment does not fit the others.
    #[error("the times at the segment's end are not those of its lines")]
    Span,
    /// A segment has no end, and another follows.
    #[error("the segment before was cut off: its last line is missing")]
    NotClosed,
    /// A whole segment is not there.
    #[error("segment {0} is missing")]
    Missing(u64),
    /// A file that is none of the log's.
    #[error("the name is not one of a segment")]
    Name,
    /// A signed head says otherwise.
    #[error("the line is not the one that was anchored: everything up to it may have been changed")]
    Anchor,
    /// A signed head is of a later line than there is.
    #[error("the log ends at line {last}, and line {anchored} was anchored: the end was cut off")]
    Truncated {
        /// The last line that is there.
        last: u64,
        /// A line that was there.
        anchored: u64,
    },
    /// A signed statement is not what it should be.
    #[error("{0}")]
    Statement(String),
    /// A stub that says that segments expired before their time.
    #[error("segments were removed before they expired")]
    ExpiredEarly,
    /// Nothing is where the log should be.
    #[error("the log is not there")]
    Absent,
    /// The second host's copy has not all lines.
    #[error("the second host's copy lacks line {0}")]
    Lacks(u64),
    /// The second host's copy has other bytes.
    #[error("the second host's copy has another line {0} than the log")]
    Differs(u64),
    /// The second host's copy has what the log has not: it was taken from the log.
    #[error("the second host's copy goes on with line {0}, which is missing in the log")]
    Ahead(u64),
    /// What is in a blob store is none of ours, or was changed, or lies where another object was.
    #[error("the object does not open: it was changed or swapped, or another key sealed it")]
    Unopened,
    /// A part of a segment is not in the blob store.
    #[error("the object is missing")]
    ObjectMissing,
    /// There are two of a segment in the blob store: two processes had one id, or somebody else writes there.
    #[error("another segment {0} is there too")]
    Twice(u64),
    /// A segment in the blob store is not the one that was shipped.
    #[error("the segment is not the one that was shipped")]
    NotShipped,
    /// The operating system, or the blob store, refused.
    #[error("cannot be read: {0}")]
    Io(String),
}

/// The first place where a log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or folder; `None` for an anchor.
    pub file: Option<PathBuf>,
    /// The line in it, counted from 1; 0 where no line is to blame.
    pub line: u64,
    /// What is wrong.
    pub fault: Fault,
}

impl Finding {
    /// In this file.
    #[must_use]
    pub fn in_file(file: &Path, line: u64, fault: Fault) -> Self {
        Self { file: Some(file.to_owned()), line, fault }
    }

    pub(crate) fn io(file: &Path, error: &std::io::Error) -> Self {
        Self::in_file(file, 0, Fault::Io(error.to_string()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("an anchor")?,
        }
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for Finding {}
