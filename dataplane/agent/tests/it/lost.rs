//! Nothing stays granted that nobody has.

use std::time::Duration;

use tempfile::TempDir;
use weft_agent::{RequestError, Settings};
use weft_types::EnvironmentId;

use crate::{
    relay::Relay,
    site::{Host, Site, wanted},
};

/// A host that may have attachments, behind a way that can lose answers.
struct Lossy {
    site: Site,
    relay: Relay,
    settings: Settings,
    folder: TempDir,
    acme: EnvironmentId,
}

impl Lossy {
    async fn start() -> (Self, Host) {
        let site = Site::start().await;
        let relay = Relay::to(site.address).await;
        let mut settings = site.settings("host-a").await;
        settings.url = format!("https://{}", relay.address).parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(&settings, folder.path());
        let acme = site.environment("prod").await;
        host.status(|status| status.is_connected).await;
        site.allow(&acme, "host-a").await;
        (Self { site, relay, settings, folder, acme }, host)
    }

    /// Asks as long as it is told to ask again.
    async fn attach_again(&self, host: &Host) -> Result<bool, RequestError> {
        loop {
            match host.attach(&self.acme, "web").await {
                Err(RequestError::Unavailable(_)) => {}
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the control plane has so many attachments.
    async fn granted(&self, count: usize) {
        for _ in 0..300 {
            if self.site.attachments(&self.acme).await.len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?}, expected {count}", self.site.attachments(&self.acme).await);
    }
}

#[tokio::test]
async fn what_was_granted_and_not_heard_of_is_given_back() {
    let (lossy, host) = Lossy::start().await;
    lossy.relay.lose_answers();
    let handle = host.handle.clone();
    let wants = wanted(&lossy.acme, "web");
    let asked = tokio::spawn(async move { handle.attach(wants).await });
    lossy.granted(1).await;
    lossy.relay.begin_again();
    let answer = asked.await.unwrap();
    assert!(matches!(answer, Err(RequestError::Unavailable(_))), "{answer:?}");
    lossy.granted(0).await;
    assert_eq!(lossy.attach_again(&host).await, Ok(true));
}

#[tokio::test]
async fn who_asks_again_gets_what_was_granted_and_not_heard_of() {
    let (lossy, host) = Lossy::start().await;
    let connected = host.status(|status| status.is_connected).await;
    lossy.relay.lose_answers();
    let handle = host.handle.clone();
    let wants = wanted(&lossy.acme, "web");
    let asked = tokio::spawn(async move { handle.attach(wants).await });
    lossy.granted(1).await;
    lossy.relay.begin_again();
    asked.await.unwrap().unwrap_err();
    // Asked for before the next connection is there, so before anything is given back.
    assert!(host.handle.status().revision <= connected.revision);
    assert_eq!(lossy.attach_again(&host).await, Ok(true));
    tokio::time::sleep(Duration::from_secs(3)).await;
    lossy.granted(1).await;
}

#[tokio::test]
async fn what_ended_while_it_was_asked_for_is_given_back_by_the_next_daemon() {
    let (lossy, host) = Lossy::start().await;
    lossy.relay.lose_answers();
    let handle = host.handle.clone();
    let wants = wanted(&lossy.acme, "web");
    let asked = tokio::spawn(async move { handle.attach(wants).await });
    lossy.granted(1).await;
    host.handle.detach(lossy.acme.clone(), "web".parse().unwrap()).await.unwrap();
    host.end().await;
    assert!(matches!(asked.await.unwrap(), Err(RequestError::Unavailable(_))));
    lossy.relay.begin_again();
    let next = Host::start(&lossy.settings, lossy.folder.path());
    next.status(|status| status.is_connected).await;
    lossy.granted(0).await;
}

#[tokio::test]
async fn what_another_has_placed_stays_when_an_answer_is_lost() {
    let (lossy, mut host) = Lossy::start().await;
    lossy.site.place(&lossy.acme, "web", "host-a").await;
    // It knows of it.
    assert_eq!(host.attach(&lossy.acme, "db").await, Ok(true));
    host.until(|desired| desired.environments.len() == 1).await;
    lossy.relay.lose_answers();
    let handle = host.handle.clone();
    let wants = wanted(&lossy.acme, "web");
    let asked = tokio::spawn(async move { handle.attach(wants).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    lossy.relay.begin_again();
    asked.await.unwrap().unwrap_err();
    host.status(|status| !status.is_connected).await;
    host.status(|status| status.is_connected).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    lossy.granted(2).await;
}

#[tokio::test]
async fn what_cannot_be_made_is_given_back() {
    let (lossy, host) = Lossy::start().await;
    let mut nowhere = wanted(&lossy.acme, "web");
    nowhere.netns = "/nowhere/web".into();
    let answer = host.handle.attach(nowhere.clone()).await;
    assert!(matches!(answer, Err(RequestError::Precondition(_))), "{answer:?}");
    lossy.granted(0).await;
    // What another has placed is for the next who asks.
    lossy.site.place(&lossy.acme, "web", "host-a").await;
    host.handle.attach(nowhere).await.unwrap_err();
    lossy.granted(1).await;
}
