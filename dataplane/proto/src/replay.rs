//! Which counters of one key have been seen: a sliding window of bits (RFC 6479).
//!
//! The order is law: [`Window::check`] before opening, [`Window::mark`] only after the datagram
//! opened. A forged datagram then changes nothing.

/// Counters behind the newest that can still be told from replays.
pub const WINDOW: u64 = 8192;
const WORD_BITS: u64 = 64;
/// One word more than the window, so that sliding clears whole words.
const WORDS: usize = (WINDOW / WORD_BITS) as usize + 1;

/// Why a counter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayError {
    /// Seen before.
    Duplicate,
    /// Too old to tell.
    Old,
}

/// The window of one key.
pub struct Window {
    bits: [u64; WORDS],
    /// One more than the newest counter marked; 0 when none was.
    end: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { bits: [0; WORDS], end: 0 }
    }
}

impl Window {
    /// Whether a datagram with this counter may be opened.
    ///
    /// # Errors
    /// [`ReplayError`].
    #[inline]
    pub fn check(&self, counter: u64) -> Result<(), ReplayError> {
        if counter >= self.end {
            return Ok(());
        }
        if self.end - counter > WINDOW {
            return Err(ReplayError::Old);
        }
        let (word, bit) = place(counter);
        if self.bits[word] & bit == 0 { Ok(()) } else { Err(ReplayError::Duplicate) }
    }

    /// Notes that a datagram with this counter has been opened. `counter` must have passed
    /// [`Window::check`] and be below `u64::MAX`.
    #[inline]
    pub fn mark(&mut self, counter: u64) {
        if counter >= self.end {
            let newest_word = (self.end.max(1) - 1) / WORD_BITS;
            let words_ahead = (counter / WORD_BITS - newest_word).min(WORDS as u64);
            for ahead in 1..=words_ahead {
                let (word, _) = place((newest_word + ahead) * WORD_BITS);
                self.bits[word] = 0;
            }
            self.end = counter + 1;
        }
        let (word, bit) = place(counter);
        self.bits[word] |= bit;
    }
}

#[inline]
fn place(counter: u64) -> (usize, u64) {
    let word = (counter / WORD_BITS % WORDS as u64) as usize;
    (word, 1 << (counter % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// As the protocol has it, whatever the code says.
    const WINDOW: u64 = 8192;

    /// The window as a sentence: not seen, and not more than `WINDOW` behind the newest.
    #[derive(Default)]
    struct Plain {
        seen: HashSet<u64>,
        newest: Option<u64>,
    }

    impl Plain {
        fn check(&self, counter: u64) -> Result<(), ReplayError> {
            match self.newest {
                Some(newest) if newest >= counter && newest - counter >= WINDOW => {
                    Err(ReplayError::Old)
                }
                _ if self.seen.contains(&counter) => Err(ReplayError::Duplicate),
                _ => Ok(()),
            }
        }

        fn mark(&mut self, counter: u64) {
            self.seen.insert(counter);
            self.newest = self.newest.max(Some(counter));
        }
    }

    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            6 => -3i64..4,
            3 => -200i64..200,
            2 => -9000i64..9000,
            1 => -70_000i64..70_000,
            1 => prop::sample::select(vec![63, 64, 65, 8127, 8128, 8191, 8192, 8193, 8255, 8256]),
        ];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn equals_the_plain_model(start in 0u64..20_000, steps in steps()) {
            let (mut window, mut plain) = (Window::default(), Plain::default());
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                let result = window.check(at);
                prop_assert_eq!(result, plain.check(at), "counter {}", at);
                if result.is_ok() {
                    window.mark(at);
                    plain.mark(at);
                    prop_assert_eq!(window.check(at), Err(ReplayError::Duplicate));
                }
            }
        }
    }

    #[test]
    fn holds_at_the_upper_end() {
        let mut window = Window::default();
        let last = weft_types::Counter::REJECT_AFTER.0;
        window.mark(0);
        window.mark(last);
        assert_eq!(window.check(last), Err(ReplayError::Duplicate));
        assert_eq!(window.check(last - 1), Ok(()));
        assert_eq!(window.check(0), Err(ReplayError::Old));
    }

    #[test]
    fn a_forged_newest_counter_changes_nothing_unless_marked() {
        let mut window = Window::default();
        window.mark(5);
        assert_eq!(window.check(u64::MAX - 1), Ok(()));
        assert_eq!(window.check(4), Ok(()));
    }
}
