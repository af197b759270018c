//! Whose packets a worker reads when more wait than it has time for: environments by their weights, whatever number of
//! containers each has, and in an environment its attachments by theirs. Deficit round robin (Shreedhar and Varghese,
//! 1996) over rounds: in each, everybody who has something is given its part of a quantum. The environment with the
//! largest weight in it is given a whole one, so that a visit is short whatever the weights.
//!
//! Sans-IO: whoever reads says who has something, asks before each packet, and says how long it was.

use crate::{AttachmentSlot, EnvironmentSlot, Weight};

/// Packets that are read of one attachment in a round at most, where several environments have something.
pub const PACKETS_MAX: u16 = 32;
/// What a packet costs beside its length, bytes: a choice, so that short packets do not come cheap.
const PACKET_COST: i64 = 2_048;
/// What an environment may cost in a round at most, bytes, but for its last packet.
const QUANTUM: i64 = PACKETS_MAX as i64 * PACKET_COST;
/// Parts of a byte that are counted: the smallest weight beside the largest is given some.
const FRACTION: i64 = 1 << 16;

/// Who takes part in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// Whose.
    pub environment: EnvironmentSlot,
    /// Its weight among environments.
    pub environment_weight: Weight,
    /// The attachment's weight in its environment.
    pub weight: Weight,
}

/// Rounds of one worker. Nothing is allocated when everybody has been there once.
#[derive(Debug, Default)]
pub struct Rounds {
    /// By attachment: what it may cost still, fractions of bytes; below 0 when a packet cost more.
    credit: Vec<i64>,
    /// By environment: weights of its attachments in this round.
    weights: Vec<i64>,
    round: Vec<(AttachmentSlot, Reader)>,
    /// The largest weight of an environment in this round.
    largest: i64,
    /// Several environments have something.
    is_contended: bool,
}

impl Rounds {
    /// Begins a round of those who have something; of some of them, where `is_partial`. While they are all, and of one
    /// environment, nobody is limited.
    pub fn begin(
        &mut self,
        ready: impl Iterator<Item = (AttachmentSlot, Reader)>,
        is_partial: bool,
    ) {
        self.round.clear();
        self.round.extend(ready);
        let first = self.round.first().map(|(_, reader)| reader.environment);
        self.is_contended =
            is_partial || self.round.iter().any(|(_, reader)| Some(reader.environment) != first);
        if !self.is_contended {
            return;
        }
        self.largest = 1;
        for (slot, reader) in &self.round {
            self.largest = self.largest.max(reader.environment_weight.of(FRACTION));
            reach(&mut self.weights, usize::from(reader.environment));
            reach(&mut self.credit, usize::from(*slot));
            self.weights[usize::from(reader.environment)] += reader.weight.of(FRACTION);
        }
        // As many rounds at once as it takes until somebody may read.
        let rounds = self.round.iter().map(|(slot, reader)| {
            (-self.credit[usize::from(*slot)]).max(0) / self.part(reader) + 1
        });
        let rounds = rounds.min().unwrap_or(1);
        for at in 0..self.round.len() {
            let (slot, reader) = self.round[at];
            let part = self.part(&reader).saturating_mul(rounds);
            let credit = &mut self.credit[usize::from(slot)];
            // What was not used is lost: it had nothing to read, or had its turn.
            *credit = (*credit).min(0).saturating_add(part);
        }
        for (_, reader) in &self.round {
            self.weights[usize::from(reader.environment)] = 0;
        }
    }

    /// What an attachment of this round may cost in one, fractions of bytes; at least 1.
    fn part(&self, reader: &Reader) -> i64 {
        let all = self.weights[usize::from(reader.environment)].max(1);
        let weight = reader.environment_weight.of(FRACTION);
        // Below 2^55, as what comes of it times the attachment's weight: a weight is at most 100 times the default.
        let environment = QUANTUM * FRACTION * weight / self.largest;
        (environment * reader.weight.of(FRACTION) / all).max(1)
    }

    /// Whether another packet of this attachment is to be read in this round.
    #[must_use]
    pub fn may_read(&self, slot: AttachmentSlot) -> bool {
        !self.is_contended || self.credit.get(usize::from(slot)).is_none_or(|credit| *credit > 0)
    }

    /// A packet of `len` bytes was read.
    pub fn charge(&mut self, slot: AttachmentSlot, len: usize) {
        if self.is_contended
            && let Some(credit) = self.credit.get_mut(usize::from(slot))
        {
            // Longer packets than a superpacket are not read.
            *credit -= (PACKET_COST + i64::from(u32::try_from(len).unwrap_or(u32::MAX))) * FRACTION;
        }
    }
}

fn reach(all: &mut Vec<i64>, at: usize) {
    if all.len() <= at {
        all.resize(at + 1, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: EnvironmentSlot = EnvironmentSlot(0);
    const ZETA: EnvironmentSlot = EnvironmentSlot(7);

    fn reader(environment: EnvironmentSlot, environment_weight: u16, weight: u16) -> Reader {
        let environment_weight = Weight::new(environment_weight);
        Reader { environment, environment_weight, weight: Weight::new(weight) }
    }

    /// What everybody's packets cost in so many rounds, when everybody always has some; each of its own length.
    fn costs(all: &[(AttachmentSlot, Reader, usize)], rounds: usize) -> Vec<f64> {
        let mut turns = Rounds::default();
        let mut costs = vec![0_i64; all.len()];
        for _ in 0..rounds {
            turns.begin(all.iter().map(|(slot, reader, _)| (*slot, *reader)), false);
            for (cost, (slot, _, len)) in costs.iter_mut().zip(all) {
                while turns.may_read(*slot) {
                    turns.charge(*slot, *len);
                    *cost += PACKET_COST + i64::try_from(*len).unwrap();
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "far less than 2^53")]
        costs.into_iter().map(|cost| cost as f64).collect()
    }

    #[test]
    fn environments_have_their_weights_however_many_containers_they_have() {
        for (acme, zeta, rounds) in [(100, 100, 50_000), (300, 100, 50_000), (1, 10_000, 1_000_000)]
        {
            let mut all: Vec<_> =
                (0..50).map(|n| (AttachmentSlot(n), reader(ACME, acme, 100), 64)).collect();
            all.push((AttachmentSlot(60), reader(ZETA, zeta, 100), 65_000));
            let costs = costs(&all, rounds);
            let ratio = costs[..50].iter().sum::<f64>() / costs[50];
            let expected = f64::from(acme) / f64::from(zeta);
            assert!((ratio / expected - 1.0).abs() < 0.05, "{ratio}, expected {expected}");
        }
    }

    #[test]
    fn attachments_have_their_weights_and_long_packets_bring_no_more() {
        let all = [
            (AttachmentSlot(0), reader(ACME, 100, 300), 64),
            (AttachmentSlot(1), reader(ACME, 100, 100), 65_000),
            (AttachmentSlot(2), reader(ZETA, 100, 100), 1_500),
        ];
        let costs = costs(&all, 50_000);
        assert!((costs[0] / costs[1] / 3.0 - 1.0).abs() < 0.05, "{costs:?}");
        assert!(((costs[0] + costs[1]) / costs[2] - 1.0).abs() < 0.05, "{costs:?}");
    }

    #[test]
    fn a_visit_is_short_whatever_the_weights() {
        const LEN: usize = 64;
        let mut rounds = Rounds::default();
        for weight in [1, 100, Weight::MAX] {
            let all = [
                (AttachmentSlot(0), reader(ACME, weight, Weight::MAX)),
                (AttachmentSlot(1), reader(ZETA, 1, 1)),
            ];
            for _ in 0..1_000 {
                rounds.begin(all.iter().copied(), false);
                for (slot, _) in &all {
                    let mut packets = 0;
                    while rounds.may_read(*slot) {
                        rounds.charge(*slot, LEN);
                        packets += 1;
                    }
                    assert!(packets <= PACKETS_MAX, "{packets} with a weight of {weight}");
                }
            }
        }
    }

    #[test]
    fn in_every_round_somebody_may_read_however_many_they_are() {
        let mut rounds = Rounds::default();
        let all: Vec<_> = (0..256)
            .map(|n| (AttachmentSlot(n), reader(if n % 2 == 0 { ACME } else { ZETA }, 1, 100)))
            .collect();
        for _ in 0..10_000 {
            rounds.begin(all.iter().copied(), false);
            let able: Vec<_> = all.iter().filter(|(slot, _)| rounds.may_read(*slot)).collect();
            assert!(!able.is_empty(), "a round in which nothing is read");
            able.into_iter().for_each(|(slot, _)| rounds.charge(*slot, 65_000));
        }
    }

    #[test]
    fn where_not_all_are_seen_everybody_is_limited() {
        let mut rounds = Rounds::default();
        let acme = reader(ACME, 100, 100);
        rounds.begin([(AttachmentSlot(1), acme), (AttachmentSlot(2), acme)].into_iter(), true);
        rounds.charge(AttachmentSlot(1), 65_000);
        assert!(!rounds.may_read(AttachmentSlot(1)));
    }

    #[test]
    fn nobody_is_limited_without_others_and_debts_are_not_kept_for_them() {
        let mut rounds = Rounds::default();
        let (a, b) = (AttachmentSlot(1), AttachmentSlot(2));
        let acme = reader(ACME, 1, 1);
        rounds.begin([(a, acme), (b, acme)].into_iter(), false);
        for _ in 0..1_000 {
            assert!(rounds.may_read(a));
            rounds.charge(a, 65_000);
        }
        rounds.begin([(a, acme), (b, reader(ZETA, 100, 100))].into_iter(), false);
        assert!(rounds.may_read(a), "what was read alone is no debt");
        rounds.charge(a, 65_000);
        assert!(!rounds.may_read(a) && rounds.may_read(b));
        rounds.begin([(a, acme)].into_iter(), false);
        assert!(rounds.may_read(a));
    }
}
