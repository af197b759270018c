//! Exports and imports between stores of every kind.

use std::{fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tempfile::TempDir;
use weft_store::{
    CommitError, Fault, Key, LEASE_TTL_MAX, Memory, Store, StoreError, Transaction,
    export::{ExportError, export, import},
};

use crate::{
    Ground, grounds,
    suite::{Subject, key, put, value},
};

const MARKER: &str = "weft-store/importing";

fn file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("export");
    (directory, path)
}

async fn all(store: &Subject) -> Vec<(Key, Bytes)> {
    let mut all: Vec<(Key, Bytes)> = Vec::new();
    loop {
        let page = store.list("", all.last().map(|(key, _)| key), 1_000).await.unwrap();
        all.extend(page.entries.into_iter().map(|entry| (entry.key, entry.value)));
        if !page.more {
            return all;
        }
    }
}

async fn fill(store: &Subject) {
    // Several pages, several transactions, every size.
    for first in (0..1_500).step_by(100) {
        let numbers = first..first + 100;
        let transaction = numbers.fold(Transaction::new(), |transaction, n| {
            transaction.put(key(&format!("a/{n:04}")), vec![7; n % 400])
        });
        store.commit(transaction).await.unwrap();
    }
    for n in 0..6 {
        let large = Transaction::new().put(key(&format!("b/{n}")), vec![n; 250_000]);
        store.commit(large).await.unwrap();
    }
}

async fn goes_over<A: Ground, B: Ground>() {
    let (ground_a, ground_b) = (A::prepare(), B::prepare());
    let (a, b) = (ground_a.store().await, ground_b.store().await);
    fill(&a).await;
    let before = all(&a).await;
    let lease = a.grant_lease(LEASE_TTL_MAX).await.unwrap();
    a.commit(Transaction::new().put_leased(key("leased"), "1", lease)).await.unwrap();
    let (_directory, path) = file();
    assert_eq!(export(&*a, &path).await.unwrap(), before.len());
    assert_eq!(import(&*b, &path).await.unwrap(), before.len());
    assert_eq!(all(&b).await, before);
    let refused = import(&*b, &path).await.unwrap_err();
    assert!(matches!(&refused, ExportError::NotEmpty { key } if *key == before[0].0), "{refused}");
    assert_eq!(all(&b).await, before);
}

#[tokio::test]
async fn from_memory_to_a_file() {
    goes_over::<grounds::InMemory, grounds::OnDisk>().await;
}

#[tokio::test]
async fn from_a_file_to_a_cluster() {
    goes_over::<grounds::OnDisk, grounds::Server>().await;
}

#[tokio::test]
async fn from_a_cluster_to_a_file() {
    goes_over::<grounds::Server, grounds::OnDisk>().await;
}

/// Two keys whose sum is always the same, far apart, so that they are on different pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_of_one_moment() {
    let ground = grounds::OnDisk::prepare();
    let store = ground.store().await;
    fill(&store).await;
    let pair = |n: u32| {
        Transaction::new().put(key("a/"), n.to_string()).put(key("z"), (1_000_000 - n).to_string())
    };
    store.commit(pair(0)).await.unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 0.. {
                store.commit(pair(n)).await.unwrap();
            }
        }
    });
    let (_directory, path) = file();
    for _ in 0..5 {
        export(&*store, &path).await.unwrap();
        let copy: Subject = Arc::new(Memory::default());
        import(&*copy, &path).await.unwrap();
        let mut sum = 0;
        for at in ["a/", "z"] {
            let value = value(&copy, at).await.unwrap();
            sum += String::from_utf8(value.to_vec()).unwrap().parse::<u32>().unwrap();
        }
        assert_eq!(sum, 1_000_000);
        fs::remove_file(&path).unwrap();
    }
    writing.abort();
}

#[tokio::test]
async fn nothing_stays_of_what_fails() {
    let (directory, path) = file();
    let source: Subject = Arc::new(Memory::default());
    fill(&source).await;
    export(&*source, &path).await.unwrap();
    let before = fs::read(&path).unwrap();
    let refused = export(&*source, &path).await.unwrap_err();
    assert!(matches!(refused, ExportError::Io { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);

    // A damaged file changes nothing.
    let damaged = directory.path().join("damaged");
    fs::write(&damaged, &before[..before.len() - 1]).unwrap();
    let store: Subject = Arc::new(Memory::default());
    let refused = import(&*store, &damaged).await.unwrap_err();
    assert!(refused.to_string().contains("damaged: it is damaged"), "{refused}");
    assert_eq!(store.list("", None, 1).await.unwrap().revision.0, 0);

    // Every commit of an import fails once; the store is empty then. Lost answers do no harm.
    let commits = {
        let memory = Memory::default();
        import(&memory, &path).await.unwrap();
        memory.list("", None, 1).await.unwrap().revision.0
    };
    assert!(commits > 10);
    for n in 1..=usize::try_from(commits).unwrap() {
        let memory = Memory::default();
        memory.fail_commit(n, Fault::Full);
        let refused = import(&memory, &path).await.unwrap_err();
        assert!(matches!(refused, ExportError::Store(StoreError::Full(_))), "{refused}");
        assert_eq!(memory.list("", None, 1).await.unwrap().entries, [], "{n}");
        for fault in [Fault::UnknownMade, Fault::UnknownNotMade] {
            let memory = Memory::default();
            memory.fail_commit(n, fault);
            import(&memory, &path).await.unwrap();
            let memory: Subject = Arc::new(memory);
            assert_eq!(all(&memory).await, all(&source).await, "{n} {fault:?}");
        }
    }
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn what_an_interrupted_import_left_is_removed_by_the_next() {
    let (_directory, path) = file();
    let source: Subject = Arc::new(Memory::default());
    fill(&source).await;
    export(&*source, &path).await.unwrap();
    let memory = Memory::default();
    let store: Subject = Arc::new(memory.clone());
    put(&store, MARKER, "").await;
    for n in 0..300 {
        put(&store, &format!("left/{n}"), "1").await;
    }
    import(&*store, &path).await.unwrap();
    assert_eq!(all(&store).await, all(&source).await);
}

#[tokio::test]
async fn opening_by_url_refuses_what_is_half_imported() {
    let directory = tempfile::tempdir().unwrap();
    let url: weft_store::StoreUrl =
        format!("sqlite:{}/store.db", directory.path().display()).parse().unwrap();
    let options = weft_store::StoreOptions::default();
    let store = weft_store::open(&url, &options).await.unwrap();
    put(&store, MARKER, "").await;
    let refused = weft_store::open(&url, &options).await.unwrap_err();
    assert!(refused.to_string().contains("in use by process"), "{refused}");
    drop(store);
    let refused = weft_store::open(&url, &options).await.unwrap_err();
    assert!(refused.to_string().contains("import again"), "{refused}");
    let store = weft_store::connect(&url, &options).unwrap();
    assert!(store.get(&key(MARKER)).await.unwrap().is_some());

    let remote: weft_store::StoreUrl = "etcd://127.0.0.1:1,192.0.2.1:1".parse().unwrap();
    let refused = weft_store::open(&remote, &options).await.unwrap_err();
    assert!(refused.to_string().contains("192.0.2.1:1 of etcd is on another machine"), "{refused}");
    let nobody: weft_store::StoreUrl = "etcd://127.0.0.1:1".parse().unwrap();
    let refused = weft_store::open(&nobody, &options).await.unwrap_err();
    assert!(refused.to_string().contains("does not answer"), "{refused}");
}

#[tokio::test]
async fn a_full_store_that_stands_still_can_be_exported() {
    let memory = Memory::default();
    let store: Subject = Arc::new(memory.clone());
    fill(&store).await;
    memory.fail_commit(1, Fault::Full);
    let (_directory, path) = file();
    export(&*store, &path).await.unwrap();
    let refused = store.commit(Transaction::new()).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Full(_)))), "no commit before");
}
