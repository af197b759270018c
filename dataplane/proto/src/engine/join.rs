//! Joining chunks: datagrams that arrive one after the other become one write to the TUN.
//!
//! ```text
//!  open ──▶ buffer[len..]   payload │ header │ metadata
//!                              │        │
//!           buffer[..len] ◀────┘        └──▶ compared with the run's header
//!  buffer   ┌ payload 0 ┬ payload 1 ┬ … ┐    the next datagram overwrites header and metadata
//! ```
//! A *run* is a contiguous series of chunks of one superpacket, or of small UDP packets of one
//! flow. At most one run is open, and never past the end of the receive drain.

use weft_types::{Epoch, ReceiverIndex};
use weft_wire::{
    Ecn, Frame, GSO_HEADER_MAX, Gso, Header, Inner, Metadata, Offload, Run, Version, apply_run,
    protocol,
};

use super::{AttachmentSlot, EnvironmentSlot};

/// Largest IP packet.
const PACKET_MAX: usize = 65_535;
/// Room for a joined packet and, behind it, the datagram that is being opened. A datagram that
/// does not fit behind the open run ends the run.
const BUFFER_LEN: usize = 2 * PACKET_MAX;
/// A run of small UDP packets ends here: with headers it stays below what an IP packet can be.
const UDP_RUN_BYTES_MAX: usize = 60_000;
const UDP_RUN_PACKETS_MAX: u16 = 64;

/// Which superpacket a chunk belongs to, or which packet a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketId {
    pub(super) index: ReceiverIndex,
    pub(super) epoch: Epoch,
    /// Counter of its chunk 0.
    pub(super) first: u64,
}

impl PacketId {
    /// The packet of which a datagram with this header holds a part.
    pub(super) fn new(header: &Header, metadata: &Metadata) -> Self {
        let first = header.counter.0.wrapping_sub(metadata.chunk.into());
        Self { index: header.index, epoch: header.epoch, first }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Chunks of one superpacket, as its sender cut it.
    Chunks { id: PacketId, metadata: Metadata, next: u8 },
    /// Single UDP packets of one lane.
    Udp { index: ReceiverIndex, full: bool },
}

/// The run that is being joined.
pub(super) struct OpenRun {
    source: Source,
    pub(super) environment: EnvironmentSlot,
    pub(super) to: AttachmentSlot,
    frame: Frame,
    gso: Gso,
    outer: Ecn,
    first: u16,
    chunks: u16,
    header: [u8; GSO_HEADER_MAX],
    payload_len: usize,
}

/// A joined packet: header to write, its frame, and the payload in the join buffer.
pub(super) struct Joined {
    pub(super) environment: EnvironmentSlot,
    pub(super) to: AttachmentSlot,
    pub(super) frame: Frame,
    pub(super) outer: Ecn,
    pub(super) header: [u8; GSO_HEADER_MAX],
    pub(super) header_len: usize,
    pub(super) payload_len: usize,
}

pub(super) struct Join {
    buffer: Box<[u8]>,
    run: Option<OpenRun>,
}

/// Where a run starts: what the caller found out about its first chunk.
pub(super) struct Start {
    pub(super) environment: EnvironmentSlot,
    pub(super) to: AttachmentSlot,
    pub(super) outer: Ecn,
}

impl Join {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_LEN].into(), run: None }
    }

    /// Payload bytes of the open run, which is where the next datagram is opened.
    pub(super) fn len(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.payload_len)
    }

    /// Room behind the open run.
    pub(super) fn tail(&mut self) -> &mut [u8] {
        let at = self.len();
        &mut self.buffer[at..]
    }

    /// What stands behind the open run.
    pub(super) fn behind(&self) -> &[u8] {
        &self.buffer[self.len()..]
    }

    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    pub(super) fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    pub(super) fn is_open(&self) -> bool {
        self.run.is_some()
    }

    /// Forgets the open run if it is for `to`.
    pub(super) fn forget(&mut self, to: AttachmentSlot) {
        self.run.take_if(|run| run.to == to);
    }

    /// Appends the chunk whose plaintext stands behind the run, if it is the run's next one; its
    /// payload is then already in place. `None` when it is not; else whether the superpacket is
    /// complete.
    #[inline]
    pub(super) fn append_chunk(
        &mut self,
        id: PacketId,
        metadata: &Metadata,
        outer: Ecn,
        payload_len: usize,
        header_len: usize,
    ) -> Option<bool> {
        let run = self.run.as_mut()?;
        let Source::Chunks { id: run_id, metadata: run_metadata, next } = &mut run.source else {
            return None;
        };
        // First whose chunk it is: only with the run's own number of chunks does the length of the
        // last one follow from the run's length.
        if *run_id != id || *next != metadata.chunk || run_metadata.count != metadata.count {
            return None;
        }
        let at = run.payload_len;
        let header = self.buffer.get(at + payload_len..at + payload_len + header_len)?;
        let expected = if metadata.chunk + 1 == metadata.count {
            let total = usize::from(run.frame.inner.length - run.gso.header_len);
            total - usize::from(metadata.chunk) * usize::from(run.gso.size)
        } else {
            usize::from(run.gso.size)
        };
        let fits = run_metadata.virtio == metadata.virtio
            && run.outer == outer
            && payload_len == expected
            && header == &run.header[..usize::from(run.gso.header_len)];
        if !fits {
            return None;
        }
        *next += 1;
        run.chunks += 1;
        run.payload_len += payload_len;
        Some(*next == metadata.count)
    }

    /// Opens a run with the chunk whose plaintext stands at the buffer's front.
    pub(super) fn start_chunks(
        &mut self,
        start: Start,
        id: PacketId,
        metadata: Metadata,
        frame: Frame,
        payload_len: usize,
    ) {
        let Offload::Gso(gso) = frame.offload else {
            return;
        };
        let mut header = [0; GSO_HEADER_MAX];
        let header_len = usize::from(gso.header_len);
        header[..header_len].copy_from_slice(&self.buffer[payload_len..payload_len + header_len]);
        self.run = Some(OpenRun {
            source: Source::Chunks { id, metadata, next: metadata.chunk + 1 },
            environment: start.environment,
            to: start.to,
            frame,
            gso,
            outer: start.outer,
            first: metadata.chunk.into(),
            chunks: 1,
            header,
            payload_len,
        });
    }

    /// Whether a packet of this shape may be part of a UDP run: a whole UDP packet with payload,
    /// without IP options, whose checksum is left to do, and for IPv4 with *don't fragment* set,
    /// so that its identification means nothing (RFC 6864).
    pub(super) fn is_udp_joinable(frame: &Frame, packet: &[u8]) -> bool {
        let plain = match frame.inner.version {
            Version::V4 => {
                frame.inner.transport == 20 && packet.get(6).is_some_and(|f| f & 0x40 != 0)
            }
            Version::V6 => frame.inner.transport == 40,
        };
        plain
            && frame.offload == Offload::Checksum
            && frame.inner.protocol == protocol::UDP
            && frame.inner.length > frame.inner.transport + 8
    }

    /// Appends the UDP packet of `len` bytes that stands behind the run, if it continues it.
    pub(super) fn append_udp(
        &mut self,
        index: ReceiverIndex,
        outer: Ecn,
        inner: &Inner,
        len: usize,
    ) -> bool {
        let Some(run) = self.run.as_mut() else {
            return false;
        };
        let Source::Udp { index: run_index, full } = &mut run.source else {
            return false;
        };
        let at = run.payload_len;
        let header_len = usize::from(run.gso.header_len);
        let payload_len = len - header_len.min(len);
        let size = usize::from(run.gso.size);
        let fits = *run_index == index
            && *full
            && run.outer == outer
            && inner.version == run.frame.inner.version
            && (1..=size).contains(&payload_len)
            && run.chunks < UDP_RUN_PACKETS_MAX
            && at + payload_len <= UDP_RUN_BYTES_MAX
            && same_udp_flow(
                &run.header[..header_len],
                &self.buffer[at..at + header_len],
                inner.version,
            );
        if !fits {
            return false;
        }
        self.buffer.copy_within(at + header_len..at + len, at);
        *full = payload_len == size;
        run.chunks += 1;
        run.payload_len += payload_len;
        true
    }

    /// Opens a UDP run with the packet of `len` bytes at the buffer's front.
    pub(super) fn start_udp(
        &mut self,
        start: Start,
        index: ReceiverIndex,
        frame: Frame,
        len: usize,
    ) {
        let header_len = frame.inner.transport + 8;
        let at = usize::from(header_len);
        let mut header = [0; GSO_HEADER_MAX];
        header[..at].copy_from_slice(&self.buffer[..at]);
        self.buffer.copy_within(at..len, 0);
        self.run = Some(OpenRun {
            source: Source::Udp { index, full: true },
            environment: start.environment,
            to: start.to,
            frame,
            gso: Gso { size: frame.inner.length - header_len, header_len, ecn: false },
            outer: start.outer,
            first: 0,
            chunks: 1,
            header,
            payload_len: len - at,
        });
    }

    /// Closes the open run and gives the packet that it makes; its payload is the front of the
    /// buffer.
    pub(super) fn close(&mut self) -> Option<Joined> {
        let mut run = self.run.take()?;
        let header_len = usize::from(run.gso.header_len);
        let (is_whole, last) = match run.source {
            Source::Chunks { metadata, next, .. } => {
                (run.first == 0 && next == metadata.count, next == metadata.count)
            }
            // A single packet is as it came.
            Source::Udp { .. } => (run.chunks == 1, true),
        };
        let frame = if is_whole {
            run.frame
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "a run is at most one IP packet")]
            let payload_len = run.payload_len as u16;
            let part = Run { first: run.first, chunks: run.chunks, payload_len, last };
            apply_run(&run.frame, &run.gso, &part, &mut run.header[..header_len])
        };
        Some(Joined {
            environment: run.environment,
            to: run.to,
            frame,
            outer: run.outer,
            header: run.header,
            header_len,
            payload_len: run.payload_len,
        })
    }
}

/// Whether two UDP packets differ in nothing but lengths, identification and checksums.
fn same_udp_flow(a: &[u8], b: &[u8], version: Version) -> bool {
    let same = |range: std::ops::Range<usize>| a.get(range.clone()) == b.get(range);
    match version {
        Version::V4 => same(0..2) && same(6..10) && same(12..24),
        Version::V6 => same(0..4) && same(6..44),
    }
}
