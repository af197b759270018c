//! Judging packets by their environment's policy, at both ends: what a container sends, and what comes from a
//! peer, who may have another opinion or none.

use std::time::Instant;

use weft_wire::{Inner, VIRTIO_HEADER_LEN, icmp::Cause};

use super::{AttachmentSlot, Denial, Direction, Engine, Environment, EnvironmentSlot, Event, Io};
use crate::{
    DropReason,
    policy::{Denied, Seen},
};

impl Engine {
    /// What the environment's policy is to look at in a packet that begins with `bytes`, if it has one.
    #[inline]
    pub(super) fn look(
        &self,
        environment: EnvironmentSlot,
        inner: &Inner,
        bytes: &[u8],
    ) -> Option<Seen> {
        let has_guard = self.environments.get(environment)?.guard.is_some();
        has_guard.then(|| Seen::of(inner, bytes))
    }

    /// Judges a packet that a container sent, behind its virtio header in `data`. A container that may not is
    /// told, so that its programs fail at once and not after minutes; who is not asked is told nothing.
    #[inline(never)]
    pub(super) fn judge_sent(
        &mut self,
        now: Instant,
        from: AttachmentSlot,
        environment: EnvironmentSlot,
        inner: &Inner,
        data: &[u8],
        io: &mut impl Io,
    ) -> Result<(), DropReason> {
        let seen = Seen::of(inner, &data[VIRTIO_HEADER_LEN..]);
        self.judge(now, environment, Direction::Out, &seen)
            .inspect_err(|_| self.answer(now, from, Cause::Prohibited, inner, data, io))
    }

    /// Judges a packet that a policy has looked at.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        environment: EnvironmentSlot,
        direction: Direction,
        seen: &Seen,
    ) -> Result<(), DropReason> {
        let Some(Environment { guard: Some(guard), denials, .. }) =
            self.environments.get_mut(environment)
        else {
            return Ok(());
        };
        let Err(Denied(ground)) = guard.judge(now, self.worker, seen) else { return Ok(()) };
        if denials.take(now) {
            let (generation, tuple) = (guard.generation(), *seen.tuple());
            let denial = Denial { environment, generation, ground, tuple, direction };
            Self::push_event(&mut self.events, Event::Denied(denial));
        }
        Err(DropReason::Policy)
    }
}
