//! What only etcd has: TLS, several members, their faults.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use weft_store::{
    CommitError, Etcd, EtcdOptions, EtcdTls, HISTORY_REVISIONS_MIN, LIST_BYTES_MAX, LIST_LEN_MAX,
    Revision, StoreError, Transaction, VALUE_LEN_MAX, WatchError, etcd::REQUEST_TIME_MAX,
};

use crate::{
    servers::{Servers, field},
    suite::{Subject, key, next, put, told, value},
};

/// Long enough for any election on a machine that does other work.
const PATIENCE: Duration = Duration::from_secs(60);

// What the product promises: refused within 5 s.
const _: () = assert!(REQUEST_TIME_MAX.as_secs() < 5);

fn store(options: &EtcdOptions) -> Subject {
    Arc::new(Etcd::new(options).unwrap())
}

#[tokio::test]
async fn members_and_clients_know_each_other_by_certificates() {
    let servers = Servers::start_with_tls();
    servers.ready().await;
    let options = servers.options("tls/");
    let good = store(&options);
    put(&good, "a", "1").await;
    assert_eq!(value(&good, "a").await.unwrap(), "1");
    let lease = good.grant_lease(Duration::from_secs(5)).await.unwrap();
    good.renew_lease(lease).await.unwrap();
    let mut watch = good.watch("", Revision(0)).await.unwrap();
    assert_eq!(told(&next(&mut watch).await), ["a=1"]);

    // A server of another authority, a client of another authority, and no TLS at all.
    let others = crate::servers::Certificates::new().of_client();
    let own = options.tls.clone().unwrap();
    let wrong_server = EtcdTls { authority: others.authority.clone(), ..own.clone() };
    let wrong_client =
        EtcdTls { certificate: others.certificate, key: others.key, authority: own.authority };
    for tls in [Some(wrong_server), Some(wrong_client), None] {
        let refused = store(&EtcdOptions { tls, ..options.clone() });
        let transaction = Transaction::new().put(key("b"), "1");
        let told = refused.commit(transaction).await.unwrap_err();
        assert!(!matches!(told, CommitError::Conflict { .. }), "{told}");
        refused.get(&key("a")).await.unwrap_err();
    }
    assert_eq!(value(&good, "b").await, None);
}

#[tokio::test]
async fn stores_with_different_prefixes_do_not_meet() {
    let servers = Servers::start(1);
    servers.ready().await;
    let [one, other] = ["one/", "other/"].map(|prefix| store(&servers.options(prefix)));
    put(&one, "a", "1").await;
    assert_eq!(value(&other, "a").await, None);
    assert_eq!(other.list("", None, 10).await.unwrap().entries, []);
    let mut watch = other.watch("", Revision(0)).await.unwrap();
    put(&other, "b", "2").await;
    assert_eq!(told(&next(&mut watch).await), ["b=2"]);
}

#[test]
fn wrong_options_are_refused_by_name() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let good = EtcdOptions { endpoints: vec!["h:1".into()], prefix: "p/".into(), tls: None };
    let wrong = |options: EtcdOptions| Etcd::new(&options).unwrap_err().to_string();
    assert!(wrong(EtcdOptions { endpoints: vec![], ..good.clone() }).contains("expected 1 to 16"));
    assert!(
        wrong(EtcdOptions { prefix: String::new(), ..good.clone() }).contains("prefix in etcd")
    );
    let at = wrong(EtcdOptions { endpoints: vec!["a b".into()], ..good.clone() });
    assert!(at.contains("endpoint \"a b\""), "{at}");
    let bad =
        |part: &str| EtcdTls { authority: part.into(), certificate: part.into(), key: part.into() };
    let tls = wrong(EtcdOptions { tls: Some(bad("no PEM")), ..good });
    assert!(tls.contains("endpoint \"h:1\""), "{tls}");
}

/// More than is taken in one answer of a server.
#[tokio::test]
async fn a_list_of_large_values_comes_in_pages() {
    const COUNT: usize = 140;
    let servers = Servers::start(1);
    servers.ready().await;
    let store = store(&servers.options("large/"));
    for n in 0..COUNT {
        let large = Transaction::new().put(key(&format!("{n:03}")), vec![1; VALUE_LEN_MAX]);
        store.commit(large).await.unwrap();
    }
    let (mut last, mut seen) = (None, 0);
    loop {
        let page = store.list("", last.as_ref(), LIST_LEN_MAX).await.unwrap();
        assert!(page.entries.len() <= LIST_BYTES_MAX / VALUE_LEN_MAX + 1);
        seen += page.entries.len();
        if !page.more {
            break;
        }
        last = page.entries.last().map(|entry| entry.key.clone());
    }
    assert_eq!(seen, COUNT);
}

#[tokio::test]
async fn history_is_compacted_to_what_must_stay() {
    let servers = Servers::start(1);
    servers.ready().await;
    let etcd = Arc::new(Etcd::new(&servers.options("c/")).unwrap());
    let store: Subject = etcd.clone();
    let first = put(&store, "a", "0").await;
    etcd.compact().await.unwrap();
    next(&mut store.watch("", Revision(0)).await.unwrap()).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64 {
        let store = store.clone();
        callers.spawn(async move {
            for _ in 0..=HISTORY_REVISIONS_MIN / 64 {
                put(&store, &format!("b/{caller}"), "1").await;
            }
        });
    }
    callers.join_all().await;
    let mut behind = store.watch("b/", first).await.unwrap();
    etcd.compact().await.unwrap();
    etcd.compact().await.unwrap();
    let last = store.list("", None, 1).await.unwrap().revision.0;
    for after in [Revision(0), first] {
        let mut watch = store.watch("b/", after).await.unwrap();
        let Err(WatchError::Compacted { oldest }) = watch.next().await else {
            panic!("not compacted");
        };
        assert_eq!(oldest.0, last - HISTORY_REVISIONS_MIN);
        // Exactly there it may begin.
        let mut watch = store.watch("b/", oldest).await.unwrap();
        assert_eq!(next(&mut watch).await.revision.0, oldest.0 + 1);
        let mut watch = store.watch("b/", Revision(oldest.0 - 1)).await.unwrap();
        assert!(matches!(watch.next().await, Err(WatchError::Compacted { .. })));
    }
    // One that began before is told all that it was sent, or that it is too late.
    match behind.next().await {
        Ok(batch) => assert_eq!(batch.revision.0, first.0 + 1),
        Err(e) => assert!(matches!(e, WatchError::Compacted { .. }), "{e}"),
    }
}

/// Writes until it is taken again; counts what was refused.
async fn put_until_taken(store: &Subject, at: &str, text: &str) -> Revision {
    let begun = Instant::now();
    loop {
        match store.commit(Transaction::new().put(key(at), text.to_owned())).await {
            Ok(revision) => return revision,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_is_replaced_and_watches_go_on() {
    let mut servers = Servers::start(3);
    servers.ready().await;
    let store = store(&servers.options("l/"));
    let lease = store.grant_lease(Duration::from_secs(600)).await.unwrap();
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    for round in 0..3 {
        let before = put(&store, "a", &format!("{round}")).await;
        // Attempts of the round before whose answer was lost may have been made as late as now.
        let mut told = next(&mut watch).await.revision;
        while told < before {
            told = next(&mut watch).await.revision;
        }
        assert_eq!(told, before);
        let leader = servers.leader();
        let lost = Instant::now();
        if round == 1 {
            // It hangs: its connections stay, nobody answers there.
            servers.set_paused(leader, true);
        } else {
            servers.kill(leader);
        }
        let made = put_until_taken(&store, "a", "after").await;
        println!(
            "the leader is {}: writes are back after {} ms",
            ["killed", "stopped"][round % 2],
            lost.elapsed().as_millis()
        );
        // Attempts whose answer was lost may have been made too.
        while timeout(PATIENCE, watch.next()).await.unwrap().unwrap().revision < made {}
        store.renew_lease(lease).await.unwrap();
        assert_eq!(value(&store, "a").await.unwrap(), "after");
        if round == 1 {
            servers.set_paused(leader, false);
        } else {
            servers.run(leader);
        }
        servers.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_everything_is_refused_in_time() {
    let mut servers = Servers::start(3);
    servers.ready().await;
    let store = store(&servers.options("m/"));
    let made = put(&store, "a", "1").await;
    let mut watch = store.watch("", made).await.unwrap();
    let leader = servers.leader();
    let dead = [leader, (leader + 1) % 3];
    for at in dead {
        servers.kill(at);
    }
    let mut refusals = Vec::new();
    for n in 0..3 {
        let (transaction, asked) =
            (Transaction::new().put(key(&format!("b/{n}")), "1"), Instant::now());
        refusals.push(store.commit(transaction).await.unwrap_err());
        println!("two of three are lost: refused after {} ms", asked.elapsed().as_millis());
        let refused = store.get(&key("a")).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    // When everybody has noticed, it is certain that nothing happened.
    let last = refusals.last().unwrap();
    assert!(matches!(last, CommitError::Store(StoreError::Unavailable(_))), "{last}");
    assert!(
        last.to_string().contains("no leader") || last.to_string().contains("refused"),
        "{last}"
    );
    let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap_err();
    assert!(matches!(told, WatchError::Store(StoreError::Unavailable(_))), "{told}");

    for at in dead {
        servers.run(at);
    }
    put_until_taken(&store, "c", "1").await;
    for (n, refused) in refusals.iter().enumerate() {
        let found = value(&store, &format!("b/{n}")).await;
        let may_be_there = matches!(refused, CommitError::Unknown(_));
        assert!(found.is_none() || may_be_there, "{refused}, but it was made");
    }
}

#[tokio::test]
async fn a_full_cluster_says_what_to_do_and_takes_changes_again_after_that() {
    const QUOTA_BYTES: u64 = 8 << 20;
    let servers = Servers::start_with_quota(QUOTA_BYTES);
    servers.ready().await;
    let store = store(&servers.options("f/"));
    let large = || Transaction::new().put(key("a"), vec![1; VALUE_LEN_MAX]);
    let mut last = put(&store, "b", "1").await;
    let full = loop {
        // Each revision is kept: there is no end to it but the quota.
        let grown = large().put(key("n"), last.0.to_string());
        match store.commit(grown).await {
            Ok(made) => last = made,
            Err(error) => break error,
        }
        assert!(last.0 < 1_000, "there is room without end");
    };
    let CommitError::Store(StoreError::Full(text)) = &full else { panic!("{full}") };
    for word in ["NOSPACE", "compact", "defrag", "alarm disarm"] {
        assert!(text.contains(word), "{text}");
    }
    // Whatever makes something is refused, at once, and nothing of it is there; reading goes on.
    let asked = Instant::now();
    let refused = store.commit(Transaction::new().put(key("c"), "1")).await.unwrap_err();
    assert!(matches!(refused, CommitError::Store(StoreError::Full(_))), "{refused}");
    let refused = store.grant_lease(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    assert!(asked.elapsed() < REQUEST_TIME_MAX, "{:?}", asked.elapsed());
    assert_eq!(value(&store, "b").await.unwrap(), "1");
    assert_eq!(value(&store, "c").await, None);

    // As the text says, by the same client, which goes on by itself.
    let revision = last.0;
    servers.ask("kv/compaction", &format!(r#"{{"revision":{revision},"physical":true}}"#));
    servers.ask("maintenance/defragment", "{}");
    let still = store.commit(Transaction::new().put(key("c"), "1")).await.unwrap_err();
    assert!(matches!(still, CommitError::Store(StoreError::Full(_))), "the alarm stays: {still}");
    let status = servers.ask("maintenance/status", "{}");
    let member = field(&status, "member_id").unwrap();
    let disarm = format!(r#"{{"action":"DEACTIVATE","memberID":"{member}","alarm":"NOSPACE"}}"#);
    servers.ask("maintenance/alarm", &disarm);
    put(&store, "c", "2").await;
    assert_eq!(value(&store, "c").await.unwrap(), "2");
    store.grant_lease(Duration::from_secs(5)).await.unwrap();
}
