//! How a machine becomes a host.

use std::time::{Duration, SystemTime};

use weft_agent::{Agent, JoinToken};
use weft_control::Clock;
use weft_model::UnixMs;

use crate::site::{Host, Site, state};

#[tokio::test]
async fn a_machine_joins_once_and_is_the_host_from_then_on() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = site.settings("host-a").await;
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
    host.end().await;
    // The token is spent and gone.
    settings.join_token = None;
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
    host.end().await;
    settings.host = "host-b".parse().unwrap();
    let Err(error) = Agent::open(settings, state(folder.path())) else { panic!("opened") };
    assert!(
        error.to_string().ends_with("the identity is host-a's; expected this host's"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_token_it_says_what_is_missing() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = site.settings("host-a").await;
    std::fs::remove_file(settings.join_token.as_ref().unwrap()).unwrap();
    let host = Host::start(&settings, folder.path());
    let status = host.status(|status| !status.error.is_empty()).await;
    assert!(status.error.starts_with("join_token: No such file"), "{}", status.error);
    host.end().await;
    settings.join_token = None;
    let host = Host::start(&settings, folder.path());
    let status = host.status(|status| !status.error.is_empty()).await;
    assert!(status.error.starts_with("it is no host yet"), "{}", status.error);
}

/// Whoever answers at the address and is of another installation gets no secret.
#[tokio::test]
async fn a_machine_joins_no_other_installation_than_its_tokens() {
    let (ours, theirs) = (Site::start().await, Site::start().await);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = ours.settings("host-a").await;
    settings.url = theirs.settings("host-a").await.url;
    let host = Host::start(&settings, folder.path());
    let status = host.status(|status| !status.error.is_empty()).await;
    assert!(status.error.contains("of another installation than the token"), "{}", status.error);
    host.end().await;
    // The token is not spent: it was not shown.
    settings.url = ours.settings("host-a").await.url;
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
}

#[tokio::test]
async fn a_spent_token_makes_no_second_host() {
    let site = Site::start().await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = site.settings("host-a").await;
    let host = Host::start(&settings, one.path());
    host.status(|status| status.is_connected).await;
    let token = JoinToken::read(settings.join_token.as_ref().unwrap()).unwrap();
    assert_eq!(format!("{token:?}"), "JoinToken");
    let thief = Host::start(&settings, two.path());
    let status = thief.status(|status| !status.error.is_empty()).await;
    assert_eq!(status.error, "cannot join: no such join token");
}

#[tokio::test]
async fn a_state_that_another_key_sealed_is_refused_and_kept() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = site.settings("host-a").await;
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
    host.end().await;
    std::fs::write(weft_agent::State::key_file(folder.path()), [9; 32]).unwrap();
    let Err(error) = Agent::open(settings, state(folder.path())) else { panic!("opened") };
    assert!(error.to_string().contains("cannot be opened with this key"), "{error}");
    assert!(folder.path().join("identity").exists());
}

/// A month in which a machine was off is no reason to remove anything by hand.
#[tokio::test]
async fn a_host_that_has_run_out_joins_again_with_a_new_token() {
    let day = Duration::from_secs(86_400);
    let ago = SystemTime::now() - 31 * day;
    let since_1970 = ago.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let clock = Clock::manual(UnixMs(u64::try_from(since_1970.as_millis()).unwrap()));
    let mut site = Site::start_at(clock.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = site.settings("host-a").await;
    let host = Host::start(&settings, folder.path());
    while !folder.path().join("identity").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    host.end().await;
    clock.advance(31 * day);
    let says = async |settings: &weft_agent::Settings, what: &str| {
        let host = Host::start(settings, folder.path());
        let status = host.status(|status| !status.error.is_empty()).await;
        let is_said = status.error.starts_with("this host's certificate ended ")
            && status.error.ends_with(what);
        assert!(is_said, "{}", status.error);
        host.end().await;
    };
    const NEW: &str = "expected join_token to name a file with a new join token";
    says(&settings, NEW).await;
    settings.join_token = None;
    says(&settings, NEW).await;
    // What there was stays until there is another.
    assert!(folder.path().join("identity").exists());
    // It was renewing when it went away.
    let renewing = folder.path().join("renewing");
    std::fs::write(&renewing, b"a key of before").unwrap();
    // The operator gives it a token while it runs.
    let host = Host::start(&settings, folder.path());
    host.status(|status| !status.error.is_empty()).await;
    let token = folder.path().join("new.token");
    site.login_again().await;
    std::fs::write(&token, site.join_token_for("host-a").await).unwrap();
    host.handle.join_with(Some(token)).await;
    host.status(|status| status.is_connected).await;
    host.end().await;
    assert!(!renewing.exists(), "its next key is another one");
    // It is the host from then on, and needs no token.
    let host = Host::start(&settings, folder.path());
    host.status(|status| status.is_connected).await;
}
