//! Whether a second host's copy has the same lines as the log. Blocking.

use std::{fs::File, io, path::Path};

use crate::{
    fault::{Fault, Finding},
    segment::{Lines, list, path_of},
    signed::PublicKey,
    stub::believed,
    text::ProcessId,
};

/// How a copy is that differs in nothing which it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The last line that both have; 0 when there is none.
    pub through: u64,
    /// The first line that only the copy has. A copy is never ahead of its log: where this is one, the line was taken
    /// from the log, or the copy is of another.
    pub ahead: Option<Finding>,
}

/// Compares the log of `process` in `folder`, which was verified, with a copy of it: line by line, each as bytes. Later
/// lines than `required` may be on their way to the copy. Both may be written meanwhile.
///
/// # Errors
/// The first line that the copy lacks or has otherwise, or what cannot be read.
pub fn compare(
    folder: &Path,
    copy: &Path,
    process: &ProcessId,
    trusted: &[PublicKey],
    required: u64,
) -> Result<Compared, Finding> {
    if !copy.is_dir() {
        return Err(Finding::in_file(copy, 0, Fault::Absent));
    }
    let expired = believed(folder, process, trusted)?;
    let (through, before) = expired.map_or((0, 0), |expired| (expired.seq, expired.segment));
    // What is in the copy was in the log before, so it is looked for in this order.
    let there = list(copy)?;
    let here = list(folder)?;
    let last = here.last().copied().unwrap_or_default();
    let mut comparison = Comparison { required, through, ahead: None };
    for segment in here.into_iter().filter(|segment| *segment > before) {
        let (own, other) = (path_of(folder, segment), path_of(copy, segment));
        if !comparison.segment(&own, &other)? {
            break;
        }
    }
    let beyond = there.into_iter().find(|segment| *segment > last.max(before));
    if let (Some(segment), None) = (beyond, &comparison.ahead) {
        comparison.blame_ahead(&path_of(copy, segment), 1);
    }
    Ok(Compared { through: comparison.through, ahead: comparison.ahead })
}

struct Comparison {
    required: u64,
    through: u64,
    ahead: Option<Finding>,
}

impl Comparison {
    /// Compares one segment; whether the next one may be compared too.
    fn segment(&mut self, own: &Path, other: &Path) -> Result<bool, Finding> {
        let is_there = match File::open(other) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Finding::io(other, &error)),
        };
        let mut theirs = is_there.then(|| Lines::open(other, 0)).transpose()?;
        let (mut ours, mut count) = (Lines::open(own, 0)?, 0);
        loop {
            count += 1;
            let their = match &mut theirs {
                Some(lines) => lines.next()?,
                None => &[],
            };
            let our = ours.next()?;
            let seq = self.through + 1;
            match (our.ends_with(b"\n"), their.ends_with(b"\n")) {
                (true, true) if our == their => self.through = seq,
                (true, true) => return Err(Finding::in_file(other, count, Fault::Differs(seq))),
                (true, false) if seq <= self.required => {
                    return Err(Finding::in_file(other, count, Fault::Lacks(seq)));
                }
                (true, false) => return Ok(false),
                (false, true) => {
                    self.blame_ahead(other, count);
                    return Ok(false);
                }
                (false, false) => return Ok(true),
            }
        }
    }

    fn blame_ahead(&mut self, file: &Path, line: u64) {
        self.ahead = Some(Finding::in_file(file, line, Fault::Ahead(self.through + 1)));
    }
}
