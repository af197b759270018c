//! Packets that wait on the way out, shared out fairly: for room while the path is slower than the
//! containers, or because their environment or attachment may not send faster.
//!
//! ```text
//!  packet ─▶ environment ─▶ attachment ─▶ flow
//!            by weight      by weight     equal
//! ```
//! On each level those that ask for little go first, and the others in turn ([`turns`]): among flows
//! that is the queue of RFC 8290 without its CoDel. Too many bytes in all: the oldest packet goes of the
//! flow with most, of the attachment with most, of the environment with most, for their weights.
//! Nothing of this is touched while there is room and nobody has a limit.

mod turns;

use std::{
    hash::{Hash, Hasher},
    time::Instant,
};

use rustc_hash::FxHasher;
use weft_wire::{Fragment, Inner, protocol};

use super::{AttachmentSlot, EnvironmentSlot};
use crate::pace::Share;
use turns::{Queue, Source, Turns};

/// Bytes that wait in one worker in all: 32 ms at 1 Gbit/s.
const BYTES_MAX: usize = 4 << 20;

/// Flows of an attachment that are told apart: of a hundred at a time some two share a number.
const FLOWS: u16 = 4096;

/// A packet with its virtio header, and where it came from.
pub(super) struct Waiting {
    pub(super) from: AttachmentSlot,
    pub(super) packet: Box<[u8]>,
}

/// What is there when the next packet is asked for.
pub(super) enum Next {
    Packet(Waiting),
    /// Nobody may send before.
    Wait(Instant),
    Nothing,
}

/// Whose a packet is that is to wait, and what its owners may send.
pub(super) struct Place<'a> {
    pub(super) environment: EnvironmentSlot,
    pub(super) environment_share: &'a Share,
    pub(super) from: AttachmentSlot,
    pub(super) attachment_share: &'a Share,
    /// Flows of an attachment that share a number wait for each other.
    pub(super) flow: u16,
}

type Flows = Turns<u16, Queue>;
type Attachments = Turns<AttachmentSlot, Flows>;

/// All packets of a worker that wait.
#[derive(Default)]
pub(super) struct Backlog {
    environments: Turns<EnvironmentSlot, Attachments>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.environments.bytes() == 0
    }

    /// Whether packets of an environment wait.
    pub(super) fn has_environment(&self, environment: EnvironmentSlot) -> bool {
        self.environments.child(environment).is_some_and(|child| child.bytes() > 0)
    }

    /// Whether packets of an attachment wait.
    pub(super) fn has(&self, environment: EnvironmentSlot, from: AttachmentSlot) -> bool {
        let attachments = self.environments.child(environment);
        let flows = attachments.and_then(|attachments| attachments.child(from));
        flows.is_some_and(|flows| flows.bytes() > 0)
    }

    /// Adds a packet with its virtio header behind those of its flow. `dropped` is told whose packets
    /// had to go.
    pub(super) fn push(
        &mut self,
        place: &Place<'_>,
        packet: &[u8],
        mut dropped: impl FnMut(AttachmentSlot),
    ) {
        let waiting = Waiting { from: place.from, packet: packet.into() };
        self.environments.add(place.environment, place.environment_share, |attachments| {
            attachments.add(place.from, place.attachment_share, |flows| {
                flows.add(place.flow, &Share::default(), |queue| queue.push(waiting));
            });
        });
        while self.environments.bytes() > BYTES_MAX {
            let Some(waiting) = self.environments.drop_one() else { break };
            dropped(waiting.from);
        }
    }

    /// Takes the packet whose turn it is.
    pub(super) fn pop(&mut self, now: Instant) -> Next {
        let next = self.environments.pop(now);
        if self.is_empty() {
            self.environments.clear();
        }
        next
    }

    /// Another share for an environment, also for what waits.
    pub(super) fn set_environment_share(&mut self, environment: EnvironmentSlot, share: &Share) {
        self.environments.set_share(environment, share);
    }

    /// Another share for an attachment, also for what waits.
    pub(super) fn set_share(
        &mut self,
        environment: EnvironmentSlot,
        from: AttachmentSlot,
        share: &Share,
    ) {
        self.environments.change(environment, |attachments| attachments.set_share(from, share));
    }

    /// Forgets the packets of one attachment, and says how many. Its slot may be another's soon.
    pub(super) fn forget(&mut self, environment: EnvironmentSlot, from: AttachmentSlot) -> usize {
        let flows = self.environments.change(environment, |attachments| attachments.remove(from));
        flows.flatten().map_or(0, |flows| flows.packets())
    }

    /// Forgets an environment, whose slot may be another's soon, and says how many packets waited.
    pub(super) fn forget_environment(&mut self, environment: EnvironmentSlot) -> usize {
        self.environments.remove(environment).map_or(0, |attachments| attachments.packets())
    }
}

/// A number below [`FLOWS`] for the flow of a packet of an attachment: the same for all of its packets.
pub(super) fn flow_of(inner: &Inner, packet: &[u8]) -> u16 {
    let mut hasher = FxHasher::default();
    (inner.source, inner.destination, inner.protocol).hash(&mut hasher);
    if matches!(inner.protocol, protocol::TCP | protocol::UDP) && inner.fragment == Fragment::Whole
    {
        let at = usize::from(inner.transport);
        packet.get(at..at + 4).hash(&mut hasher);
    }
    // The upper bits are the better mixed ones.
    let [high, low, ..] = hasher.finish().to_be_bytes();
    u16::from_be_bytes([high, low]) / (u16::MAX / FLOWS + 1)
}

#[cfg(test)]
mod tests;
