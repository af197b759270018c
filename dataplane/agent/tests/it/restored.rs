//! A control plane whose store was restored from a copy, and hosts that have renewed since.

use std::{path::PathBuf, time::Duration};

use tokio::time::sleep;
use weft_model::record;

use crate::{
    renewal::Late,
    site::{Host, Site},
};

/// A host that has renewed, and what the control plane knew before.
async fn renewed() -> (Late, Host, record::Host, String) {
    let (late, host) = Late::start().await;
    let copy = late.site.record("host-a").await.unwrap();
    late.site.store.allow_one();
    let next = late.shows(None).await;
    late.takes_over(&host, next.clone()).await;
    (late, host, copy, next)
}

fn former(late: &Late) -> PathBuf {
    late.folder.path().join("former")
}

/// Waits until the control plane has another key of the host than these, and no next one.
async fn has_another_key(late: &Late, than: &[&str]) -> String {
    for _ in 0..300 {
        let (present, next) = late.keys().await;
        if next.is_none() && !than.contains(&present.as_str()) {
            return present;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}, expected another one than {than:?}", late.keys().await);
}

#[tokio::test]
async fn a_host_comes_back_by_its_key_of_before_and_gets_another_at_once() {
    let (late, host, copy, second) = renewed().await;
    late.site.restore(&copy).await;
    // Its next key is written down, and takes over.
    late.site.store.allow_one();
    late.site.store.allow_one();
    let third = has_another_key(&late, &[&late.first, &second]).await;
    host.status(|status| status.is_connected).await;
    host.end().await;
    let host = late.start_again();
    host.status(|status| status.is_connected).await;
    assert_eq!(late.keys().await, (third, None));
}

#[tokio::test]
async fn so_does_a_daemon_that_begins_after_that_and_one_whose_answer_is_lost() {
    let (late, host, copy, second) = renewed().await;
    host.end().await;
    late.site.restore(&copy).await;
    let host = late.start_again();
    late.comes().await;
    let lost = late.granted_and_lost().await;
    assert!(lost != late.first && lost != second);
    host.end().await;
    late.relay.begin_again();
    let host = late.start_again();
    late.site.store.allow_one();
    late.site.store.allow_one();
    assert_eq!(has_another_key(&late, &[&late.first, &second]).await, lost);
    host.status(|status| status.is_connected).await;
}

/// Whoever knows the newer key has to say no to everything that there was: here another machine has renewed before it.
#[tokio::test]
async fn a_control_plane_that_knows_a_newer_key_takes_neither() {
    let (late, host, copy, _) = renewed().await;
    let newer = record::Host { key_hash: "0".repeat(64), next_key_hash: None, ..copy };
    late.site.restore(&newer).await;
    host.status(|status| status.error.contains("`weft host token --host host-a`")).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(late.keys().await, (newer.key_hash, None));
    assert!(former(&late).exists());
}

/// The copy may have been made while the renewal was on its way.
#[tokio::test]
async fn a_copy_that_knows_both_keys_takes_the_newer_one() {
    let (late, host, copy, second) = renewed().await;
    let both = record::Host { next_key_hash: Some(second.clone()), ..copy };
    host.end().await;
    late.site.restore(&both).await;
    let host = late.start_again();
    late.takes_over(&host, second).await;
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_waited_for() {
    let (mut late, host, _, second) = renewed().await;
    let before = std::fs::read(former(&late)).unwrap();
    late.site.stop();
    host.status(|status| status.error.contains("cannot connect") || status.error.contains("ended"))
        .await;
    sleep(Duration::from_secs(2)).await;
    late.site.start_again().await;
    host.status(|status| status.is_connected).await;
    assert_eq!(late.keys().await, (second, None));
    assert_eq!(std::fs::read(former(&late)).unwrap(), before);
}

#[tokio::test]
async fn a_host_that_joins_has_nothing_of_before() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("former"), b"something").unwrap();
    let host = Host::start(&site.settings("host-a").await, folder.path());
    host.status(|status| status.is_connected).await;
    assert!(!folder.path().join("former").exists());
}
