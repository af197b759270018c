//! Whether what clients saw of one key can have happened in some order, each operation at one moment between
//! its call and its answer.
//!
//! The search of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with the memory of Lowe
//! (Testing for Linearizability, 2017): what was put in order so far, as a set, together with the value that
//! results, is looked at once.

use std::collections::HashSet;

/// A value; every write has one of its own, so that it stands for the revision too. None is absent.
pub(crate) type Value = Option<u32>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Was told this value.
    Read(Value),
    Write(Value),
    /// Wrote `new` if `old` was there.
    Swap {
        old: Value,
        new: Value,
    },
    /// Was told that something else than this was there.
    Conflict(Value),
}

/// What a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) action: Action,
    pub(crate) called: u64,
    /// None when no answer came: it happened at any time since, or never.
    pub(crate) answered: Option<u64>,
}

impl Action {
    /// The value after it, if it can happen when `value` is there.
    fn apply(self, value: Value) -> Option<Value> {
        match self {
            Self::Read(told) => (told == value).then_some(value),
            Self::Write(new) => Some(new),
            Self::Swap { old, new } => (old == value).then_some(new),
            Self::Conflict(old) => (old != value).then_some(value),
        }
    }
}

/// Whether the history of a key that was absent is linearizable.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.called);
    let mut search = Search { history: &history, seen: HashSet::new() };
    search.from(&mut Done::new(history.len()), None)
}

struct Search<'a> {
    history: &'a [Operation],
    seen: HashSet<(Vec<u64>, Value)>,
}

/// Which operations are in order already.
struct Done {
    bits: Vec<u64>,
    /// All before this one are.
    first: usize,
}

impl Done {
    fn new(len: usize) -> Self {
        Self { bits: vec![0; len.div_ceil(64)], first: 0 }
    }

    fn contains(&self, at: usize) -> bool {
        self.bits[at / 64] >> (at % 64) & 1 == 1
    }

    fn flip(&mut self, at: usize) {
        self.bits[at / 64] ^= 1 << (at % 64);
    }
}

impl Search<'_> {
    fn from(&mut self, done: &mut Done, value: Value) -> bool {
        if !self.seen.insert((done.bits.clone(), value)) {
            return false;
        }
        while done.first < self.history.len() && done.contains(done.first) {
            done.first += 1;
        }
        let first = done.first;
        let rest = || (first..self.history.len()).filter(|at| !done.contains(*at));
        // Whatever was called after this answer comes after the operation that was answered.
        let horizon = rest().filter_map(|at| self.history[at].answered).min();
        let Some(horizon) = horizon else {
            return true;
        };
        let candidates: Vec<_> =
            rest().take_while(|at| self.history[*at].called <= horizon).collect();
        for at in candidates {
            if let Some(next) = self.history[at].action.apply(value) {
                done.flip(at);
                if self.from(done, next) {
                    return true;
                }
                done.flip(at);
                done.first = first;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn operation(action: Action, called: u64, answered: impl Into<Option<u64>>) -> Operation {
        Operation { action, called, answered: answered.into() }
    }

    use Action::{Conflict, Read, Swap, Write};

    #[test]
    fn good_histories_are_accepted() {
        let swap = |old: u32, new: u32| Swap { old: Some(old), new: Some(new) };
        let histories: &[&[Operation]] = &[
            &[],
            &[operation(Read(None), 1, 2)],
            &[operation(Write(Some(1)), 1, 2), operation(Read(Some(1)), 3, 4)],
            // Overlapping: before and after the write.
            &[
                operation(Write(Some(1)), 1, 9),
                operation(Read(None), 2, 3),
                operation(Read(Some(1)), 4, 5),
            ],
            // Two writes at once, read in one order.
            &[
                operation(Write(Some(1)), 1, 9),
                operation(Write(Some(2)), 1, 9),
                operation(Read(Some(2)), 2, 3),
                operation(Read(Some(1)), 4, 5),
            ],
            // A swap that lost, because another won.
            &[
                operation(Write(Some(1)), 1, 2),
                operation(swap(1, 2), 3, 8),
                operation(Conflict(Some(1)), 4, 5),
                operation(Read(Some(2)), 9, 10),
            ],
            // No answer: never, at once, and late.
            &[operation(Write(Some(1)), 1, None), operation(Read(None), 2, 3)],
            &[operation(Write(Some(1)), 1, None), operation(Read(Some(1)), 2, 3)],
            &[
                operation(Write(Some(1)), 1, None),
                operation(Write(Some(2)), 2, 3),
                operation(Read(Some(2)), 4, 5),
                operation(Read(Some(1)), 6, 7),
            ],
            &[operation(swap(7, 8), 1, None), operation(Read(None), 2, 3)],
        ];
        for history in histories {
            assert!(is_linearizable(history), "{history:?}");
        }
    }

    #[test]
    fn bad_histories_are_noticed() {
        let swap = |old: u32, new: u32| Swap { old: Some(old), new: Some(new) };
        let histories: &[(&str, &[Operation])] = &[
            ("a value of nowhere", &[operation(Read(Some(1)), 1, 2)]),
            ("a stale read", &[operation(Write(Some(1)), 1, 2), operation(Read(None), 3, 4)]),
            ("of the future", &[operation(Read(Some(1)), 1, 2), operation(Write(Some(1)), 3, 4)]),
            (
                "back in time",
                &[
                    operation(Write(Some(1)), 1, 9),
                    operation(Read(Some(1)), 2, 3),
                    operation(Read(None), 4, 5),
                ],
            ),
            (
                "a lost write",
                &[
                    operation(Write(Some(1)), 1, 2),
                    operation(Write(Some(2)), 3, 4),
                    operation(Read(Some(1)), 5, 6),
                ],
            ),
            (
                "two winners",
                &[
                    operation(Write(Some(1)), 1, 2),
                    operation(swap(1, 2), 3, 9),
                    operation(swap(1, 3), 3, 9),
                ],
            ),
            (
                "a conflict with nobody",
                &[operation(Write(Some(1)), 1, 2), operation(Conflict(Some(1)), 3, 4)],
            ),
            (
                "two orders of two writes",
                &[
                    operation(Write(Some(1)), 1, 9),
                    operation(Write(Some(2)), 1, 9),
                    operation(Read(Some(2)), 2, 3),
                    operation(Read(Some(1)), 4, 5),
                    operation(Read(Some(2)), 6, 7),
                ],
            ),
            (
                "what had no answer happens twice",
                &[
                    operation(Write(Some(1)), 1, None),
                    operation(Read(Some(1)), 2, 3),
                    operation(Write(Some(2)), 4, 5),
                    operation(Read(Some(1)), 6, 7),
                ],
            ),
            (
                "before it was called",
                &[operation(Read(Some(1)), 1, 2), operation(Write(Some(1)), 3, None)],
            ),
        ];
        for (what, history) in histories {
            assert!(!is_linearizable(history), "{what}");
        }
    }

    /// Every order of every choice of those without an answer.
    fn by_trying_all(history: &[Operation], value: Value) -> bool {
        if history.iter().all(|operation| operation.answered.is_none()) {
            return true;
        }
        (0..history.len()).any(|at| {
            let mut rest = history.to_vec();
            let chosen = rest.remove(at);
            let is_late =
                rest.iter().any(|other| other.answered.is_some_and(|end| end < chosen.called));
            let next = chosen.action.apply(value);
            !is_late && next.is_some_and(|next| by_trying_all(&rest, next))
        })
    }

    fn action() -> impl Strategy<Value = Action> {
        let value = || prop::option::of(0..3_u32);
        prop_oneof![
            value().prop_map(Read),
            value().prop_map(Write),
            (value(), value()).prop_map(|(old, new)| Swap { old, new }),
            value().prop_map(Conflict),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_decides_as_trying_everything_does(
            history in vec((action(), 0..12_u64, prop::option::weighted(0.8, 0..6_u64)), 0..6),
        ) {
            let history: Vec<_> = history
                .into_iter()
                .map(|(action, called, takes)| operation(action, called, takes.map(|takes| called + takes)))
                .collect();
            prop_assert_eq!(is_linearizable(&history), by_trying_all(&history, None));
        }
    }
}
