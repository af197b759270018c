//! Processes whose key files were left behind by a rotation.

use std::{fs, sync::Arc};

use tokio::time::{sleep, timeout};
use weft_keys::{
    KeyFile, Keyring, KeyringError, KmsError, MASTERS_INTERVAL, MasterKeyId, PROVE_INTERVAL,
    Purpose,
};
use weft_store::Transaction;

use crate::lab::{Lab, NOW, environment};

/// A process with a key file of its own, as it is at this moment.
struct Elsewhere {
    _folder: tempfile::TempDir,
    file: std::path::PathBuf,
    keyring: Keyring,
}

impl Elsewhere {
    async fn of(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master.key");
        fs::copy(lab.key_file(), &file).unwrap();
        let kms = Arc::new(KeyFile::open(&file).unwrap());
        let keyring = Keyring::open(Arc::new(lab.store.clone()), kms).await.unwrap();
        Self { _folder: folder, file, keyring }
    }
}

fn is_retired<T: std::fmt::Debug>(refused: Result<T, KeyringError>, by: &MasterKeyId) {
    let Err(KeyringError::Retired { current, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(current, by);
}

#[tokio::test]
async fn who_was_left_behind_makes_no_key_and_says_so_until_it_has_the_newest() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    let old = Elsewhere::of(&lab).await;
    let kept = old.keyring.create(&environment("e0"), NOW).await.unwrap();
    let sealed = kept.seal(Purpose::Secret, &[], b"value").unwrap();
    let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
    old.keyring.look_at_masters().await;
    assert_eq!(*old.keyring.trouble().borrow(), None, "a key that wraps nothing is not needed");
    keyring.rewrap().await.unwrap();

    is_retired(old.keyring.create(&environment("e1"), NOW).await, &newer);
    is_retired(old.keyring.rewrap().await, &newer);
    old.keyring.look_at_masters().await;
    let trouble = old.keyring.trouble().borrow().clone().unwrap();
    let first = format!("master key {} was replaced by {newer}", lab.first);
    assert!(trouble.starts_with(&first), "{trouble}");
    // What is in memory is good, and what is nowhere opens with nothing.
    assert_eq!(*kept.open(Purpose::Secret, &[], &sealed).unwrap(), b"value");
    let census = keyring.census().await.unwrap();
    assert_eq!(census.wrapped.into_iter().collect::<Vec<_>>(), [(newer.clone(), 1)]);

    fs::copy(lab.key_file(), &old.file).unwrap();
    old.keyring.look_at_masters().await;
    assert_eq!(*old.keyring.trouble().borrow(), None);
    old.keyring.create(&environment("e1"), NOW).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_made_as_a_rotation_begins_is_not_wrapped_by_the_old_one() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    keyring.create(&environment("e0"), NOW).await.unwrap();
    let old = Elsewhere::of(&lab).await;
    let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
    keyring.rewrap().await.unwrap();
    let masters = "keyring/v1/masters";
    let begun = lab.store.read(masters).unwrap();
    // As it was before, until it is about to be made.
    lab.store.remove(masters);
    let at = weft_store::Key::new(masters).unwrap();
    lab.store.be_faster(Transaction::new().put(at, begun));
    is_retired(old.keyring.create(&environment("e1"), NOW).await, &newer);
}

#[tokio::test]
async fn keys_that_others_wrap_with_what_is_not_here_are_noticed() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    let old = Elsewhere::of(&lab).await;
    let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
    keyring.create(&environment("e0"), NOW).await.unwrap();
    let missing = old.keyring.get(&environment("e0")).await;
    let Err(KeyringError::Kms(KmsError::Missing { needed, .. })) = &missing else {
        panic!("{missing:?}");
    };
    assert_eq!(*needed, newer);
    old.keyring.look_at_masters().await;
    let trouble = old.keyring.trouble().borrow().clone().unwrap();
    assert!(
        trouble.starts_with(&format!("master key {newer} is needed and not there")),
        "{trouble}"
    );
    // Without the store nothing new is known.
    lab.store.set_down(true);
    old.keyring.look_at_masters().await;
    assert_eq!(old.keyring.trouble().borrow().clone(), Some(trouble));
    keyring.look_at_masters().await;
    assert_eq!(*keyring.trouble().borrow(), None);
}

#[tokio::test]
async fn where_there_is_one_master_key_nothing_is_retired() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    keyring.create(&environment("e0"), NOW).await.unwrap();
    assert_eq!(keyring.rewrap().await.unwrap().unchanged, 1);
    assert_eq!(lab.store.read("keyring/v1/masters"), None);
}

#[tokio::test]
async fn nobody_begins_with_a_key_file_in_which_a_replaced_key_is_the_newest() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    keyring.create(&environment("e0"), NOW).await.unwrap();
    let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
    keyring.rewrap().await.unwrap();
    let text = fs::read_to_string(lab.key_file()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let last = lines.len() - 1;
    lines.swap(last - 1, last);
    fs::write(lab.key_file(), lines.join("\n") + "\n").unwrap();
    is_retired(lab.try_open().await, &newer);
}

#[tokio::test(start_paused = true)]
async fn every_key_is_looked_at_when_something_has_changed_and_now_and_then() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    keyring.create(&environment("e0"), NOW).await.unwrap();
    let old = Elsewhere::of(&lab).await;
    let store = lab.store.clone();
    store.lists();
    let follow = old.keyring.follow_masters();
    let look = async {
        // Once at first, and then after so long.
        sleep(MASTERS_INTERVAL / 2).await;
        assert_eq!(store.lists(), 1);
        sleep(PROVE_INTERVAL - MASTERS_INTERVAL).await;
        assert_eq!(store.lists(), 0);
        sleep(MASTERS_INTERVAL).await;
        assert_eq!(store.lists(), 1);
        // What others wrap with a key that is not here is noticed by that.
        let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
        keyring.create(&environment("e1"), NOW).await.unwrap();
        let mut trouble = old.keyring.trouble();
        timeout(2 * PROVE_INTERVAL, trouble.changed()).await.unwrap().unwrap();
        let said = trouble.borrow_and_update().clone().unwrap();
        assert!(said.contains(&format!("{newer} is needed")), "{said}");
        // Another key file is, at once, and so is a rotation.
        fs::copy(lab.key_file(), &old.file).unwrap();
        timeout(2 * MASTERS_INTERVAL, trouble.changed()).await.unwrap().unwrap();
        assert_eq!(*trouble.borrow_and_update(), None);
        KeyFile::add(lab.key_file(), NOW).unwrap();
        keyring.rewrap().await.unwrap();
        timeout(2 * MASTERS_INTERVAL, trouble.changed()).await.unwrap().unwrap();
        assert!(trouble.borrow().is_some());
        // Nothing is known of what is not answered, and what was there then is proved afterwards.
        fs::copy(lab.key_file(), &old.file).unwrap();
        store.set_down(true);
        sleep(2 * MASTERS_INTERVAL).await;
        assert!(trouble.borrow().is_some());
        store.set_down(false);
        timeout(2 * MASTERS_INTERVAL, trouble.changed()).await.unwrap().unwrap();
        assert_eq!(*trouble.borrow_and_update(), None);
    };
    tokio::select! {
        never = follow => match never {},
        () = look => {}
    }
}
