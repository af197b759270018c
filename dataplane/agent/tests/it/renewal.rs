//! A host gets another key at each renewal, whatever is lost meanwhile.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use weft_agent::Settings;
use weft_control::Clock;
use weft_model::UnixMs;

use crate::{
    relay::Relay,
    site::{Host, Site},
};

/// More than half of the life of a host's certificate, and less than all of it.
const LATE: Duration = Duration::from_secs(20 * 86_400);
/// Longest wait for a change of the host.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host that has joined so long ago that it renews as soon as it is connected, behind a way that can lose answers. Its
/// control plane is about to grant the first renewal.
pub(crate) struct Late {
    pub(crate) site: Site,
    clock: Clock,
    pub(crate) relay: Relay,
    settings: Settings,
    pub(crate) folder: TempDir,
    /// The key with which it has joined.
    pub(crate) first: String,
}

impl Late {
    pub(crate) async fn start() -> (Self, Host) {
        let ago = (SystemTime::now() - LATE).duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let clock = Clock::manual(UnixMs(u64::try_from(ago.as_millis()).unwrap()));
        let site = Site::start_at(clock.clone()).await;
        let relay = Relay::to(site.address).await;
        let mut settings = site.settings("host-a").await;
        settings.url = format!("https://{}", relay.address).parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        site.store.allow_only(1);
        let host = Host::start(&settings, folder.path());
        let mut late = Self { site, clock, relay, settings, folder, first: String::new() };
        late.comes().await;
        let joined = late.site.record("host-a").await.unwrap();
        assert_eq!(joined.next_key_hash, None);
        late.first = joined.key_hash;
        // What is granted from now on lasts.
        late.clock.advance(LATE);
        (late, host)
    }

    /// Waits until the control plane is about to change the host.
    pub(crate) async fn comes(&self) {
        timeout(PATIENCE, self.site.store.stands_still()).await.unwrap();
    }

    /// Grants the renewal, whose answer is lost; returns the key that it is for.
    pub(crate) async fn granted_and_lost(&self) -> String {
        self.relay.lose_answers();
        self.site.store.allow_one();
        let granted = async {
            loop {
                if let Some(next) = self.site.record("host-a").await.unwrap().next_key_hash {
                    return next;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let next = timeout(PATIENCE, granted).await.unwrap();
        assert_ne!(next, self.first);
        assert!(self.is_kept());
        next
    }

    pub(crate) fn start_again(&self) -> Host {
        Host::start(&self.settings, self.folder.path())
    }

    /// Whether a key is kept for the next certificate.
    fn is_kept(&self) -> bool {
        self.folder.path().join("renewing").exists()
    }

    pub(crate) async fn keys(&self) -> (String, Option<String>) {
        let record = self.site.record("host-a").await.unwrap();
        (record.key_hash, record.next_key_hash)
    }

    /// Waits until the host comes with its next key, which is this one if one is expected; returns it.
    pub(crate) async fn shows(&self, expected: Option<&str>) -> String {
        self.comes().await;
        let (present, next) = self.keys().await;
        let next = next.unwrap();
        assert_eq!(present, self.first);
        assert!(next != present && expected.is_none_or(|expected| expected == next));
        assert!(!self.is_kept());
        next
    }

    /// That key takes over and is the only one then, and the host goes on with it.
    pub(crate) async fn takes_over(&self, host: &Host, next: String) {
        self.site.store.allow_one();
        host.status(|status| status.is_connected).await;
        assert_eq!(self.keys().await, (next, None));
    }
}

#[tokio::test]
async fn a_renewal_is_for_another_key() {
    let (late, host) = Late::start().await;
    assert!(late.is_kept(), "before it is asked for");
    late.site.store.allow_one();
    let next = late.shows(None).await;
    late.takes_over(&host, next.clone()).await;
    host.end().await;
    // That one lasts: there is nothing to renew.
    let host = late.start_again();
    host.status(|status| status.is_connected).await;
    assert_eq!(late.keys().await, (next, None));
}

#[tokio::test]
async fn when_the_answer_is_lost_the_same_key_asks_again() {
    let (late, host) = Late::start().await;
    let next = late.granted_and_lost().await;
    late.relay.begin_again();
    let next = late.shows(Some(&next)).await;
    late.takes_over(&host, next).await;
}

#[tokio::test]
async fn a_daemon_that_begins_again_meanwhile_goes_on_with_the_key_that_was_kept() {
    let (late, host) = Late::start().await;
    let next = late.granted_and_lost().await;
    host.end().await;
    late.relay.begin_again();
    let host = late.start_again();
    let next = late.shows(Some(&next)).await;
    late.takes_over(&host, next).await;
}

/// It has shown its new key, and the control plane has not written that down.
#[tokio::test]
async fn a_daemon_that_ends_as_it_shows_its_new_key_begins_with_that() {
    let (late, host) = Late::start().await;
    late.site.store.allow_one();
    let next = late.shows(None).await;
    host.end().await;
    // The call of before may still be carried out, although nobody waits for its answer.
    late.site.store.allow_one();
    let host = late.start_again();
    late.takes_over(&host, next).await;
}

#[tokio::test]
async fn a_key_that_was_lost_is_replaced_by_another() {
    let (late, host) = Late::start().await;
    let lost = late.granted_and_lost().await;
    host.end().await;
    fs::write(late.folder.path().join("renewing"), b"damaged").unwrap();
    late.relay.begin_again();
    let host = late.start_again();
    late.comes().await;
    late.site.store.allow_one();
    let next = late.shows(None).await;
    assert_ne!(next, lost);
    late.takes_over(&host, next).await;
}
