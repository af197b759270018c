//! Sets of rules by their numbers.

use super::rules::RULES_MAX;

const WORDS: usize = RULES_MAX.div_ceil(64);

/// Some of a policy's rules: one cache line, so that three of them are met in a few instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Bits([u64; WORDS]);

const _: () = assert!(size_of::<Bits>() == 64);

impl Bits {
    /// Puts a rule in. `rule` is below [`RULES_MAX`].
    pub(super) fn insert(&mut self, rule: usize) {
        self.0[rule / 64] |= 1 << (rule % 64);
    }

    /// Takes a rule out.
    pub(super) fn remove(&mut self, rule: usize) {
        self.0[rule / 64] &= !(1 << (rule % 64));
    }

    pub(super) fn insert_all(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    #[inline]
    pub(super) fn contains(&self, rule: usize) -> bool {
        self.0[rule / 64] >> (rule % 64) & 1 != 0
    }

    /// The first rule that is in all three.
    #[inline]
    pub(super) fn first_common(&self, second: &Self, third: &Self) -> Option<usize> {
        for (i, ((a, b), c)) in self.0.iter().zip(second.0).zip(third.0).enumerate() {
            let common = a & b & c;
            if common != 0 {
                return Some(i * 64 + common.trailing_zeros() as usize);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_all_three_is_found_wherever_it_is() {
        for rule in 0..RULES_MAX {
            let mut one = Bits::default();
            one.insert(rule);
            let mut all = Bits::default();
            (0..RULES_MAX).for_each(|r| all.insert(r));
            assert_eq!(one.first_common(&all, &all), Some(rule));
            assert_eq!(all.first_common(&all, &one), Some(rule));
            assert!(one.contains(rule) && !one.contains((rule + 1) % RULES_MAX));
            all.remove(rule);
            assert_eq!(all.first_common(&one, &one), None);
            all.insert_all(&one);
            assert_eq!(one.first_common(&all, &all), Some(rule));
        }
    }
}
