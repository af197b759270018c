//! Whether a log is what was written, from its first line that is kept to its last.

use std::path::Path;

use crate::{
    chain::{Checker, Position},
    fault::{Fault, Finding},
    segment::{Lines, list, path_of, stub_path},
    signed::{Head, PublicKey, SignedHead},
    stub::believed as believed_stub,
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
    let mut heads = believed(process, anchors, trusted)?;
    let begin = believed_stub(folder, process, trusted)?;
    // The line before the first that is kept.
    let begin = begin.map_or(Position::START, |expired| expired.position());
    heads.retain(|head| head.seq >= begin.seq);
    let mut anchored = 0;
    let mut check = |heads: &mut Vec<&Head>, last: Position| -> Result<(), Fault> {
        while let Some(head) = heads.last().filter(|head| head.seq <= last.seq) {
            if head.position() != last {
                return Err(Fault::Anchor);
            }
            anchored = head.seq;
            heads.pop();
        }
        Ok(())
    };
    let stub = stub_path(folder);
    check(&mut heads, begin).map_err(|fault| Finding::in_file(&stub, 0, fault))?;
    let mut checker = Checker::after(process.clone(), begin);
    let (mut lines_total, mut segments_total, mut unfinished) = (0, 0, 0);
    let segments = list(folder)?;
    // A crash may have left what the stub stands for.
    let kept = segments.iter().filter(|segment| **segment > begin.segment);
    for segment in kept {
        let path = path_of(folder, *segment);
        if unfinished > 0 {
            return Err(Finding::in_file(&path, 0, Fault::NotClosed));
        }
        checker.begin(*segment).map_err(|fault| Finding::in_file(&path, 0, fault))?;
        segments_total += 1;
        let mut lines = Lines::open(&path, 0)?;
        loop {
            let line = lines.next()?.to_vec();
            if line.is_empty() {
                break;
            }
            if !line.ends_with(b"\n") && line.len() <= crate::line::LINE_LEN_MAX {
                unfinished = line.len() as u64;
                break;
            }
            checker.accept(&line).map_err(|fault| lines.blame(fault))?;
            lines_total += 1;
            if let Some(last) = checker.last() {
                check(&mut heads, last).map_err(|fault| lines.blame(fault))?;
            }
        }
    }
    let last = checker.last().unwrap_or(Position::START);
    if let Some(head) = heads.last() {
        let fault = Fault::Truncated { last: last.seq, anchored: head.seq };
        return Err(Finding::in_file(&path_of(folder, last.segment.max(1)), 0, fault));
    }
    Ok(Verified {
        segments: segments_total,
        lines: lines_total,
        expired: begin.seq,
        last,
        anchored,
        unfinished,
    })
}

/// The heads of this process, the last one first.
fn believed<'a>(
    process: &ProcessId,
    anchors: &'a [SignedHead],
    trusted: &[PublicKey],
) -> Result<Vec<&'a Head>, Finding> {
    let mut heads = Vec::new();
    for anchor in anchors {
        let wrong = |what: String| Finding { file: None, line: 0, fault: Fault::Statement(what) };
        let head = anchor.verify(trusted).map_err(|error| wrong(error.to_string()))?;
        if head.process != *process {
            return Err(wrong(format!("it is of process {}, not {process}", head.process)));
        }
        heads.push(head);
    }
    heads.sort_by_key(|head| std::cmp::Reverse(head.seq));
    Ok(heads)
}
