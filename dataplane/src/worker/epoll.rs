//! The driver that is always there: epoll, `read`, `writev`, `sendmsg`, `recvmmsg`.

use std::{io, os::fd::AsFd, time::Instant};

use weft_proto::{AttachmentSlot, Engine, way::Via};
use weft_sys::{
    poll::{Epoll, Events},
    tun::TunQueue,
    udp::{ReceiveBatch, UdpSocket},
};

use super::{
    Driver, Inbox, Turn, Wait, WorkerEvent,
    desk::{Desk, Watch},
    packet_io::PacketIo,
    timeout,
};

/// Most ready descriptors taken at one wake-up.
const EVENTS_MAX: usize = 256;
/// Receive calls on one socket before others have their turn.
const RECEIVE_BUDGET: usize = 16;

const TOKEN_WAKER: u64 = 0;
const TOKEN_GROUP: u64 = 1;
const TOKEN_LANE: u64 = 2;
const TOKEN_STREAMS: u64 = 3;
/// Tokens from here on are attachment slots.
const TOKEN_TUN: u64 = 1 << 32;

pub(super) struct EpollDriver {
    epoll: Epoll,
    /// Taken out while they are handled.
    events: Option<Events>,
    group: UdpSocket,
    desk: Desk,
    receive: ReceiveBatch,
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn slot_of(token: u64) -> AttachmentSlot {
    AttachmentSlot(token as u32)
}

impl Watch for Epoll {
    fn watch(&mut self, slot: AttachmentSlot, queue: &TunQueue) -> io::Result<()> {
        self.add(queue.as_fd(), TOKEN_TUN | u64::from(slot.0), false)
    }

    fn unwatch(&mut self, _: AttachmentSlot, queue: &TunQueue) {
        // A device that is gone may have left the set by itself.
        let _ = self.remove(queue.as_fd());
    }
}

impl EpollDriver {
    pub(super) fn new(group: UdpSocket, io: PacketIo, inbox: Inbox) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(inbox.waker.as_fd(), TOKEN_WAKER, false)?;
        epoll.add(group.as_fd(), TOKEN_GROUP, false)?;
        epoll.add(io.lane.as_fd(), TOKEN_LANE, false)?;
        epoll.add(io.streams.as_fd(), TOKEN_STREAMS, false)?;
        Ok(Self {
            epoll,
            events: Some(Events::with_capacity(EVENTS_MAX)),
            group,
            desk: Desk::new(io, inbox),
            receive: ReceiveBatch::new()?,
        })
    }

    fn drain_socket(&mut self, now: Instant, is_group: bool, engine: &mut Engine) {
        for _ in 0..RECEIVE_BUDGET {
            let (socket, by) = match is_group {
                true => (&self.group, Via::Listen),
                false => (&self.desk.io.lane, Via::Lane),
            };
            let Ok(messages) = socket.receive(&mut self.receive) else { break };
            self.desk.io.counters.receive_batches.add(1);
            for i in 0..messages {
                self.desk.handle_received(now, self.receive.message_mut(i), by, engine);
            }
            if self.receive.drained() {
                break;
            }
        }
        engine.finish_receive(&mut self.desk.io);
        self.desk.io.flush();
    }
}

impl Driver for EpollDriver {
    fn turn(&mut self, engine: &mut Engine, wait: Wait) -> io::Result<Turn> {
        let timeout = timeout(engine, wait);
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(EVENTS_MAX));
        let ready = self.epoll.wait(&mut events, timeout)?;
        let now = Instant::now();
        if ready > 0 {
            self.desk.io.counters.wakeups.add(1);
        }
        let tuns = events.iter().filter(|event| event.token >= TOKEN_TUN);
        let is_partial = ready == EVENTS_MAX;
        self.desk.begin_round(tuns.map(|event| slot_of(event.token)), is_partial, engine);
        let mut goes_on = true;
        for event in events.iter() {
            match event.token {
                TOKEN_WAKER => goes_on = self.desk.obey(now, engine, &mut self.epoll),
                TOKEN_GROUP => self.drain_socket(now, true, engine),
                TOKEN_LANE => self.drain_socket(now, false, engine),
                // What is left is said again.
                TOKEN_STREAMS => self.desk.drain_streams(now, engine).map(drop)?,
                token => {
                    let slot = slot_of(token);
                    // What is left is said again.
                    let _is_empty = self.desk.drain_tun(now, slot, engine, &mut self.epoll);
                    if event.failed {
                        self.desk.lose(slot, &mut self.epoll);
                    }
                }
            }
        }
        self.events = Some(events);
        engine.handle_timeout(now, &mut self.desk.io);
        self.desk.io.flush();
        Ok(match goes_on {
            false => Turn::Stop,
            true if ready > 0 => Turn::Worked(now),
            true => Turn::Idle,
        })
    }

    fn poll_lost(&mut self) -> Option<WorkerEvent> {
        self.desk.poll_lost()
    }
}
