//! Children that take turns by their weights, and what waits in them: deficit round robin (Shreedhar
//! and Varghese, 1996), with the list of new children of RFC 8290 in front.

use std::{collections::VecDeque, hash::Hash, sync::Arc, time::Instant};

use rustc_hash::FxHashMap;
use weft_wire::VIRTIO_HEADER_LEN;

use super::{Next, Waiting};
use crate::pace::{Pace, Share};

/// Bytes that a child of default weight may send before it is another's turn.
const QUANTUM: i64 = 16 << 10;

/// Where packets wait.
pub(super) trait Source: Default {
    /// Takes the packet whose turn it is.
    fn pop(&mut self, now: Instant) -> Next;

    /// Takes the oldest packet of whoever has most waiting, by weight.
    fn drop_one(&mut self) -> Option<Waiting>;

    fn bytes(&self) -> usize;

    fn packets(&self) -> usize;
}

/// Packets in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    packets: VecDeque<Waiting>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.packet.len();
        self.packets.push_back(waiting);
    }
}

impl Source for Queue {
    fn pop(&mut self, _: Instant) -> Next {
        self.drop_one().map_or(Next::Nothing, Next::Packet)
    }

    fn drop_one(&mut self) -> Option<Waiting> {
        let waiting = self.packets.pop_front()?;
        self.bytes -= waiting.packet.len();
        Some(waiting)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn packets(&self) -> usize {
        self.packets.len()
    }
}

struct Child<C> {
    content: C,
    quantum: i64,
    pace: Option<Arc<Pace>>,
    credit: i64,
}

/// Children that take turns. One without packets is forgotten when its turn comes.
pub(super) struct Turns<K, C> {
    children: FxHashMap<K, Child<C>>,
    new: VecDeque<K>,
    old: VecDeque<K>,
    bytes: usize,
}

impl<K, C> Default for Turns<K, C> {
    fn default() -> Self {
        let children = FxHashMap::default();
        Self { children, new: VecDeque::new(), old: VecDeque::new(), bytes: 0 }
    }
}

impl<K: Copy + Eq + Hash, C: Source> Turns<K, C> {
    pub(super) fn child(&self, key: K) -> Option<&C> {
        self.children.get(&key).map(|child| &child.content)
    }

    /// Makes a child if there is none, and gives it `add`.
    pub(super) fn add(&mut self, key: K, share: &Share, add: impl FnOnce(&mut C)) {
        let new = &mut self.new;
        self.children.entry(key).or_insert_with(|| {
            new.push_back(key);
            let quantum = share.weight.of(QUANTUM).max(1);
            Child { content: C::default(), quantum, pace: share.pace.clone(), credit: quantum }
        });
        self.change(key, add);
    }

    /// Changes a child, if it is there.
    pub(super) fn change<R>(&mut self, key: K, change: impl FnOnce(&mut C) -> R) -> Option<R> {
        let child = self.children.get_mut(&key)?;
        let before = child.content.bytes();
        let result = change(&mut child.content);
        self.bytes = self.bytes - before + child.content.bytes();
        Some(result)
    }

    /// Forgets all children, which hold nothing: one that comes back is new.
    pub(super) fn clear(&mut self) {
        self.children.clear();
        self.new.clear();
        self.old.clear();
    }

    /// Another share for a child, if it is there.
    pub(super) fn set_share(&mut self, key: K, share: &Share) {
        if let Some(child) = self.children.get_mut(&key) {
            child.quantum = share.weight.of(QUANTUM).max(1);
            child.pace.clone_from(&share.pace);
        }
    }

    /// Forgets a child, and gives what it held.
    pub(super) fn remove(&mut self, key: K) -> Option<C> {
        let child = self.children.remove(&key)?;
        self.new.retain(|other| *other != key);
        self.old.retain(|other| *other != key);
        self.bytes -= child.content.bytes();
        Some(child.content)
    }
}

impl<K: Copy + Eq + Hash, C: Source> Source for Turns<K, C> {
    fn pop(&mut self, now: Instant) -> Next {
        // Children in a row that may not send yet, and until when; when all are such, so is this.
        let mut paused = 0;
        let mut until: Option<Instant> = None;
        loop {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let Some(key) = list.front().copied() else { return Next::Nothing };
            let Some(child) = self.children.get_mut(&key) else {
                list.pop_front();
                continue;
            };
            let next = match child.pace.as_ref().and_then(|pace| pace.wait(now)) {
                Some(until) => Next::Wait(until),
                None if child.credit > 0 => child.content.pop(now),
                None => {
                    child.credit += child.quantum;
                    list.pop_front();
                    self.old.push_back(key);
                    paused = 0;
                    continue;
                }
            };
            match next {
                Next::Packet(waiting) => {
                    let len = waiting.packet.len();
                    child.credit -= i64::try_from(len).unwrap_or(i64::MAX);
                    if let Some(pace) = &child.pace {
                        pace.charge(now, len.saturating_sub(VIRTIO_HEADER_LEN));
                    }
                    self.bytes -= len;
                    return Next::Packet(waiting);
                }
                Next::Wait(at) => {
                    until = Some(until.map_or(at, |until| until.min(at)));
                    list.pop_front();
                    self.old.push_back(key);
                    paused += 1;
                    if paused >= self.children.len() {
                        return Next::Wait(until.unwrap_or(at));
                    }
                }
                Next::Nothing => {
                    list.pop_front();
                    // A new child that has sent all becomes an old one first: coming back at once
                    // would be new again, and never be another's turn.
                    if is_new && !self.old.is_empty() {
                        self.old.push_back(key);
                    } else {
                        self.children.remove(&key);
                    }
                }
            }
        }
    }

    fn drop_one(&mut self) -> Option<Waiting> {
        let load = |child: &Child<C>| {
            let bytes = i64::try_from(child.content.bytes()).unwrap_or(i64::MAX);
            bytes.saturating_mul(QUANTUM) / child.quantum
        };
        let longest = self.children.values_mut().max_by_key(|child| load(child))?;
        let waiting = longest.content.drop_one()?;
        self.bytes -= waiting.packet.len();
        Some(waiting)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn packets(&self) -> usize {
        self.children.values().map(|child| child.content.packets()).sum()
    }
}
