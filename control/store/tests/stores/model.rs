//! Random transactions against a plain model: every state that there ever was, kept whole.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use weft_store::{
    Batch, Change, CommitError, Condition, Entry, Key, Revision, Store, Transaction, Write,
};

use crate::{
    Ground,
    suite::{key, next},
};

/// Few keys, so that transactions meet; prefixes that are keys too.
const KEYS: [&str; 6] = ["a", "a/1", "a/2", "a0", "b/1", "b/2"];
const PREFIXES: [&str; 6] = ["", "a", "a/", "b/", "b/2", "c"];

#[derive(Debug, Clone)]
enum Step {
    /// Conditions: a key, what is asked of it, and how many of its own changes ago it was read.
    Commit {
        conditions: Vec<(usize, u8, usize)>,
        writes: Vec<(usize, Option<u8>)>,
    },
    Get(usize),
    List {
        prefix: usize,
        after: Option<usize>,
        len_max: usize,
    },
    Watch {
        prefix: usize,
        steps_back: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let keys = 0..KEYS.len();
    let condition = (keys.clone(), 0..4_u8, 0..3_usize);
    let write = (keys.clone(), prop::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        6 => (vec(condition, 0..3), vec(write, 0..4))
            .prop_map(|(conditions, writes)| Step::Commit { conditions, writes }),
        1 => keys.clone().prop_map(Step::Get),
        1 => (0..PREFIXES.len(), prop::option::of(keys), 0..4_usize)
            .prop_map(|(prefix, after, len_max)| Step::List { prefix, after, len_max }),
        1 => (0..PREFIXES.len(), 0..40_usize)
            .prop_map(|(prefix, steps_back)| Step::Watch { prefix, steps_back }),
    ]
}

#[derive(Default)]
struct Model {
    /// The state after each of its revisions.
    states: Vec<(Revision, BTreeMap<Key, Entry>)>,
    batches: Vec<Batch>,
}

impl Model {
    fn now(&self) -> BTreeMap<Key, Entry> {
        self.states.last().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// A revision at which the key was written, `back` writes ago; one that never was without.
    fn written(&self, key: &Key, back: usize) -> Revision {
        let mut of_key: Vec<_> = self
            .states
            .iter()
            .filter_map(|(_, state)| state.get(key).map(|entry| entry.modified))
            .collect();
        of_key.dedup();
        of_key.into_iter().rev().nth(back).unwrap_or(Revision(1 << 40))
    }

    fn transaction(&self, step: &Step) -> Transaction {
        let Step::Commit { conditions, writes } = step else { return Transaction::new() };
        let conditions = conditions.iter().map(|(at, kind, back)| {
            let key = key(KEYS[*at]);
            match kind {
                0 => Condition::Absent(key),
                1 => Condition::Present(key),
                _ => Condition::At(key.clone(), self.written(&key, *back)),
            }
        });
        let mut each_once = BTreeMap::new();
        each_once.extend(writes.iter().map(|(at, value)| (*at, *value)));
        let writes = each_once.into_iter().rev().map(|(at, value)| match value {
            Some(value) => {
                Write::Put { key: key(KEYS[at]), value: vec![value; at].into(), lease: None }
            }
            None => Write::Delete(key(KEYS[at])),
        });
        Transaction { conditions: conditions.collect(), writes: writes.collect() }
    }

    /// What must come of it, given the revision that the store says when it takes it.
    fn commit(&mut self, transaction: &Transaction, answer: Result<Revision, CommitError>) {
        let mut state = self.now();
        let failed = transaction.conditions.iter().find(|c| !c.holds(state.get(c.key())));
        let revision = match (answer, failed) {
            (Err(CommitError::Conflict { key }), Some(failed)) => {
                assert_eq!(&key, failed.key());
                return;
            }
            (Ok(revision), None) => revision,
            (answer, failed) => panic!("{answer:?}, where {failed:?} fails"),
        };
        let mut changes = BTreeMap::new();
        for write in &transaction.writes {
            let key = write.key().clone();
            match write {
                Write::Put { value, .. } => {
                    let created = state.get(&key).map_or(revision, |old| old.created);
                    let (key, value) = (key.clone(), value.clone());
                    let entry = Entry { key, value, modified: revision, created, lease: None };
                    state.insert(entry.key.clone(), entry.clone());
                    changes.insert(entry.key.clone(), Change::Put(entry));
                }
                Write::Delete(_) => {
                    if state.remove(&key).is_some() {
                        changes.insert(key.clone(), Change::Deleted(key));
                    }
                }
            }
        }
        let last = self.states.last().map(|(revision, _)| *revision);
        if changes.is_empty() {
            assert!(last.is_none_or(|last| last == revision));
            return;
        }
        assert!(last.is_none_or(|last| last < revision), "{revision} after {last:?}");
        self.states.push((revision, state));
        self.batches.push(Batch { revision, changes: changes.into_values().collect() });
    }
}

async fn check(store: &Arc<dyn Store>, model: &mut Model, step: &Step) {
    match step {
        Step::Commit { .. } => {
            let transaction = model.transaction(step);
            model.commit(&transaction, store.commit(transaction.clone()).await);
        }
        Step::Get(at) => {
            let key = key(KEYS[*at]);
            assert_eq!(store.get(&key).await.unwrap(), model.now().remove(&key));
        }
        Step::List { prefix, after, len_max } => {
            let after = after.map(|at| key(KEYS[at]));
            let page = store.list(PREFIXES[*prefix], after.as_ref(), *len_max).await.unwrap();
            let mut expected: Vec<_> = model.now().into_values().collect();
            expected.retain(|entry| entry.key.has_prefix(PREFIXES[*prefix]));
            expected.retain(|entry| after.as_ref().is_none_or(|after| entry.key > *after));
            assert_eq!(page.more, expected.len() > *len_max);
            expected.truncate(*len_max);
            assert_eq!(page.entries, expected);
            if let Some((last, _)) = model.states.last() {
                assert_eq!(page.revision, *last);
            }
        }
        Step::Watch { prefix, steps_back } => {
            let from = model.batches.len().saturating_sub(*steps_back);
            let after = from.checked_sub(1).map_or(Revision(0), |at| model.batches[at].revision);
            let mut watch = store.watch(PREFIXES[*prefix], after).await.unwrap();
            for batch in &model.batches[from..] {
                let mut changes = batch.changes.clone();
                changes.retain(|change| change.key().has_prefix(PREFIXES[*prefix]));
                if !changes.is_empty() {
                    let expected = Batch { revision: batch.revision, changes };
                    assert_eq!(next(&mut watch).await, expected);
                }
            }
        }
    }
}

pub(crate) fn any_transactions_end_as_in_the_model<G: Ground>() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ground = G::prepare();
    let config = Config { cases: G::CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(step(), 1..60), |steps| {
            runtime.block_on(async {
                let store = ground.store().await;
                let mut model = Model::default();
                for step in &steps {
                    check(&store, &mut model, step).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
