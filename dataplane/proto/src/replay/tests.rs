//! The window against a plain model: random walks over the real one, everything over small ones.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// As the protocol has it, whatever the code says.
const WINDOW: u64 = 8192;

/// The window as a sentence: not seen, and not more than `WINDOW` behind the newest.
#[derive(Default)]
struct Plain {
    seen: BTreeSet<u64>,
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

/// Follows every order of `span` counters from `start` on, of any length and with repetitions, through
/// all states that the window can have. Bit n of a set stands for the counter `start` + n.
fn try_all<const WORDS: usize, const WORD_BITS: u64>(start: u64, span: u32) {
    let len = Sliding::<WORDS, WORD_BITS>::LEN;
    let mut states = BTreeSet::new();
    let mut left = vec![(Sliding::<WORDS, WORD_BITS>::default(), 0_u32)];
    while let Some((window, seen)) = left.pop() {
        if !states.insert((window.bits, window.end, seen)) {
            continue;
        }
        let newest = seen.checked_ilog2();
        for n in 0..span {
            let expected = match newest {
                Some(newest) if newest >= n && u64::from(newest - n) >= len => {
                    Err(ReplayError::Old)
                }
                _ if seen >> n & 1 == 1 => Err(ReplayError::Duplicate),
                _ => Ok(()),
            };
            let counter = start + u64::from(n);
            assert_eq!(window.check(counter), expected, "{counter} after {seen:b} from {start}");
            if expected.is_ok() {
                let mut window = window.clone();
                window.mark(counter);
                left.push((window, seen | 1 << n));
            }
        }
    }
    assert!(states.len() >= 1 << span, "whatever may be seen was: {}", states.len());
}

/// In small windows, at the beginning, across a word's end, and up to the last counter that there is;
/// more counters than the window has bits, so that it goes round.
fn try_everywhere<const WORDS: usize, const WORD_BITS: u64>(span: u32) {
    assert!(u64::from(span) > WORDS as u64 * WORD_BITS);
    for start in [0, WORD_BITS / 2, (1 << 60) - 1, u64::MAX - u64::from(span)] {
        try_all::<WORDS, WORD_BITS>(start, span);
    }
}

#[test]
fn small_windows_equal_the_plain_model_whatever_comes() {
    try_everywhere::<2, 1>(8);
    try_everywhere::<2, 4>(13);
    try_everywhere::<3, 2>(13);
    try_everywhere::<4, 1>(10);
    try_everywhere::<4, 3>(14);
}

#[test]
fn the_window_is_as_the_protocol_has_it() {
    assert_eq!(super::WINDOW, WINDOW);
    assert_eq!(Window::LEN, WINDOW);
}
