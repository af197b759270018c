//! Sealing one packet for a peer: whole, in pieces, or as the chunks of a superpacket.

use std::time::Instant;

use weft_wire::{
    ALWAYS_CARRIED_LEN, CHUNKS_MAX, Frame, GSO_HEADER_MAX, Gso, Kind, METADATA_LEN, Metadata,
    OVERHEAD, Offload, PIECED_LEN_MAX, PIECES_MAX, Run, Version, VirtioHeader, apply_run, protocol,
};

use super::{Event, Io, session::sooner};
use crate::{DropReason, lane::SendLane};

const TAIL_MAX: usize = GSO_HEADER_MAX + METADATA_LEN;

/// What is needed to seal the datagrams of one packet.
pub(super) struct Sender<'a, I> {
    pub(super) now: Instant,
    pub(super) id: super::SessionId,
    pub(super) link: &'a mut super::Link,
    pub(super) session: &'a mut super::Session,
    pub(super) events: &'a mut std::collections::VecDeque<Event>,
    pub(super) next_tick: &'a mut Option<Instant>,
    pub(super) io: &'a mut I,
}

impl<I: Io> Sender<'_, I> {
    /// What both ends and the path between them carry.
    pub(super) fn datagram_max(&self) -> usize {
        self.session.datagram_max.min(self.link.path.current().into())
    }

    fn prepare(&mut self, datagrams: usize) -> Result<(), DropReason> {
        self.session
            .prepare(self.now, datagrams as u64, self.id, self.events)
            .map_err(|_| DropReason::KeysUsedUp)
    }

    pub(super) fn send_whole(&mut self, frame: &Frame, packet: &[u8]) -> Result<(), DropReason> {
        if packet.len() + OVERHEAD > self.datagram_max() {
            return self.send_pieces(frame, packet);
        }
        self.prepare(1)?;
        let metadata = Metadata { virtio: frame.virtio(), chunk: 0, count: 1 }.encode();
        let bytes = self.seal(frame, packet, &metadata);
        self.count(1, bytes, bytes);
        Ok(())
    }

    /// A packet that is too long for a datagram, if it is one that every path carries, or may be cut by
    /// its own account.
    #[cold]
    fn send_pieces(&mut self, frame: &Frame, packet: &[u8]) -> Result<(), DropReason> {
        let count = packet.len().div_ceil(self.datagram_max() - OVERHEAD);
        if !may_be_cut(frame, packet, packet.len()) || count > usize::from(PIECES_MAX) {
            return Err(DropReason::TooBig);
        }
        self.prepare(count)?;
        // Of one length, so that one call sends them.
        let size = packet.len().div_ceil(count);
        #[expect(clippy::cast_possible_truncation, reason = "at most PIECED_LEN_MAX, PIECES_MAX")]
        let (size_u16, count_u8) = (size as u16, count as u8);
        let virtio = VirtioHeader { gso_size: size_u16, ..frame.virtio() };
        let mut metadata = Metadata { virtio, chunk: 0, count: count_u8 };
        let mut bytes = 0;
        for piece in packet.chunks(size) {
            bytes += self.seal(frame, piece, &metadata.encode());
            metadata.chunk += 1;
        }
        self.count(count, bytes, size + OVERHEAD);
        Ok(())
    }

    pub(super) fn send_superpacket(
        &mut self,
        frame: &Frame,
        gso: &Gso,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let header_len = usize::from(gso.header_len);
        let size_max = self.datagram_max() - OVERHEAD - header_len;
        if usize::from(gso.size) > size_max {
            return self.send_long_segments(frame, gso, size_max, packet);
        }
        if frame.segments() <= usize::from(CHUNKS_MAX) {
            let (header, payload) = packet.split_at_mut(header_len);
            return self.send_chunks(frame, gso, header, payload);
        }
        // More chunks than a superpacket has on the wire: several superpackets.
        self.send_groups(frame, gso, CHUNKS_MAX, packet)
    }

    /// A superpacket whose segments are too long for a datagram.
    #[cold]
    fn send_long_segments(
        &mut self,
        frame: &Frame,
        gso: &Gso,
        size_max: usize,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        if frame.inner.protocol == protocol::UDP {
            // Each is a packet with a meaning of its own.
            let len = usize::from(gso.header_len) + usize::from(gso.size);
            if !may_be_cut(frame, packet, len) {
                return Err(DropReason::TooBig);
            }
            return self.send_groups(frame, gso, 1, packet);
        }
        // TCP is a stream: its sender left it to others where to cut it (RFC 9293 section 3.7.5).
        let size = u16::try_from(size_max).unwrap_or(u16::MAX);
        let gso = Gso { size, ..*gso };
        let frame = Frame { offload: Offload::Gso(gso), ..*frame };
        self.send_superpacket(&frame, &gso, packet)
    }

    /// Sends a superpacket as several with so many chunks each. The header of each is written in front
    /// of its payload, over payload that has been sent.
    fn send_groups(
        &mut self,
        frame: &Frame,
        gso: &Gso,
        chunks: u8,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let header_len = usize::from(gso.header_len);
        let (header, payload) = packet.split_at(header_len);
        let mut original = [0; GSO_HEADER_MAX];
        let original = &mut original[..header_len];
        original.copy_from_slice(header);
        let group_len = usize::from(chunks) * usize::from(gso.size);
        let groups = payload.len().div_ceil(group_len);
        for i in 0..groups {
            let end = packet.len().min(header_len + (i + 1) * group_len);
            let part = &mut packet[i * group_len..end];
            let (header, payload) = part.split_at_mut(header_len);
            header.copy_from_slice(original);
            #[expect(clippy::cast_possible_truncation, reason = "at most 128 segments")]
            let run = Run {
                first: (i * usize::from(chunks)) as u16,
                chunks: payload.len().div_ceil(usize::from(gso.size)) as u16,
                payload_len: payload.len() as u16,
                last: i + 1 == groups,
            };
            let part_frame = apply_run(frame, gso, &run, header);
            match part_frame.offload {
                Offload::Gso(part_gso) => {
                    self.send_chunks(&part_frame, &part_gso, header, payload)?;
                }
                // The last group may be one segment: a packet like any other.
                _ => self.send_whole(&part_frame, part)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn send_chunks(
        &mut self,
        frame: &Frame,
        gso: &Gso,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<(), DropReason> {
        let count = frame.segments();
        self.prepare(count)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most CHUNKS_MAX")]
        let mut metadata = Metadata { virtio: frame.virtio(), chunk: 0, count: count as u8 };
        let mut tail = [0; TAIL_MAX];
        let tail = &mut tail[..header.len() + METADATA_LEN];
        tail[..header.len()].copy_from_slice(header);
        let mut bytes = 0;
        // A chunk and its tail are sealed as one piece, which the AEAD does faster than two: the
        // tail stands for the moment where the next chunk begins.
        let mut kept = [0; TAIL_MAX];
        let kept = &mut kept[..tail.len()];
        let mut rest = payload;
        while !rest.is_empty() {
            tail[header.len()..].copy_from_slice(&metadata.encode());
            metadata.chunk += 1;
            let chunk_len = rest.len().min(gso.size.into());
            let end = chunk_len + tail.len();
            if rest.len() < end {
                let (chunk, next) = rest.split_at_mut(chunk_len);
                bytes += self.seal(frame, chunk, tail);
                rest = next;
                continue;
            }
            kept.copy_from_slice(&rest[chunk_len..end]);
            rest[chunk_len..end].copy_from_slice(tail);
            bytes += self.seal(frame, &rest[..end], &[]);
            rest[chunk_len..end].copy_from_slice(kept);
            rest = &mut rest[chunk_len..];
        }
        self.count(count, bytes, SendLane::datagram_len(gso.size.into(), tail.len()));
        Ok(())
    }

    /// Seals one datagram and gives its length.
    #[inline]
    fn seal(&mut self, frame: &Frame, payload: &[u8], tail: &[u8]) -> usize {
        let len = SendLane::datagram_len(payload.len(), tail.len());
        if self.link.is_single {
            self.io.part();
        }
        let out = self.io.datagram(&self.link.way, frame.inner.ecn, len);
        self.session.send.seal(Kind::Data, payload, tail, out);
        len
    }

    /// `longest` of the datagrams, bytes.
    fn count(&mut self, datagrams: usize, bytes: usize, longest: usize) {
        if self.link.path.handle_use(self.now, longest) {
            sooner(self.next_tick, self.link.path.poll_timeout());
        }
        self.link.counters.sent_datagrams.add(datagrams as u64);
        self.link.counters.sent_bytes.add(bytes as u64);
    }
}

/// Whether a packet of `len` bytes may go in pieces; `packet` begins with its header.
fn may_be_cut(frame: &Frame, packet: &[u8], len: usize) -> bool {
    match (frame.inner.version, packet) {
        _ if len > PIECED_LEN_MAX => false,
        _ if len <= ALWAYS_CARRIED_LEN => true,
        // RFC 791: the flag *don't fragment*.
        (Version::V4, [_, _, _, _, _, _, flags, ..]) => flags & 0x40 == 0,
        _ => false,
    }
}
