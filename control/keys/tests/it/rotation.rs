//! Rotating the master key, with a death at every step.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_keys::{
    KeyFile, Keyring, KeyringError, MasterKeyId, OwnerKey, Purpose, Record, Rewrapped,
};
use weft_store::{Key, Transaction};

use crate::{
    lab::{Lab, NOW, environment},
    memory::Fault,
};

const OWNERS: usize = 9;

/// Something sealed for each owner.
async fn seal_all(keyring: &Keyring) -> Vec<Vec<u8>> {
    let mut sealed = Vec::new();
    for i in 0..OWNERS {
        let key = keyring.create(&environment(&format!("e{i}")), NOW).await.unwrap();
        sealed.push(key.seal(Purpose::Secret, &[], b"value").unwrap());
    }
    sealed
}

async fn key_of(keyring: &Keyring, i: usize) -> Result<OwnerKey, KeyringError> {
    keyring.get(&environment(&format!("e{i}"))).await
}

async fn all_open(lab: &Lab, sealed: &[Vec<u8>]) {
    let keyring = lab.open().await;
    for (i, sealed) in sealed.iter().enumerate() {
        let key = key_of(&keyring, i).await.unwrap();
        assert_eq!(*key.open(Purpose::Secret, &[], sealed).unwrap(), b"value");
    }
}

fn counts(of: &[(&MasterKeyId, u64)]) -> BTreeMap<MasterKeyId, u64> {
    of.iter().map(|(id, count)| ((*id).clone(), *count)).collect()
}

#[tokio::test]
async fn a_rotation_wraps_keys_anew_and_nothing_else() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    let sealed = seal_all(&keyring).await;
    keyring.destroy(&environment("e8"), NOW).await.unwrap();
    let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
    let census = keyring.census().await.unwrap();
    assert_eq!((&census.current, census.destroyed), (&newer, 1));
    assert_eq!(census.wrapped, counts(&[(&lab.first, 8)]));
    let added = keyring.create(&environment("late"), NOW).await.unwrap();
    let sealed_late = added.seal(Purpose::Secret, &[], b"late").unwrap();
    let census = keyring.census().await.unwrap();
    assert_eq!(census.wrapped, counts(&[(&lab.first, 8), (&newer, 1)]));
    let done = keyring.rewrap().await.unwrap();
    assert_eq!(done, Rewrapped { changed: 8, unchanged: 1 });
    assert_eq!(keyring.census().await.unwrap().wrapped, counts(&[(&newer, 9)]));
    assert_eq!(keyring.rewrap().await.unwrap(), Rewrapped { changed: 0, unchanged: 9 });
    KeyFile::remove(lab.key_file(), &lab.first).unwrap();
    all_open(&lab, &sealed[..8]).await;
    let late = lab.open().await.get(&environment("late")).await.unwrap();
    assert_eq!(*late.open(Purpose::Secret, &[], &sealed_late).unwrap(), b"late");
}

#[tokio::test]
async fn a_master_key_that_went_too_early_is_named() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    seal_all(&keyring).await;
    KeyFile::add(lab.key_file(), NOW).unwrap();
    KeyFile::remove(lab.key_file(), &lab.first).unwrap();
    let needed = format!("master key {} is needed", lab.first);
    for error in [lab.try_open().await.unwrap_err(), keyring.rewrap().await.unwrap_err()] {
        assert!(error.to_string().starts_with(&needed), "{error}");
    }
}

#[tokio::test]
async fn a_process_may_die_at_any_step() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::RequestLost] {
        // The first one says that the old master key is retired.
        for step in 0..=OWNERS {
            let lab = Lab::new();
            let sealed = seal_all(&*lab.open().await).await;
            let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
            lab.store.fail(step, fault);
            let died = lab.open().await.rewrap().await;
            assert_eq!(died.is_err(), fault == Fault::Refused, "step {step}");
            assert!(lab.store.heal(), "the fault came");
            all_open(&lab, &sealed).await;
            let after = lab.open().await.rewrap().await.unwrap();
            assert_eq!(after.changed + after.unchanged, OWNERS as u64);
            assert_eq!(after.changed == 0, fault != Fault::Refused, "step {step}");
            let census = lab.open().await.census().await.unwrap();
            assert_eq!(census.wrapped, counts(&[(&newer, OWNERS as u64)]));
            KeyFile::remove(lab.key_file(), &lab.first).unwrap();
            all_open(&lab, &sealed).await;
        }
    }
}

#[tokio::test]
async fn a_key_that_is_destroyed_meanwhile_does_not_come_back() {
    let lab = Lab::new();
    let keyring = lab.open().await;
    seal_all(&keyring).await;
    KeyFile::add(lab.key_file(), NOW).unwrap();
    // That the old master key is retired is written already.
    lab.store.fail(1, Fault::Refused);
    assert!(keyring.rewrap().await.is_err() && lab.store.heal());
    let tombstone = Record::Destroyed { created: 0, destroyed: 3 }.encode();
    let at = Key::new("keyring/v1/owner/environment/e0").unwrap();
    lab.store.be_faster(Transaction::new().put(at, tombstone));
    let done = keyring.rewrap().await.unwrap();
    assert_eq!(done, Rewrapped { changed: OWNERS as u64 - 1, unchanged: 0 });
    // A process of its own: this one may believe its cache for half a second.
    let found = key_of(&*lab.open().await, 0).await;
    assert!(matches!(found, Err(KeyringError::Destroyed { at: 3, .. })));
}

#[tokio::test]
async fn several_processes_may_rotate_while_others_create_and_destroy() {
    let lab = Lab::new();
    let sealed = seal_all(&*lab.open().await).await;
    let newer = KeyFile::add(lab.key_file(), NOW).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let keyring = lab.open().await;
        tasks.spawn(async move { keyring.rewrap().await.map(|_| ()) });
    }
    let (maker, breaker) = (lab.open().await, lab.open().await);
    tasks.spawn(async move { maker.create(&environment("f"), NOW).await.map(|_| ()) });
    tasks.spawn(async move { breaker.destroy(&environment("e8"), NOW).await });
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    let census = lab.open().await.census().await.unwrap();
    assert_eq!(census.wrapped, counts(&[(&newer, OWNERS as u64)]));
    assert_eq!(census.destroyed, 1, "a key that was destroyed does not come back");
    all_open(&lab, &sealed[..8]).await;
}

/// What a test does, on one of four owners.
#[derive(Debug, Clone, Copy)]
enum Step {
    Create(usize),
    Destroy(usize),
    AddMaster,
    Rewrap,
    RetireMasters,
    Restart,
    Fail(usize, Fault),
}

fn step() -> impl Strategy<Value = Step> {
    let fault =
        prop_oneof![Just(Fault::Refused), Just(Fault::AnswerLost), Just(Fault::RequestLost)];
    prop_oneof![
        4 => (0..4usize).prop_map(Step::Create),
        2 => (0..4usize).prop_map(Step::Destroy),
        1 => Just(Step::AddMaster),
        2 => Just(Step::Rewrap),
        2 => Just(Step::RetireMasters),
        1 => Just(Step::Restart),
        2 => (0..3usize, fault).prop_map(|(number, fault)| Step::Fail(number, fault)),
    ]
}

/// What must be true of an owner.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    Unknown,
    Live(Vec<u8>),
    Destroyed,
}

async fn run(steps: &[Step]) {
    let lab = Lab::new();
    let mut keyring = lab.open().await;
    let mut masters = vec![lab.first.clone()];
    let mut model = vec![Model::Unknown; 4];
    for step in steps {
        match *step {
            Step::Create(i) => {
                let made = keyring.create(&environment(&format!("e{i}")), NOW).await;
                match (&model[i], made) {
                    (Model::Destroyed, made) => {
                        assert!(matches!(made, Err(KeyringError::Destroyed { .. })));
                    }
                    (Model::Unknown, Ok(key)) => {
                        model[i] = Model::Live(key.seal(Purpose::Secret, &[], b"v").unwrap());
                    }
                    (Model::Unknown, Err(error)) => {
                        assert!(matches!(error, KeyringError::Store(_)), "{error}");
                    }
                    (Model::Live(_), made) => assert!(made.is_ok()),
                }
            }
            Step::Destroy(i) => {
                let gone = keyring.destroy(&environment(&format!("e{i}")), NOW).await;
                match (&model[i], gone) {
                    (Model::Unknown, gone) => {
                        assert!(matches!(gone, Err(KeyringError::Unknown(_))));
                    }
                    (_, Ok(())) => model[i] = Model::Destroyed,
                    (Model::Destroyed, Err(error)) => panic!("{error}"),
                    (Model::Live(_), Err(error)) => {
                        assert!(matches!(error, KeyringError::Store(_)), "{error}");
                    }
                }
            }
            Step::AddMaster if masters.len() < weft_keys::MASTER_KEYS_MAX => {
                masters.push(KeyFile::add(lab.key_file(), NOW).unwrap());
            }
            Step::Rewrap => {
                let _ = keyring.rewrap().await;
            }
            Step::RetireMasters => {
                let wrapped = keyring.census().await.unwrap().wrapped;
                let newest = masters.last().unwrap().clone();
                for id in masters.clone() {
                    if id != newest && !wrapped.contains_key(&id) {
                        KeyFile::remove(lab.key_file(), &id).unwrap();
                        masters.retain(|other| *other != id);
                    }
                }
            }
            Step::Restart => keyring = lab.open().await,
            Step::Fail(number, fault) => lab.store.fail(number, fault),
            Step::AddMaster => {}
        }
        for (i, expected) in model.iter().enumerate() {
            match (expected, key_of(&keyring, i).await) {
                (Model::Unknown, found) => assert!(matches!(found, Err(KeyringError::Unknown(_)))),
                (Model::Destroyed, found) => {
                    assert!(matches!(found, Err(KeyringError::Destroyed { .. })));
                }
                (Model::Live(sealed), found) => {
                    let opened = found.unwrap().open(Purpose::Secret, &[], sealed);
                    assert_eq!(*opened.unwrap(), b"v");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Whatever happens in whatever order, an owner's key is as a plain model has it.
    #[test]
    fn keys_are_as_the_model_has_them(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&steps));
    }
}
