//! Watches.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};
use weft_store::{Batch, Change, HISTORY_REVISIONS_MIN, Revision, Transaction, Watch, WatchError};

use super::{Subject, key, put};

/// Long enough for any answer on a machine that does other work.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shorter than anything comes that must not come.
const MOMENT: Duration = Duration::from_millis(100);

pub(crate) async fn next(watch: &mut Box<dyn Watch>) -> Batch {
    timeout(PATIENCE, watch.next()).await.expect("an answer").unwrap()
}

async fn nothing(watch: &mut Box<dyn Watch>) {
    if let Ok(answer) = timeout(MOMENT, watch.next()).await {
        panic!("expected nothing: {answer:?}");
    }
}

/// `key=value` for what was put, `-key` for what went.
pub(crate) fn told(batch: &Batch) -> Vec<String> {
    let text = |change: &Change| match change {
        Change::Put(entry) => {
            assert_eq!(entry.modified, batch.revision);
            format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value))
        }
        Change::Deleted(key) => format!("-{key}"),
    };
    batch.changes.iter().map(text).collect()
}

pub(crate) async fn a_watch_tells_everything_after_a_revision(store: Subject) {
    let first = put(&store, "a/1", "1").await;
    put(&store, "b/1", "1").await;
    let both = Transaction::new()
        .put(key("b/2"), "2")
        .put(key("a/3"), "3")
        .delete(key("a/1"))
        .delete(key("a/none"))
        .put(key("a/2"), "2");
    let second = store.commit(both).await.unwrap();
    let third = put(&store, "a/2", "4").await;

    let mut all = store.watch("", Revision(0)).await.unwrap();
    assert_eq!(told(&next(&mut all).await), ["a/1=1"]);
    assert_eq!(told(&next(&mut all).await), ["b/1=1"]);
    assert_eq!(told(&next(&mut all).await), ["-a/1", "a/2=2", "a/3=3", "b/2=2"]);
    assert_eq!(told(&next(&mut all).await), ["a/2=4"]);

    let mut some = store.watch("a/", first).await.unwrap();
    let batch = next(&mut some).await;
    assert_eq!(
        (batch.revision, told(&batch)),
        (second, vec!["-a/1".to_owned(), "a/2=2".to_owned(), "a/3=3".to_owned()])
    );
    let batch = next(&mut some).await;
    assert_eq!((batch.revision, told(&batch)), (third, vec!["a/2=4".to_owned()]));
    let Change::Put(entry) = &batch.changes[0] else { panic!("{batch:?}") };
    assert_eq!((entry.created, entry.modified), (second, third));
    assert_eq!(store.get(&key("a/2")).await.unwrap().as_ref(), Some(entry));
    nothing(&mut some).await;

    // Also one key alone, and a prefix of nothing.
    let mut one = store.watch("a/3", Revision(0)).await.unwrap();
    assert_eq!(told(&next(&mut one).await), ["a/3=3"]);
    nothing(&mut one).await;
    nothing(&mut store.watch("c", Revision(0)).await.unwrap()).await;
}

pub(crate) async fn a_watch_that_waits_is_woken_and_may_be_dropped(store: Subject) {
    let start = put(&store, "b", "0").await;
    let mut watch = store.watch("a", start).await.unwrap();
    for n in 0..20 {
        // Asking and giving up loses nothing.
        let _ = timeout(Duration::from_micros(n * 50), watch.next()).await.map(|early| {
            panic!("expected nothing: {early:?}");
        });
        put(&store, "b", "1").await;
        let waiting = tokio::spawn(async move {
            let batch = next(&mut watch).await;
            (watch, batch)
        });
        let made = put(&store, "a", &n.to_string()).await;
        let (returned, batch) = waiting.await.unwrap();
        watch = returned;
        assert_eq!((batch.revision, told(&batch)), (made, vec![format!("a={n}")]));
    }
}

pub(crate) async fn a_watch_from_the_future_has_to_begin_anew(store: Subject) {
    let now = put(&store, "a", "1").await;
    for after in [Revision(now.0 + 1), Revision(now.0 + 1_000_000), Revision(u64::MAX)] {
        let mut watch = store.watch("a", after).await.unwrap();
        let told = timeout(PATIENCE, watch.next()).await.unwrap();
        assert_eq!(told, Err(WatchError::Compacted { oldest: now }));
    }
    let mut watch = store.watch("a", now).await.unwrap();
    put(&store, "a", "2").await;
    assert_eq!(told(&next(&mut watch).await), ["a=2"]);
}

pub(crate) async fn history_reaches_back_far_enough(store: Subject) {
    const CALLERS: u64 = 64;
    const EACH: u64 = (HISTORY_REVISIONS_MIN + HISTORY_REVISIONS_MIN / 4) / CALLERS;
    let start = put(&store, "a/first", "1").await;
    let mut slow = store.watch("a/", start).await.unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            for n in 0..EACH {
                put(&store, &format!("a/{caller}"), &n.to_string()).await;
            }
        });
    }
    callers.join_all().await;
    let last = store.list("", None, 1).await.unwrap().revision;
    assert_eq!(last.0 - start.0, CALLERS * EACH);

    let mut watch = store.watch("a/", Revision(last.0 - HISTORY_REVISIONS_MIN)).await.unwrap();
    for n in 1..=HISTORY_REVISIONS_MIN {
        let batch = next(&mut watch).await;
        assert_eq!(batch.revision, Revision(last.0 - HISTORY_REVISIONS_MIN + n));
        assert_eq!(batch.changes.len(), 1);
    }
    nothing(&mut watch).await;

    // Who is further behind is told all of it, or from where on it can be.
    match timeout(PATIENCE, slow.next()).await.unwrap() {
        Ok(batch) => assert_eq!(batch.revision.0, start.0 + 1),
        Err(WatchError::Compacted { oldest }) => {
            assert!(oldest > start && oldest.0 + HISTORY_REVISIONS_MIN <= last.0, "{oldest}");
            let mut watch = store.watch("a/", oldest).await.unwrap();
            assert_eq!(next(&mut watch).await.revision.0, oldest.0 + 1);
        }
        Err(e) => panic!("{e}"),
    }
}
