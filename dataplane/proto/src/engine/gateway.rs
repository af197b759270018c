//! Packets to and from an environment's gateway address, where its names are answered.
//!
//! ```text
//!  attachment ─▶ own source? ─▶ rate ─▶ cut, checksums ─▶ Io::gateway ─▶ the environment's own queue
//!  attachment ◀─ owns the destination, is of the environment? ◀─ handle_gateway_packet
//! ```
//! Each host answers its own containers: what a peer sends there goes nowhere, as to any address that is not
//! attached here. Answers need no attachment's slot: the routes say who owns an address at this moment.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use weft_wire::{Frame, Offload, VIRTIO_HEADER_LEN, VirtioHeader, checksum};

use super::{AttachmentSlot, Engine, Environment, EnvironmentSlot, Io, cut::each_packet};
use crate::{DropReason, Target};

/// Longest packet that is handed out, bytes: a query has 1,024 at most, a TCP segment what fits the 1,408 of
/// usual interfaces; the rest is room for pings.
pub const GATEWAY_PACKET_LEN_MAX: usize = 2_048;
/// Packets of one attachment to the gateway, on each worker: so many at once, then 2,000 a second. That is ten
/// times the queries that are answered; and it is what a container can cost this worker at most, some 1 µs each.
pub(super) const GATEWAY_BURST: u32 = 256;
pub(super) const GATEWAY_INTERVAL: Duration = Duration::from_micros(500);

impl Environment {
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        [self.gateway, self.gateway6].contains(&Some(address))
    }
}

impl Engine {
    pub(super) fn is_gateway(&self, environment: EnvironmentSlot, address: IpAddr) -> bool {
        self.environments.get(environment).is_some_and(|tables| tables.is_gateway(address))
    }

    /// Hands out what an attachment sent to its environment's gateway: whole packets only. `data` is the packet
    /// behind its virtio header.
    #[cold]
    pub(super) fn pass_to_gateway(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        from: AttachmentSlot,
        frame: &Frame,
        data: &mut [u8],
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let packet = &mut data[VIRTIO_HEADER_LEN..];
        let Offload::Gso(gso) = frame.offload else {
            return self.hand_out(now, environment, from, frame, (packet, &[]), io);
        };
        let (header, payload) = packet.split_at(gso.header_len.into());
        each_packet(frame, &gso, header, payload, |one, head, segment| {
            let parts = (&mut head[VIRTIO_HEADER_LEN..], segment);
            if let Err(reason) = self.hand_out(now, environment, from, one, parts, io) {
                self.count_drop(environment, reason);
            }
        });
        Ok(())
    }

    /// One packet, as its headers, which may go on behind them, and the rest.
    fn hand_out(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        from: AttachmentSlot,
        frame: &Frame,
        (header, payload): (&mut [u8], &[u8]),
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let attachment = self.attachments.get_mut(from).ok_or(DropReason::NoRoute)?;
        if !attachment.gateway.take(now) {
            return Err(DropReason::GatewayBusy);
        }
        if header.len() + payload.len() > GATEWAY_PACKET_LEN_MAX {
            return Err(DropReason::TooBig);
        }
        if frame.offload == Offload::Checksum {
            finish(frame, header, payload);
        }
        io.gateway(environment, header, payload).map_err(|_| DropReason::GatewayBusy)
    }

    /// Takes a packet that an environment's gateway answers with, and gives it to the attachment that owns its
    /// destination: of this environment, on this host. Everything else is dropped and counted.
    pub fn handle_gateway_packet(
        &mut self,
        environment: EnvironmentSlot,
        packet: &mut [u8],
        io: &mut impl Io,
    ) {
        match self.admit_answer(environment, packet) {
            Ok((to, frame)) => {
                let delivered = io.deliver(to, &frame.virtio().encode(), packet);
                self.count_delivery(environment, to, &frame, delivered.is_ok());
            }
            Err(reason) => self.count_drop(environment, reason),
        }
    }

    fn admit_answer(
        &self,
        environment: EnvironmentSlot,
        packet: &mut [u8],
    ) -> Result<(AttachmentSlot, Frame), DropReason> {
        let frame = Frame::from_container(VirtioHeader::default(), packet)?;
        let tables = self.environments.get(environment).ok_or(DropReason::NoRoute)?;
        if !tables.is_gateway(frame.inner.source) {
            return Err(DropReason::Source);
        }
        let destination = frame.inner.destination;
        let Some(Target::Local(to)) = tables.routes.get(destination) else {
            return Err(DropReason::NoRoute);
        };
        match self.attachments.get(to) {
            Some(owner)
                if owner.environment == environment && owner.addresses.contains(&destination) =>
            {
                Ok((to, frame))
            }
            _ => Err(DropReason::NoRoute),
        }
    }
}

/// Makes the checksum that is left to do, as a kernel would: over what stands in its place, too.
fn finish(frame: &Frame, header: &mut [u8], payload: &[u8]) {
    let start = usize::from(frame.inner.transport);
    let at = start + usize::from(frame.checksum_offset());
    let sum = checksum::sum(&header[start..]) + checksum::sum(payload);
    let check = match !checksum::fold(sum) {
        // For UDP 0 would mean that there is none.
        0 => 0xffff,
        check => check,
    };
    header[at..at + 2].copy_from_slice(&check.to_be_bytes());
}
