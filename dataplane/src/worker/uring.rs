//! The driver on io_uring: one call per turn waits, receives and reads.
//!
//! ```text
//!  wait ─▶ completions: datagrams ─▶ engine ─▶ writev to TUNs
//!    ▲                  packets   ─▶ engine ─▶ sendmsg
//!    │                  waker     ─▶ commands
//!    └── requests that ended are armed again, buffers offered again
//! ```
//!
//! Datagrams and packets are in buffers when the wait returns: at moderate rates nothing else has to
//! be called. A queue that had more packets than buffers were offered is read on as the epoll
//! driver does it, into one buffer that stays in the cache, in rounds with others like it, and is
//! armed again when it is empty: where a core is scarce all queues are read by their shares, and the
//! kernel reads nothing ahead. What goes out goes by the same system calls as there, too.

use std::{io, mem, os::fd::AsFd, time::Instant};

use weft_proto::{AttachmentSlot, Engine, way::Via};
use weft_sys::{
    ring::{Completion, Ring, is_exhausted},
    tun::TunQueue,
    udp::UdpSocket,
};

use super::{
    Driver, Inbox, Turn, Wait, WorkerEvent,
    desk::{Desk, Watch},
    packet_io::PacketIo,
    timeout,
};

const TOKEN_WAKER: u64 = 0;
const TOKEN_GROUP: u64 = 1;
const TOKEN_LANE: u64 = 2;
const TOKEN_STREAMS: u64 = 3;
/// Tokens from here on are of queues: below this bit the number of the watch, then the slot.
const TOKEN_TUN: u64 = 1 << 61;
const WATCH_SHIFT: u32 = 32;
/// Numbers of watches; one recurs after so many attachments, long after its requests ended.
const WATCHES: u64 = 1 << (61 - WATCH_SHIFT);

pub(super) struct UringDriver {
    queues: Queues,
    group: UdpSocket,
    desk: Desk,
    is_started: bool,
    /// Streams are ready that nothing says again.
    has_streams: bool,
}

/// The ring, and which TUN queues it reads.
struct Queues {
    ring: Ring,
    /// By attachment slot.
    watched: Vec<Option<Watched>>,
    watches: u64,
    /// Queues with more than buffers were offered for, which no request reads until they are empty.
    full: Vec<AttachmentSlot>,
}

/// A queue that is read.
#[derive(Clone, Copy)]
struct Watched {
    token: u64,
    /// A request runs.
    is_armed: bool,
}

impl Queues {
    fn watched(&mut self, token: u64) -> Option<(AttachmentSlot, &mut Watched)> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
        let slot = AttachmentSlot(token as u32);
        let watched = self.watched.get_mut(usize::from(slot))?.as_mut()?;
        // A slot may have a new owner while completions of the one before still come.
        (watched.token == token).then_some((slot, watched))
    }

    fn arm(&mut self, slot: AttachmentSlot, queue: &TunQueue) -> io::Result<()> {
        let Some(watched) = self.watched.get_mut(usize::from(slot)).and_then(Option::as_mut) else {
            return Ok(());
        };
        self.ring.read(queue.as_fd(), watched.token)?;
        watched.is_armed = true;
        Ok(())
    }
}

impl Watch for Queues {
    fn watch(&mut self, slot: AttachmentSlot, queue: &TunQueue) -> io::Result<()> {
        let at = usize::from(slot);
        if self.watched.len() <= at {
            self.watched.resize(at + 1, None);
        }
        let token = TOKEN_TUN | (self.watches % WATCHES) << WATCH_SHIFT | u64::from(slot.0);
        self.watches += 1;
        self.watched[at] = Some(Watched { token, is_armed: false });
        self.arm(slot, queue)
    }

    fn unwatch(&mut self, slot: AttachmentSlot, _: &TunQueue) {
        let Some(watched) = self.watched.get_mut(usize::from(slot)).and_then(Option::take) else {
            return;
        };
        self.full.retain(|full| *full != slot);
        if watched.is_armed
            && let Err(error) = self.ring.stop_reading(watched.token)
        {
            tracing::warn!(?slot, %error, "reads of an interface do not end");
        }
    }
}

impl UringDriver {
    pub(super) fn new(group: UdpSocket, io: PacketIo, inbox: Inbox) -> io::Result<Self> {
        let (watched, full) = (Vec::new(), Vec::new());
        let queues = Queues { ring: Ring::new()?, watched, watches: 0, full };
        let desk = Desk::new(io, inbox);
        Ok(Self { queues, group, desk, is_started: false, has_streams: false })
    }

    /// On the worker's own thread.
    fn start(&mut self) -> io::Result<()> {
        self.queues.ring.start()?;
        for token in [TOKEN_WAKER, TOKEN_GROUP, TOKEN_LANE, TOKEN_STREAMS] {
            self.arm(token)?;
        }
        self.is_started = true;
        Ok(())
    }

    fn arm(&mut self, token: u64) -> io::Result<()> {
        match token {
            TOKEN_WAKER => self.queues.ring.watch(self.desk.inbox.waker.as_fd(), token),
            TOKEN_STREAMS => self.queues.ring.watch(self.desk.io.streams.as_fd(), token),
            TOKEN_GROUP => self.queues.ring.receive(self.group.as_fd(), token),
            _ => self.queues.ring.receive(self.desk.io.lane.as_fd(), token),
        }
    }

    fn handle_datagrams(
        &mut self,
        now: Instant,
        completion: Completion,
        engine: &mut Engine,
    ) -> io::Result<()> {
        if let Some(mut loan) = completion.loan {
            let message = self.queues.ring.message_mut(&mut loan);
            let is_group = completion.token == TOKEN_GROUP;
            let by = if is_group { Via::Listen } else { Via::Lane };
            self.desk.handle_received(now, message, by, engine);
            self.queues.ring.give_back(loan);
        }
        if completion.more { Ok(()) } else { self.arm(completion.token) }
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        completion: Completion,
        engine: &mut Engine,
    ) -> io::Result<()> {
        let Some((slot, watched)) = self.queues.watched(completion.token) else {
            // It was let go of meanwhile.
            if let Some(loan) = completion.loan {
                self.queues.ring.give_back(loan);
            }
            return Ok(());
        };
        watched.is_armed = completion.more;
        if let Some(mut loan) = completion.loan {
            let packet = self.queues.ring.packet_mut(&mut loan);
            self.desk.handle_read(now, slot, packet, engine);
            self.queues.ring.give_back(loan);
        }
        if completion.more {
            return Ok(());
        }
        if let Err(error) = completion.result {
            if is_exhausted(&error) {
                // There is more than buffers were offered for; what they held comes before it.
                self.queues.full.push(slot);
                return Ok(());
            }
            if !is_passing(&error) {
                // EBADFD: the device went with its namespace.
                tracing::debug!(?slot, %error, "interface is gone");
                self.desk.lose(slot, &mut self.queues);
            }
        }
        match self.desk.io.queue(slot) {
            Some(queue) => self.queues.arm(slot, queue),
            None => Ok(()),
        }
    }

    /// Reads what full queues hold, each once, and arms those again that are empty.
    fn drain_full(&mut self, now: Instant, engine: &mut Engine) -> io::Result<()> {
        self.desk.begin_round(self.queues.full.iter().copied(), false, engine);
        let mut full = mem::take(&mut self.queues.full);
        let mut result = Ok(());
        full.retain(|slot| {
            let is_empty = self.desk.drain_tun(now, *slot, engine, &mut self.queues);
            match self.desk.io.queue(*slot) {
                Some(queue) if is_empty => {
                    if let Err(error) = self.queues.arm(*slot, queue) {
                        result = Err(error);
                    }
                    false
                }
                Some(_) => true,
                None => false,
            }
        });
        self.queues.full = full;
        result
    }
}

/// Whether a read ended for a reason that does not last.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Driver for UringDriver {
    fn turn(&mut self, engine: &mut Engine, wait: Wait) -> io::Result<Turn> {
        if !self.is_started {
            self.start()?;
        }
        let has_more = self.has_streams || !self.queues.full.is_empty();
        let wait = if has_more { Wait::Look } else { wait };
        self.queues.ring.wait(timeout(engine, wait))?;
        let now = Instant::now();
        let mut goes_on = true;
        let (mut completions, mut datagrams) = (0_u64, 0_u64);
        while let Some(completion) = self.queues.ring.poll_completion() {
            completions += 1;
            match completion.token {
                TOKEN_WAKER => {
                    goes_on &= self.desk.obey(now, engine, &mut self.queues);
                    if !completion.more {
                        self.arm(TOKEN_WAKER)?;
                    }
                }
                TOKEN_STREAMS => {
                    self.has_streams = true;
                    if !completion.more {
                        self.arm(TOKEN_STREAMS)?;
                    }
                }
                TOKEN_GROUP | TOKEN_LANE => {
                    datagrams += 1;
                    self.handle_datagrams(now, completion, engine)?;
                }
                _ => self.handle_packet(now, completion, engine)?,
            }
        }
        if completions > 0 {
            self.desk.io.counters.wakeups.add(1);
        }
        if datagrams > 0 {
            self.desk.io.counters.receive_batches.add(1);
            engine.finish_receive(&mut self.desk.io);
        }
        self.drain_full(now, engine)?;
        if self.has_streams {
            self.has_streams = self.desk.drain_streams(now, engine)?;
        }
        self.desk.io.flush();
        engine.handle_timeout(now, &mut self.desk.io);
        self.desk.io.flush();
        Ok(match goes_on {
            false => Turn::Stop,
            true if completions > 0 || has_more => Turn::Worked(now),
            true => Turn::Idle,
        })
    }

    fn poll_lost(&mut self) -> Option<WorkerEvent> {
        self.desk.poll_lost()
    }
}
