//! The cases. Each gets an empty store; revisions of others may lie between its own.

mod leases;
mod watches;

use std::sync::Arc;

use bytes::Bytes;
use weft_store::{
    CommitError, Condition, Key, LIST_BYTES_MAX, LIST_LEN_MAX, OPERATIONS_MAX, Page, Revision,
    Store, StoreError, TRANSACTION_BYTES_MAX, Transaction, VALUE_LEN_MAX,
};

pub(crate) use self::{leases::*, watches::*};

pub(crate) type Subject = Arc<dyn Store>;

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) async fn put(store: &Subject, at: &str, value: &str) -> Revision {
    store.commit(Transaction::new().put(key(at), value.to_owned())).await.unwrap()
}

pub(crate) async fn value(store: &Subject, at: &str) -> Option<Bytes> {
    store.get(&key(at)).await.unwrap().map(|entry| entry.value)
}

fn conflict(result: Result<Revision, CommitError>) -> Key {
    match result {
        Err(CommitError::Conflict { key }) => key,
        other => panic!("expected a conflict: {other:?}"),
    }
}

fn invalid(result: Result<Revision, CommitError>) -> String {
    match result {
        Err(CommitError::Store(StoreError::Invalid(text))) => text,
        other => panic!("expected a refusal: {other:?}"),
    }
}

pub(crate) async fn conditions_decide(store: Subject) {
    let new = || Transaction::new().absent(key("a")).put(key("a"), "1");
    let made = store.commit(new()).await.unwrap();
    assert_eq!(conflict(store.commit(new()).await), key("a"));
    let entry = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((entry.modified, entry.value.as_ref()), (made, &b"1"[..]));

    let change = |value: &'static str| Transaction::new().unchanged(&entry).put(key("a"), value);
    let changed = store.commit(change("2")).await.unwrap();
    assert!(changed > made);
    assert_eq!(conflict(store.commit(change("3")).await), key("a"));
    assert_eq!(value(&store, "a").await.unwrap(), "2");

    let with = |key_text: &str| Transaction::new().present(key(key_text)).put(key("b"), "1");
    assert_eq!(conflict(store.commit(with("c")).await), key("c"));
    store.commit(with("a")).await.unwrap();
    let now = store.commit(Transaction::new().present(key("b")).absent(key("c"))).await.unwrap();
    assert_eq!(store.list("", None, 1).await.unwrap().revision, now);
    // A key that went and came back is another one.
    store.commit(Transaction::new().delete(key("a"))).await.unwrap();
    put(&store, "a", "2").await;
    let stale = Condition::At(key("a"), changed);
    let stale = Transaction { conditions: vec![stale], writes: vec![] };
    assert_eq!(conflict(store.commit(stale).await), key("a"));
}

pub(crate) async fn a_failed_condition_changes_nothing_and_is_named(store: Subject) {
    put(&store, "a", "1").await;
    let before = store.list("", None, 10).await.unwrap();
    let transaction = Transaction::new()
        .present(key("a"))
        .absent(key("b"))
        .absent(key("a"))
        .present(key("c"))
        .put(key("a"), "2")
        .put(key("b"), "2")
        .delete(key("a/b"));
    assert_eq!(conflict(store.commit(transaction).await), key("a"));
    let after = store.list("", None, 10).await.unwrap();
    assert_eq!(before, after);
}

pub(crate) async fn writes_that_change_nothing_make_no_revision(store: Subject) {
    let made = put(&store, "a", "1").await;
    let nothing = Transaction::new().present(key("a")).delete(key("b")).delete(key("c"));
    assert_eq!(store.commit(nothing).await.unwrap(), made);
    assert_eq!(store.commit(Transaction::new()).await.unwrap(), made);
    // The same value again is a change.
    assert!(put(&store, "a", "1").await > made);
}

pub(crate) async fn entries_know_when_they_were_made(store: Subject) {
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    let entry = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((entry.created, entry.modified, entry.lease), (first, second, None));
    store.commit(Transaction::new().delete(key("a"))).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    let third = put(&store, "a", "").await;
    let entry = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((entry.created, entry.modified, entry.value.len()), (third, third, 0));
    assert_eq!(store.list("a", None, 1).await.unwrap().entries, [entry]);
}

async fn whole(store: &Subject, prefix: &str, len_max: usize) -> Vec<String> {
    let mut keys: Vec<Key> = Vec::new();
    loop {
        let page = store.list(prefix, keys.last(), len_max).await.unwrap();
        assert!(page.entries.len() <= len_max);
        assert!(!page.more || page.entries.len() == len_max, "these are no large values");
        keys.extend(page.entries.iter().map(|entry| entry.key.clone()));
        if !page.more {
            return keys.iter().map(Key::to_string).collect();
        }
    }
}

pub(crate) async fn pages_join_to_the_whole(store: Subject) {
    let names: Vec<String> = (0..25).map(|n| format!("a/{n:02}")).collect();
    for name in names.iter().rev() {
        put(&store, name, "1").await;
    }
    for other in ["!", "a", "a-", "a0", "b", "~~"] {
        put(&store, other, "1").await;
    }
    for len_max in [1, 7, 24, 25, 26, LIST_LEN_MAX] {
        assert_eq!(whole(&store, "a/", len_max).await, names);
    }
    assert_eq!(whole(&store, "a/1", 3).await, names[10..20]);
    assert_eq!(whole(&store, "", 10).await.len(), 31);
    for prefix in ["a//", "c", "ä", " ", "a/0 ", "\u{7f}"] {
        assert_eq!(store.list(prefix, None, 5).await.unwrap().entries, []);
    }
    // What comes before, inside and after the prefix to begin after.
    let after = |text: &'static str| {
        let store = &store;
        async move { store.list("a/", Some(&key(text)), 2).await.unwrap() }
    };
    let first = |page: &Page| page.entries.first().map(|entry| entry.key.to_string());
    assert_eq!(first(&after("a").await).unwrap(), "a/00");
    assert_eq!(first(&after("a/").await).unwrap(), "a/00");
    assert_eq!(first(&after("a/03").await).unwrap(), "a/04");
    assert_eq!(first(&after("a/035").await).unwrap(), "a/04");
    assert_eq!(after("a/24").await.entries, []);
    assert_eq!(after("b").await.entries, []);
    let none = store.list("a/", None, 0).await.unwrap();
    assert!(none.entries.is_empty() && none.more);
    assert!(!store.list("c/", None, 0).await.unwrap().more);
}

pub(crate) async fn a_page_is_bounded_in_bytes(store: Subject) {
    let large = Bytes::from(vec![7; VALUE_LEN_MAX]);
    let count = 2 * LIST_BYTES_MAX / VALUE_LEN_MAX + 3;
    for n in 0..count {
        store
            .commit(Transaction::new().put(key(&format!("a/{n:03}")), large.clone()))
            .await
            .unwrap();
    }
    let (mut last, mut seen, mut pages) = (None, 0, 0);
    loop {
        let page = store.list("a/", last.as_ref(), LIST_LEN_MAX).await.unwrap();
        let bytes: usize = page.entries.iter().map(|entry| entry.value.len()).sum();
        assert!(bytes <= LIST_BYTES_MAX + VALUE_LEN_MAX, "{bytes}");
        assert!(page.entries.iter().all(|entry| entry.value == large));
        (seen, pages) = (seen + page.entries.len(), pages + 1);
        if !page.more {
            break;
        }
        last = page.entries.last().map(|entry| entry.key.clone());
    }
    assert_eq!((seen, pages), (count, 3));
}

pub(crate) async fn every_bound_is_the_same(store: Subject) {
    // Everything at its bound: 128 conditions, 128 writes, and all the bytes.
    let long = "k".repeat(500);
    let named = |n: usize| key(&format!("{long}{n:03}"));
    let mut most = Transaction::new();
    for n in 0..OPERATIONS_MAX {
        most = most.absent(named(n));
    }
    let mut room = TRANSACTION_BYTES_MAX - 2 * OPERATIONS_MAX * named(0).as_str().len();
    for n in 0..OPERATIONS_MAX {
        let len = (room / (OPERATIONS_MAX - n)).min(VALUE_LEN_MAX);
        room -= len;
        most = most.put(named(n), vec![1; len]);
    }
    assert_eq!(room, 0);
    let made = store.commit(most.clone()).await.unwrap();
    // All of them fail now, and the first is named.
    assert_eq!(conflict(store.commit(most).await), named(0));
    store.commit(Transaction::new().put(key("v"), vec![1; VALUE_LEN_MAX])).await.unwrap();
    let page = store.list(&long, None, LIST_LEN_MAX).await.unwrap();
    assert_eq!(page.entries.len(), OPERATIONS_MAX);
    assert!(page.entries.iter().all(|entry| entry.modified == made));

    let mut conditions = Transaction::new();
    let mut deletes = Transaction::new();
    for n in 0..=OPERATIONS_MAX {
        conditions = conditions.absent(named(n));
        deletes = deletes.delete(named(n));
    }
    assert!(
        invalid(store.commit(conditions).await).contains("129 conditions; expected at most 128")
    );
    assert!(invalid(store.commit(deletes).await).contains("129 writes"));
    let twice = Transaction::new().put(key("a"), "1").delete(key("a"));
    assert!(invalid(store.commit(twice).await).contains("writes a twice"));
    let value = Transaction::new().put(key("a"), vec![1; VALUE_LEN_MAX + 1]);
    assert!(invalid(store.commit(value).await).contains("the value of a has 262145 bytes"));
    let all = (0..5).fold(Transaction::new(), |all, n| all.put(named(n), vec![1; VALUE_LEN_MAX]));
    assert!(invalid(store.commit(all).await).contains("expected at most 1048576"));
}

/// Many add one to the same key; each reads what is there and writes only on top of that.
pub(crate) async fn of_many_writers_each_wins_as_often_as_it_was_told(store: Subject) {
    const WRITERS: usize = 8;
    const TIMES: usize = 10;
    put(&store, "count", "0").await;
    let writers = (0..WRITERS).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut won = 0;
            while won < TIMES {
                let entry = store.get(&key("count")).await.unwrap().unwrap();
                let count: usize = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                let next =
                    Transaction::new().unchanged(&entry).put(key("count"), (count + 1).to_string());
                match store.commit(next).await {
                    Ok(revision) => {
                        assert!(revision > entry.modified);
                        won += 1;
                    }
                    Err(CommitError::Conflict { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(value(&store, "count").await.unwrap(), (WRITERS * TIMES).to_string());
}
