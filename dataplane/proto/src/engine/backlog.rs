//! Packets that wait for room on the way out, shared out fairly: while the path is slower than the
//! containers, each flow waits for itself, and one that asks for little does not wait at all. This is
//! the queue of RFC 8290 without its CoDel.
//!
//! ```text
//!  packet ─▶ hash of flow ─▶ queue of the flow ─┬─ new flows: first, until their credit is used up
//!                                               └─ old flows: in turn, QUANTUM bytes each
//!  too many bytes in all: the oldest packet of the longest queue goes
//! ```
//! Nothing of this is touched while there is room.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

use rustc_hash::FxHasher;
use weft_wire::{Fragment, Inner, protocol};

use super::AttachmentSlot;

/// Queues, a power of two. Flows that share one wait for each other.
const FLOWS: usize = 256;
/// Bytes that wait in one worker in all: 32 ms at 1 Gbit/s.
const BYTES_MAX: usize = 4 << 20;
/// Bytes that a flow may send before it is another's turn.
const QUANTUM: isize = 16 << 10;

/// A packet with its virtio header, and where it came from.
pub(super) struct Waiting {
    pub(super) from: AttachmentSlot,
    pub(super) packet: Box<[u8]>,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Waiting>,
    bytes: usize,
    credit: isize,
    is_listed: bool,
}

impl Queue {
    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.packets.pop_front()?;
        self.bytes -= waiting.packet.len();
        Some(waiting)
    }
}

/// All packets of a worker that wait for room.
pub(super) struct Backlog {
    queues: Box<[Queue]>,
    new: VecDeque<usize>,
    old: VecDeque<usize>,
    bytes: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        let queues = std::iter::repeat_with(Queue::default).take(FLOWS).collect();
        Self { queues, new: VecDeque::new(), old: VecDeque::new(), bytes: 0 }
    }
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a packet with its virtio header behind those of its flow. `dropped` is told whose packets
    /// had to go.
    pub(super) fn push(
        &mut self,
        from: AttachmentSlot,
        flow: u64,
        packet: &[u8],
        mut dropped: impl FnMut(AttachmentSlot),
    ) {
        #[expect(clippy::cast_possible_truncation, reason = "one of few queues")]
        let number = flow as usize % FLOWS;
        let queue = &mut self.queues[number];
        queue.packets.push_back(Waiting { from, packet: packet.into() });
        queue.bytes += packet.len();
        self.bytes += packet.len();
        if !queue.is_listed {
            queue.is_listed = true;
            queue.credit = QUANTUM;
            self.new.push_back(number);
        }
        while self.bytes > BYTES_MAX {
            let longest = self.queues.iter_mut().max_by_key(|queue| queue.bytes);
            let Some(waiting) = longest.and_then(Queue::pop) else { break };
            self.bytes -= waiting.packet.len();
            dropped(waiting.from);
        }
    }

    /// Takes the packet whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        loop {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let number = *list.front()?;
            let queue = &mut self.queues[number];
            if queue.credit <= 0 {
                queue.credit += QUANTUM;
                list.pop_front();
                self.old.push_back(number);
                continue;
            }
            if let Some(waiting) = queue.pop() {
                queue.credit -= isize::try_from(waiting.packet.len()).unwrap_or(isize::MAX);
                self.bytes -= waiting.packet.len();
                return Some(waiting);
            }
            list.pop_front();
            // A new flow that has sent all becomes an old one first: coming back at once would be
            // new again, and never be another's turn.
            if is_new && !self.old.is_empty() {
                self.old.push_back(number);
            } else {
                queue.is_listed = false;
            }
        }
    }

    /// Forgets the packets of one attachment, and says how many. Its slot may be another's soon.
    pub(super) fn forget(&mut self, from: AttachmentSlot) -> usize {
        let mut forgotten = 0;
        for queue in &mut self.queues {
            let before = queue.packets.len();
            queue.packets.retain(|waiting| waiting.from != from);
            forgotten += before - queue.packets.len();
            queue.bytes = queue.packets.iter().map(|waiting| waiting.packet.len()).sum();
        }
        self.bytes = self.queues.iter().map(|queue| queue.bytes).sum();
        forgotten
    }
}

/// A number for the flow of a packet of an attachment: the same for all of its packets.
pub(super) fn flow_of(from: AttachmentSlot, inner: &Inner, packet: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    from.hash(&mut hasher);
    (inner.source, inner.destination, inner.protocol).hash(&mut hasher);
    if matches!(inner.protocol, protocol::TCP | protocol::UDP) && inner.fragment == Fragment::Whole
    {
        let at = usize::from(inner.transport);
        packet.get(at..at + 4).hash(&mut hasher);
    }
    // The upper bits are the better mixed ones.
    hasher.finish() >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: AttachmentSlot = AttachmentSlot(0);
    const B: AttachmentSlot = AttachmentSlot(1);

    fn fill(backlog: &mut Backlog, flow: u64, count: usize, len: usize) {
        for number in 0..count {
            let mut packet = vec![0; len];
            packet[..8].copy_from_slice(&flow.to_be_bytes());
            packet[8..10].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
            backlog.push(A, flow, &packet, |_| panic!("dropped"));
        }
    }

    fn next(backlog: &mut Backlog) -> Option<(u64, u16)> {
        let packet = backlog.pop()?.packet;
        let flow = u64::from_be_bytes(packet[..8].try_into().unwrap());
        Some((flow, u16::from_be_bytes([packet[8], packet[9]])))
    }

    #[test]
    fn who_asks_for_little_does_not_wait_for_who_asks_for_much() {
        let mut backlog = Backlog::default();
        fill(&mut backlog, 1, 20, 60_000);
        fill(&mut backlog, 2, 20, 60_000);
        // Both have used up what a new flow may send.
        assert_eq!(next(&mut backlog), Some((1, 0)));
        assert_eq!(next(&mut backlog), Some((2, 0)));
        fill(&mut backlog, 3, 2, 100);
        assert_eq!(next(&mut backlog), Some((3, 0)));
        assert_eq!(next(&mut backlog), Some((3, 1)));
    }

    #[test]
    fn flows_have_equal_shares_and_keep_their_order() {
        let mut backlog = Backlog::default();
        fill(&mut backlog, 1, 20, 60_000);
        fill(&mut backlog, 2, 1_000, 1_400);
        let mut bytes = [0, 0];
        let mut expected = [0, 0];
        for _ in 0..500 {
            let (flow, number) = next(&mut backlog).unwrap();
            let at = usize::try_from(flow - 1).unwrap();
            assert_eq!(number, expected[at]);
            expected[at] += 1;
            bytes[at] += [60_000, 1_400][at];
        }
        let [large, small]: [i32; 2] = bytes;
        assert!((large - small).abs() < 80_000, "{bytes:?}");
    }

    #[test]
    fn the_longest_loses_its_oldest() {
        let mut backlog = Backlog::default();
        fill(&mut backlog, 2, 5, 1_000);
        let mut dropped = 0;
        for number in 0..100_u16 {
            let mut packet = vec![0; 60_000];
            packet[7] = 1;
            packet[8..10].copy_from_slice(&number.to_be_bytes());
            backlog.push(B, 1, &packet, |from| {
                assert_eq!(from, B);
                dropped += 1;
            });
        }
        assert!(backlog.bytes <= 4 << 20);
        assert_eq!(dropped, 100 - ((4 << 20) - 5_000) / 60_000);
        let kept: Vec<_> = std::iter::from_fn(|| next(&mut backlog)).collect();
        assert_eq!(kept.iter().filter(|(flow, _)| *flow == 2).count(), 5);
        let oldest = kept.iter().find(|(flow, _)| *flow == 1).unwrap();
        assert_eq!(usize::from(oldest.1), dropped);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_is_forgotten_is_gone() {
        let mut backlog = Backlog::default();
        fill(&mut backlog, 1, 3, 100);
        backlog.push(B, 2, &[7; 50], |_| panic!("dropped"));
        assert_eq!(backlog.forget(A), 3);
        assert_eq!(backlog.pop().map(|waiting| waiting.from), Some(B));
        assert!(backlog.pop().is_none() && backlog.is_empty());
        fill(&mut backlog, 1, 1, 100);
        assert_eq!(next(&mut backlog), Some((1, 0)));
    }
}
