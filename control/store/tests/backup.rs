//! Backups of a store that is written, and what comes of them.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use weft_store::{
    Key, Revision, Sqlite, SqliteOptions, Store, Transaction, WatchError,
    sqlite::{BackupError, RESTORE_STEP, backup, restore},
};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path, SqliteOptions::default()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|file| name(file.unwrap())).collect();
    names.sort();
    names
}

/// Two keys that are always the same.
fn pair(n: u32) -> Transaction {
    Transaction::new().put(key("a"), n.to_string()).put(key("z"), n.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_written_is_copied_as_it_is_at_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = Arc::new(open(&path("store")));
    for n in 0..500 {
        let value = vec![1; 2_000];
        store.commit(Transaction::new().put(key(&format!("b/{n}")), value)).await.unwrap();
    }
    store.commit(pair(0)).await.unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 0.. {
                store.commit(pair(n)).await.unwrap();
            }
        }
    });
    let mut last = Revision(0);
    for round in 0..5 {
        let before = store.get(&key("a")).await.unwrap().unwrap().modified;
        let (from, to) = (path("store"), path(&format!("backup-{round}")));
        let copied =
            tokio::task::spawn_blocking(move || backup(&from, &to)).await.unwrap().unwrap();
        assert!(copied >= before && copied >= last);
        last = copied;
    }
    writing.abort();
    for round in 0..5 {
        let (from, to) = (path(&format!("backup-{round}")), path(&format!("restored-{round}")));
        assert_eq!(fs::metadata(&from).unwrap().permissions().mode() & 0o777, 0o600);
        let first = restore(&from, &to).unwrap();
        let restored = open(&to);
        let get = async |at| restored.get(&key(at)).await.unwrap().unwrap();
        assert_eq!(get("a").await.value, get("z").await.value);
        assert_eq!(restored.list("b/", None, 1_000).await.unwrap().entries.len(), 500);
        // It goes on where nobody has been, and watches begin there.
        assert!(first.0 > RESTORE_STEP);
        let made = restored.commit(pair(7)).await.unwrap();
        assert_eq!(made.0, first.0 + 1);
        let mut watch = restored.watch("", last).await.unwrap();
        let told = watch.next().await;
        assert!(
            matches!(told, Err(WatchError::Compacted { oldest }) if oldest == first),
            "{told:?}"
        );
        let mut watch = restored.watch("", first).await.unwrap();
        assert_eq!(watch.next().await.unwrap().changes.len(), 2);
    }
    drop(store);
    // Also when nobody has it open.
    backup(&path("store"), &path("closed")).unwrap();
    assert!(!names(directory.path()).iter().any(|name| name.ends_with(".partial")));
}

#[tokio::test]
async fn what_is_no_whole_copy_is_refused_and_nothing_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = open(&path("store"));
    for n in 0..100 {
        let value = vec![n; 3_000];
        store.commit(Transaction::new().put(key(&format!("b/{n}")), value)).await.unwrap();
    }
    backup(&path("store"), &path("backup")).unwrap();
    drop(store);
    let good = fs::read(path("backup")).unwrap();

    let refused = backup(&path("store"), &path("backup")).unwrap_err();
    assert!(matches!(refused, BackupError::Io { .. }), "{refused}");
    let refused = restore(&path("backup"), &path("store")).unwrap_err();
    assert!(refused.to_string().ends_with("/store"), "{refused}");
    for missing in [backup(&path("none"), &path("new")), restore(&path("none"), &path("new"))] {
        assert!(missing.unwrap_err().to_string().ends_with("/none"));
    }
    // A log of another store beside the new name.
    fs::write(path("new-wal"), "").unwrap();
    let refused = restore(&path("backup"), &path("new")).unwrap_err();
    assert!(refused.to_string().ends_with("/new-wal"), "{refused}");
    fs::remove_file(path("new-wal")).unwrap();

    let mut damaged = Vec::new();
    for at in (0..good.len()).step_by(good.len() / 40) {
        // Cut off, and a page of something else.
        damaged.push(good[..at].to_vec());
        let mut changed = good.clone();
        let end = (at + 4_096).min(changed.len());
        changed[at..end].fill(0x5a);
        damaged.push(changed);
    }
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&9_u32.to_be_bytes());
    fs::write(path("damaged"), &newer).unwrap();
    let refused = restore(&path("damaged"), &path("new")).unwrap_err();
    assert!(refused.to_string().contains("schema 9; this version knows up to 1"), "{refused}");
    for bytes in damaged {
        fs::write(path("damaged"), &bytes).unwrap();
        let refused = restore(&path("damaged"), &path("new"));
        assert!(matches!(refused, Err(BackupError::NotACopy { .. })), "{refused:?}");
    }
    fs::remove_file(path("damaged")).unwrap();
    assert_eq!(names(directory.path()), ["backup", "store", "store-lock"]);
    restore(&path("backup"), &path("new")).unwrap();
}
