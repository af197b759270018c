//! Following a store that fails.

use super::*;
use crate::{Fault, LEASE_TTL_MIN, Memory, Transaction};

fn key(n: usize) -> Key {
    Key::new(&format!("a/{n}")).unwrap()
}

async fn same(mirror: &Mirror, store: &Memory) {
    let page = store.list("a/", None, LIST_LEN_MAX).await.unwrap();
    for entry in &page.entries {
        assert_eq!(mirror.get(&entry.key).as_ref(), Some(entry));
    }
    assert_eq!(mirror.list("", None, page.entries.len()), page.entries);
}

async fn put(store: &Memory, n: usize) -> Revision {
    store.commit(Transaction::new().put(key(n), "1")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_mirror_follows_through_every_trouble() {
    let store = Memory::default();
    for n in 0..2 * LIST_LEN_MAX {
        put(&store, n).await;
    }
    store.commit(Transaction::new().put(Key::new("b").unwrap(), "1")).await.unwrap();
    store.set_unavailable(true);
    let mirror = Mirror::follow(Arc::new(store.clone()), "a/");
    let mut standing = mirror.standing();
    standing.wait_for(|standing| standing.trouble.is_some()).await.unwrap();
    assert!(!standing.borrow().whole);
    store.set_unavailable(false);
    mirror.whole().await;
    assert_eq!(mirror.list("", None, usize::MAX).len(), 2 * LIST_LEN_MAX);

    let made = put(&store, 5).await;
    mirror.reached(made).await;
    assert_eq!(mirror.get(&key(5)).unwrap().modified, made);

    // The server is another one: resumed.
    store.break_watches();
    mirror.reached(put(&store, 6).await).await;
    // It is gone for a while, in which history is forgotten: begun anew.
    store.set_unavailable(true);
    standing.wait_for(|standing| standing.trouble.is_some()).await.unwrap();
    assert!(standing.borrow().whole);
    assert!(mirror.get(&key(7)).is_some());
    store.set_unavailable(false);
    store.commit(Transaction::new().delete(key(7))).await.unwrap();
    let last = put(&store, 8).await;
    store.compact(last);
    mirror.reached(last).await;
    assert_eq!(mirror.get(&key(7)), None);
    standing.wait_for(|standing| standing.trouble.is_none()).await.unwrap();

    // A lease that ends, and a change whose answer was lost.
    let lease = store.grant_lease(LEASE_TTL_MIN).await.unwrap();
    let leased = store.commit(Transaction::new().put_leased(key(9), "1", lease)).await.unwrap();
    store.fail_commit(1, Fault::UnknownMade);
    store.commit(Transaction::new().put(key(10), "2")).await.unwrap_err();
    mirror.reached(Revision(leased.0 + 2)).await;
    assert_eq!(mirror.get(&key(9)), None);
    assert_eq!(mirror.get(&key(10)).unwrap().value, "2");
    same(&mirror, &store).await;
}

#[tokio::test]
async fn a_mirror_that_is_dropped_asks_no_more() {
    let store = Arc::new(Memory::default());
    let mirror = Mirror::follow(store.clone(), "");
    mirror.whole().await;
    drop(mirror);
    while Arc::strong_count(&store) > 1 {
        tokio::task::yield_now().await;
    }
}
