//! Which counters of one key have been seen: a sliding window of bits (RFC 6479).
//!
//! The order is law: [`Sliding::check`] before opening, [`Sliding::mark`] only after the datagram
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
pub type Window = Sliding<WORDS, WORD_BITS>;

/// A window of `WORDS` words with `WORD_BITS` bits each, at most 64, one word of which is always
/// clear to slide into. Tests take small ones, of which they try everything.
#[derive(Clone)]
pub struct Sliding<const WORDS: usize, const WORD_BITS: u64> {
    bits: [u64; WORDS],
    /// One more than the newest counter marked; 0 when none was.
    end: u64,
}

impl<const WORDS: usize, const WORD_BITS: u64> Default for Sliding<WORDS, WORD_BITS> {
    fn default() -> Self {
        Self { bits: [0; WORDS], end: 0 }
    }
}

impl<const WORDS: usize, const WORD_BITS: u64> Sliding<WORDS, WORD_BITS> {
    /// Counters behind the newest that can still be told from replays.
    const LEN: u64 = (WORDS as u64 - 1) * WORD_BITS;

    /// Whether a datagram with this counter may be opened.
    ///
    /// # Errors
    /// [`ReplayError`].
    #[inline]
    pub fn check(&self, counter: u64) -> Result<(), ReplayError> {
        if counter >= self.end {
            return Ok(());
        }
        if self.end - counter > Self::LEN {
            return Err(ReplayError::Old);
        }
        let (word, bit) = Self::place(counter);
        if self.bits[word] & bit == 0 { Ok(()) } else { Err(ReplayError::Duplicate) }
    }

    /// Notes that a datagram with this counter has been opened. `counter` must have passed
    /// [`Sliding::check`] and be below `u64::MAX`.
    #[inline]
    pub fn mark(&mut self, counter: u64) {
        if counter >= self.end {
            let newest_word = (self.end.max(1) - 1) / WORD_BITS;
            let words_ahead = (counter / WORD_BITS - newest_word).min(WORDS as u64);
            for ahead in 1..=words_ahead {
                let (word, _) = Self::place((newest_word + ahead) * WORD_BITS);
                self.bits[word] = 0;
            }
            self.end = counter + 1;
        }
        let (word, bit) = Self::place(counter);
        self.bits[word] |= bit;
    }

    #[inline]
    fn place(counter: u64) -> (usize, u64) {
        #[expect(clippy::cast_possible_truncation, reason = "less than `WORDS`")]
        let word = (counter / WORD_BITS % WORDS as u64) as usize;
        (word, 1 << (counter % WORD_BITS))
    }
}

#[cfg(test)]
mod tests;
