//! Another master key, with an end of the command at every step.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use weft_control::master_key::{self, MasterKeys};
use weft_control_api::v1::{self, environments_client::EnvironmentsClient};
use weft_keys::{KeyFile, Keyring, MasterKeyId, Owner, Purpose, Rewrapped};
use weft_store::{Fault, Memory, Store};

use crate::site::{Site, name, next, said, with};

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
        // The first one says that the old key is retired.
        for write in 1..=usize::try_from(OWNERS).unwrap() + 1 {
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

#[tokio::test]
async fn a_process_that_was_left_behind_by_a_rotation_says_so_and_makes_no_key() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let channel = site.connect(None).await;
    let health = async |service: &str| {
        let watch = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(channel.clone()).watch(watch).await.unwrap().into_inner()
    };
    let (mut process, mut environments) =
        (health("").await, health("weft.control.v1.Environments").await);
    for answers in [&mut process, &mut environments] {
        assert_eq!(next(answers).await.unwrap().status(), ServingStatus::Serving);
    }

    // On another machine, with another copy of the file.
    let elsewhere = site.master.with_extension("elsewhere");
    fs::copy(&site.master, &elsewhere).unwrap();
    master_key::add(&elsewhere).unwrap();
    let keys = MasterKeys::over(Arc::new(site.keys.clone()), &elsewhere).await.unwrap();
    keys.rotate().await.unwrap();
    let make = || v1::CreateEnvironmentRequest {
        organisation: "acme".to_owned(),
        name: "shop".to_owned(),
        subnets: vec!["10.40.0.0/24".to_owned()],
        ..Default::default()
    };
    let mut client = EnvironmentsClient::new(channel.clone());
    let refused = said(client.create_environment(with(make(), &owner)).await);
    let why = "this process lacks a key that another one may have; nothing was changed";
    assert_eq!(refused, (Code::Unavailable, why.to_owned()));
    for answers in [&mut process, &mut environments] {
        assert_eq!(next(answers).await.unwrap().status(), ServingStatus::NotServing);
    }
    let trouble = site.app.trouble().borrow().clone().unwrap();
    assert!(trouble.contains("was replaced by"), "{trouble}");

    // With the newest file it is as the others, without a restart.
    fs::rename(&elsewhere, &site.master).unwrap();
    for answers in [&mut process, &mut environments] {
        let answer = timeout(Duration::from_secs(20), next(answers)).await.unwrap();
        assert_eq!(answer.unwrap().status(), ServingStatus::Serving);
    }
    client.create_environment(with(make(), &owner)).await.unwrap();
    let keys = MasterKeys::over(Arc::new(site.keys.clone()), &site.master).await.unwrap();
    let listed = keys.list().await.unwrap();
    assert_eq!(listed[0].wraps, 0, "nothing was wrapped by the old one: {listed:?}");
    let get = v1::GetEnvironmentRequest { environment: name("acme/shop") };
    client.get_environment(with(get, &owner)).await.unwrap();
}
