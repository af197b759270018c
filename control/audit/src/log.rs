//! The log of this process: it writes. Blocking.
//!
//! Nothing counts before it is on the disk: when a write or a sync fails, what it wrote is cut off before
//! anything else is written, so the file never has a line that was refused between others.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    chain::{Position, Span},
    digest::Digest,
    disk::{Disk, put},
    event::Event,
    fault::Finding,
    line::{Body, Line, Open},
    segment::{last_line, list, path_of, stub_path},
    signed::{Expired, Signed},
    text::ProcessId,
    time::Timestamp,
};

/// A segment ends when it has so many bytes, or with the day (UTC): at most 64 MiB are read when a log is
/// opened, about a second.
pub const SEGMENT_LEN_MAX: u64 = 64 << 20;

/// How long records are kept, days: six years, leap days included. 45 CFR 164.316(b)(2)(i), of the HIPAA
/// Security Rule: documentation is retained for six years from the date of its creation or the date when it
/// last was in effect, whichever is later.
pub const RETENTION_DAYS: u64 = 6 * 365 + 2;

/// How far the files of a log have come; what is before it is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The segment; 0 when there is none.
    pub segment: u64,
    /// Bytes of it.
    pub len: u64,
}

/// The segment that grows.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) file: File,
    /// How much of it is known to be on the disk, bytes.
    pub(crate) len: u64,
    /// Whether there may be something after that.
    pub(crate) dirty: bool,
    pub(crate) day: u64,
    pub(crate) span: Span,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) folder: PathBuf,
    pub(crate) process: ProcessId,
    pub(crate) disk: Box<dyn Disk>,
    pub(crate) segment_len_max: u64,
    /// None between two segments.
    pub(crate) current: Option<Current>,
    /// The last line that counts.
    pub(crate) last: Position,
    /// Where the line ends that was anchored when it was opened.
    pub(crate) anchored: Place,
    /// Keeps others out.
    pub(crate) _lock: File,
}

impl Log {
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How far the files have come.
    pub(crate) fn place(&self) -> io::Result<Place> {
        let segment = self.last.segment;
        let len = match &self.current {
            Some(current) => current.len,
            None => len_of(&self.folder, segment)?,
        };
        Ok(Place { segment, len })
    }

    /// Writes events so that they outlive a loss of power: all of them or none.
    pub(crate) fn commit(&mut self, events: &[Event], now: Timestamp) -> io::Result<Vec<Position>> {
        self.prepare(now)?;
        self.write(events.iter().cloned().map(Body::Event), now)
    }

    /// A segment that takes lines of this day.
    pub(crate) fn prepare(&mut self, now: Timestamp) -> io::Result<()> {
        self.repair()?;
        let full = self.current.as_ref().map(|current| {
            (current.day != now.day() || current.len >= self.segment_len_max, current.span.close())
        });
        if let Some((true, close)) = full {
            self.write([Body::Close(close)], now)?;
            self.current = None;
        }
        if self.current.is_none() {
            self.open_segment(now)?;
        }
        Ok(())
    }

    /// Cuts off what a failed write has left.
    fn repair(&mut self) -> io::Result<()> {
        if let Some(current) = &mut self.current
            && current.dirty
        {
            self.disk.truncate(&current.file, current.len)?;
            self.disk.sync(&current.file)?;
            current.dirty = false;
        }
        Ok(())
    }

    fn open_segment(&mut self, now: Timestamp) -> io::Result<()> {
        let segment = self.last.segment + 1;
        let open = Body::Open(Open::new(self.process.clone(), segment));
        let bytes = self.last.next(now, open).encode();
        let path = path_of(&self.folder, segment);
        put(&*self.disk, &self.folder, &path, &bytes)?;
        // By its name, so that every write goes to its end, whatever was cut off before.
        let file = self.disk.append(&path)?;
        let (len, span) = (bytes.len() as u64, Span::of(now));
        self.current = Some(Current { file, len, dirty: false, day: now.day(), span });
        self.last = self.last.after(segment, &bytes);
        Ok(())
    }

    pub(crate) fn write(
        &mut self,
        bodies: impl IntoIterator<Item = Body>,
        now: Timestamp,
    ) -> io::Result<Vec<Position>> {
        let Some(current) = &mut self.current else {
            return Err(io::Error::other("no segment is open"));
        };
        let (mut bytes, mut positions, mut last) = (Vec::new(), Vec::new(), self.last);
        for body in bodies {
            let line = last.next(now, body).encode();
            last = last.after(last.segment, &line);
            bytes.extend_from_slice(&line);
            positions.push(last);
        }
        current.dirty = true;
        self.disk.write(&current.file, &bytes)?;
        self.disk.sync(&current.file)?;
        current.dirty = false;
        current.len += bytes.len() as u64;
        current.span.add(now);
        self.last = last;
        Ok(positions)
    }

    /// What may go: the segments, from the oldest on, whose lines have all been kept long enough.
    pub(crate) fn find_expired(&self, now: Timestamp) -> Result<Option<Expired>, Finding> {
        let mut expired: Option<Expired> = None;
        // The last one still belongs to what is to come.
        for segment in list(&self.folder)?.into_iter().filter(|found| *found < self.last.segment) {
            let end = last_line(&path_of(&self.folder, segment))?;
            let Some((bytes, Line { seq, body: Body::Close(close), .. })) = end else { break };
            if !kept_long_enough(close.latest, now) {
                break;
            }
            let hash = Digest::of(&bytes);
            let latest = expired.map_or(close.latest, |before| before.latest.max(close.latest));
            let process = self.process.clone();
            expired = Some(Expired { process, segment, seq, hash, latest, at: now });
        }
        Ok(expired)
    }

    /// Puts a stub in place of what it stands for.
    pub(crate) fn expire(&self, stub: &Signed<Expired>) -> io::Result<()> {
        apply_stub(&*self.disk, &self.folder, stub)
    }
}

/// Puts a stub in place of what expired: first it, then nothing else.
pub(crate) fn apply_stub(disk: &dyn Disk, folder: &Path, stub: &Signed<Expired>) -> io::Result<()> {
    put(disk, folder, &stub_path(folder), &stub.encode())?;
    remove_expired(disk, folder, stub.unverified().segment)
}

/// Removes segments up to `through`, the oldest first.
pub(crate) fn remove_expired(disk: &dyn Disk, folder: &Path, through: u64) -> io::Result<()> {
    for segment in list(folder).map_err(io::Error::other)? {
        if segment <= through {
            disk.remove(&path_of(folder, segment))?;
        }
    }
    disk.sync_folder(folder)
}

/// Whether lines up to this time have been kept long enough.
pub(crate) fn kept_long_enough(latest: Timestamp, now: Timestamp) -> bool {
    now.day().saturating_sub(latest.day()) > RETENTION_DAYS
}

/// How long a segment's file is; 0 when it is not there.
pub(crate) fn len_of(folder: &Path, segment: u64) -> io::Result<u64> {
    match fs::metadata(path_of(folder, segment)) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
