//! Another master key, with an end of the command at every step.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tempfile::TempDir;
use weft_control::master_key::{self, MasterKeys};
use weft_keys::{KeyFile, Keyring, MasterKeyId, Owner, Purpose, Rewrapped};
use weft_store::{Fault, Memory, Store};

const OWNERS: u64 = 5;

/// A keyring with some keys, and something sealed by each.
struct Safe {
    file: PathBuf,
    first: MasterKeyId,
    store: Memory,
    sealed: Vec<Vec<u8>>,
    _folder: TempDir,
}

fn owner(n: u64) -> Owner {
    Owner::Environment(format!("env-{n}").parse().unwrap())
}

impl Safe {
    async fn filled() -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("master.key");
        let first = KeyFile::init(&file, SystemTime::now()).unwrap();
        let store = Memory::default();
        let keyring = Self::keyring(&store, &file).await;
        let mut sealed = Vec::new();
        for n in 0..OWNERS {
            let key = keyring.create(&owner(n), SystemTime::now()).await.unwrap();
            sealed.push(key.seal(Purpose::Secret, &[], b"value").unwrap());
        }
        Self { file, first, store, sealed, _folder: folder }
    }

    async fn keyring(store: &Memory, file: &Path) -> Keyring {
        let kms = Arc::new(KeyFile::open(file).unwrap());
        Keyring::open(Arc::new(store.clone()), kms).await.unwrap()
    }

    async fn keys(&self) -> MasterKeys {
        let store = Arc::new(self.store.clone()) as Arc<dyn Store>;
        MasterKeys::over(store, &self.file).await.unwrap()
    }

    async fn everything_opens(&self) {
        let keyring = Self::keyring(&self.store, &self.file).await;
        for (n, sealed) in (0..OWNERS).zip(&self.sealed) {
            let opened = keyring.open_sealed(&owner(n), Purpose::Secret, &[], sealed).await;
            assert_eq!(**opened.unwrap(), *b"value");
        }
    }

    async fn wraps(&self) -> Vec<(MasterKeyId, u64)> {
        let listed = self.keys().await.list().await.unwrap();
        listed.into_iter().map(|key| (key.id, key.wraps)).collect()
    }
}

#[tokio::test]
async fn without_another_key_there_is_no_rotation_and_none_goes_that_wraps() {
    let safe = Safe::filled().await;
    let refused = safe.keys().await.rotate().await.unwrap_err().to_string();
    let one = format!("there is one master key, {}, which wraps everything", safe.first);
    assert!(refused.starts_with(&one), "{refused}");
    let newer = master_key::add(&safe.file).unwrap();
    assert_eq!(safe.wraps().await, [(safe.first.clone(), OWNERS), (newer.clone(), 0)]);
    let other = "0123".parse().unwrap();
    for (id, why) in [
        (&safe.first, format!("master key {} wraps {OWNERS} keys still", safe.first)),
        (&newer, format!("master key {newer} is the newest")),
        (&other, "there is no master key 0123; expected one of ".to_owned()),
    ] {
        let refused = safe.keys().await.remove(&safe.file, id, false).await.unwrap_err();
        assert!(refused.to_string().starts_with(&why), "{refused}");
    }
    safe.everything_opens().await;

    let done = safe.keys().await.rotate().await.unwrap();
    assert_eq!(done, Rewrapped { changed: OWNERS, unchanged: 0 });
    let again = safe.keys().await.rotate().await.unwrap();
    assert_eq!(again, Rewrapped { changed: 0, unchanged: OWNERS });
    safe.keys().await.remove(&safe.file, &safe.first, true).await.unwrap();
    assert_eq!(safe.wraps().await.len(), 2, "only looked");
    safe.keys().await.remove(&safe.file, &safe.first, false).await.unwrap();
    assert_eq!(safe.wraps().await, [(newer, OWNERS)]);
    safe.everything_opens().await;
}

#[tokio::test]
async fn a_rotation_may_end_at_every_write_and_goes_on() {
    for fault in [Fault::Unavailable, Fault::UnknownMade, Fault::UnknownNotMade] {
        for write in 1..=usize::try_from(OWNERS).unwrap() {
            let safe = Safe::filled().await;
            let newer = master_key::add(&safe.file).unwrap();
            safe.store.fail_commit(write, fault);
            let ended = safe.keys().await.rotate().await;
            // Where the answer alone is lost, reading says what became of it.
            assert_eq!(ended.is_err(), matches!(fault, Fault::Unavailable), "{ended:?}");
            safe.everything_opens().await;
            let left = safe.wraps().await[0].1;
            let early = safe.keys().await.remove(&safe.file, &safe.first, false).await;
            assert_eq!(early.is_err(), left > 0);
            if left > 0 {
                safe.keys().await.rotate().await.unwrap();
                safe.keys().await.remove(&safe.file, &safe.first, false).await.unwrap();
            }
            assert_eq!(safe.wraps().await, [(newer, OWNERS)]);
            safe.everything_opens().await;
        }
    }
}
