//! Packets that wait for a session.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::AttachmentSlot;

/// Most packets that wait on one link of one worker.
const PACKETS_MAX: usize = 64;
/// Most bytes that wait on one link of one worker. With 1,000 links and 2 workers all waiting this
/// is 125 MiB in the worst case; it is freed as soon as the session is there.
const BYTES_MAX: usize = 64 * 1024;

/// How long a packet may wait. Later its sender has given up or sent it again.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A packet that waits.
pub(super) struct Waiting {
    since: Instant,
    pub(super) from: AttachmentSlot,
    pub(super) packet: Box<[u8]>,
}

/// A short queue. The oldest packets stay: they are the ones that open a conversation.
#[derive(Default)]
pub(super) struct Pending {
    packets: VecDeque<Waiting>,
    bytes: usize,
}

impl Pending {
    /// Whether no packet waits.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Forgets packets that have waited too long, and says how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.packets.len();
        while let Some(oldest) = self.packets.front()
            && now.saturating_duration_since(oldest.since) > WAIT_MAX
        {
            self.bytes -= oldest.packet.len();
            self.packets.pop_front();
        }
        before - self.packets.len()
    }

    /// Forgets the packets of one attachment, and says how many. Its slot may be another's soon.
    pub(super) fn forget(&mut self, from: AttachmentSlot) -> usize {
        let before = self.packets.len();
        self.packets.retain(|waiting| waiting.from != from);
        self.bytes = self.packets.iter().map(|waiting| waiting.packet.len()).sum();
        before - self.packets.len()
    }

    /// Keeps a packet with its virtio header, if there is room.
    pub(super) fn push(&mut self, now: Instant, from: AttachmentSlot, packet: &[u8]) -> bool {
        if self.packets.len() >= PACKETS_MAX || self.bytes + packet.len() > BYTES_MAX {
            return false;
        }
        self.bytes += packet.len();
        self.packets.push_back(Waiting { since: now, from, packet: packet.into() });
        true
    }

    /// Takes all packets, oldest first. Those that have waited too long are to be
    /// [expired](Self::expire) before.
    pub(super) fn take(&mut self) -> VecDeque<Waiting> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // As the protocol has them, whatever the code says.
    const PACKETS_MAX: usize = 64;
    const WAIT_MAX: Duration = Duration::from_secs(5);

    #[test]
    fn is_bounded_in_packets_bytes_and_time() {
        let (slot, now) = (AttachmentSlot(0), Instant::now());
        let mut pending = Pending::default();
        assert_eq!((0..100).filter(|_| pending.push(now, slot, &[0; 10])).count(), PACKETS_MAX);
        assert_eq!(pending.take().len(), PACKETS_MAX);
        assert!(pending.push(now, slot, &[0; 60_000]));
        assert!(!pending.push(now, slot, &[0; 5_537]));
        assert!(pending.push(now, slot, &[0; 5_536]));
        assert_eq!(pending.expire(now + WAIT_MAX), 0);
        let later = now + WAIT_MAX + Duration::from_nanos(1);
        assert_eq!(pending.expire(later), 2);
        assert!(pending.push(later, slot, &[0; 60_000]));
        assert!(pending.push(later, AttachmentSlot(1), &[0; 5_000]));
        assert_eq!(pending.forget(slot), 1);
        assert!(pending.push(later, slot, &[0; 60_000]));
        assert_eq!(pending.take().len(), 2);
    }
}
