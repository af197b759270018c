//! Datagrams over TCP: the streams of one worker, for peers that UDP does not reach.
//!
//! ```text
//!  batch ─▶ records ─▶ queue of the stream ─▶ socket          engine ◀─ datagrams ◀─ records ◀─ socket
//! ```
//! A stream that takes no more keeps a bounded queue, and what comes then is lost, as on any path: waiting
//! would hold up all other peers, and TCP inside must hear of a path that is full.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use rustc_hash::FxHashMap;
use weft_proto::{LinkSlot, fallback::Opener};
use weft_sys::poll::{Epoll, Events};
use weft_wire::record::{
    Datagrams, RECORD_BODY_MAX, RECORD_HEADER_LEN, Record, RecordError, split_datagrams,
    split_record, write_records,
};

/// Bytes that may wait for a stream's socket: two batches, besides what the kernel holds.
const QUEUE_MAX: usize = 256 << 10;
/// Bytes of one read. Behind what was left of a record.
const READ_LEN: usize = 192 << 10;
const BUFFER_LEN: usize = READ_LEN + RECORD_HEADER_LEN + RECORD_BODY_MAX;
/// Streams that are looked at before the worker does something else.
const READY_MAX: usize = 64;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Whose datagrams it carries.
    pub link: LinkSlot,
    /// Of which lanes of either host: those of this number.
    pub number: u8,
    /// Who opened it.
    pub opener: Opener,
}

/// One connection.
struct Stream {
    key: StreamKey,
    socket: TcpStream,
    /// The beginning of a record whose end has not come.
    rest: Vec<u8>,
    /// Records that wait, of which the first bytes are sent.
    queue: Vec<u8>,
    sent: usize,
    /// The kernel says when there is room.
    waits: bool,
}

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the peer closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Record(#[from] RecordError),
}

pub(super) struct Streams {
    epoll: Epoll,
    /// Taken out while they are handled.
    events: Option<Events>,
    /// The number of the lanes that this worker sends on.
    number: u8,
    all: Vec<Option<Stream>>,
    /// Which of them this worker sends on, by link.
    senders: FxHashMap<LinkSlot, usize>,
    /// Taken out while it is in use; empty before there is a stream.
    buffer: Vec<u8>,
    lost: Vec<StreamKey>,
}

impl Streams {
    /// None yet, for the worker that sends on lanes of this number.
    pub(super) fn new(number: u8) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            events: Some(Events::with_capacity(READY_MAX)),
            number,
            all: Vec::new(),
            senders: FxHashMap::default(),
            buffer: Vec::new(),
            lost: Vec::new(),
        })
    }

    /// Takes a connection over. One that has its key already is closed.
    pub(super) fn add(&mut self, key: StreamKey, socket: TcpStream) {
        self.remove_where(|known| *known == key);
        let at = self.all.iter().position(Option::is_none).unwrap_or(self.all.len());
        if let Err(error) = self.epoll.add(socket.as_fd(), at as u64, false) {
            tracing::warn!(?key, %error, "stream cannot be watched");
            self.lost.push(key);
            return;
        }
        let stream =
            Stream { key, socket, rest: Vec::new(), queue: Vec::new(), sent: 0, waits: false };
        if at == self.all.len() {
            self.all.push(None);
        }
        self.all[at] = Some(stream);
        if key.number == self.number {
            self.senders.insert(key.link, at);
        }
        self.buffer.resize(BUFFER_LEN, 0);
    }

    /// Closes those of a link that one side opened, or all of it.
    pub(super) fn remove(&mut self, link: LinkSlot, by: Option<Opener>) {
        self.remove_where(|key| key.link == link && by.is_none_or(|by| key.opener == by));
    }

    fn remove_where(&mut self, is_meant: impl Fn(&StreamKey) -> bool) {
        for at in 0..self.all.len() {
            if self.all[at].as_ref().is_some_and(|stream| is_meant(&stream.key)) {
                self.take(at);
            }
        }
    }

    fn take(&mut self, at: usize) -> Option<Stream> {
        let stream = self.all.get_mut(at)?.take()?;
        // Closing it does the same.
        let _ = self.epoll.remove(stream.socket.as_fd());
        let key = stream.key;
        if self.senders.get(&key.link) == Some(&at) {
            self.senders.remove(&key.link);
            // The other side's may be there as well.
            let other = self.all.iter().position(|other| {
                other.as_ref().is_some_and(|s| s.key.link == key.link && s.key.number == key.number)
            });
            if let Some(other) = other {
                self.senders.insert(key.link, other);
            }
        }
        if self.all.iter().all(Option::is_none) {
            self.buffer = Vec::new();
        }
        Some(stream)
    }

    fn lose(&mut self, at: usize, why: Ended) {
        if let Some(stream) = self.take(at) {
            tracing::debug!(key = ?stream.key, %why, "stream ended");
            self.lost.push(stream.key);
        }
    }

    /// The next that ended by itself, if any.
    pub(super) fn poll_lost(&mut self) -> Option<StreamKey> {
        self.lost.pop()
    }

    /// Sends datagrams of one length, of which the last may be shorter.
    ///
    /// # Errors
    /// When there is no stream, or its queue is full.
    pub(super) fn send(&mut self, link: LinkSlot, segment: usize, data: &[u8]) -> io::Result<()> {
        let at = *self.senders.get(&link).ok_or(io::ErrorKind::NotConnected)?;
        let stream =
            self.all.get_mut(at).and_then(Option::as_mut).ok_or(io::ErrorKind::NotConnected)?;
        if stream.queue.len() - stream.sent + data.len() > QUEUE_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        write_records(segment, data, &mut stream.queue);
        if !stream.waits {
            self.write(at);
        }
        Ok(())
    }

    /// Writes what waits, as far as there is room.
    fn write(&mut self, at: usize) {
        let Some(stream) = self.all.get_mut(at).and_then(Option::as_mut) else { return };
        let result = stream.write();
        let waits = stream.sent < stream.queue.len();
        if let Err(error) = result {
            return self.lose(at, error.into());
        }
        if waits != stream.waits {
            stream.waits = waits;
            let asked = self.epoll.report_writable(stream.socket.as_fd(), at as u64, waits);
            if let Err(error) = asked {
                self.lose(at, error.into());
            }
        }
    }

    /// The streams that something came on, or that have room again: writes, and gives those to be read. None
    /// when nothing is ready.
    pub(super) fn ready(&mut self) -> io::Result<Vec<usize>> {
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(READY_MAX));
        let waited = self.epoll.wait(&mut events, Some(Duration::ZERO));
        let mut readable = Vec::new();
        for event in events.iter() {
            let at = usize::try_from(event.token).unwrap_or(usize::MAX);
            if event.writable {
                self.write(at);
            }
            if event.readable || event.failed {
                readable.push(at);
            }
        }
        self.events = Some(events);
        waited.map(|_| readable)
    }

    /// Reads once, and gives what is to be handed to the engine: see [`Reading`].
    pub(super) fn read(&mut self, at: usize) -> Option<Reading> {
        let stream = self.all.get_mut(at).and_then(Option::as_mut)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER_LEN, 0);
        let begun = stream.rest.len();
        buffer[..begun].copy_from_slice(&stream.rest);
        stream.rest.clear();
        match stream.socket.read(&mut buffer[begun..begun + READ_LEN]) {
            Ok(0) => self.lose(at, Ended::Closed),
            Ok(len) => return Some(Reading { at, buffer, from: 0, to: begun + len }),
            Err(error) if is_passing(&error) => stream.rest.extend_from_slice(&buffer[..begun]),
            Err(error) => self.lose(at, error.into()),
        }
        self.buffer = buffer;
        None
    }

    /// Ends a reading: what is left of it is the beginning of a record.
    pub(super) fn end_reading(&mut self, reading: Reading, error: Option<RecordError>) {
        let Reading { at, buffer, from, to } = reading;
        match (error, self.all.get_mut(at).and_then(Option::as_mut)) {
            (Some(error), _) => self.lose(at, error.into()),
            (None, Some(stream)) => stream.rest.extend_from_slice(&buffer[from..to]),
            (None, None) => {}
        }
        self.buffer = buffer;
    }
}

impl AsFd for Streams {
    /// Readable while a stream is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Stream {
    fn write(&mut self) -> io::Result<()> {
        while self.sent < self.queue.len() {
            match self.socket.write(&self.queue[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.sent == self.queue.len() {
            self.queue.clear();
            self.sent = 0;
        } else if self.sent > QUEUE_MAX / 2 {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What one read brought.
pub(super) struct Reading {
    at: usize,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Reading {
    /// Hands all whole records over, as datagrams of one length of which the last may be shorter.
    ///
    /// # Errors
    /// When there is no sense in what came. Nothing that follows on the stream has any, then.
    pub(super) fn each(&mut self, mut take: impl FnMut(usize, &[u8])) -> Result<(), RecordError> {
        while let Some(record) = split_record(&self.buffer[self.from..self.to])? {
            let Record { mut body, rest } = record;
            while !body.is_empty() {
                let Datagrams { segment, run, rest } = split_datagrams(body)?;
                take(segment, run);
                body = rest;
            }
            self.from = self.to - rest.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
