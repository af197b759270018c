//! Three members of etcd with faults: what several clients are told must fit into one order.

mod checker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use weft_store::{CommitError, Entry, Etcd, Key, Store, StoreError, Transaction};

use self::checker::{Action, Operation, Value, is_linearizable};
use crate::servers::Servers;

const CLIENTS: usize = 4;
/// Operations of a key before another one is taken, so that each history is short.
const KEY_LEN: u64 = 60;
/// How long a fault lasts, and the time without one after it.
const FAULT: Duration = Duration::from_millis(1_500);

#[derive(Default)]
struct Scene {
    is_over: AtomicBool,
    time: AtomicU64,
    operations: AtomicU64,
    next_value: AtomicU32,
    histories: Mutex<BTreeMap<u64, Vec<Operation>>>,
}

impl Scene {
    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&self, key: u64, action: Action, called: u64, is_answered: bool) {
        let answered = is_answered.then(|| self.now());
        let operation = Operation { action, called, answered };
        self.histories.lock().unwrap().entry(key).or_default().push(operation);
    }
}

fn value_of(entry: Option<&Entry>) -> Value {
    entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap().parse().unwrap())
}

async fn client(scene: Arc<Scene>, store: Etcd) {
    let mut known: Option<(u64, Option<Entry>)> = None;
    while !scene.is_over.load(Ordering::SeqCst) {
        let n = scene.operations.fetch_add(1, Ordering::SeqCst);
        let number = n / KEY_LEN;
        let key = Key::new(&format!("k/{number}")).unwrap();
        let read = known.take().filter(|(of, _)| *of == number);
        let called = scene.now();
        let new = scene.next_value.fetch_add(1, Ordering::SeqCst);
        let put = |transaction: Transaction| transaction.put(key.clone(), new.to_string());
        let (old, transaction) = match (n % 3, read) {
            (0, _) => (None, put(Transaction::new())),
            (1, Some((_, Some(entry)))) => {
                (Some(value_of(Some(&entry))), put(Transaction::new().unchanged(&entry)))
            }
            (1, Some((_, None))) => (Some(None), put(Transaction::new().absent(key.clone()))),
            _ => {
                if let Ok(entry) = store.get(&key).await {
                    scene.note(number, Action::Read(value_of(entry.as_ref())), called, true);
                    known = Some((number, entry));
                }
                continue;
            }
        };
        let new = Some(new);
        let done = old.map_or(Action::Write(new), |old| Action::Swap { old, new });
        match store.commit(transaction).await {
            Ok(_) => scene.note(number, done, called, true),
            Err(CommitError::Unknown(_)) => scene.note(number, done, called, false),
            Err(CommitError::Conflict { .. }) => {
                scene.note(number, Action::Conflict(old.unwrap()), called, true);
            }
            // Nothing was changed: if it was, somebody reads a value of nowhere.
            Err(CommitError::Store(StoreError::Unavailable(_))) => {}
            Err(e) => panic!("{e}"),
        }
        // Slow enough that a check takes no longer than the run.
        sleep(Duration::from_millis(3)).await;
    }
}

async fn faults(servers: &mut Servers, rounds: usize) {
    for round in 0..rounds {
        sleep(FAULT).await;
        let leader = servers.leader();
        let other = (leader + 1) % 3;
        match round % 3 {
            0 => {
                servers.kill(leader);
                sleep(FAULT).await;
                servers.run(leader);
            }
            1 => {
                servers.set_paused(leader, true);
                sleep(FAULT).await;
                servers.set_paused(leader, false);
            }
            _ => {
                servers.kill(leader);
                servers.kill(other);
                sleep(FAULT).await;
                servers.run(leader);
                servers.run(other);
            }
        }
        servers.ready().await;
    }
    sleep(FAULT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_of_three_members_see_fits_into_one_order() {
    let rounds = std::env::var("WEFT_FAULT_ROUNDS").map_or(3, |n| n.parse().unwrap());
    let mut servers = Servers::start(3);
    servers.ready().await;
    let scene = Arc::new(Scene::default());
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let mut options = servers.options("order/");
        options.endpoints.rotate_left(n % 3);
        clients.spawn(client(Arc::clone(&scene), Etcd::new(&options).unwrap()));
    }
    faults(&mut servers, rounds).await;
    scene.is_over.store(true, Ordering::SeqCst);
    clients.join_all().await;
    let histories = std::mem::take(&mut *scene.histories.lock().unwrap());
    let all = || histories.values().flatten();
    let unknown = all().filter(|operation| operation.answered.is_none()).count();
    println!(
        "{} operations on {} keys, {unknown} without an answer",
        all().count(),
        histories.len()
    );
    assert!(histories.len() > 5, "too few to say anything");
    for (key, history) in &histories {
        assert!(is_linearizable(history), "k/{key}: {history:#?}");
    }
}
