//! Six years, and then no longer.

use std::fs;

use super::*;
use crate::{
    fault::Fault,
    log::RETENTION_DAYS,
    segment::{read_stub, stub_path},
};

/// One segment for each of some days, then nothing until the first `expired` of them have been kept long enough.
async fn aged(lab: &Lab, days: u64, expired: u64) -> (Audit, Running) {
    let log = lab.open().await;
    for _ in 0..days {
        log.0.record(event("a")).await.unwrap();
        lab.pass(DAY_SECONDS);
    }
    lab.pass((RETENTION_DAYS - days + expired) * DAY_SECONDS);
    log
}

#[tokio::test]
async fn lines_go_after_six_years_and_not_before() {
    let lab = Lab::new();
    let log = aged(&lab, 5, 0).await;
    assert_eq!(log.0.expire().await.unwrap(), None, "the first has not been kept long enough");
    lab.pass(2 * DAY_SECONDS);
    let stub = log.0.expire().await.unwrap().unwrap();
    assert_eq!((stub.unverified().segment, stub.unverified().seq), (2, 6));
    assert_eq!(log.0.expire().await.unwrap(), None);
    assert_eq!(list(&lab.folder).unwrap()[0], 3);
    lab.close(log).await;
    let verified = lab.verify().await;
    assert_eq!(verified.expired, 6);
    let actions = lab.actions();
    assert_eq!(actions[3..], ["audit.expire begun", "audit.expire done"]);
    lab.pass(10 * DAY_SECONDS);
    let log = lab.open().await;
    let stub = log.0.expire().await.unwrap().unwrap();
    assert!(stub.unverified().segment >= 5);
    lab.close(log).await;
    lab.close(lab.open().await).await;
    lab.verify().await;
    let days = lab.anchors().all(&process()).await.unwrap();
    assert!(days.iter().all(|head| head.unverified().seq >= stub.unverified().seq));
}

#[tokio::test]
async fn a_death_while_segments_go_leaves_them_or_the_stub() {
    let mut died_at = 0;
    for step in 0.. {
        let lab = Lab::new();
        let log = aged(&lab, 4, 3).await;
        lab.disk.die_at(step);
        let expired = log.0.expire().await;
        lab.close(log).await;
        if !lab.disk.heal() {
            assert_eq!(expired.unwrap().unwrap().unverified().segment, 3);
            break;
        }
        died_at = step;
        lab.verify().await;
        let log = lab.open().await;
        let again = log.0.expire().await.unwrap();
        lab.close(log).await;
        let stub = read_stub(&lab.folder).unwrap().unwrap();
        assert_eq!(stub.unverified().segment, 3, "step {step}");
        assert!(again.is_none_or(|again| again == stub));
        assert_eq!(list(&lab.folder).unwrap()[0], 4);
        lab.verify().await;
    }
    assert!(died_at > 8, "{died_at}");
}

#[tokio::test]
async fn a_stub_is_believed_only_if_it_is_signed_and_in_time() {
    let lab = Lab::new();
    let log = aged(&lab, 4, 3).await;
    log.0.expire().await.unwrap().unwrap();
    lab.close(log).await;
    let path = stub_path(&lab.folder);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        assert!(lab.try_verify().await.is_err(), "byte {at}");
    }
    fs::remove_file(&path).unwrap();
    let error = lab.try_verify().await.unwrap_err();
    assert_eq!(error.fault, Fault::Missing(1));
    let stub = read_stub_of(&good);
    for (changed, fault) in [
        (Expired { latest: stub.at, ..stub.clone() }, Fault::ExpiredEarly),
        (
            Expired { seq: stub.seq + 1, ..stub.clone() },
            Fault::Sequence { found: 10, expected: 11 },
        ),
        (Expired { segment: 2, ..stub.clone() }, Fault::Missing(3)),
    ] {
        fs::write(&path, lab.signer.sign(changed).encode()).unwrap();
        assert_eq!(lab.try_verify().await.unwrap_err().fault, fault);
    }
    let foreign = Expired { process: "control-b".parse().unwrap(), ..stub };
    fs::write(&path, lab.signer.sign(foreign).encode()).unwrap();
    let error = lab.try_verify().await.unwrap_err().to_string();
    assert!(error.contains("of process control-b, not control-a"), "{error}");
}

fn read_stub_of(bytes: &[u8]) -> Expired {
    Signed::<Expired>::parse(bytes).unwrap().unverified().clone()
}

/// Stubs that say that segments 1 and 2 have expired: of nobody who is trusted, and before their time.
fn wrong_stubs(lab: &Lab) -> [Signed<Expired>; 2] {
    let at: Timestamp = "2026-11-30T06:48:10.000000Z".parse().unwrap();
    let latest = "2001-01-01T00:00:00.000000Z".parse().unwrap();
    let hash = crate::digest::Digest::of(b"x");
    let forged = Expired { process: process(), segment: 2, seq: 6, hash, latest, at };
    let early = Expired { latest: at, ..forged.clone() };
    let other = Signer::from_pkcs8(&Signer::generate()).unwrap();
    [other.sign(forged), lab.signer.sign(early)]
}

#[tokio::test]
async fn a_stub_that_is_not_believed_removes_nothing() {
    let lab = Lab::new();
    lab.close(aged(&lab, 4, 0).await).await;
    let before = list(&lab.folder).unwrap();
    assert_eq!(before.len(), 4);
    for stub in wrong_stubs(&lab) {
        fs::write(stub_path(&lab.folder), stub.encode()).unwrap();
        let error = lab.try_open().await.unwrap_err();
        assert!(matches!(error, OpenError::Recover(RecoverError::Damaged(_))), "{error}");
        assert_eq!(list(&lab.folder).unwrap(), before);
    }
    fs::remove_file(stub_path(&lab.folder)).unwrap();
    lab.close(lab.open().await).await;
}

#[tokio::test]
async fn nor_does_it_on_the_second_host() {
    let mut lab = Lab::new();
    let replica =
        crate::FolderReplica::new(lab.folder.with_extension("replica"), lab.trusted().to_vec());
    let replica = Arc::new(replica);
    lab.replica = Some(replica.clone());
    let log = aged(&lab, 4, 0).await;
    let there = replica.folder_of(&process());
    let before = list(&there).unwrap();
    for stub in wrong_stubs(&lab) {
        assert!(replica.expire(&stub).await.is_err());
        assert_eq!(list(&there).unwrap(), before);
        // Nor when it lies there already, or here.
        for folder in [&there, &lab.folder] {
            fs::write(stub_path(folder), stub.encode()).unwrap();
            let _ = log.0.record(event("b")).await;
            assert_eq!(list(&there).unwrap()[..4], before[..4]);
            fs::remove_file(stub_path(folder)).unwrap();
        }
    }
    log.0.record(event("c")).await.unwrap();
    lab.close(log).await;
}
