//! What only a store in a file has: durability, bounds of the disk, damage, erasure.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use weft_store::{
    CommitError, HISTORY_REVISIONS_MIN, Key, LEASE_TTL_MIN, Revision, Sqlite, SqliteOptions, Store,
    StoreError, Transaction, WatchError,
    sqlite::{OpenError, PAGE_BYTES},
};

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        Self { _directory: directory, path }
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(&self.path, SqliteOptions::default()).unwrap()
    }

    fn log(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        name.into()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(store: &Sqlite, at: &str, value: impl Into<bytes::Bytes>) -> Revision {
    store.commit(Transaction::new().put(key(at), value)).await.unwrap()
}

#[tokio::test]
async fn everything_is_there_when_it_is_opened_again() {
    let place = Place::new();
    let store = place.open();
    let lease = store.grant_lease(LEASE_TTL_MIN).await.unwrap();
    put(&store, "a", "1").await;
    let leased = Transaction::new().put_leased(key("b"), "1", lease);
    let last = store.commit(leased).await.unwrap();
    let before = store.list("", None, 10).await.unwrap();
    drop(store);

    let opened = Instant::now();
    let store = place.open();
    assert_eq!(store.list("", None, 10).await.unwrap(), before);
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().changes[0].key(), &key("a"));
    assert_eq!(watch.next().await.unwrap().revision, last);
    // The lease has all of its time again, and then it ends.
    watch.next().await.unwrap();
    assert!(opened.elapsed() >= LEASE_TTL_MIN);
    assert_eq!(store.get(&key("b")).await.unwrap(), None);
    assert_ne!(store.grant_lease(LEASE_TTL_MIN).await.unwrap(), lease);
}

#[tokio::test]
async fn a_second_process_is_refused_by_name() {
    let place = Place::new();
    let store = place.open();
    // A lock belongs to the open file, so the same process stands for another one.
    let refused = Sqlite::open(&place.path, SqliteOptions::default()).unwrap_err();
    let own = std::process::id().to_string();
    assert!(matches!(&refused, OpenError::InUse { owner, .. } if *owner == own), "{refused}");
    assert!(refused.to_string().contains(&format!("in use by process {own}")));
    put(&store, "a", "1").await;
    drop(store);
    place.open();
}

#[tokio::test]
async fn a_watch_ends_with_the_store() {
    let place = Place::new();
    let store = place.open();
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    let waiting = tokio::spawn(async move { watch.next().await });
    tokio::task::yield_now().await;
    drop(store);
    let ended = waiting.await.unwrap();
    assert!(matches!(ended, Err(WatchError::Store(StoreError::Unavailable(_)))), "{ended:?}");
    // One that nobody asks does not keep the file.
    let store = place.open();
    let forgotten = store.watch("", Revision(0)).await.unwrap();
    drop(store);
    place.open();
    drop(forgotten);
}

/// Frames of the log that end a transaction: those with a size of the database in their header (SQLite's file
/// format, section 4.1).
fn transactions_in(log: &Path) -> usize {
    let log = fs::read(log).unwrap();
    log[32..].chunks(24 + PAGE_BYTES as usize).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_wait_share_a_sync() {
    const CALLERS: usize = 32;
    const EACH: usize = 10;
    let place = Place::new();
    let store = Arc::new(place.open());
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            for n in 0..EACH {
                put(&store, &format!("{caller}"), n.to_string()).await;
            }
        });
    }
    callers.join_all().await;
    let synced = transactions_in(&place.log());
    assert!(synced < CALLERS * EACH / 2, "{synced} syncs");
    assert_eq!(store.list("", None, 1).await.unwrap().revision.0, (CALLERS * EACH) as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_does_not_grow_without_bound() {
    const CALLERS: u64 = 64;
    let place = Place::new();
    let store = Arc::new(place.open());
    put(&store, "kept", "from the start").await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            for _ in 0..2 * HISTORY_REVISIONS_MIN / CALLERS {
                put(&store, &format!("a/{}", caller / 2), "1").await;
            }
        });
    }
    callers.join_all().await;
    let last = store.list("", None, 1).await.unwrap().revision.0;
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    let Err(WatchError::Compacted { oldest }) = watch.next().await else { panic!("no compaction") };
    assert!(
        oldest.0 <= last - HISTORY_REVISIONS_MIN && oldest.0 > last - HISTORY_REVISIONS_MIN - 1_000
    );
    assert_eq!(store.get(&key("kept")).await.unwrap().unwrap().modified, Revision(1));
    drop(store);
    let file = rusqlite::Connection::open(&place.path).unwrap();
    let changes: u64 = file.query_row("SELECT count(*) FROM change", [], |row| row.get(0)).unwrap();
    assert!(changes <= last - oldest.0 + 1 + CALLERS, "{changes}");
}

#[tokio::test]
async fn a_full_store_refuses_writes_goes_on_reading_and_heals() {
    let place = Place::new();
    let options = SqliteOptions { pages_max: 128, ..SqliteOptions::default() };
    let store = Arc::new(Sqlite::open(&place.path, options).unwrap());
    let mut n = 0;
    let value = || vec![1; 20_000];
    let refused = loop {
        match store.commit(Transaction::new().put(key(&format!("a/{n}")), value())).await {
            Ok(_) => n += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, CommitError::Store(StoreError::Full(_))), "{refused}");
    assert!(n > 3);
    let page = store.list("a/", None, 100).await.unwrap();
    assert_eq!(page.entries.len(), n);
    // Among those that wait, each for which there is room is made.
    let mut group = JoinSet::new();
    for (at, value) in [("b/1", value()), ("b/2", vec![1]), ("b/3", value()), ("b/4", vec![2])] {
        let store = Arc::clone(&store);
        group.spawn(async move {
            (at, store.commit(Transaction::new().put(key(at), value)).await.is_ok())
        });
    }
    let mut made = group.join_all().await;
    made.sort_unstable();
    assert_eq!(made, [("b/1", false), ("b/2", true), ("b/3", false), ("b/4", true)]);
    assert_eq!(store.list("b/", None, 9).await.unwrap().entries.len(), 2);
    // The same file with more room, as when a disk was cleared.
    drop(store);
    let store = place.open();
    put(&store, "a/more", value()).await;
}

#[tokio::test]
async fn damage_is_told_as_such() {
    let place = Place::new();
    let store = place.open();
    for n in 0..200 {
        put(&store, &format!("a/{n:03}"), vec![n; 3_000]).await;
    }
    drop(store);
    let file = fs::OpenOptions::new().write(true).read(true).open(&place.path).unwrap();
    let intact = fs::read(&place.path).unwrap();
    let pages = intact.len() as u64 / u64::from(PAGE_BYTES);
    for page in 1..pages.min(12) {
        file.write_all_at(&[0xa5; 100], page * u64::from(PAGE_BYTES)).unwrap();
    }
    let refused = Sqlite::open(&place.path, SqliteOptions::default()).unwrap_err();
    let damaged = matches!(&refused, OpenError::Store { source: StoreError::Corrupt(_), .. });
    assert!(damaged, "{refused}");
    // Damaged while it is open.
    file.write_all_at(&intact, 0).unwrap();
    let store = place.open();
    for page in 1..pages {
        file.write_all_at(&[0xa5; PAGE_BYTES as usize], page * u64::from(PAGE_BYTES)).unwrap();
    }
    let told = store.list("a/", None, 1_000).await;
    assert!(matches!(told, Err(StoreError::Corrupt(_))), "{told:?}");
}

/// Whether any file of the store has the text.
fn is_anywhere(place: &Place, text: &str) -> bool {
    let directory = place.path.parent().unwrap();
    fs::read_dir(directory).unwrap().any(|file| {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn what_is_erased_is_in_no_file() {
    let place = Place::new();
    let options = SqliteOptions { erase: true, ..SqliteOptions::default() };
    let store = Sqlite::open(&place.path, options).unwrap();
    for n in 0..200 {
        put(&store, &format!("key/{n:03}"), format!("canary-{n:03}-{}", "x".repeat(300))).await;
    }
    assert!(is_anywhere(&place, "canary-100-"));
    for n in (0..200).step_by(3) {
        let at = key(&format!("key/{n:03}"));
        let transaction = match n % 2 {
            0 => Transaction::new().delete(at),
            _ => Transaction::new().put(at, "another"),
        };
        store.commit(transaction).await.unwrap();
        assert!(!is_anywhere(&place, &format!("canary-{n:03}-")), "{n}");
    }
    let large = "canary-large-".repeat(10_000);
    put(&store, "large", large).await;
    store.commit(Transaction::new().delete(key("large"))).await.unwrap();
    assert!(!is_anywhere(&place, "canary-large-"));
    // With a lease that ends, too.
    let lease = store.grant_lease(LEASE_TTL_MIN).await.unwrap();
    store
        .commit(Transaction::new().put_leased(key("leased"), "canary-leased", lease))
        .await
        .unwrap();
    assert!(is_anywhere(&place, "canary-leased"));
    store.revoke_lease(lease).await.unwrap();
    assert!(!is_anywhere(&place, "canary-leased"));

    let rest = store.list("key/", None, 1_000).await.unwrap();
    assert_eq!(rest.entries.len(), 200 - 34);
    drop(store);
    // Without history a watch has to begin anew.
    let store = Sqlite::open(&place.path, options).unwrap();
    assert_eq!(store.list("key/", None, 1_000).await.unwrap(), rest);
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    let told = watch.next().await;
    assert!(matches!(told, Err(WatchError::Compacted { .. })), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_while_the_store_is_busy() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let lease = store.grant_lease(LEASE_TTL_MIN).await.unwrap();
    store.commit(Transaction::new().put_leased(key("a"), "1", lease)).await.unwrap();
    let busy = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 0.. {
                put(&store, "b", format!("{n}")).await;
            }
        }
    });
    let mut watch = store.watch("a", Revision(0)).await.unwrap();
    watch.next().await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), watch.next()).await.unwrap().unwrap();
    busy.abort();
}

#[tokio::test]
async fn a_value_that_the_disk_has_changed_is_not_told() {
    let place = Place::new();
    let store = place.open();
    put(&store, "a", "a value to be found").await;
    drop(store);
    let mut file = fs::read(&place.path).unwrap();
    let text = b"a value to be found";
    let at = file.windows(text.len()).position(|window| window == text).unwrap();
    file[at] ^= 1;
    fs::write(&place.path, file).unwrap();
    // SQLite finds nothing wrong with it.
    let store = place.open();
    let told = store.get(&key("a")).await;
    assert!(
        matches!(&told, Err(StoreError::Corrupt(what)) if what.contains("checksum")),
        "{told:?}"
    );
    store.list("", None, 9).await.unwrap_err();
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    watch.next().await.unwrap_err();
    put(&store, "a", "another").await;
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, "another");
}

/// Values of all sizes, written in any order, so that pages are split and joined again and again.
#[tokio::test]
async fn nothing_erased_is_left_where_pages_were_split_or_joined() {
    let place = Place::new();
    let options = SqliteOptions { erase: true, ..SqliteOptions::default() };
    let store = Sqlite::open(&place.path, options).unwrap();
    let mut there = Vec::new();
    // A generator of Lehmer: the order is any, and the same each time.
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state * 48_271 % 0x7fff_ffff;
        state % below
    };
    for n in 0..300 {
        let canary = format!("canary-{n:03}-");
        let len = usize::try_from(random(100)).unwrap();
        put(&store, &format!("key/{:03}-{n}", random(1_000)), canary.repeat(1 + len)).await;
        there = store.list("key/", None, 1_000).await.unwrap().entries;
        if n % 3 != 0 {
            let gone = there.swap_remove(usize::try_from(random(there.len() as u64)).unwrap());
            let canary = String::from_utf8(gone.value[..11].to_vec()).unwrap();
            store.commit(Transaction::new().delete(gone.key)).await.unwrap();
            assert!(!is_anywhere(&place, &canary), "{canary} after {n}");
        }
    }
    assert!(there.len() > 50);
}
