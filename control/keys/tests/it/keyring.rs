//! Keys are made once, found, and destroyed for good, in every process.

use std::{sync::Arc, time::Duration};

use weft_keys::{
    CACHE_FRESH_MAX, FOLLOW_INTERVAL, KeyFile, Keyring, KeyringError, KmsError, OpenError, Owner,
    OwnerKey, OwnerState, Purpose, Record, SealError, UseError,
};
use weft_store::{Key, Transaction};

use crate::{
    lab::{Lab, NOW, environment},
    memory::Fault,
};

fn seal(key: &OwnerKey) -> Vec<u8> {
    key.seal(Purpose::Secret, &[b"name"], b"value").unwrap()
}

fn opens(key: &OwnerKey, sealed: &[u8]) -> bool {
    key.open(Purpose::Secret, &[b"name"], sealed).is_ok()
}

#[tokio::test]
async fn an_owner_has_one_key_in_every_process() {
    let lab = Lab::new();
    let (one, other) = (lab.open().await, lab.open().await);
    let acme = environment("acme");
    assert!(matches!(one.get(&acme).await, Err(KeyringError::Unknown(_))));
    let sealed = seal(&one.create(&acme, NOW).await.unwrap());
    assert!(opens(&other.get(&acme).await.unwrap(), &sealed));
    assert!(opens(&other.create(&acme, NOW).await.unwrap(), &sealed), "made once");
    assert!(opens(&lab.open().await.get(&acme).await.unwrap(), &sealed));
    for owner in [environment("globex"), Owner::Installation] {
        assert!(!opens(&one.create(&owner, NOW).await.unwrap(), &sealed));
    }
    let state = one.state(&acme).await.unwrap();
    assert_eq!(state, OwnerState::Live { created: 0, master: lab.first.clone() });
}

#[tokio::test]
async fn who_creates_at_the_same_time_gets_the_same_key() {
    let lab = Lab::new();
    let acme = environment("acme");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (keyring, acme) = (lab.open().await, acme.clone());
        tasks.spawn(async move { keyring.create(&acme, NOW).await.unwrap() });
    }
    let keys = tasks.join_all().await;
    let sealed = seal(&keys[0]);
    assert!(keys.iter().all(|key| opens(key, &sealed)));
}

#[tokio::test]
async fn whatever_becomes_of_an_answer_one_key_is_made() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::RequestLost] {
        let lab = Lab::new();
        let (keyring, acme) = (lab.open().await, environment("acme"));
        lab.store.fail(0, fault);
        let first = keyring.create(&acme, NOW).await;
        assert_eq!(first.is_err(), fault == Fault::Refused);
        let second = lab.open().await.create(&acme, NOW).await.unwrap();
        if let Ok(first) = first {
            assert!(opens(&second, &seal(&first)));
        }
        assert!(lab.store.heal());
    }
}

#[tokio::test]
async fn destroyed_and_lost_are_told_apart_and_nothing_comes_back() {
    let lab = Lab::new();
    let (keyring, acme) = (lab.open().await, environment("acme"));
    let at = NOW + Duration::from_secs(7);
    assert!(matches!(keyring.destroy(&acme, at).await, Err(KeyringError::Unknown(_))));
    let key = keyring.create(&acme, NOW).await.unwrap();
    let sealed = seal(&key);
    keyring.destroy(&acme, at).await.unwrap();
    assert_eq!(key.open(Purpose::Secret, &[b"name"], &sealed), Err(OpenError::Withdrawn));
    assert_eq!(key.seal(Purpose::Secret, &[], b""), Err(SealError::Withdrawn));
    for result in [keyring.get(&acme).await, keyring.create(&acme, NOW).await] {
        let error = result.unwrap_err();
        assert!(matches!(&error, KeyringError::Destroyed { at: 7, .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "the key of environment/acme was destroyed 7 seconds after 1970"
        );
    }
    keyring.destroy(&acme, NOW).await.unwrap();
    let state = keyring.state(&acme).await.unwrap();
    assert_eq!(state, OwnerState::Destroyed { created: 0, destroyed: 7 });
    let record = lab.store.read("keyring/v1/owner/environment/acme").unwrap();
    assert!(!String::from_utf8(record).unwrap().contains("wrapped"));
    assert_eq!(keyring.census().await.unwrap().destroyed, 1);
}

#[tokio::test]
async fn a_destruction_whose_answer_is_lost_is_done_or_said_not_to_be() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::RequestLost] {
        let lab = Lab::new();
        let (keyring, acme) = (lab.open().await, environment("acme"));
        let key = keyring.create(&acme, NOW).await.unwrap();
        lab.store.fail(0, fault);
        let destroyed = keyring.destroy(&acme, NOW).await;
        assert_eq!(destroyed.is_err(), fault == Fault::Refused);
        let gone = key.seal(Purpose::Secret, &[], b"").is_err();
        assert_eq!(gone, destroyed.is_ok());
        let state = keyring.state(&acme).await.unwrap();
        assert_eq!(matches!(state, OwnerState::Destroyed { .. }), destroyed.is_ok());
    }
}

/// Somebody else destroys or rewraps between reading and writing.
#[tokio::test]
async fn a_destruction_meets_another_change() {
    let lab = Lab::new();
    let (keyring, acme) = (lab.open().await, environment("acme"));
    keyring.create(&acme, NOW).await.unwrap();
    let at = Key::new("keyring/v1/owner/environment/acme").unwrap();
    let live = lab.store.read(at.as_str()).unwrap();
    lab.store.be_faster(Transaction::new().put(at.clone(), live));
    keyring.destroy(&acme, NOW + Duration::from_secs(7)).await.unwrap();
    let state = keyring.state(&acme).await.unwrap();
    assert_eq!(state, OwnerState::Destroyed { created: 0, destroyed: 7 });

    let globex = environment("globex");
    keyring.create(&globex, NOW).await.unwrap();
    let tombstone = Record::Destroyed { created: 0, destroyed: 3 }.encode();
    let at = Key::new("keyring/v1/owner/environment/globex").unwrap();
    lab.store.be_faster(Transaction::new().put(at, tombstone));
    keyring.destroy(&globex, NOW + Duration::from_secs(7)).await.unwrap();
    let state = keyring.state(&globex).await.unwrap();
    assert_eq!(state, OwnerState::Destroyed { created: 0, destroyed: 3 }, "the first counts");
}

async fn following(lab: &Lab) -> Arc<Keyring> {
    let keyring = lab.open().await;
    let follower = Arc::clone(&keyring);
    tokio::spawn(async move { follower.follow().await });
    tokio::time::sleep(FOLLOW_INTERVAL / 2).await;
    keyring
}

#[tokio::test(start_paused = true)]
async fn a_destroyed_key_leaves_every_process() {
    let lab = Lab::new();
    let (here, there) = (following(&lab).await, following(&lab).await);
    let (acme, globex) = (environment("acme"), environment("globex"));
    here.create(&acme, NOW).await.unwrap();
    here.create(&globex, NOW).await.unwrap();
    let key = there.get(&acme).await.unwrap();
    let other = there.get(&globex).await.unwrap();
    here.destroy(&acme, NOW).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(key.seal(Purpose::Secret, &[], b""), Err(SealError::Withdrawn));
    assert!(matches!(there.get(&acme).await, Err(KeyringError::Destroyed { .. })));
    assert!(other.seal(Purpose::Secret, &[], b"").is_ok(), "nobody else's goes");
    assert_eq!(there.cached(), 1);
}

#[tokio::test(start_paused = true)]
async fn also_where_the_watch_says_nothing() {
    let lab = Lab::new();
    let (here, there) = (lab.open().await, following(&lab).await);
    let acme = environment("acme");
    here.create(&acme, NOW).await.unwrap();
    let key = there.get(&acme).await.unwrap();
    lab.store.set_deaf(true);
    here.destroy(&acme, NOW).await.unwrap();
    tokio::time::sleep(3 * FOLLOW_INTERVAL).await;
    assert_eq!(key.seal(Purpose::Secret, &[], b""), Err(SealError::Withdrawn));
}

#[tokio::test(start_paused = true)]
async fn without_the_store_no_key_is_kept() {
    let lab = Lab::new();
    let keyring = following(&lab).await;
    let acme = environment("acme");
    let key = keyring.create(&acme, NOW).await.unwrap();
    lab.store.set_down(true);
    tokio::time::sleep(3 * FOLLOW_INTERVAL).await;
    assert_eq!(key.seal(Purpose::Secret, &[], b""), Err(SealError::Withdrawn));
    assert_eq!(keyring.cached(), 0);
    assert!(matches!(keyring.get(&acme).await, Err(KeyringError::Store(_))));
    lab.store.set_down(false);
    tokio::time::sleep(3 * FOLLOW_INTERVAL).await;
    let sealed = keyring.seal(&acme, Purpose::Secret, &[b"x"], b"value").await.unwrap();
    let opened = keyring.open_sealed(&acme, Purpose::Secret, &[b"x"], &sealed).await.unwrap();
    assert_eq!(*opened, b"value");
    let other = keyring.open_sealed(&acme, Purpose::Secret, &[b"y"], &sealed).await;
    assert!(matches!(other, Err(UseError::Open(OpenError::Refused))));
    let long = keyring.seal(&acme, Purpose::Secret, &[&[0; 5000]], b"").await;
    assert!(matches!(long, Err(UseError::Seal(SealError::Context(5000)))));
    let key = keyring.get(&acme).await.unwrap();
    tokio::time::sleep(10 * FOLLOW_INTERVAL).await;
    assert!(key.seal(Purpose::Secret, &[], b"").is_ok(), "it is followed again");
}

/// Nobody polls `follow` here: what is cached is still not believed for longer than it may be.
#[tokio::test(start_paused = true)]
async fn a_cached_key_is_not_believed_for_long() {
    let lab = Lab::new();
    let (here, there) = (lab.open().await, lab.open().await);
    let acme = environment("acme");
    here.create(&acme, NOW).await.unwrap();
    let key = there.get(&acme).await.unwrap();
    here.destroy(&acme, NOW).await.unwrap();
    tokio::time::sleep(CACHE_FRESH_MAX).await;
    assert!(matches!(there.get(&acme).await, Err(KeyringError::Destroyed { .. })));
    assert_eq!(key.seal(Purpose::Secret, &[], b""), Err(SealError::Withdrawn));
}

#[tokio::test]
async fn without_its_master_key_a_keyring_does_not_open() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    for i in 0..20 {
        keyring.create(&environment(&format!("e{i}")), NOW).await.unwrap();
    }
    let elsewhere = Lab::new();
    let wrong = Arc::new(KeyFile::open(elsewhere.key_file()).unwrap());
    let error = Keyring::open(Arc::new(lab.store.clone()), wrong).await.unwrap_err();
    assert!(
        matches!(&error, KeyringError::Kms(KmsError::Missing { needed, .. }) if *needed == lab.first)
    );
    let (needed, held) = (&lab.first, &elsewhere.first);
    let expected = format!("master key {needed} is needed and not there; held: {held}");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_record_of_another_owner_or_none_is_refused() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    keyring.create(&environment("acme"), NOW).await.unwrap();
    let record = lab.store.read("keyring/v1/owner/environment/acme").unwrap();
    lab.store.write("keyring/v1/owner/environment/globex", &record);
    let error = keyring.get(&environment("globex")).await.unwrap_err();
    assert!(matches!(error, KeyringError::Kms(KmsError::Refused(_))));
    lab.store.write("keyring/v1/owner/environment/globex", b"{}");
    let error = keyring.get(&environment("globex")).await.unwrap_err().to_string();
    assert!(error.starts_with("what the keyring holds at keyring/v1/owner/environment/globex"));
    lab.store.write("keyring/v1/owner/who", &record);
    assert!(matches!(keyring.census().await, Err(KeyringError::Corrupt { .. })));
}
