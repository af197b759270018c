//! Segments on disk.
//!
//! ```text
//!  FOLDER of one process
//!    0000000001.jsonl  0000000002.jsonl …   segments, the last one grows
//!    expired.json                           a signed stub in place of segments that expired
//!    cut.json                               a torn line is being cut off; only while a log is opened
//!    lock                                   held by the process that writes
//! ```

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{
    fault::{Fault, Finding},
    line::{LINE_LEN_MAX, Line},
    signed::{Expired, SIGNED_LEN_MAX, Signed},
};

const SUFFIX: &str = ".jsonl";
const DIGITS: usize = 10;
const STUB: &str = "expired.json";
/// Ends the name of a file that is still being written.
pub(crate) const UNFINISHED: &str = ".new";

/// Where a segment is.
pub(crate) fn path_of(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:0DIGITS$}{SUFFIX}"))
}

/// Where the stub is.
pub(crate) fn stub_path(folder: &Path) -> PathBuf {
    folder.join(STUB)
}

/// The numbers of all segments, in order.
pub(crate) fn list(folder: &Path) -> Result<Vec<u64>, Finding> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| Finding::io(folder, &error))? {
        let path = entry.map_err(|error| Finding::io(folder, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(stem) = name.strip_suffix(SUFFIX) else { continue };
        match stem.parse::<u64>() {
            Ok(number) if number > 0 && path_of(folder, number) == path => found.push(number),
            _ => return Err(Finding::in_file(&path, 0, Fault::Name)),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The stub, if there is one; not yet believed.
pub(crate) fn read_stub(folder: &Path) -> Result<Option<Signed<Expired>>, Finding> {
    let path = stub_path(folder);
    let mut bytes = Vec::new();
    let read = File::open(&path)
        .and_then(|file| file.take(SIGNED_LEN_MAX as u64 + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Finding::io(&path, &error)),
        Ok(_) => {}
    }
    let stub = Signed::parse(&bytes)
        .map_err(|error| Finding::in_file(&path, 0, Fault::Statement(error.to_string())))?;
    Ok(Some(stub))
}

/// Reads lines one after the other: never more than one in memory.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    /// Where the next line begins, bytes.
    offset: u64,
    /// How many lines were read.
    count: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn open(path: &Path, offset: u64) -> Result<Self, Finding> {
        let opened = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        });
        let file = opened.map_err(|error| Finding::io(path, &error))?;
        let (path, reader) = (path.to_owned(), BufReader::with_capacity(64 << 10, file));
        Ok(Self { path, reader, offset, count: 0, line: Vec::new() })
    }

    /// The next line with its newline, or what there is of it; empty at the end.
    pub(crate) fn next(&mut self) -> Result<&[u8], Finding> {
        self.line.clear();
        let read = (&mut self.reader)
            .take(LINE_LEN_MAX as u64 + 1)
            .read_until(b'\n', &mut self.line)
            .map_err(|error| Finding::io(&self.path, &error))?;
        if read > 0 {
            self.count += 1;
        }
        self.offset += read as u64;
        Ok(&self.line)
    }

    /// Where the next line begins, bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// A fault of the line that was read last.
    pub(crate) fn blame(&self, fault: Fault) -> Finding {
        Finding::in_file(&self.path, self.count, fault)
    }
}

/// The last line of a segment with its newline, without reading the others; `None` where there is no whole one.
pub(crate) fn last_line(path: &Path) -> Result<Option<(Vec<u8>, Line)>, Finding> {
    let io = |error: io::Error| Finding::io(path, &error);
    let mut file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let from = len.saturating_sub(LINE_LEN_MAX as u64 + 1);
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    let mut tail = Vec::new();
    file.take(LINE_LEN_MAX as u64 + 1).read_to_end(&mut tail).map_err(io)?;
    let Some(body) = tail.strip_suffix(b"\n") else { return Ok(None) };
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let bytes = tail[start..].to_vec();
    Ok(Line::parse(&bytes).ok().map(|line| (bytes, line)))
}
