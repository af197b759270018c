//! Several processes of one control plane, of which some stand still.

use std::time::Duration;

use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};
use weft_agent::{Lookup, RequestError};

use crate::{
    relay::Relay,
    site::{Host, Site},
};

#[tokio::test]
async fn a_process_that_stands_still_keeps_no_host_from_the_others() {
    let site = Site::start().await;
    let silent = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = site.settings("host-a").await;
    settings.lookup = Lookup::Fixed(vec![silent.local_addr().unwrap(), site.address]);
    let began = Instant::now();
    // It joins in spite of it, and follows in spite of it.
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    host.end().await;
    let began = Instant::now();
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// It is noticed in time, and the next attempt begins with another.
#[tokio::test]
async fn a_process_that_falls_silent_is_left_for_another() {
    let site = Site::start().await;
    let first = Relay::at("127.0.0.2:0", site.address).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = site.settings("host-a").await;
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
    host.end().await;
    settings.lookup = Lookup::Fixed(vec![first.address, site.address]);
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
    first.stand_still();
    let began = Instant::now();
    host.status(|status| !status.is_connected).await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let noticed = Instant::now();
    host.status(|status| status.is_connected).await;
    assert!(noticed.elapsed() < Duration::from_secs(2), "{:?}", noticed.elapsed());
}

/// As when it is not called at all, so that no container waits for what does not answer.
#[tokio::test]
async fn while_it_is_called_requests_are_answered_at_once() {
    let mut site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = site.settings("host-a").await;
    let host = Host::start(&settings, folder.path());
    let acme = site.environment("prod").await;
    host.status(|status| status.is_connected).await;
    site.allow(&acme, "host-a").await;
    for name in ["web", "db"] {
        assert_eq!(host.attach(&acme, name).await, Ok(true));
    }
    host.end().await;
    site.stop();
    let silent = TcpListener::bind("127.0.0.2:0").await.unwrap();
    settings.lookup = Lookup::Fixed(vec![silent.local_addr().unwrap()]);
    let mut host = Host::start(&settings, folder.path());
    silent.accept().await.unwrap();
    let at_once = async {
        let new = host.attach(&acme, "cache").await.unwrap_err();
        let is_said = |why: &str| why.contains("is not reached and is called again");
        assert!(matches!(&new, RequestError::Unavailable(why) if is_said(why)), "{new:?}");
        assert_eq!(host.attach(&acme, "web").await, Ok(false), "it was granted before");
        host.handle.detach(acme.clone(), "db".parse().unwrap()).await.unwrap();
    };
    timeout(Duration::from_secs(1), at_once).await.unwrap();
    let left = |desired: &weft_agent::Desired| {
        desired.environments.iter().map(|e| e.attachments.len()).sum::<usize>()
    };
    host.until(|desired| left(desired) == 1).await;
}
