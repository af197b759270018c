//! Datagrams from peers: open, judge, join, deliver.

use std::{net::SocketAddr, time::Instant};

use weft_types::ReceiverIndex;
use weft_wire::{
    Control, Ecn, Frame, GSO_HEADER_MAX, Gso, HEADER_LEN, Header, Inner, Kind, METADATA_LEN,
    Metadata, Offload, VIRTIO_HEADER_LEN, join_ecn, set_ecn, virtio,
};

use super::{
    AttachmentSlot, Direction, Elsewhere, Engine, EnvironmentSlot, Event, Io, LinkSlot, SessionId,
    cut::each_packet,
    join::{Join, PacketId, Start},
};
use crate::{
    DropReason, Target,
    policy::Seen,
    roam::{SEEN_EVERY, SEEN_PAUSE_MAX},
    way::Source,
};

/// An opened datagram: its plaintext stands behind the open run in the join buffer.
struct Opened {
    header: Header,
    link: LinkSlot,
    session: SessionId,
    outer: Ecn,
    len: usize,
}

/// Whose a datagram is.
#[derive(Clone, Copy)]
struct Authentic {
    link: LinkSlot,
    session: SessionId,
    is_home: bool,
}

/// A UDP superpacket for an interface that takes none.
pub(super) struct Superpacket<'a> {
    pub(super) environment: EnvironmentSlot,
    pub(super) to: AttachmentSlot,
    pub(super) frame: &'a Frame,
    pub(super) gso: &'a Gso,
    pub(super) header: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl Engine {
    /// Takes what one receive gave: `data` is one datagram, or several of `segment` bytes each
    /// (the last may be shorter) that the kernel merged, all from one source. Only the kernel's word
    /// splits them; a length field that differs costs its own datagram and no other.
    pub fn handle_datagrams(
        &mut self,
        now: Instant,
        source: impl Into<Source>,
        outer: Ecn,
        segment: usize,
        data: &[u8],
        io: &mut impl Io,
    ) {
        if data.is_empty() {
            self.unattributed.dropped(DropReason::Header);
        }
        let source = source.into();
        let mut authentic = None;
        for datagram in data.chunks(segment.max(1)) {
            match self.handle_datagram(now, &source, outer, datagram, io) {
                Ok(session) => authentic = session.or(authentic),
                Err(reason) => self.unattributed.dropped(reason),
            }
        }
        if let (Some(authentic), Source::Udp(back)) = (authentic, source) {
            self.look_whence(now, authentic, back.to);
        }
    }

    /// Says that a peer is elsewhere, if it is; ever more rarely while that comes to nothing.
    #[inline]
    fn look_whence(&mut self, now: Instant, authentic: Authentic, from: SocketAddr) {
        let Authentic { link, session, is_home } = authentic;
        let Some(link) = self.links.get_mut(link) else { return };
        if link.way.leads_to(&from, is_home) {
            return;
        }
        let ip = from.ip();
        let pause = match link.elsewhere {
            Some(said) if said.ip == ip && now < said.again => return,
            // Another place is another matter, but not at every datagram.
            Some(said) if said.ip != ip && now + said.pause < said.again + SEEN_EVERY => return,
            Some(said) if said.ip == ip => (said.pause * 2).min(SEEN_PAUSE_MAX),
            _ => SEEN_EVERY,
        };
        link.elsewhere = Some(Elsewhere { ip, again: now + pause, pause });
        Self::push_event(&mut self.events, Event::Elsewhere { session, from, is_home });
    }

    /// Ends a receive drain: what is joined so far is delivered.
    pub fn finish_receive(&mut self, io: &mut impl Io) {
        self.flush(io);
    }

    /// Counts a message that was longer than the receive buffer.
    pub fn handle_truncated(&mut self) {
        self.unattributed.dropped(DropReason::Truncated);
    }

    /// An error is a drop that belongs to no environment. Gives whose datagram it is if it is authentic.
    fn handle_datagram(
        &mut self,
        now: Instant,
        source: &Source,
        outer: Ecn,
        datagram: &[u8],
        io: &mut impl Io,
    ) -> Result<Option<Authentic>, DropReason> {
        let header = Header::decode(datagram).map_err(|_| DropReason::Header)?;
        if header.index.worker() != Ok(self.worker) {
            return Err(DropReason::WrongWorker);
        }
        if self.join.tail().len() < datagram.len() {
            self.flush(io);
        }
        let receiver = self.receivers.get_mut(&header.index).ok_or(DropReason::UnknownSession)?;
        let (link_slot, session, is_home) = (receiver.link, receiver.session, receiver.is_home);
        let (clear, sealed) =
            datagram.split_first_chunk::<HEADER_LEN>().ok_or(DropReason::Header)?;
        let opened = receiver.lane.open(now, &header, clear, sealed, self.join.tail());
        let link = self.links.get(link_slot).ok_or(DropReason::UnknownSession)?;
        let environment = link.environment;
        let opened = match opened {
            Ok(opened) => opened,
            Err(rejected) => {
                self.count_drop(environment, rejected.into());
                return Ok(None);
            }
        };
        link.counters.received_datagrams.add(1);
        link.counters.received_bytes.add(datagram.len() as u64);
        if opened.is_first {
            Self::push_event(&mut self.events, Event::Alive(session));
        }
        let opened = Opened { header, link: link_slot, session, outer, len: opened.len };
        let result = match header.kind {
            Kind::Control => self.open_control(now, source, &opened, io),
            Kind::Data => self.open_data(now, environment, &opened, io),
        };
        if let Err(reason) = result {
            self.count_drop(environment, reason);
        }
        Ok(Some(Authentic { link: link_slot, session, is_home }))
    }

    pub(super) fn count_drop(&self, environment: EnvironmentSlot, reason: DropReason) {
        self.count_drops(environment, reason, 1);
    }

    pub(super) fn count_drops(
        &self,
        environment: EnvironmentSlot,
        reason: DropReason,
        count: usize,
    ) {
        if let Some(environment) = self.environments.get(environment) {
            environment.counters.dropped_many(reason, count);
        }
    }

    fn open_control(
        &mut self,
        now: Instant,
        source: &Source,
        opened: &Opened,
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let body = self.join.behind().get(..opened.len).ok_or(DropReason::Control)?;
        let control = Control::decode(body).map_err(|_| DropReason::Control)?;
        self.handle_control(now, source, opened.session, control, opened.header.length, io);
        Ok(())
    }

    #[inline]
    fn open_data(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        opened: &Opened,
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let plain = self.join.behind().get(..opened.len).ok_or(DropReason::Metadata)?;
        let (body, metadata) =
            plain.split_last_chunk::<METADATA_LEN>().ok_or(DropReason::Metadata)?;
        let metadata = Metadata::decode(metadata).map_err(|_| DropReason::Metadata)?;
        let header_len = usize::from(metadata.virtio.hdr_len);
        let payload_len = body.len().checked_sub(header_len).ok_or(DropReason::Metadata)?;
        let body_len = body.len();
        if metadata.is_piece() {
            return self.open_piece(now, environment, opened, &metadata, body_len, io);
        }
        if metadata.virtio.gso_type == virtio::GSO_NONE {
            return self.open_whole(now, environment, opened, &metadata, body_len, io);
        }
        let id = PacketId::new(&opened.header, &metadata);
        match self.join.append_chunk(id, &metadata, opened.outer, payload_len, header_len) {
            Some(true) => self.flush(io),
            Some(false) => {}
            None => {
                self.settle(opened.len, io);
                let header = &self.join.behind()[payload_len..payload_len + header_len];
                let frame = Frame::from_chunk(&metadata, header, payload_len)?;
                let seen = self.look(environment, &frame.inner, header);
                let to = self.admit(now, environment, opened.link, &frame.inner, seen)?;
                let start = Start { environment, to, outer: opened.outer };
                self.join.start_chunks(start, id, metadata, frame, payload_len);
            }
        }
        Ok(())
    }

    fn open_whole(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        opened: &Opened,
        metadata: &Metadata,
        len: usize,
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let index: ReceiverIndex = opened.header.index;
        let packet = &self.join.behind()[..len];
        let frame = Frame::from_peer(metadata, packet)?;
        let joinable = Join::is_udp_joinable(&frame, packet);
        if joinable && self.join.append_udp(index, opened.outer, &frame.inner, len) {
            return Ok(());
        }
        let seen = self.look(environment, &frame.inner, &self.join.behind()[..len]);
        let to = self.admit(now, environment, opened.link, &frame.inner, seen)?;
        if joinable && self.attachments.get(to).is_some_and(|a| a.uso) {
            self.settle(opened.len, io);
            let start = Start { environment, to, outer: opened.outer };
            self.join.start_udp(start, index, frame, len);
            return Ok(());
        }
        let at = self.join.len();
        self.flush(io);
        let ecn = join_ecn(frame.inner.ecn, opened.outer).ok_or(DropReason::Ecn)?;
        let packet = &mut self.join.buffer_mut()[at..at + len];
        if ecn != frame.inner.ecn {
            set_ecn(packet, frame.inner.version, ecn);
        }
        let head = frame.virtio().encode();
        let packet = &self.join.buffer()[at..at + len];
        let delivered = io.deliver(to, &head, packet);
        self.count_delivery(environment, to, &frame, delivered.is_ok());
        Ok(())
    }

    /// A piece of a packet, which is delivered as a whole when all of them are there.
    #[cold]
    fn open_piece(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        opened: &Opened,
        metadata: &Metadata,
        len: usize,
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let id = PacketId::new(&opened.header, metadata);
        let piece = &self.join.behind()[..len];
        let receiver = self.receivers.get_mut(&id.index).ok_or(DropReason::UnknownSession)?;
        let added = receiver.pieces.add(now, id, metadata, opened.outer, piece)?;
        self.count_drops(environment, DropReason::Incomplete, added.given_up);
        let Some(mut whole) = added.whole else { return Ok(()) };
        let packet = &mut whole.bytes[..whole.len];
        let frame = Frame::from_peer(&whole.metadata, packet)?;
        let seen = self.look(environment, &frame.inner, packet);
        let to = self.admit(now, environment, opened.link, &frame.inner, seen)?;
        let ecn = join_ecn(frame.inner.ecn, whole.outer).ok_or(DropReason::Ecn)?;
        if ecn != frame.inner.ecn {
            set_ecn(packet, frame.inner.version, ecn);
        }
        // What came before goes before.
        self.flush(io);
        let delivered = io.deliver(to, &frame.virtio().encode(), packet);
        self.count_delivery(environment, to, &frame, delivered.is_ok());
        Ok(())
    }

    /// Flushes the open run and moves the plaintext of `len` bytes behind it to the buffer's
    /// front, where a new run starts.
    fn settle(&mut self, len: usize, io: &mut impl Io) {
        if self.join.is_open() {
            let at = self.join.len();
            self.flush(io);
            self.join.buffer_mut().copy_within(at..at + len, 0);
        }
    }

    /// Whether this peer may send this packet: its source must live at the peer, its destination
    /// must be attached here, both in the link's environment, and the environment's policy, if it has
    /// `seen` the packet, must allow it. Traffic from a peer never goes to a peer.
    #[inline]
    fn admit(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        link: LinkSlot,
        inner: &Inner,
        seen: Option<Seen>,
    ) -> Result<AttachmentSlot, DropReason> {
        let routes = &self.environments.get(environment).ok_or(DropReason::Destination)?.routes;
        if routes.get(inner.source) != Some(Target::Remote(link)) {
            return Err(DropReason::Source);
        }
        let Some(Target::Local(to)) = routes.get(inner.destination) else {
            return Err(DropReason::Destination);
        };
        if self.attachments.get(to).is_none_or(|there| there.environment != environment) {
            return Err(DropReason::Destination);
        }
        if let Some(seen) = seen {
            self.judge(now, environment, Direction::In, &seen)?;
        }
        Ok(to)
    }

    /// Delivers the open run, if there is one.
    fn flush(&mut self, io: &mut impl Io) {
        let Some(mut joined) = self.join.close() else {
            return;
        };
        let frame = joined.frame;
        let Some(ecn) = join_ecn(frame.inner.ecn, joined.outer) else {
            self.count_drop(joined.environment, DropReason::Ecn);
            return;
        };
        if ecn != frame.inner.ecn {
            set_ecn(&mut joined.header[..joined.header_len], frame.inner.version, ecn);
        }
        let takes_uso = self.attachments.get(joined.to).is_some_and(|a| a.uso);
        if let Offload::Gso(gso) = frame.offload
            && frame.virtio().gso_type == virtio::GSO_UDP_L4
            && !takes_uso
        {
            let whole = Superpacket {
                environment: joined.environment,
                to: joined.to,
                frame: &frame,
                gso: &gso,
                header: &joined.header[..joined.header_len],
                payload: &self.join.buffer()[..joined.payload_len],
            };
            self.deliver_singly(&whole, io);
            return;
        }
        let mut head = [0; VIRTIO_HEADER_LEN + GSO_HEADER_MAX];
        head[..VIRTIO_HEADER_LEN].copy_from_slice(&frame.virtio().encode());
        let head_len = VIRTIO_HEADER_LEN + joined.header_len;
        head[VIRTIO_HEADER_LEN..head_len].copy_from_slice(&joined.header[..joined.header_len]);
        let payload = &self.join.buffer()[..joined.payload_len];
        let delivered = io.deliver(joined.to, &head[..head_len], payload);
        self.count_delivery(joined.environment, joined.to, &frame, delivered.is_ok());
    }

    /// Gives a UDP superpacket to an interface that takes none, packet by packet.
    #[cold]
    pub(super) fn deliver_singly(&self, whole: &Superpacket<'_>, io: &mut impl Io) {
        each_packet(whole.frame, whole.gso, whole.header, whole.payload, |frame, head, segment| {
            let delivered = io.deliver(whole.to, head, segment);
            self.count_delivery(whole.environment, whole.to, frame, delivered.is_ok());
        });
    }

    pub(super) fn count_delivery(
        &self,
        environment: EnvironmentSlot,
        to: AttachmentSlot,
        frame: &Frame,
        delivered: bool,
    ) {
        if !delivered {
            self.count_drop(environment, DropReason::Undeliverable);
            return;
        }
        if let Some(attachment) = self.attachments.get(to) {
            attachment.counters.received_packets.add(frame.segments() as u64);
            attachment.counters.received_bytes.add(frame.inner.length.into());
        }
    }
}
