//! Opening a log: what a crash may have left is put right and said, anything else is refused.
//!
//! ```text
//!  folder, lock ─▶ leftovers removed ─▶ segments without a gap? ─▶ last one, line by line ─▶ anchored line there?
//!                                                                    │ torn last line
//!                                                                    ▼
//!                                       note in cut.json ─▶ cut off ─▶ a line that says so ─▶ note removed
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{
    chain::{Checker, Position},
    digest::Digest,
    disk::{Disk, put},
    fault::{Fault, Finding},
    line::{Body, Cut, LINE_LEN_MAX},
    log::{Current, Log, Place, len_of, remove_expired},
    segment::{Lines, UNFINISHED, last_line, list, path_of},
    signed::{Head, PublicKey},
    stub::believed,
    text::ProcessId,
    time::Timestamp,
};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const LOCK: &str = "lock";
const CUT: &str = "cut.json";

/// Why a log cannot be written to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Another process writes there.
    #[error("another process writes to {}", .0.display())]
    InUse(PathBuf),
    /// It is not what was written, and not by a crash either.
    #[error("the audit log is damaged: {0}; `weft audit verify` tells more")]
    Damaged(#[from] Finding),
    /// It ends before a line that was anchored, or has another one there.
    #[error(
        "the audit log in {} is not the one that was anchored: it has {found} lines, line {anchored} was anchored; \
         expected the log's own folder, or a new id for this process", .folder.display()
    )]
    NotAnchored {
        /// The folder.
        folder: PathBuf,
        /// The last line that is there.
        found: u64,
        /// The line that is missing or is another.
        anchored: u64,
    },
    /// The operating system refused.
    #[error("the audit log in {}: {cause}", .folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What it said.
        #[source]
        cause: io::Error,
    },
}

/// A note that outlives a crash between cutting off a torn line and saying so.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    segment: u64,
    offset: u64,
    cut: Cut,
}

/// Opens the log of `process` in `folder`, which is made if it is missing. Nothing is removed for a stub that none of
/// `trusted` signed.
pub(crate) fn recover(
    folder: &Path,
    process: &ProcessId,
    disk: Box<dyn Disk>,
    segment_len_max: u64,
    anchored: Option<&Head>,
    trusted: &[PublicKey],
    now: Timestamp,
) -> Result<Log, RecoverError> {
    let io = |cause| RecoverError::Io { folder: folder.to_owned(), cause };
    make(folder, &*disk).map_err(io)?;
    let lock = lock(folder)?;
    remove_unfinished(folder, &*disk).map_err(io)?;
    let expired = believed(folder, process, trusted)?.map(|expired| expired.position());
    if let Some(expired) = expired {
        remove_expired(&*disk, folder, expired.segment).map_err(io)?;
    }
    let begin = expired.unwrap_or(Position::START);
    let segments = list(folder)?;
    for (expected, found) in (begin.segment + 1..).zip(&segments) {
        if *found != expected {
            return Err(Finding::in_file(folder, 0, Fault::Missing(expected)).into());
        }
    }
    let mut log = Log {
        folder: folder.to_owned(),
        process: process.clone(),
        disk,
        segment_len_max,
        current: None,
        last: begin,
        anchored: Place::default(),
        _lock: lock,
    };
    if let Some(last) = segments.last() {
        let before = match segments.len() {
            1 => begin,
            _ => end_of(folder, last - 1)?,
        };
        log.resume(*last, before, now)?;
    }
    if let Some(anchored) = anchored {
        log.anchored = check_anchor(&log, begin, anchored)?;
    }
    Ok(log)
}

fn make(folder: &Path, disk: &dyn Disk) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => disk.sync_folder(parent),
        None => Ok(()),
    }
}

fn lock(folder: &Path) -> Result<File, RecoverError> {
    let io = |cause| RecoverError::Io { folder: folder.to_owned(), cause };
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
    let file = file.map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RecoverError::InUse(folder.to_owned())),
        Err(error) => Err(io(error.into())),
    }
}

fn remove_unfinished(folder: &Path, disk: &dyn Disk) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(UNFINISHED) {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

/// The end of a segment that is complete.
fn end_of(folder: &Path, segment: u64) -> Result<Position, Finding> {
    let path = path_of(folder, segment);
    match last_line(&path)? {
        Some((bytes, line)) if matches!(line.body, Body::Close(_)) => {
            Ok(Position { segment, seq: line.seq, hash: Digest::of(&bytes) })
        }
        _ => Err(Finding::in_file(&path, 0, Fault::NotClosed)),
    }
}

impl Log {
    /// Reads the last segment, which begins after `before`, and goes on at its end.
    fn resume(
        &mut self,
        segment: u64,
        before: Position,
        now: Timestamp,
    ) -> Result<(), RecoverError> {
        let folder = self.folder.clone();
        let io = |cause| RecoverError::Io { folder: folder.clone(), cause };
        let path = path_of(&self.folder, segment);
        let note = self.finish_cut(segment).map_err(io)?;
        let mut lines = Lines::open(&path, 0)?;
        let mut checker = Checker::after(self.process.clone(), before);
        checker.begin(segment).map_err(|fault| Finding::in_file(&path, 0, fault))?;
        let mut day = now.day();
        let torn = loop {
            let offset = lines.offset();
            let line = lines.next()?;
            if !line.ends_with(b"\n") {
                break (!line.is_empty()).then_some(offset);
            }
            let accepted = checker.accept(line).map_err(|fault| lines.blame(fault))?;
            if let Body::Open(_) = accepted.body {
                day = accepted.at.day();
            }
        };
        let Some(last) = checker.last().filter(|last| last.segment == segment) else {
            // A segment is there with its first line or not at all.
            return Err(Finding::in_file(&path, 1, Fault::Order).into());
        };
        self.last = last;
        let whole = torn.unwrap_or(lines.offset());
        let file = self.disk.append(&path).map_err(io)?;
        // What the process before has written and not waited for counts from now on.
        self.disk.sync(&file).map_err(io)?;
        self.disk.sync_folder(&self.folder).map_err(io)?;
        let Some(span) = checker.span() else {
            if torn.is_some() {
                return Err(lines.blame(Fault::Order).into());
            }
            return Ok(());
        };
        self.current = Some(Current { file, len: whole, dirty: false, day, span });
        let cut = match torn {
            Some(_) => Some(self.begin_cut(segment, whole).map_err(io)?),
            None => note,
        };
        if let Some(cut) = cut {
            self.write([Body::Cut(cut)], now).map_err(io)?;
            self.disk.remove(&self.folder.join(CUT)).map_err(io)?;
            self.disk.sync_folder(&self.folder).map_err(io)?;
        }
        Ok(())
    }

    /// Notes what is torn, then cuts it off.
    fn begin_cut(&self, segment: u64, offset: u64) -> io::Result<Cut> {
        let path = path_of(&self.folder, segment);
        // Lines are short, so this is too; what is longer was found to be no line before.
        let torn = fs::read(&path)?.split_off(usize::try_from(offset).map_err(io::Error::other)?);
        let cut = Cut { bytes: torn.len() as u64, sha256: Digest::of(&torn) };
        let note = serde_json::to_vec(&Note { segment, offset, cut: cut.clone() })?;
        put(&*self.disk, &self.folder, &self.folder.join(CUT), &note)?;
        self.truncate(segment, offset)?;
        tracing::warn!(path = %path.display(), bytes = cut.bytes, "a torn line was cut off");
        Ok(cut)
    }

    /// Goes on with a cut that a crash interrupted: nothing but the line that says so can be after it.
    fn finish_cut(&self, segment: u64) -> io::Result<Option<Cut>> {
        let bytes = match fs::read(self.folder.join(CUT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let note: Note = serde_json::from_slice(&bytes)?;
        if note.segment != segment {
            return Err(io::Error::other(format!("{CUT} is about segment {}", note.segment)));
        }
        if len_of(&self.folder, segment)? < note.offset {
            return Err(io::Error::other(format!("segment {segment} is shorter than {CUT} says")));
        }
        self.truncate(segment, note.offset)?;
        Ok(Some(note.cut))
    }

    fn truncate(&self, segment: u64, len: u64) -> io::Result<()> {
        let file = self.disk.append(&path_of(&self.folder, segment))?;
        self.disk.truncate(&file, len)?;
        self.disk.sync(&file)
    }
}

/// Where the line ends that was anchored, if it is there.
fn check_anchor(log: &Log, begin: Position, anchored: &Head) -> Result<Place, RecoverError> {
    let wrong = || RecoverError::NotAnchored {
        folder: log.folder.clone(),
        found: log.last.seq,
        anchored: anchored.seq,
    };
    if anchored.seq <= begin.seq {
        // It expired, and the stub's own line is all that is left to compare.
        let same = anchored.seq < begin.seq || anchored.position() == begin;
        let end = Place { segment: begin.segment, len: 0 };
        return if same { Ok(end) } else { Err(wrong()) };
    }
    if anchored.seq > log.last.seq {
        return Err(wrong());
    }
    find_line(&log.folder, anchored)?.ok_or_else(wrong)
}

/// Where the line of a head ends; `None` when that line is not in this log.
pub(crate) fn find_line(folder: &Path, head: &Head) -> Result<Option<Place>, Finding> {
    let path = path_of(folder, head.segment);
    if !path.exists() {
        return Ok(None);
    }
    let mut lines = Lines::open(&path, 0)?;
    let mut checker = Checker::anywhere(head.process.clone());
    checker.begin(head.segment).map_err(|fault| Finding::in_file(&path, 0, fault))?;
    loop {
        let line = lines.next()?.to_vec();
        if !line.ends_with(b"\n") && line.len() <= LINE_LEN_MAX {
            return Ok(None);
        }
        checker.accept(&line).map_err(|fault| lines.blame(fault))?;
        match checker.last() {
            Some(last) if last == head.position() => {
                return Ok(Some(Place { segment: head.segment, len: lines.offset() }));
            }
            Some(last) if last.seq >= head.seq => return Ok(None),
            _ => {}
        }
    }
}
