//! Which rules are about a port.

use super::{
    bits::Bits,
    compiled::{SetId, Sets},
    rules::{PortRange, Rule},
};

/// All ports of one protocol in intervals with the same rules: at most 500 rules of 16 ranges begin and end
/// 16,000 of them, 6 bytes each, and as many sets of 64 bytes if no two are alike.
#[derive(Debug)]
pub(super) struct PortMap {
    /// Where each interval begins; the first at 0.
    starts: Box<[u16]>,
    /// The rules of each.
    sets: Box<[SetId]>,
}

impl PortMap {
    /// Of `rules` with their numbers, all of this protocol or of any.
    pub(super) fn new<'a>(rules: impl Iterator<Item = (usize, &'a Rule)>, sets: &mut Sets) -> Self {
        let mut always = Bits::default();
        // Where a rule begins or ends to be about ports.
        let mut edges: Vec<(u16, usize, bool)> = Vec::new();
        for (number, rule) in rules {
            if rule.ports.is_empty() {
                always.insert(number);
            }
            for PortRange { first, last } in merged(&rule.ports) {
                edges.push((first, number, true));
                if let Some(behind) = last.checked_add(1) {
                    edges.push((behind, number, false));
                }
            }
        }
        edges.sort_unstable();
        let mut map = (vec![0], vec![sets.intern(always)]);
        let mut present = always;
        for at in edges.chunk_by(|a, b| a.0 == b.0) {
            for (_, number, begins) in at {
                if *begins {
                    present.insert(*number);
                } else {
                    present.remove(*number);
                }
            }
            // Ranges begin at 1 at the earliest.
            map.0.push(at[0].0);
            map.1.push(sets.intern(present));
        }
        Self { starts: map.0.into(), sets: map.1.into() }
    }

    #[inline]
    pub(super) fn get(&self, port: u16) -> SetId {
        // The first interval begins at 0, so there is one before.
        self.sets[self.starts.partition_point(|start| *start <= port) - 1]
    }
}

/// The same ports in ranges that neither overlap nor touch.
fn merged(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.first);
    let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}
