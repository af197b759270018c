//! The chain: how lines follow each other in the log of one process. Pure.
//!
//! ```text
//!  segment 1                              segment 2
//!  open ◀─ event ◀─ event ◀─ close ◀───── open ◀─ event ◀─ …
//!    each line has the number and the hash of the one before; a new segment goes on with both
//! ```

use crate::{
    digest::Digest,
    fault::Fault,
    line::{Body, Close, Line, Open},
    text::ProcessId,
    time::Timestamp,
};

/// A line, by its place and its hash: whoever knows one knows everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The segment that it is in; 0 before the first.
    pub segment: u64,
    /// Its number; 0 before the first.
    pub seq: u64,
    /// SHA-256 of it, with its newline.
    pub hash: Digest,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { segment: 0, seq: 0, hash: Digest::NONE };

    /// The line after this one.
    pub(crate) fn next(&self, at: Timestamp, body: Body) -> Line {
        Line { seq: self.seq + 1, prev: self.hash, at, body }
    }

    /// Where a line is that was written after this one.
    pub(crate) fn after(&self, segment: u64, bytes: &[u8]) -> Self {
        Self { segment, seq: self.seq + 1, hash: Digest::of(bytes) }
    }
}

/// The times of a segment's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    earliest: Timestamp,
    latest: Timestamp,
}

impl Span {
    pub(crate) fn of(at: Timestamp) -> Self {
        Self { earliest: at, latest: at }
    }

    pub(crate) fn add(&mut self, at: Timestamp) {
        self.earliest = self.earliest.min(at);
        self.latest = self.latest.max(at);
    }

    pub(crate) fn close(self) -> Close {
        Close { earliest: self.earliest, latest: self.latest }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a segment, or after its last line.
    Between,
    /// The first line of this segment is next.
    Begun(u64),
    /// In a segment.
    Inside(u64, Span),
    /// Somewhere in a segment whose beginning was not read.
    Midway(u64),
}

/// Judges lines in their order.
#[derive(Debug, Clone)]
pub(crate) struct Checker {
    process: ProcessId,
    /// The last line; unknown at first when reading begins in the middle.
    last: Option<Position>,
    state: State,
}

impl Checker {
    /// After `last`, at which a segment ended.
    pub(crate) fn after(process: ProcessId, last: Position) -> Self {
        Self { process, last: Some(last), state: State::Between }
    }

    /// At any segment; its first line is believed about what was before.
    pub(crate) fn anywhere(process: ProcessId) -> Self {
        Self { process, last: None, state: State::Between }
    }

    /// In the middle of a segment; its next line is believed about what was before.
    pub(crate) fn midway(process: ProcessId, segment: u64) -> Self {
        Self { process, last: None, state: State::Midway(segment) }
    }

    /// A segment with this number is next.
    pub(crate) fn begin(&mut self, segment: u64) -> Result<(), Fault> {
        match (self.state, self.last) {
            (State::Between, None) => {}
            (State::Between, Some(last)) if last.segment + 1 == segment => {}
            (State::Between, Some(last)) => return Err(Fault::Missing(last.segment + 1)),
            _ => return Err(Fault::NotClosed),
        }
        self.state = State::Begun(segment);
        Ok(())
    }

    /// The next line, with its newline.
    pub(crate) fn accept(&mut self, bytes: &[u8]) -> Result<Line, Fault> {
        let line = Line::parse(bytes).map_err(Fault::Line)?;
        if let Some(last) = self.last {
            if line.seq != last.seq + 1 {
                return Err(Fault::Sequence { found: line.seq, expected: last.seq + 1 });
            }
            if line.prev != last.hash {
                return Err(Fault::Link);
            }
        }
        let (segment, state) = match (self.state, &line.body) {
            (State::Begun(segment), Body::Open(open)) => {
                if *open != Open::new(self.process.clone(), segment) {
                    return Err(Fault::Foreign);
                }
                (segment, State::Inside(segment, Span::of(line.at)))
            }
            (State::Inside(segment, mut span), Body::Event(_) | Body::Cut(_)) => {
                span.add(line.at);
                (segment, State::Inside(segment, span))
            }
            (State::Inside(segment, span), Body::Close(close)) => {
                if *close != span.close() {
                    return Err(Fault::Span);
                }
                (segment, State::Between)
            }
            (State::Midway(segment), Body::Event(_) | Body::Cut(_)) => (segment, self.state),
            (State::Midway(segment), Body::Close(_)) => (segment, State::Between),
            _ => return Err(Fault::Order),
        };
        let hash = Digest::of(bytes);
        self.last = Some(Position { segment, seq: line.seq, hash });
        self.state = state;
        Ok(line)
    }

    /// The last line.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Whether a segment may follow.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// The times of the segment that goes on; `None` after its end.
    pub(crate) fn span(&self) -> Option<Span> {
        match self.state {
            State::Inside(_, span) => Some(span),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
