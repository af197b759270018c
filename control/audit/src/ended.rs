//! Segments that have ended, for who ships them. Blocking.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use crate::{
    chain::{Checker, Position},
    digest::Digest,
    fault::{Fault, Finding},
    line::{Body, LINE_LEN_MAX},
    segment::{Lines, last_line, list, path_of},
    text::ProcessId,
};

/// The last lines of all segments after segment `after` that have ended, in their order. Reads the end of each.
///
/// # Errors
/// What cannot be read, or a segment that has no end where another follows.
pub fn ended(folder: &Path, after: u64) -> Result<Vec<Position>, Finding> {
    let mut found = Vec::new();
    let mut segments = list(folder)?.into_iter().filter(|segment| *segment > after).peekable();
    while let Some(segment) = segments.next() {
        let path = path_of(folder, segment);
        match last_line(&path)? {
            Some((bytes, line)) if matches!(line.body, Body::Close(_)) => {
                found.push(Position { segment, seq: line.seq, hash: Digest::of(&bytes) });
            }
            _ if segments.peek().is_none() => {}
            _ => return Err(Finding::in_file(&path, 0, Fault::NotClosed)),
        }
    }
    Ok(found)
}

/// Whether a segment is what was written, up to `end`, its last line: what is damaged here is not shipped.
///
/// # Errors
/// The first line with a fault.
pub fn check_segment(folder: &Path, process: &ProcessId, end: &Position) -> Result<(), Finding> {
    let path = path_of(folder, end.segment);
    let mut lines = Lines::open(&path, 0)?;
    let mut checker = Checker::anywhere(process.clone());
    checker.begin(end.segment).map_err(|fault| Finding::in_file(&path, 0, fault))?;
    loop {
        let line = lines.next()?.to_vec();
        if line.is_empty() {
            break;
        }
        if line.len() <= LINE_LEN_MAX && !line.ends_with(b"\n") {
            return Err(lines.blame(Fault::NotClosed));
        }
        checker.accept(&line).map_err(|fault| lines.blame(fault))?;
    }
    match checker.last() == Some(*end) && checker.is_closed() {
        true => Ok(()),
        false => Err(lines.blame(Fault::Order)),
    }
}

/// Bytes of a segment from `offset` on, at most `len_max`; fewer only at its end.
///
/// # Errors
/// What cannot be read.
pub fn read_segment(
    folder: &Path,
    segment: u64,
    offset: u64,
    len_max: usize,
) -> Result<Vec<u8>, Finding> {
    let path = path_of(folder, segment);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.take(len_max as u64).read_to_end(&mut bytes)
    });
    read.map_err(|error| Finding::io(&path, &error))?;
    Ok(bytes)
}
