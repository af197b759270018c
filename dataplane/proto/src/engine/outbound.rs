//! Packets from containers: judge, route, and relay or seal.

use std::time::{Duration, Instant};

use weft_wire::{
    ALWAYS_CARRIED_LEN, Frame, Inner, OVERHEAD, Offload, VIRTIO_HEADER_LEN, Version, VirtioHeader,
    icmp::{self, Cause, ICMP_ERROR_MAX},
    protocol,
};

use super::{
    Attachment, AttachmentSlot, Engine, EnvironmentSlot, Event, Io, LinkSlot,
    backlog::{Next, Place, Waiting, flow_of},
    inbound::Superpacket,
    pending,
    sender::Sender,
    session::sooner,
};
use crate::{DropReason, Target};

/// How long a worker waits for room before it looks again; the 256 KiB on their way last as long at
/// 10 Gbit/s.
const ROOM_PAUSE: Duration = Duration::from_micros(200);

/// Whether a packet adds to what its attachment sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Yes,
    No,
}

impl Engine {
    /// Takes one packet with its virtio header, as it was read from an attachment's interface.
    /// The packet is used up: the engine completes checksums and writes headers in it.
    ///
    /// Gives `false` when it is no packet at all. Many of those in a row mean that a container has
    /// changed its device's header, which the daemon can set right.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        from: AttachmentSlot,
        data: &mut [u8],
        io: &mut impl Io,
    ) -> bool {
        let Some(attachment) = self.attachments.get(from) else { return true };
        let environment = attachment.environment;
        match self.forward(now, from, environment, Count::Yes, data, io) {
            Ok(()) => true,
            Err(reason) => {
                self.count_drop(environment, reason);
                !matches!(reason, DropReason::Malformed | DropReason::Length)
            }
        }
    }

    /// Takes a packet that waited for a session: it is judged again, by what holds now, but was
    /// counted before.
    pub(super) fn handle_waiting(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        mut waiting: pending::Waiting,
        io: &mut impl Io,
    ) {
        let data = &mut waiting.packet;
        if let Err(reason) = self.forward(now, waiting.from, environment, Count::No, data, io) {
            self.count_drop(environment, reason);
        }
    }

    #[inline]
    fn forward(
        &mut self,
        now: Instant,
        from: AttachmentSlot,
        environment: EnvironmentSlot,
        count: Count,
        data: &mut [u8],
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let (claim, packet) =
            data.split_first_chunk_mut::<VIRTIO_HEADER_LEN>().ok_or(DropReason::Malformed)?;
        let frame = Frame::from_container(VirtioHeader::decode(claim), packet)?;
        let attachment = self.attachments.get(from).ok_or(DropReason::NoRoute)?;
        if !attachment.addresses.contains(&frame.inner.source) {
            return Err(DropReason::Source);
        }
        if count == Count::Yes {
            attachment.counters.sent_packets.add(frame.segments() as u64);
            attachment.counters.sent_bytes.add(frame.inner.length.into());
        }
        if !icmp::is_unicast(frame.inner.destination) {
            return Err(DropReason::Group);
        }
        let tables = self.environments.get(environment).ok_or(DropReason::NoRoute)?;
        let target = tables.routes.get(frame.inner.destination);
        // To nobody nothing is forbidden, and nothing need be remembered.
        if tables.guard.is_some() && target.is_some() {
            self.judge_sent(now, from, environment, &frame.inner, data, io)?;
        }
        match target {
            Some(Target::Remote(link)) => {
                // What has waited goes.
                if count == Count::Yes
                    && let Some(until) = self.must_wait(now, environment, from, &frame, io)
                {
                    sooner(&mut self.backlog_at, Some(until));
                    self.keep(environment, from, &frame, data);
                    return Ok(());
                }
                self.send(now, from, link, &frame, data, io)
            }
            Some(Target::Local(to)) => self.relay(environment, to, &frame, data, io),
            None if self.is_gateway(environment, frame.inner.destination) => {
                self.pass_to_gateway(now, environment, from, &frame, data, io)
            }
            None => {
                self.answer(now, from, Cause::NoHost, &frame.inner, data, io);
                Err(DropReason::NoRoute)
            }
        }
    }

    /// Until when a packet must wait: for room, for others that came before, or because its
    /// environment or attachment has sent what it may. One that need not is accounted for.
    #[inline]
    fn must_wait(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        from: AttachmentSlot,
        frame: &Frame,
        io: &mut impl Io,
    ) -> Option<Instant> {
        if self.is_crowded || !io.has_room() {
            self.is_crowded = true;
            return Some(now + ROOM_PAUSE);
        }
        let of_environment = self.environments.get(environment)?.share.pace.as_deref();
        let of_attachment = self.attachments.get(from)?.share.pace.as_deref();
        let paces = || [of_environment, of_attachment].into_iter().flatten();
        // What waits until it may be sent goes before what comes now.
        let waits = !self.backlog.is_empty()
            && match of_environment {
                Some(_) => self.backlog.has_environment(environment),
                None => self.backlog.has(environment, from),
            };
        let until = paces().filter_map(|pace| pace.wait(now)).max();
        if waits || until.is_some() {
            return Some(until.unwrap_or(now));
        }
        paces().for_each(|pace| pace.charge(now, frame.inner.length.into()));
        None
    }

    /// Lets a packet wait.
    fn keep(
        &mut self,
        environment: EnvironmentSlot,
        from: AttachmentSlot,
        frame: &Frame,
        data: &mut [u8],
    ) {
        data[..VIRTIO_HEADER_LEN].copy_from_slice(&frame.virtio().encode());
        let flow = flow_of(&frame.inner, &data[VIRTIO_HEADER_LEN..]);
        let (attachments, environments) = (&self.attachments, &self.environments);
        let (Some(owner), Some(container)) = (environments.get(environment), attachments.get(from))
        else {
            return;
        };
        let place = Place {
            environment,
            environment_share: &owner.share,
            from,
            attachment_share: &container.share,
            flow,
        };
        self.backlog.push(&place, data, |dropped| {
            let environment = attachments.get(dropped).map(|attachment| attachment.environment);
            if let Some(environment) = environment.and_then(|slot| environments.get(slot)) {
                environment.counters.dropped(DropReason::Congestion);
            }
        });
    }

    /// Sends packets that wait, as far as there is room and their owners may.
    pub(super) fn send_backlog(&mut self, now: Instant, io: &mut impl Io) {
        self.is_crowded = false;
        self.backlog_at = None;
        // What waited may have gone with its attachment.
        while !self.backlog.is_empty() {
            if !io.has_room() {
                self.is_crowded = true;
                self.backlog_at = Some(now + ROOM_PAUSE);
                return;
            }
            match self.backlog.pop(now) {
                Next::Packet(mut waiting) => self.send_waiting(now, &mut waiting, io),
                Next::Wait(until) => {
                    self.backlog_at = Some(until);
                    return;
                }
                Next::Nothing => return,
            }
        }
    }

    fn send_waiting(&mut self, now: Instant, waiting: &mut Waiting, io: &mut impl Io) {
        let Some(attachment) = self.attachments.get(waiting.from) else { return };
        let environment = attachment.environment;
        let packet = &mut waiting.packet;
        if let Err(reason) = self.forward(now, waiting.from, environment, Count::No, packet, io) {
            self.count_drop(environment, reason);
        }
    }

    /// From one attachment on this host to another of the same environment: no cryptography, the
    /// superpacket as it is.
    fn relay(
        &mut self,
        environment: EnvironmentSlot,
        to: AttachmentSlot,
        frame: &Frame,
        data: &mut [u8],
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let takes_uso = match self.attachments.get(to) {
            Some(target) if target.environment == environment => target.uso,
            _ => return Err(DropReason::NoRoute),
        };
        if let Offload::Gso(gso) = frame.offload
            && frame.inner.protocol == protocol::UDP
            && !takes_uso
        {
            let packet = &data[VIRTIO_HEADER_LEN..];
            let (header, payload) = packet.split_at(gso.header_len.into());
            let whole = Superpacket { environment, to, frame, gso: &gso, header, payload };
            self.deliver_singly(&whole, io);
        } else {
            data[..VIRTIO_HEADER_LEN].copy_from_slice(&frame.virtio().encode());
            io.deliver(to, data, &[]).map_err(|_| DropReason::Undeliverable)?;
            self.count_delivery(environment, to, frame, true);
        }
        if let Some(environment) = self.environments.get(environment) {
            environment.counters.relayed_packets.add(frame.segments() as u64);
            environment.counters.relayed_bytes.add(frame.inner.length.into());
        }
        Ok(())
    }

    /// To a peer host: cut and sealed, or kept for a moment when there is no session.
    #[inline]
    fn send(
        &mut self,
        now: Instant,
        from: AttachmentSlot,
        link_slot: LinkSlot,
        frame: &Frame,
        data: &mut [u8],
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let link = self.links.get_mut(link_slot).ok_or(DropReason::NoRoute)?;
        let session = link.active.and_then(|id| self.sessions.get_mut(&id).map(|s| (id, s)));
        let Some((id, session)) = session else {
            data[..VIRTIO_HEADER_LEN].copy_from_slice(&frame.virtio().encode());
            let given_up = link.pending.expire(now);
            let is_first = link.pending.is_empty();
            let kept = link.pending.push(now, from, data);
            let environment = link.environment;
            self.count_drops(environment, DropReason::NoSession, given_up);
            if is_first || !kept {
                Self::push_event(&mut self.events, Event::NeedSession(link_slot));
            }
            return if kept { Ok(()) } else { Err(DropReason::NoSession) };
        };
        let packet = &mut data[VIRTIO_HEADER_LEN..];
        let (events, next_tick) = (&mut self.events, &mut self.next_tick);
        let mut sender = Sender { now, id, link, session, events, next_tick, io };
        let sent = match frame.offload {
            Offload::Gso(gso) => sender.send_superpacket(frame, &gso, packet),
            Offload::None | Offload::Checksum => sender.send_whole(frame, packet),
        };
        if sent == Err(DropReason::TooBig) {
            let mtu = match frame.inner.version {
                Version::V4 => sender.datagram_max() - OVERHEAD,
                Version::V6 => (sender.datagram_max() - OVERHEAD).max(ALWAYS_CARRIED_LEN),
            };
            let cause = Cause::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX));
            self.answer(now, from, cause, &frame.inner, data, io);
        }
        sent
    }

    /// Tells the container why its packet goes no further.
    #[cold]
    pub(super) fn answer(
        &mut self,
        now: Instant,
        from: AttachmentSlot,
        cause: Cause,
        inner: &Inner,
        data: &[u8],
        io: &mut impl Io,
    ) {
        let packet = &data[VIRTIO_HEADER_LEN..];
        let Some(Attachment { environment, icmp, .. }) = self.attachments.get_mut(from) else {
            return;
        };
        let Some(environment) = self.environments.get(*environment) else {
            return;
        };
        let gateway = match inner.version {
            Version::V4 => environment.gateway,
            Version::V6 => environment.gateway6,
        };
        let Some(gateway) = gateway else { return };
        if !icmp::may_answer(inner, packet) || !icmp.take(now) {
            return;
        }
        let mut error = [0; ICMP_ERROR_MAX];
        if let Some(len) = icmp::unreachable(cause, inner, packet, gateway, &mut error) {
            // Nobody counts on an ICMP error: when the interface is full it is gone.
            let head = VirtioHeader::default().encode();
            let _ = io.deliver(from, &head, &error[..len]);
        }
    }
}
