//! The driver that is always there: epoll, `read`, `writev`, `sendmsg`, `recvmmsg`.

use std::{io, os::fd::AsFd, time::Instant};

use weft_proto::{AttachmentSlot, Engine};
use weft_sys::{
    poll::{Epoll, Events},
    udp::{ReceiveBatch, UdpSocket},
};
use weft_wire::Ecn;

use super::{Command, Driver, Inbox, packet_io::PacketIo};

/// Most ready descriptors taken at one wake-up.
const EVENTS_MAX: usize = 256;
/// Packets read from one TUN before others have their turn.
const TUN_BUDGET: usize = 64;
/// Unreadable packets of one TUN in one turn after which its settings are doubted.
const UNREADABLE_MAX: usize = 8;
/// Receive calls on one socket before others have their turn.
const RECEIVE_BUDGET: usize = 16;
/// A superpacket of the largest size with its virtio header.
const READ_BUFFER_LEN: usize = 65_536 + weft_sys::VNET_HEADER_LEN;

const TOKEN_WAKER: u64 = 0;
const TOKEN_GROUP: u64 = 1;
const TOKEN_LANE: u64 = 2;
/// Tokens from here on are attachment slots.
const TOKEN_TUN: u64 = 1 << 32;

pub(super) struct EpollDriver {
    epoll: Epoll,
    /// Taken out while they are handled.
    events: Option<Events>,
    group: UdpSocket,
    io: PacketIo,
    inbox: Inbox,
    receive: ReceiveBatch,
    read_buffer: Box<[u8]>,
    /// Interfaces that are gone, to be reported.
    lost: Vec<AttachmentSlot>,
}

impl EpollDriver {
    pub(super) fn new(group: UdpSocket, io: PacketIo, inbox: Inbox) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(inbox.waker.as_fd(), TOKEN_WAKER, false)?;
        epoll.add(group.as_fd(), TOKEN_GROUP, false)?;
        epoll.add(io.lane.as_fd(), TOKEN_LANE, false)?;
        Ok(Self {
            epoll,
            events: Some(Events::with_capacity(EVENTS_MAX)),
            group,
            io,
            inbox,
            receive: ReceiveBatch::new()?,
            read_buffer: vec![0; READ_BUFFER_LEN].into(),
            lost: Vec::new(),
        })
    }

    fn drain_tun(&mut self, now: Instant, slot: AttachmentSlot, engine: &mut Engine) {
        let mut unreadable = 0;
        for _ in 0..TUN_BUDGET {
            let Some(queue) = self.io.queue(slot) else { return };
            match queue.read(&mut self.read_buffer) {
                Ok(len) => {
                    self.io.counters.tun_reads.add(1);
                    let packet = &mut self.read_buffer[..len];
                    if !engine.handle_packet(now, slot, packet, &mut self.io) {
                        unreadable += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // EBADFD: the device went with its namespace.
                    tracing::debug!(?slot, %error, "interface is gone");
                    self.lose(slot);
                    break;
                }
            }
        }
        if unreadable >= UNREADABLE_MAX {
            self.reassert(slot);
        }
        self.io.flush();
    }

    /// A container with enough privilege may change header size, byte order and offloads of its
    /// own device; then nothing of it can be read. Set them as they were.
    #[cold]
    fn reassert(&self, slot: AttachmentSlot) {
        let Some(queue) = self.io.queue(slot) else { return };
        match queue.reassert() {
            Ok(()) => tracing::debug!(?slot, "header and offloads of an interface set again"),
            Err(error) => tracing::debug!(?slot, %error, "interface cannot be set again"),
        }
    }

    fn drain_socket(&mut self, now: Instant, is_group: bool, engine: &mut Engine) {
        for _ in 0..RECEIVE_BUDGET {
            let socket = if is_group { &self.group } else { &self.io.lane };
            let Ok(messages) = socket.receive(&mut self.receive) else { break };
            self.io.counters.receive_batches.add(1);
            for i in 0..messages {
                let message = self.receive.message_mut(i);
                if message.truncated {
                    engine.handle_truncated();
                    continue;
                }
                let count = message.data.len().div_ceil(message.segment);
                self.io.counters.receive_datagrams.add(count as u64);
                let ecn = Ecn::from_bits(message.ecn);
                engine.handle_datagrams(now, ecn, message.segment, message.data, &mut self.io);
            }
            if self.receive.drained() {
                break;
            }
        }
        engine.finish_receive(&mut self.io);
        self.io.flush();
    }

    fn lose(&mut self, slot: AttachmentSlot) {
        if let Some(queue) = self.io.remove_queue(slot) {
            // A device that is gone may have left the set by itself.
            let _ = self.epoll.remove(queue.as_fd());
            self.lost.push(slot);
        }
    }

    /// Carries out all commands that wait. Gives `false` after [`Command::Stop`].
    fn obey(&mut self, now: Instant, engine: &mut Engine) -> bool {
        self.inbox.waker.drain();
        while let Ok(command) = self.inbox.inbox.try_recv() {
            match command {
                Command::AddEnvironment(slot, new) => engine.add_environment(slot, new),
                Command::RemoveEnvironment(slot) => engine.remove_environment(slot),
                Command::SetRoutes(slot, routes) => engine.set_routes(slot, routes),
                Command::AddAttachment(slot, new, queue) => {
                    let token = TOKEN_TUN | u64::from(slot.0);
                    if let Err(error) = self.epoll.add(queue.as_fd(), token, false) {
                        tracing::error!(?slot, %error, "interface cannot be watched");
                    }
                    self.io.add_queue(slot, queue);
                    engine.add_attachment(slot, new);
                }
                Command::RemoveAttachment(slot, back) => {
                    engine.remove_attachment(slot);
                    if let Some(queue) = self.io.remove_queue(slot) {
                        let _ = self.epoll.remove(queue.as_fd());
                        // Nobody wants it: then it is closed here.
                        let _ = back.send(queue);
                    }
                }
                Command::AddLink(slot, new) => engine.add_link(slot, new),
                Command::SetEndpoint(slot, endpoint) => engine.set_endpoint(slot, endpoint),
                Command::RemoveLink(slot) => engine.remove_link(slot),
                Command::Install(new) => engine.install_session(now, *new),
                Command::Activate(id) => engine.activate(now, id, &mut self.io),
                Command::RemoveSession { id, say_so } => {
                    engine.remove_session(now, id, say_so, &mut self.io);
                }
                Command::Barrier(done) => {
                    self.io.flush();
                    // Nobody waits any more: fine.
                    let _ = done.send(());
                }
                Command::Stop => {
                    self.io.flush();
                    return false;
                }
            }
        }
        self.io.flush();
        true
    }
}

impl Driver for EpollDriver {
    fn turn(&mut self, engine: &mut Engine) -> io::Result<bool> {
        let timeout = engine.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(EVENTS_MAX));
        let ready = self.epoll.wait(&mut events, timeout)?;
        let now = Instant::now();
        if ready > 0 {
            self.io.counters.wakeups.add(1);
        }
        let mut goes_on = true;
        for event in events.iter() {
            match event.token {
                TOKEN_WAKER => goes_on = self.obey(now, engine),
                TOKEN_GROUP => self.drain_socket(now, true, engine),
                TOKEN_LANE => self.drain_socket(now, false, engine),
                token => {
                    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
                    let slot = AttachmentSlot(token as u32);
                    self.drain_tun(now, slot, engine);
                    if event.failed {
                        self.lose(slot);
                    }
                }
            }
        }
        self.events = Some(events);
        engine.handle_timeout(now, &mut self.io);
        self.io.flush();
        Ok(goes_on)
    }

    fn poll_lost(&mut self) -> Option<AttachmentSlot> {
        self.lost.pop()
    }
}
