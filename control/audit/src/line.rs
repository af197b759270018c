//! One line of a log.
//!
//! ```text
//!  {"seq":2,"prev":"9f…","at":"2026-11-30T06:48:10.123456Z","event":{"who":"user/alice", …}}
//! ```
//!
//! JSON (RFC 8259) with a newline, in one way of writing only: no spaces, these fields in this order, nothing
//! else. What does not print as it was read is no line.
//!
//! | Field | Meaning |
//! |---|---|
//! | `seq` | number of the line in the log of its process, from 1 on, over all segments |
//! | `prev` | SHA-256 of the line before, with its newline; zeros before the first |
//! | `at` | when it was written |
//! | one of `open`, `event`, `cut`, `close` | what it says |

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, event::Event, text::ProcessId, time::Timestamp};

/// Longest line with its newline, bytes; a test has the longest event.
pub const LINE_LEN_MAX: usize = 4 << 10;
/// The format that is written now.
const FORMAT: u32 = 1;

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// 1.
    format: u32,
    /// Whose log it is.
    pub process: ProcessId,
    /// Number of the segment, from 1 on.
    pub segment: u64,
}

impl Open {
    pub(crate) fn new(process: ProcessId, segment: u64) -> Self {
        Self { format: FORMAT, process, segment }
    }
}

/// A line that was being written when the process or the machine stopped was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// How much of it there was.
    pub bytes: u64,
    /// SHA-256 of what there was.
    pub sha256: Digest,
}

/// The last line of a segment, when another follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The earliest time of the segment's lines before this one; clocks may go back.
    pub earliest: Timestamp,
    /// The latest time of the segment's lines before this one.
    pub latest: Timestamp,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A segment begins.
    Open(Open),
    /// Something happened.
    Event(Event),
    /// A torn line was cut off.
    Cut(Cut),
    /// The segment ends.
    Close(Close),
}

/// One line; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: Digest,
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub body: Body,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    seq: u64,
    prev: Digest,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    close: Option<Close>,
}

/// Why bytes are no line of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than any.
    #[error("is longer than {LINE_LEN_MAX} bytes")]
    TooLong,
    /// There is no newline at the end.
    #[error("does not end")]
    Unfinished,
    /// Not JSON, or not with these fields.
    #[error("cannot be read: {0}")]
    Malformed(String),
    /// Of a later release.
    #[error("has format {0}; expected {FORMAT}")]
    Format(u32),
    /// It means something, but nobody writes it like that.
    #[error("is not written as Weft writes it")]
    NotCanonical,
}

impl Line {
    /// Reads a line with its newline.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LineError> {
        if bytes.len() > LINE_LEN_MAX {
            return Err(LineError::TooLong);
        }
        let text = bytes.strip_suffix(b"\n").ok_or(LineError::Unfinished)?;
        let malformed = |what: String| LineError::Malformed(what);
        let found: Document =
            serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        let body = match (found.open, found.event, found.cut, found.close) {
            (Some(open), None, None, None) => Body::Open(open),
            (None, Some(event), None, None) => Body::Event(event),
            (None, None, Some(cut), None) => Body::Cut(cut),
            (None, None, None, Some(close)) => Body::Close(close),
            _ => return Err(malformed("expected one of open, event, cut and close".to_owned())),
        };
        if let Body::Open(Open { format, .. }) = body
            && format != FORMAT
        {
            return Err(LineError::Format(format));
        }
        let line = Self { seq: found.seq, prev: found.prev, at: found.at, body };
        if line.encode() == bytes { Ok(line) } else { Err(LineError::NotCanonical) }
    }

    /// The line with its newline.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { seq, prev, at, body } = self.clone();
        let (mut open, mut event, mut cut, mut close) = (None, None, None, None);
        match body {
            Body::Open(body) => open = Some(body),
            Body::Event(body) => event = Some(body),
            Body::Cut(body) => cut = Some(body),
            Body::Close(body) => close = Some(body),
        }
        let document = Document { seq, prev, at, open, event, cut, close };
        let mut bytes = serde_json::to_vec(&document).expect("texts and numbers");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests;
