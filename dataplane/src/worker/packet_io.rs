//! Where a worker's packets go: TUN queues, UDP sockets and streams.

use std::{io, sync::Arc};

use weft_buffers::{Batch, Outgoing};
use weft_proto::{
    AttachmentSlot, EnvironmentSlot, Io, Unanswered, Undeliverable,
    way::{Via, Way},
};
use weft_sys::{tun::TunQueue, udp::UdpSocket};
use weft_wire::Ecn;

use super::{WorkerCounters, streams::Streams};
use crate::gateway::Inlet;

/// The outgoing side of a worker.
pub(super) struct PacketIo {
    pub(super) lane: UdpSocket,
    /// That of the group, for peers that only answers reach.
    listen: UdpSocket,
    /// For peers that UDP does not reach.
    pub(super) streams: Streams,
    batch: Batch,
    /// By which of them the batch goes.
    via: Via,
    /// The path is slower than the containers.
    is_congested: bool,
    /// Bytes sent since it was last looked whether it is.
    unchecked: usize,
    queues: Vec<Option<TunQueue>>,
    /// Where packets to gateways go, by environment.
    inlets: Vec<Option<Inlet>>,
    pub(super) counters: Arc<WorkerCounters>,
}

impl PacketIo {
    pub(super) fn new(
        lane: UdpSocket,
        listen: UdpSocket,
        streams: Streams,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        counters.gso.set(1);
        Self {
            lane,
            listen,
            streams,
            batch: Batch::default(),
            via: Via::Lane,
            is_congested: false,
            unchecked: 0,
            queues: Vec::new(),
            inlets: Vec::new(),
            counters,
        }
    }

    pub(super) fn add_queue(&mut self, slot: AttachmentSlot, queue: TunQueue) {
        let at = usize::from(slot);
        if self.queues.len() <= at {
            self.queues.resize_with(at + 1, || None);
        }
        self.queues[at] = Some(queue);
    }

    pub(super) fn remove_queue(&mut self, slot: AttachmentSlot) -> Option<TunQueue> {
        self.queues.get_mut(usize::from(slot)).and_then(Option::take)
    }

    pub(super) fn queue(&self, slot: AttachmentSlot) -> Option<&TunQueue> {
        self.queues.get(usize::from(slot)).and_then(Option::as_ref)
    }

    pub(super) fn add_inlet(&mut self, slot: EnvironmentSlot, inlet: Inlet) {
        let at = usize::from(slot);
        if self.inlets.len() <= at {
            self.inlets.resize_with(at + 1, || None);
        }
        self.inlets[at] = Some(inlet);
    }

    pub(super) fn remove_inlet(&mut self, slot: EnvironmentSlot) {
        self.inlets.get_mut(usize::from(slot)).and_then(Option::take);
    }

    /// The UDP socket that the batch goes from.
    fn socket(&self) -> Option<&UdpSocket> {
        match self.via {
            Via::Lane => Some(&self.lane),
            Via::Listen => Some(&self.listen),
            Via::Stream(_) => None,
        }
    }

    fn check_room(&mut self) {
        self.unchecked = 0;
        let queued = self.socket().map(UdpSocket::queued);
        self.is_congested = queued.is_some_and(|q| q.is_ok_and(|bytes| bytes >= ON_THE_WAY_MAX));
    }

    /// Sends what waits in the batch.
    pub(super) fn flush(&mut self) {
        let Some(out) = self.batch.content() else { return };
        let count = out.count as u64;
        let sent = match self.via {
            Via::Lane => send(&self.lane, &out, &self.counters),
            Via::Listen => send(&self.listen, &out, &self.counters),
            Via::Stream(link) => self.streams.send(link, out.segment, out.data),
        };
        self.unchecked += out.data.len();
        self.batch.clear();
        if self.unchecked >= CHECK_BYTES {
            self.check_room();
        }
        self.counters.send_batches.add(1);
        match sent {
            Ok(()) => self.counters.send_datagrams.add(count),
            Err(error) => {
                self.counters.send_errors.add(count);
                tracing::trace!(%error, "datagrams not sent");
            }
        }
    }
}

fn send(socket: &UdpSocket, out: &Outgoing<'_>, counters: &WorkerCounters) -> io::Result<()> {
    let sent = match socket.send(&out.to, out.ecn, out.segment, out.data) {
        // The buffer is full: the path is slower than we are. A short wait hands that back to
        // the containers, whose interface queues fill meanwhile. It ends early when half of the
        // buffer is empty; at its end there may be room for this batch all the same.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let _ = socket.wait_writable(SEND_WAIT);
            socket.send(&out.to, out.ecn, out.segment, out.data)
        }
        result => result,
    };
    counters.gso.set(socket.gso_enabled().into());
    sent
}

/// Bytes on their way to the interface above which packets wait in the engine, where each flow waits
/// for itself: 2 ms of 1 Gbit/s for each worker that sends. In the kernel all would wait for each other.
const ON_THE_WAY_MAX: usize = 256 << 10;
/// How many bytes are sent between two looks.
const CHECK_BYTES: usize = 64 << 10;

/// How long a worker waits for room in its socket's send buffer (4 MiB, some 30 ms at 1 Gbit/s).
const SEND_WAIT: std::time::Duration = std::time::Duration::from_millis(5);

impl Io for PacketIo {
    #[inline]
    fn datagram(&mut self, way: &Way, ecn: Ecn, len: usize) -> &mut [u8] {
        if self.via != way.via || !self.batch.accepts(way.to, ecn as u8, len) {
            self.flush();
            self.via = way.via;
        }
        self.batch.push(way.to, ecn as u8, len)
    }

    fn part(&mut self) {
        self.flush();
    }

    #[inline]
    fn has_room(&mut self) -> bool {
        if self.is_congested {
            self.flush();
            self.check_room();
        }
        !self.is_congested
    }

    #[inline]
    fn deliver(
        &mut self,
        to: AttachmentSlot,
        head: &[u8],
        payload: &[u8],
    ) -> Result<(), Undeliverable> {
        let queue = self.queue(to).ok_or(Undeliverable)?;
        match queue.write(head, payload) {
            Ok(_) => {
                self.counters.tun_writes.add(1);
                Ok(())
            }
            Err(error) => {
                tracing::trace!(?to, %error, "packet not delivered");
                Err(Undeliverable)
            }
        }
    }

    fn gateway(
        &mut self,
        environment: EnvironmentSlot,
        header: &[u8],
        payload: &[u8],
    ) -> Result<(), Unanswered> {
        let inlet = self.inlets.get(usize::from(environment)).and_then(Option::as_ref);
        inlet.ok_or(Unanswered)?.put(header, payload)
    }
}
