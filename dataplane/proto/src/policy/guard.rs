//! An environment's policy at work: judging packets, and counting.

use std::{collections::HashMap, sync::Arc, time::Instant};

use weft_types::WorkerId;

use super::{
    compiled::{Ground, Policy},
    flows::{Entry, Flows, Place},
    rules::Verdict,
    seen::{Packet, Part, Protocol, Seen},
};
use crate::Counter64;

/// What counters and logs call what is no rule; no rule can have such a name.
const DEFAULT_NAME: &str = "(default)";
const NO_PORTS_NAME: &str = "(no ports)";

/// A packet is not to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied(pub Ground);

/// How often something decided, all workers together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hits {
    /// The rule's name, or what stands for the default and for packets without ports.
    pub rule: String,
    /// What it says.
    pub verdict: Verdict,
    /// Packets that it denied; flows that it allowed, and packets of no flow.
    pub count: u64,
}

/// Counters of one ground, one line per worker.
type Tally = Arc<[Line]>;

/// Counters that different workers write are not in one cache line.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Line(Counter64);

/// An environment's policy for all workers. See the module documentation.
pub struct Guard {
    policy: Policy,
    generation: u32,
    flows: Arc<Flows>,
    /// By rule, then the default's and that of packets without ports.
    tallies: Box<[Tally]>,
}

/// What decided, if the packet belongs to no flow that is known.
type Judged = Result<Option<Ground>, Ground>;

impl Guard {
    /// A policy that begins now, for engines of so many workers. `seed` is random: nobody outside may know
    /// which flows are neighbours in the table.
    #[must_use]
    pub fn new(now: Instant, policy: Policy, workers: usize, seed: u64) -> Self {
        let tallies = grounds(&policy).map(|_| tally(workers)).collect();
        Self { policy, generation: 0, flows: Arc::new(Flows::new(now, seed)), tallies }
    }

    /// Another policy for the same environment. Flows go on if it allows them, and counters of what has the
    /// same name and says the same.
    #[must_use]
    pub fn replaced_by(&self, policy: Policy) -> Self {
        let workers = self.tallies.first().map_or(0, |tally| tally.len());
        let mut kept: HashMap<_, _> = grounds(&self.policy)
            .map(|ground| (name(&self.policy, ground), verdict(&self.policy, ground)))
            .zip(&self.tallies)
            .collect();
        let tallies = grounds(&policy)
            .map(|ground| kept.remove(&(name(&policy, ground), verdict(&policy, ground))))
            .map(|kept| kept.map_or_else(|| tally(workers), Arc::clone))
            .collect();
        let generation = self.generation.wrapping_add(1);
        Self { policy, generation, flows: Arc::clone(&self.flows), tallies }
    }

    /// Whether there is nothing to judge.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.policy.is_open()
    }

    /// Which of the environment's policies it is; each that replaces another has the next number.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// What counters and logs call it.
    #[must_use]
    pub fn name(&self, ground: Ground) -> &str {
        name(&self.policy, ground)
    }

    /// How often everything decided that can.
    #[must_use]
    pub fn hits(&self) -> Vec<Hits> {
        let one = |(ground, tally): (_, &Tally)| Hits {
            rule: self.name(ground).to_owned(),
            verdict: verdict(&self.policy, ground),
            count: tally.iter().map(|line| line.0.get()).sum(),
        };
        grounds(&self.policy).zip(&self.tallies).map(one).collect()
    }

    /// Judges a packet of this environment. `worker` is whose engine asks.
    ///
    /// # Errors
    /// [`Denied`]: the packet is to be dropped.
    pub fn judge(&self, now: Instant, worker: WorkerId, seen: &Seen) -> Result<(), Denied> {
        let packet = &seen.packet;
        let judged = match self.flows.place(packet) {
            Some(place) => self.judge_in_flow(self.flows.seconds(now), packet, &place),
            None => self.judge_alone(now, seen),
        };
        match judged {
            Ok(ground) => {
                if let Some(ground) = ground {
                    self.count(worker, ground);
                }
                Ok(())
            }
            Err(ground) => {
                self.count(worker, ground);
                Err(Denied(ground))
            }
        }
    }

    #[inline]
    fn judge_in_flow(&self, now: u32, packet: &Packet, place: &Place) -> Judged {
        let mut flows = self.flows.lock(place);
        // Whoever opens a connection is judged, also between ends that have one.
        if packet.part != Part::Opening
            && let Some(entry) = flows.find(place, now)
        {
            self.judge_known(entry, packet, place)?;
            entry.generation = self.generation;
            entry.note(packet.part, place, now);
            return Ok(None);
        }
        let (is_sender_asking, ground) = self.judge_new(packet)?;
        let is_first_asking = is_sender_asking == place.is_from_first;
        if packet.part == Part::Opening
            && let Some(entry) = flows.find(place, now)
            && entry.is_first_asking == is_first_asking
            && entry.is_open()
        {
            // Said again.
            entry.generation = self.generation;
            entry.note(packet.part, place, now);
            return Ok(None);
        }
        // Of these nothing more is to come, or nothing that belongs to it.
        if !matches!(packet.part, Part::Reset | Part::Reply(_)) {
            let mut entry = self.flows.entry(place, is_first_asking, self.generation);
            entry.note(packet.part, place, now);
            flows.insert(place, entry, now, self.flows.seed());
        }
        Ok(Some(ground))
    }

    /// Judges a flow that a policy before this one may have allowed: as if its asker asked now, whichever end the
    /// packet is from. Where the asker may ask no more, what the other end sends is no question of its own.
    #[inline]
    fn judge_known(&self, entry: &Entry, packet: &Packet, place: &Place) -> Result<(), Ground> {
        if entry.generation == self.generation {
            return Ok(());
        }
        let is_from_asking = entry.is_first_asking == place.is_from_first;
        let tuple = &packet.tuple;
        let asking = if is_from_asking { *tuple } else { tuple.reversed() };
        self.policy.decide(&asking).allowed().map(drop)
    }

    /// Judges a packet of no flow that is known: whether its sender is the one who asks, and what decided.
    ///
    /// A TCP segment from the middle of a connection belongs to one whose first segment was before this daemon or
    /// this policy. Who asked then is not known, so it is taken for the end with the higher port. Where no rule is
    /// about that question and one allows the other, it was the other.
    fn judge_new(&self, packet: &Packet) -> Result<(bool, Ground), Ground> {
        let tuple = &packet.tuple;
        let own = self.policy.decide(tuple).allowed();
        let ports = match tuple.ports {
            Some(ports) if tuple.protocol == Protocol::Tcp && packet.part != Part::Opening => ports,
            _ => return own.map(|ground| (true, ground)),
        };
        let other = self.policy.decide(&tuple.reversed()).allowed();
        let is_sender_asking = ports.0 >= ports.1;
        let (likely, unlikely) = if is_sender_asking { (own, other) } else { (other, own) };
        match (likely, unlikely) {
            (Ok(ground), _) => Ok((is_sender_asking, ground)),
            (Err(Ground::Default), Ok(ground)) => Ok((!is_sender_asking, ground)),
            (Err(ground), _) => Err(ground),
        }
    }

    /// Judges a packet that is of no flow by itself.
    #[cold]
    fn judge_alone(&self, now: Instant, seen: &Seen) -> Judged {
        if seen.quoted.is_some_and(|quoted| self.has_allowed(now, &quoted)) {
            return Ok(None);
        }
        let packet = &seen.packet;
        let own = self.policy.decide(&packet.tuple).allowed();
        // A fragment of an answer cannot be told from any other. It is worth nothing without its first one.
        // Those of TCP, which has no need of them, could change what was judged.
        let judged = match packet.part {
            Part::Portless if packet.tuple.protocol != Protocol::Tcp => own.or_else(|denied| {
                self.policy.decide(&packet.tuple.reversed()).allowed().map_err(|_| denied)
            }),
            _ => own,
        };
        judged.map(Some)
    }

    /// Whether a packet that an error is about may have been sent.
    fn has_allowed(&self, now: Instant, quoted: &Packet) -> bool {
        if let Some(place) = self.flows.place(quoted) {
            let now = self.flows.seconds(now);
            let mut flows = self.flows.lock(&place);
            if let Some(entry) = flows.find(&place, now) {
                return self.judge_known(entry, quoted, &place).is_ok();
            }
        }
        // Eight bytes of a quoted segment do not say what it was in its connection.
        let part = match quoted.part {
            Part::Opening => Part::Middle,
            part => part,
        };
        self.judge_new(&Packet { part, ..*quoted }).is_ok()
    }

    #[inline]
    fn count(&self, worker: WorkerId, ground: Ground) {
        let rules = self.policy.names().len();
        let at = match ground {
            Ground::Rule(number) => usize::from(number),
            Ground::Default => rules,
            Ground::NoPorts => rules + 1,
        };
        if let Some(line) = self.tallies.get(at).and_then(|tally| tally.get(worker.as_usize())) {
            line.0.add(1);
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.flows.capacity()
    }
}

fn tally(workers: usize) -> Tally {
    (0..workers).map(|_| Line::default()).collect()
}

/// Everything that can decide, in the order of the tallies.
fn grounds(policy: &Policy) -> impl Iterator<Item = Ground> + use<> {
    let rules = u16::try_from(policy.names().len()).unwrap_or(u16::MAX);
    (0..rules).map(Ground::Rule).chain([Ground::Default, Ground::NoPorts])
}

fn name(policy: &Policy, ground: Ground) -> &str {
    match ground {
        Ground::Rule(number) => policy.names().get(usize::from(number)).map_or("", |n| n.as_str()),
        Ground::Default => DEFAULT_NAME,
        Ground::NoPorts => NO_PORTS_NAME,
    }
}

fn verdict(policy: &Policy, ground: Ground) -> Verdict {
    match ground {
        Ground::Rule(number) => policy.verdict_of(number.into()),
        Ground::Default => policy.default_verdict(),
        Ground::NoPorts => Verdict::Deny,
    }
}
