//! Leases.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use weft_store::{CommitError, LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseId, StoreError, Transaction};

use super::{Subject, key, next, put, told, value};

const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn a_lease_ends_and_its_keys_go(store: Subject) {
    let start = put(&store, "k", "1").await;
    let granted = Instant::now();
    let lease = store.grant_lease(LEASE_TTL_MIN).await.unwrap();
    let leased = Transaction::new()
        .put_leased(key("a"), "1", lease)
        .put_leased(key("b"), "1", lease)
        .put_leased(key("c"), "1", lease);
    let made = store.commit(leased).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().lease, Some(lease));
    // Written again without it, a key stays.
    put(&store, "b", "2").await;
    assert_eq!(store.get(&key("b")).await.unwrap().unwrap().lease, None);
    store.commit(Transaction::new().delete(key("c"))).await.unwrap();

    let mut watch = store.watch("a", start).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, made);
    let end = next(&mut watch).await;
    assert!(granted.elapsed() >= LEASE_TTL_MIN, "it ended early");
    assert_eq!(told(&end), ["-a"]);
    let mut all = store.watch("", made).await.unwrap();
    let rest = [next(&mut all).await, next(&mut all).await, next(&mut all).await];
    assert_eq!(rest.map(|batch| told(&batch).join(" ")), ["b=2", "-c", "-a"]);
    assert_eq!(value(&store, "a").await, None);
    assert_eq!(value(&store, "b").await.unwrap(), "2");
    assert!(matches!(store.renew_lease(lease).await, Err(StoreError::LeaseGone)));
    assert!(matches!(store.revoke_lease(lease).await, Err(StoreError::LeaseGone)));
}

pub(crate) async fn a_lease_is_renewed_and_revoked(store: Subject) {
    let ttl = 2 * LEASE_TTL_MIN;
    let lease = store.grant_lease(ttl).await.unwrap();
    let other = store.grant_lease(LEASE_TTL_MAX).await.unwrap();
    assert_ne!(lease, other);
    let both = Transaction::new().put_leased(key("a"), "1", lease).put_leased(key("b"), "1", other);
    let made = store.commit(both).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < ttl * 3 / 2 {
        store.renew_lease(lease).await.unwrap();
        sleep(PAUSE).await;
    }
    assert!(value(&store, "a").await.is_some());
    // Handed from one lease to another.
    store.commit(Transaction::new().put_leased(key("b"), "2", lease)).await.unwrap();
    store.revoke_lease(other).await.unwrap();
    assert_eq!(value(&store, "b").await.unwrap(), "2");
    store.revoke_lease(lease).await.unwrap();
    assert_eq!(value(&store, "a").await, None);
    assert_eq!(value(&store, "b").await, None);
    let mut watch = store.watch("", made).await.unwrap();
    assert_eq!(told(&next(&mut watch).await), ["b=2"]);
    let mut gone = Vec::new();
    while gone.len() < 2 {
        gone.extend(told(&next(&mut watch).await));
    }
    assert_eq!(gone, ["-a", "-b"]);
}

pub(crate) async fn a_lease_that_is_gone_refuses_writes(store: Subject) {
    for wrong in
        [LEASE_TTL_MIN - Duration::from_millis(1), LEASE_TTL_MAX + Duration::from_millis(1)]
    {
        let refused = store.grant_lease(wrong).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    let before = put(&store, "a", "1").await;
    let lease = store.grant_lease(LEASE_TTL_MIN).await.unwrap();
    store.revoke_lease(lease).await.unwrap();
    for gone in [lease, LeaseId(123_456_789), LeaseId(u64::MAX), LeaseId(0)] {
        let with = Transaction::new().put(key("b"), "1").put_leased(key("a"), "2", gone);
        let refused = store.commit(with.clone()).await;
        let is_gone = matches!(refused, Err(CommitError::Store(StoreError::LeaseGone)));
        assert!(is_gone, "{refused:?}");
        // A condition is looked at first.
        let refused = store.commit(with.absent(key("a"))).await;
        assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
        assert!(matches!(store.renew_lease(gone).await, Err(StoreError::LeaseGone)));
        assert!(matches!(store.revoke_lease(gone).await, Err(StoreError::LeaseGone)));
    }
    assert_eq!(value(&store, "b").await, None);
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().modified, before);
}
