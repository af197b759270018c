//! Whether a log is what was written, from its first line that is kept to its last.

use std::path::Path;

use crate::{
    chain::{Checker, Position},
    fault::{Fault, Finding},
    line::LINE_LEN_MAX,
    segment::{Lines, list, path_of, stub_path},
    signed::{Expired, Head, PublicKey, Signed, SignedHead},
    stub::{check, stub},
    text::ProcessId,
};

/// What a log is that has no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The segments that are there.
    pub segments: u64,
    /// The lines that are there.
    pub lines: u64,
    /// The last line that expired, by a signed stub.
    pub expired: u64,
    /// The last line.
    pub last: Position,
    /// The last line that an anchor vouches for: what comes after it fits, but who has the disk could have
    /// taken from it. 0 without an anchor.
    pub anchored: u64,
    /// Bytes of a line that is not finished: it is being written, or a crash has torn it.
    pub unfinished: u64,
}

/// Judges lines in their order, wherever they are read: the log of one process, from its first line that is kept.
#[derive(Debug)]
pub struct Verification {
    checker: Checker,
    begin: Position,
    /// Those that are not passed yet, the last one first.
    heads: Vec<Head>,
    segments: u64,
    lines: u64,
    anchored: u64,
}

impl Verification {
    /// After what has expired by a signed stub, against heads that were anchored elsewhere, by keys that are trusted.
    ///
    /// # Errors
    /// When a head or the stub is not believed.
    pub fn new(
        process: &ProcessId,
        anchors: &[SignedHead],
        trusted: &[PublicKey],
        stub: Option<&Signed<Expired>>,
    ) -> Result<Self, Fault> {
        let mut heads = believed(process, anchors, trusted)?;
        let expired = stub.map(|stub| check(stub, process, trusted)).transpose()?;
        // The line before the first that is kept.
        let begin = expired.map_or(Position::START, Expired::position);
        heads.retain(|head| head.seq >= begin.seq);
        let checker = Checker::after(process.clone(), begin);
        let mut verification = Self { checker, begin, heads, segments: 0, lines: 0, anchored: 0 };
        // One may be of the last line that expired.
        verification.pass_heads()?;
        Ok(verification)
    }

    /// The line before the first that is kept.
    #[must_use]
    pub fn begin(&self) -> Position {
        self.begin
    }

    /// The last line.
    #[must_use]
    pub fn last(&self) -> Position {
        self.checker.last().unwrap_or(Position::START)
    }

    /// Whether a segment may follow.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.checker.is_closed()
    }

    /// A segment with this number is next.
    ///
    /// # Errors
    /// When it is not.
    pub fn begin_segment(&mut self, segment: u64) -> Result<(), Fault> {
        self.checker.begin(segment)?;
        self.segments += 1;
        Ok(())
    }

    /// The next line, with its newline.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn accept(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.checker.accept(line)?;
        self.lines += 1;
        self.pass_heads()
    }

    /// Compares heads up to the last line with it.
    fn pass_heads(&mut self) -> Result<(), Fault> {
        let last = self.last();
        while let Some(head) = self.heads.last().filter(|head| head.seq <= last.seq) {
            if head.position() != last {
                return Err(Fault::Anchor);
            }
            self.anchored = head.seq;
            self.heads.pop();
        }
        Ok(())
    }

    /// Nothing comes any more but `unfinished` bytes of a line.
    fn end(self, unfinished: u64) -> Result<Verified, Fault> {
        let last = self.last();
        if let Some(head) = self.heads.last() {
            return Err(Fault::Truncated { last: last.seq, anchored: head.seq });
        }
        Ok(Verified {
            segments: self.segments,
            lines: self.lines,
            expired: self.begin.seq,
            last,
            anchored: self.anchored,
            unfinished,
        })
    }
}

/// Verifies the log of `process` in `folder` against heads that were anchored elsewhere, by keys that are
/// trusted. Reads everything once and keeps one line in memory.
///
/// # Errors
/// The first place where something was deleted, swapped, put in, cut off, changed or brought from elsewhere.
pub fn verify(
    folder: &Path,
    process: &ProcessId,
    anchors: &[SignedHead],
    trusted: &[PublicKey],
) -> Result<Verified, Finding> {
    if !folder.is_dir() {
        return Err(Finding::in_file(folder, 0, Fault::Absent));
    }
    let expired = stub(folder, process, trusted)?;
    let verification = Verification::new(process, anchors, trusted, expired.as_ref());
    let mut verification = verification.map_err(|fault| Finding { file: None, line: 0, fault })?;
    let passed = verification.pass_heads();
    passed.map_err(|fault| Finding::in_file(&stub_path(folder), 0, fault))?;
    let begin = verification.begin().segment;
    let mut unfinished = 0;
    // A crash may have left what the stub stands for.
    for segment in list(folder)?.into_iter().filter(|segment| *segment > begin) {
        let path = path_of(folder, segment);
        if unfinished > 0 {
            return Err(Finding::in_file(&path, 0, Fault::NotClosed));
        }
        let begun = verification.begin_segment(segment);
        begun.map_err(|fault| Finding::in_file(&path, 0, fault))?;
        let mut lines = Lines::open(&path, 0)?;
        loop {
            let line = lines.next()?.to_vec();
            if line.is_empty() {
                break;
            }
            if !line.ends_with(b"\n") && line.len() <= LINE_LEN_MAX {
                unfinished = line.len() as u64;
                break;
            }
            verification.accept(&line).map_err(|fault| lines.blame(fault))?;
        }
    }
    let last = path_of(folder, verification.last().segment.max(1));
    verification.end(unfinished).map_err(|fault| Finding::in_file(&last, 0, fault))
}

/// The heads of this process, the last one first.
fn believed(
    process: &ProcessId,
    anchors: &[SignedHead],
    trusted: &[PublicKey],
) -> Result<Vec<Head>, Fault> {
    let mut heads = Vec::new();
    for anchor in anchors {
        let head = anchor.verify(trusted).map_err(|error| Fault::Statement(error.to_string()))?;
        if head.process != *process {
            let what = format!("it is of process {}, not {process}", head.process);
            return Err(Fault::Statement(what));
        }
        heads.push(head.clone());
    }
    heads.sort_by_key(|head| std::cmp::Reverse(head.seq));
    Ok(heads)
}
