//! A host that is not known any more joins again by itself, with a token that names it.

use std::{fs, path::PathBuf, time::Duration};

use tempfile::TempDir;
use tokio::time::sleep;
use weft_agent::Settings;
use weft_model::record;

use crate::{
    relay::Relay,
    site::{Host, Site},
};

const NEW: &str = "expected join_token to name a file with a new join token";

/// A host that has joined, behind a way that can lose answers.
struct Joined {
    site: Site,
    relay: Relay,
    settings: Settings,
    folder: TempDir,
    host: Host,
}

impl Joined {
    async fn start() -> Self {
        let site = Site::start().await;
        let relay = Relay::to(site.address).await;
        let mut settings = site.settings("host-a").await;
        settings.url = format!("https://{}", relay.address).parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(&settings, folder.path());
        host.status(|status| status.is_connected).await;
        Self { site, relay, settings, folder, host }
    }

    /// The control plane knows this host by another key.
    async fn shut_out(&self) {
        let known = self.site.record("host-a").await.unwrap();
        let key_hash = "0".repeat(64);
        self.site.restore(&record::Host { key_hash, next_key_hash: None, ..known }).await;
    }

    /// Puts a token where the host finds it.
    fn give(&self, token: &str) {
        fs::write(self.settings.join_token.as_ref().unwrap(), token).unwrap();
    }

    /// Waits until the host says why it is refused, in these words at last.
    async fn says(&self, why: &str) {
        let status = self.host.status(|status| status.error.ends_with(why)).await;
        let hint = "put a token that names it (`weft host token --host host-a`) into the file of join_token: ";
        assert!(status.error.contains(hint), "{}", status.error);
    }

    async fn key(&self) -> String {
        self.site.record("host-a").await.unwrap().key_hash
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn start_again(self) -> Self {
        let Self { site, relay, settings, folder, host } = self;
        host.end().await;
        let host = Host::start(&settings, folder.path());
        Self { site, relay, settings, folder, host }
    }
}

#[tokio::test]
async fn a_host_that_is_refused_joins_again_with_a_token_that_names_it() {
    let mut joined = Joined::start().await;
    let acme = joined.site.environment("prod").await;
    joined.site.allow(&acme, "host-a").await;
    assert_eq!(joined.host.attach(&acme, "web").await, Ok(true));
    let first = joined.key().await;
    joined.shut_out().await;
    joined.says(NEW).await;
    // It goes on with what it was told.
    let kept = joined.host.until(|desired| !desired.environments.is_empty()).await;
    joined.give(&joined.site.join_token_for("host-a").await);
    joined.host.status(|status| status.is_connected).await;
    let second = joined.key().await;
    assert!(second != first && second != "0".repeat(64));
    let has = joined.host.until(|desired| !desired.environments.is_empty()).await;
    assert_eq!(has.environments[0].attachments, kept.environments[0].attachments);
    for name in ["enrolling", "former"] {
        assert!(!joined.file(name).exists(), "{name}");
    }
    let joined = joined.start_again().await;
    joined.host.status(|status| status.is_connected).await;
    assert_eq!(joined.key().await, second);
}

#[tokio::test]
async fn a_token_is_shown_once_and_what_it_was_refused_for_is_said() {
    let mut joined = Joined::start().await;
    joined.shut_out().await;
    // Each daemon begins with short pauses.
    for (named, refused) in [("host-b", "this token is for host-b"), ("", "a token that names it")]
    {
        joined.give(&joined.site.join_token_for(named).await);
        joined = joined.start_again().await;
        joined.says(refused).await;
        joined.says(NEW).await;
    }
    // Nor is it shown by the next daemon.
    joined = joined.start_again().await;
    joined.says(NEW).await;
    joined.give("no token");
    joined.says("as made by `weft host token`").await;
    fs::remove_file(joined.settings.join_token.as_ref().unwrap()).unwrap();
    joined.says("No such file or directory (os error 2)").await;
    assert_eq!(joined.key().await, "0".repeat(64));
    joined.give(&joined.site.join_token_for("host-a").await);
    joined.host.status(|status| status.is_connected).await;
}

#[tokio::test]
async fn a_host_that_is_revoked_stays_out_whatever_it_has() {
    let joined = Joined::start().await;
    joined.give(&joined.site.join_token_for("host-a").await);
    joined.site.revoke("host-a").await;
    joined.says("host host-a is revoked and stays so").await;
    joined.says(NEW).await;
}

#[tokio::test]
async fn a_host_that_does_not_reach_its_control_plane_shows_no_token() {
    let mut joined = Joined::start().await;
    let first = joined.key().await;
    joined.give(&joined.site.join_token_for("host-a").await);
    joined.site.stop();
    joined.host.status(|status| !status.is_connected).await;
    sleep(Duration::from_secs(2)).await;
    joined.site.start_again().await;
    joined.host.status(|status| status.is_connected).await;
    assert_eq!(joined.key().await, first);
    // It is good when it is needed.
    joined.shut_out().await;
    joined.host.status(|status| !status.is_connected).await;
    joined.host.status(|status| status.is_connected).await;
    assert_ne!(joined.key().await, first);
}

/// Waits until the control plane has another key of the host than that.
async fn has_another_key(joined: &Joined, than: &str) -> String {
    for _ in 0..300 {
        let key = joined.key().await;
        if key != than {
            return key;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{than}, expected another one");
}

#[tokio::test]
async fn when_the_answer_is_lost_the_same_key_joins() {
    let joined = Joined::start().await;
    joined.shut_out().await;
    joined.says(NEW).await;
    // It is about to become the host.
    joined.site.store.allow_only(0);
    joined.give(&joined.site.join_token_for("host-a").await);
    joined.site.store.stands_still().await;
    assert!(joined.file("enrolling").exists());
    joined.relay.lose_answers();
    joined.site.store.allow_one();
    let key = has_another_key(&joined, &"0".repeat(64)).await;
    let joined = joined.start_again().await;
    joined.relay.begin_again();
    joined.host.status(|status| status.is_connected).await;
    assert_eq!(joined.key().await, key);
    assert!(!joined.file("enrolling").exists());
}

/// It is the host by its new key, and what follows that is not on the disk.
#[tokio::test]
async fn a_daemon_that_ends_as_it_has_joined_is_the_host() {
    let joined = Joined::start().await;
    joined.shut_out().await;
    joined.says(NEW).await;
    joined.site.store.allow_only(0);
    joined.give(&joined.site.join_token_for("host-a").await);
    joined.site.store.stands_still().await;
    let enrolling = fs::read(joined.file("enrolling")).unwrap();
    joined.site.store.allow_one();
    joined.host.status(|status| status.is_connected).await;
    let (key, Joined { site, relay, settings, folder, host }) = (joined.key().await, joined);
    host.end().await;
    fs::write(folder.path().join("enrolling"), enrolling).unwrap();
    fs::remove_file(folder.path().join("answered")).unwrap();
    let host = Host::start(&settings, folder.path());
    let joined = Joined { site, relay, settings, folder, host };
    joined.host.status(|status| status.is_connected).await;
    assert_eq!(joined.key().await, key);
}
