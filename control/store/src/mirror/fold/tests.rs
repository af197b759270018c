//! Folding in any order.

use std::{future::Future, pin::pin, task};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{Clock, LIST_LEN_MAX, Memory, Store, Transaction, Watch};

const KEYS: usize = 8;

fn key(n: usize) -> Key {
    Key::new(&format!("a/{n}")).unwrap()
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Put(usize),
    Delete(usize),
    /// The store reads a page; it is on its way.
    Read {
        len: usize,
    },
    /// The page arrives.
    Page,
    /// A batch arrives, if there is one.
    Batch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..KEYS).prop_map(Step::Put),
        2 => (0..KEYS).prop_map(Step::Delete),
        2 => (1..4_usize).prop_map(|len| Step::Read { len }),
        2 => Just(Step::Page),
        3 => Just(Step::Batch),
    ]
}

/// The answer of something that need not wait.
fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut task::Context::from_waker(task::Waker::noop())) {
        task::Poll::Ready(answer) => Some(answer),
        task::Poll::Pending => None,
    }
}

struct Scene {
    store: Memory,
    fold: Fold,
    watch: Option<Box<dyn Watch>>,
    on_its_way: Option<Page>,
}

impl Scene {
    fn state(&self) -> BTreeMap<Key, Entry> {
        let page = now(self.store.list("a/", None, LIST_LEN_MAX)).unwrap().unwrap();
        page.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
    }

    fn read(&mut self, len: usize) {
        let after = self.fold.poll_page();
        let is_done = self.watch.is_some() && after.is_none();
        if self.on_its_way.is_none() && !is_done {
            let page = now(self.store.list("a/", after.as_ref(), len)).unwrap().unwrap();
            if self.watch.is_none() {
                self.watch = Some(now(self.store.watch("a/", page.revision)).unwrap().unwrap());
            }
            self.on_its_way = Some(page);
        }
    }

    fn page(&mut self) {
        if let Some(page) = self.on_its_way.take() {
            self.fold.handle_page(page);
        }
    }

    fn batch(&mut self) -> bool {
        let Some(Some(batch)) = self.watch.as_mut().map(|watch| now(watch.next())) else {
            return false;
        };
        self.fold.handle_batch(batch.unwrap());
        true
    }

    fn step(&mut self, step: &Step) {
        let commit = |transaction| {
            now(self.store.commit(transaction)).unwrap().unwrap();
        };
        match step {
            Step::Put(n) => commit(Transaction::new().put(key(*n), "1")),
            Step::Delete(n) => commit(Transaction::new().delete(key(*n))),
            Step::Read { len } => self.read(*len),
            Step::Page => self.page(),
            Step::Batch => drop(self.batch()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_pages_and_batches_ends_in_the_store_s_state(
        before in vec(0..KEYS, 0..KEYS),
        steps in vec(step(), 0..80),
        batches_first in any::<bool>(),
    ) {
        let store = Memory::new(Clock::manual());
        let mut scene = Scene { store, fold: Fold::new(), watch: None, on_its_way: None };
        for n in before {
            scene.step(&Step::Put(n));
        }
        for step in &steps {
            scene.step(step);
        }
        loop {
            while batches_first && scene.batch() {}
            scene.read(1);
            if scene.on_its_way.is_none() {
                break;
            }
            scene.page();
        }
        while scene.batch() {}
        prop_assert!(scene.fold.is_whole());
        prop_assert_eq!(scene.fold.entries(), &scene.state());
        prop_assert!(scene.fold.deleted.is_empty());
        // From here on nothing is listed any more.
        for step in steps.iter().filter(|step| matches!(step, Step::Put(_) | Step::Delete(_))) {
            scene.step(step);
            scene.batch();
            prop_assert_eq!(scene.fold.entries(), &scene.state());
        }
    }
}
