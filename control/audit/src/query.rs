//! Finding events: by time, actor, object, action, outcome, request, over the logs of several processes.
//!
//! Logs are read as streams, one line of each in memory; segments that lie outside of the time that is asked for
//! are skipped. Lines are checked against each other while they are read, so a page never tells what was
//! changed inside of what it has read; that all of it is what was written, [`crate::verify`] says.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    chain::Checker,
    event::{Actor, Event, RequestId},
    fault::{Fault, Finding},
    line::{Body, Line},
    segment::{Lines, last_line, list, path_of},
    text::{Object, ProcessId, TextError, Word},
    time::Timestamp,
};

/// Most events of one page.
pub const PAGE_LEN_MAX: usize = 1_000;
/// Most lines that are read for one page, so that it comes in a bounded time; it may be short or empty then and
/// still have a next one.
pub const PAGE_LINES_MAX: u64 = 200_000;
/// Most processes of one query.
pub const PROCESSES_MAX: usize = 64;

/// What is asked for; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Who.
    pub who: Option<Actor>,
    /// On this, or on a part of it.
    pub object: Option<Object>,
    /// What.
    pub action: Option<Word>,
    /// The outcome without its reason: `begun`, `done`, `denied`, `failed` or `unknown`.
    pub outcome: Option<Word>,
    /// Which request.
    pub request: Option<RequestId>,
}

impl Query {
    /// Whether an event is asked for.
    #[must_use]
    pub fn matches(&self, at: Timestamp, event: &Event) -> bool {
        self.from.is_none_or(|from| from <= at)
            && self.until.is_none_or(|until| at < until)
            && self.who.as_ref().is_none_or(|who| *who == event.who)
            && self.object.as_ref().is_none_or(|object| event.object.is_within(object))
            && self.action.as_ref().is_none_or(|action| *action == event.action)
            && self.outcome.as_ref().is_none_or(|kind| *kind == event.outcome.kind())
            && self.request.is_none_or(|request| request == event.request)
    }
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// More than are read side by side.
    #[error("{0} logs; expected at most {PROCESSES_MAX}")]
    TooMany(usize),
    /// A log is not what was written, or the page was never the next one of it.
    #[error(transparent)]
    Damaged(#[from] Finding),
}

/// An event with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In whose log.
    pub process: ProcessId,
    /// The number of the line.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// A part of what was asked for, the earliest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events.
    pub found: Vec<Found>,
    /// Where the next page begins; `None` at the end of all logs.
    pub next: Option<Cursor>,
}

/// Where a page begins: for each log the segment and the byte in it. As text `control-a=3.1024,control-b=1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(BTreeMap<ProcessId, (u64, u64)>);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (process, (segment, offset))) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{process}={segment}.{offset}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong =
            || TextError { what: "a cursor", expected: "what a page named as its next one" };
        let mut places = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (process, place) = part.split_once('=').ok_or_else(wrong)?;
            let (segment, offset) = place.split_once('.').ok_or_else(wrong)?;
            let place =
                (segment.parse().map_err(|_| wrong())?, offset.parse().map_err(|_| wrong())?);
            places.insert(process.parse().map_err(|_| wrong())?, place);
            if places.len() > PROCESSES_MAX {
                return Err(wrong());
            }
        }
        Ok(Self(places))
    }
}

/// Finds events in the logs of processes, each in its folder. Blocking. Events of one log come in the order in
/// which they were written, those of several by their times.
///
/// # Errors
/// [`QueryError`].
pub fn query(
    logs: &[(ProcessId, PathBuf)],
    query: &Query,
    after: Option<&Cursor>,
    len_max: usize,
) -> Result<Page, QueryError> {
    if logs.len() > PROCESSES_MAX {
        return Err(QueryError::TooMany(logs.len()));
    }
    let mut budget = PAGE_LINES_MAX;
    let mut streams = Vec::new();
    for (process, folder) in logs {
        let place = after.and_then(|cursor| cursor.0.get(process)).copied();
        streams.push(Stream::open(process, folder, place)?);
    }
    let len_max = len_max.clamp(1, PAGE_LEN_MAX);
    let mut found = Vec::new();
    let whole = loop {
        for stream in &mut streams {
            stream.advance(query, &mut budget)?;
        }
        if streams.iter().any(|stream| !stream.is_settled()) || found.len() == len_max {
            break false;
        }
        let next = streams.iter_mut().filter(|stream| stream.next.is_some());
        let next = next.min_by_key(|stream| stream.next.as_ref().map(|next| next.at));
        match next.and_then(Stream::take) {
            Some(next) => found.push(next),
            None => break true,
        }
    };
    let places = streams.iter().map(|stream| (stream.process.clone(), stream.place()));
    let next = (!whole).then(|| Cursor(places.collect()));
    Ok(Page { found, next })
}

/// One log, read from some place on.
struct Stream<'a> {
    process: &'a ProcessId,
    folder: &'a Path,
    /// Segments that are not yet begun.
    rest: std::vec::IntoIter<u64>,
    /// The segment that is read.
    current: Option<(u64, Lines, Checker)>,
    /// Where the first line is that was not given away.
    place: (u64, u64),
    next: Option<Found>,
    ended: bool,
}

impl<'a> Stream<'a> {
    fn open(
        process: &'a ProcessId,
        folder: &'a Path,
        place: Option<(u64, u64)>,
    ) -> Result<Self, Finding> {
        let mut segments = list(folder)?;
        let place = place.unwrap_or((segments.first().copied().unwrap_or(1), 0));
        segments.retain(|segment| *segment >= place.0);
        let is_there = segments.first() == Some(&place.0);
        let mut rest = segments.into_iter();
        let current = match place {
            // What has expired since is not there to be read on.
            (segment, offset) if offset > 0 && is_there => {
                rest.next();
                let lines = Lines::open(&path_of(folder, segment), offset)?;
                Some((segment, lines, Checker::midway(process.clone(), segment)))
            }
            _ => None,
        };
        Ok(Self { process, folder, rest, current, place, next: None, ended: false })
    }

    /// Whether it is known what comes next.
    fn is_settled(&self) -> bool {
        self.next.is_some() || self.ended
    }

    fn place(&self) -> (u64, u64) {
        self.place
    }

    fn take(&mut self) -> Option<Found> {
        if let Some((segment, lines, _)) = &self.current {
            self.place = (*segment, lines.offset());
        }
        self.next.take()
    }

    /// Reads on until something is found.
    fn advance(&mut self, query: &Query, budget: &mut u64) -> Result<(), Finding> {
        while !self.is_settled() && *budget > 0 {
            let Some((segment, lines, checker)) = &mut self.current else {
                self.begin_segment(query)?;
                continue;
            };
            *budget -= 1;
            let line = lines.next()?.to_vec();
            if !line.ends_with(b"\n") {
                // The end, or a line that is being written.
                if !checker.is_closed() && self.rest.len() > 0 {
                    return Err(lines.blame(Fault::NotClosed));
                }
                self.place = (*segment, lines.offset() - line.len() as u64);
                self.current = None;
                self.ended = self.rest.len() == 0;
                continue;
            }
            let Line { seq, at, body, .. } =
                checker.accept(&line).map_err(|fault| lines.blame(fault))?;
            match body {
                Body::Event(event) if query.matches(at, &event) => {
                    let process = self.process.clone();
                    self.next = Some(Found { process, seq, at, event });
                }
                _ => self.place = (*segment, lines.offset()),
            }
        }
        Ok(())
    }

    fn begin_segment(&mut self, query: &Query) -> Result<(), Finding> {
        let Some(segment) = self.rest.next() else {
            self.ended = true;
            return Ok(());
        };
        let path = path_of(self.folder, segment);
        self.place = (segment, 0);
        if let Some((_, Line { body: Body::Close(close), .. })) = last_line(&path)? {
            let early = query.from.is_some_and(|from| close.latest < from);
            let late = query.until.is_some_and(|until| until <= close.earliest);
            if early || late {
                return Ok(());
            }
        }
        let mut checker = Checker::anywhere(self.process.clone());
        checker.begin(segment).map_err(|fault| Finding::in_file(&path, 0, fault))?;
        self.current = Some((segment, Lines::open(&path, 0)?, checker));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
