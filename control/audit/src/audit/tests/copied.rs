//! Copies.

use std::{fs, io};

use super::*;
use crate::copy::copy;

#[tokio::test]
async fn a_copy_that_is_made_while_the_log_is_written_is_a_log() {
    let lab = Lab::with_short_segments();
    let log = lab.open().await;
    let writing = {
        let audit = log.0.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                audit.record(event("a")).await.unwrap();
            }
        })
    };
    let mut copies = 0;
    while !writing.is_finished() {
        let to = lab.folder.with_extension(copies.to_string());
        let from = lab.folder.clone();
        tokio::task::spawn_blocking(move || copy(&from, &to)).await.unwrap().unwrap();
        copies += 1;
    }
    writing.await.unwrap();
    assert!(copies > 0);
    lab.close(log).await;
    for n in 0..copies {
        let folder = lab.folder.with_extension(n.to_string());
        // As after a crash: without the heads that were anchored since.
        let copied =
            Lab { folder, store: Memory::default(), signer: lab.signer.clone(), ..Lab::new() };
        let log = copied.open().await;
        log.0.record(event("b")).await.unwrap();
        copied.close(log).await;
        copied.verify().await;
        assert_eq!(copied.actions().last().unwrap(), "b done");
    }
}

#[tokio::test]
async fn a_copy_takes_the_place_of_a_log_that_is_lost() {
    let lab = Lab::with_short_segments();
    let log = lab.open().await;
    for _ in 0..10 {
        log.0.record(event("a")).await.unwrap();
    }
    lab.close(log).await;
    let away = lab.folder.with_extension("away");
    assert_eq!(copy(&lab.folder, &away).unwrap(), list(&lab.folder).unwrap().len());
    fs::remove_dir_all(&lab.folder).unwrap();
    assert!(lab.try_open().await.is_err(), "what was anchored is missing");
    fs::remove_dir_all(&lab.folder).unwrap();
    copy(&away, &lab.folder).unwrap();
    lab.close(lab.open().await).await;
    assert_eq!(lab.actions().len(), 10);
    lab.verify().await;
}

#[tokio::test]
async fn nothing_is_replaced_and_nothing_stays_of_a_copy_that_fails() {
    let lab = Lab::new();
    lab.close(lab.open().await).await;
    let to = lab.folder.with_extension("away");
    fs::create_dir(&to).unwrap();
    assert_eq!(copy(&lab.folder, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    fs::remove_dir(&to).unwrap();
    fs::create_dir(lab.folder.join("0000000002.jsonl")).unwrap();
    assert!(copy(&lab.folder, &to).is_err());
    assert_eq!(fs::read_dir(lab.folder.parent().unwrap()).unwrap().count(), 1);
}
