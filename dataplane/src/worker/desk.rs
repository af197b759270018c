//! What every driver has, however it waits: it carries out commands, hands datagrams to the engine
//! and gives up queues.

use std::{io, time::Instant};

use weft_proto::{
    AttachmentSlot, Engine,
    reading::{PACKETS_MAX, Rounds},
    way::{Source, Via, Way},
};
use weft_sys::{tun::TunQueue, udp::Received};
use weft_wire::Ecn;

use super::{Command, Inbox, WorkerEvent, packet_io::PacketIo};

/// Packets read from one TUN before others have their turn.
const TUN_BUDGET: usize = 64;
const _: () =
    assert!((PACKETS_MAX as usize) < TUN_BUDGET, "shares are the limit where others wait, too");
/// Looks at ready streams before others have their turn.
const STREAM_BUDGET: usize = 16;
/// Unreadable packets of one TUN, one after the other, after which its settings are doubted.
const UNREADABLE_MAX: u32 = 4;
/// A superpacket of the largest size with its virtio header.
const READ_BUFFER_LEN: usize = 65_536 + weft_sys::VNET_HEADER_LEN;

/// How a driver begins and ends to wait for a TUN queue.
pub(super) trait Watch {
    /// Packets of this queue are wanted from now on.
    ///
    /// # Errors
    /// When the kernel cannot watch it; its packets stay unread.
    fn watch(&mut self, slot: AttachmentSlot, queue: &TunQueue) -> io::Result<()>;

    /// Nothing of this queue is wanted any more, and the kernel holds nothing of it afterwards.
    fn unwatch(&mut self, slot: AttachmentSlot, queue: &TunQueue);
}

/// The part of a worker that no way of waiting changes.
pub(super) struct Desk {
    pub(super) io: PacketIo,
    pub(super) inbox: Inbox,
    /// Interfaces that are gone, to be reported.
    lost: Vec<AttachmentSlot>,
    /// By attachment: how many unreadable packets came since a readable one.
    unreadable: Vec<u32>,
    read_buffer: Box<[u8]>,
    /// Whose packets are read when many wait.
    rounds: Rounds,
}

impl Desk {
    pub(super) fn new(io: PacketIo, inbox: Inbox) -> Self {
        let read_buffer = vec![0; READ_BUFFER_LEN].into();
        let (lost, unreadable, rounds) = (Vec::new(), Vec::new(), Rounds::default());
        Self { io, inbox, lost, unreadable, read_buffer, rounds }
    }

    /// These queues have packets. Each is to be drained once before the next round.
    pub(super) fn begin_round(
        &mut self,
        ready: impl Iterator<Item = AttachmentSlot>,
        is_partial: bool,
        engine: &Engine,
    ) {
        let readers = ready.filter_map(|slot| Some((slot, engine.reader(slot)?)));
        self.rounds.begin(readers, is_partial);
    }

    /// A packet of this queue was read ahead, whoever's turn it is: that is taken off its part of the rounds to come.
    pub(super) fn handle_read(
        &mut self,
        now: Instant,
        slot: AttachmentSlot,
        packet: &mut [u8],
        engine: &mut Engine,
    ) {
        self.io.counters.tun_reads.add(1);
        self.rounds.charge(slot, packet.len());
        let is_readable = engine.handle_packet(now, slot, packet, &mut self.io);
        self.count_readable(slot, is_readable);
    }

    /// Reads a queue until it is empty or others have their turn. Gives whether it is empty.
    pub(super) fn drain_tun(
        &mut self,
        now: Instant,
        slot: AttachmentSlot,
        engine: &mut Engine,
        watch: &mut impl Watch,
    ) -> bool {
        let mut is_empty = false;
        for _ in 0..TUN_BUDGET {
            if !self.rounds.may_read(slot) {
                break;
            }
            let Some(queue) = self.io.queue(slot) else { return true };
            match queue.read(&mut self.read_buffer) {
                Ok(len) => {
                    self.io.counters.tun_reads.add(1);
                    self.rounds.charge(slot, len);
                    let packet = &mut self.read_buffer[..len];
                    let is_readable = engine.handle_packet(now, slot, packet, &mut self.io);
                    self.count_readable(slot, is_readable);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_empty = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // EBADFD: the device went with its namespace.
                    tracing::debug!(?slot, %error, "interface is gone");
                    self.lose(slot, watch);
                    break;
                }
            }
        }
        self.io.flush();
        is_empty
    }

    /// Hands what one receive brought to the engine.
    #[inline]
    pub(super) fn handle_received(
        &mut self,
        now: Instant,
        message: Received<'_>,
        by: Via,
        engine: &mut Engine,
    ) {
        if message.truncated {
            engine.handle_truncated();
            return;
        }
        let count = message.data.len().div_ceil(message.segment);
        self.io.counters.receive_datagrams.add(count as u64);
        let ecn = Ecn::from_bits(message.ecn);
        let (source, segment) = (Source::Udp(Way { to: message.from, via: by }), message.segment);
        engine.handle_datagrams(now, source, ecn, segment, message.data, &mut self.io);
    }

    /// Reads the streams that something has come on, and writes to those that have room again. Gives
    /// whether there may be more.
    pub(super) fn drain_streams(&mut self, now: Instant, engine: &mut Engine) -> io::Result<bool> {
        let mut is_ready = true;
        for _ in 0..STREAM_BUDGET {
            let ready = self.io.streams.ready()?;
            is_ready = !ready.is_empty();
            for at in ready {
                self.read_stream(now, at, engine);
            }
            if !is_ready {
                break;
            }
        }
        engine.finish_receive(&mut self.io);
        self.io.flush();
        Ok(is_ready)
    }

    fn read_stream(&mut self, now: Instant, at: usize, engine: &mut Engine) {
        let Some(mut reading) = self.io.streams.read(at) else { return };
        self.io.counters.receive_batches.add(1);
        let io = &mut self.io;
        let result = reading.each(|segment, datagrams| {
            io.counters.receive_datagrams.add(datagrams.len().div_ceil(segment) as u64);
            // A mark would be TCP's own matter.
            let outer = Ecn::NotEct;
            engine.handle_datagrams(now, Source::Stream, outer, segment, datagrams, io);
        });
        self.io.streams.end_reading(reading, result.err());
    }

    /// A packet of an attachment was read. A container with enough privilege may change header size, byte
    /// order and offloads of its own device; then nothing of it can be read.
    #[inline]
    pub(super) fn count_readable(&mut self, slot: AttachmentSlot, is_readable: bool) {
        match self.unreadable.get_mut(usize::from(slot)) {
            Some(unreadable) if is_readable => *unreadable = 0,
            None if is_readable => {}
            _ => self.doubt(slot),
        }
    }

    /// A packet could not be read. When it is not the first, the device's settings are made anew.
    #[cold]
    fn doubt(&mut self, slot: AttachmentSlot) {
        let at = usize::from(slot);
        if self.unreadable.len() <= at {
            self.unreadable.resize(at + 1, 0);
        }
        self.unreadable[at] += 1;
        if self.unreadable[at] < UNREADABLE_MAX {
            return;
        }
        self.unreadable[at] = 0;
        let Some(queue) = self.io.queue(slot) else { return };
        match queue.reassert() {
            Ok(()) => tracing::debug!(?slot, "header and offloads of an interface set again"),
            Err(error) => tracing::debug!(?slot, %error, "interface cannot be set again"),
        }
    }

    /// The interface disappeared.
    pub(super) fn lose(&mut self, slot: AttachmentSlot, watch: &mut impl Watch) {
        if let Some(queue) = self.io.remove_queue(slot) {
            watch.unwatch(slot, &queue);
            self.lost.push(slot);
        }
    }

    /// The next interface or stream that is gone without a command, if any.
    pub(super) fn poll_lost(&mut self) -> Option<WorkerEvent> {
        let queue = self.lost.pop().map(WorkerEvent::QueueLost);
        queue.or_else(|| self.io.streams.poll_lost().map(WorkerEvent::StreamLost))
    }

    /// Carries out all commands that wait. Gives `false` after [`Command::Stop`].
    pub(super) fn obey(
        &mut self,
        now: Instant,
        engine: &mut Engine,
        watch: &mut impl Watch,
    ) -> bool {
        self.inbox.waker.drain();
        while let Ok(command) = self.inbox.inbox.try_recv() {
            match command {
                Command::AddEnvironment(slot, new, inlet) => {
                    engine.add_environment(slot, new);
                    self.io.add_inlet(slot, inlet);
                }
                Command::RemoveEnvironment(slot) => {
                    engine.remove_environment(slot);
                    self.io.remove_inlet(slot);
                }
                Command::Answer(slot, mut packet) => {
                    engine.handle_gateway_packet(slot, &mut packet, &mut self.io);
                }
                Command::SetEnvironmentShare(slot, share) => {
                    engine.set_environment_share(slot, share);
                }
                Command::SetPolicy(slot, guard) => engine.set_policy(slot, guard),
                Command::SetRoutes(slot, routes) => engine.set_routes(slot, routes),
                Command::AddAttachment(slot, new, queue) => {
                    if let Err(error) = watch.watch(slot, &queue) {
                        tracing::error!(?slot, %error, "interface cannot be watched");
                    }
                    self.io.add_queue(slot, queue);
                    engine.add_attachment(slot, new);
                }
                Command::SetAttachmentShare(slot, share) => {
                    engine.set_attachment_share(slot, share);
                }
                Command::RemoveAttachment(slot, back) => {
                    engine.remove_attachment(slot);
                    if let Some(queue) = self.io.remove_queue(slot) {
                        watch.unwatch(slot, &queue);
                        // Nobody wants it: then it is closed here.
                        let _ = back.send(queue);
                    }
                }
                Command::AddLink(slot, new) => engine.add_link(slot, new),
                Command::SetWay(slot, way) => engine.set_way(now, slot, way),
                Command::SetSegmented(slot, segmented) => engine.set_segmented(slot, segmented),
                Command::Challenge(id, way, number) => {
                    engine.challenge(now, id, way, number, &mut self.io);
                }
                Command::AddStream(key, socket) => self.io.streams.add(key, socket),
                Command::RemoveStreams(slot, by) => self.io.streams.remove(slot, Some(by)),
                Command::RemoveLink(slot) => {
                    engine.remove_link(slot);
                    self.io.streams.remove(slot, None);
                }
                Command::Install(new) => engine.install_session(now, *new),
                Command::Activate(id) => engine.activate(now, id, &mut self.io),
                Command::Ask(id) => engine.ask(now, id, &mut self.io),
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

#[cfg(test)]
mod tests;
