//! What a host does with what it is told.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use weft_agent::RequestError;
use weft_control_api::v1;
use weft_dns::Outside;
use weft_proto::policy::Rules;
use weft_types::EnvironmentId;

use crate::site::{Host, PATIENCE, Site, wanted};

#[tokio::test]
async fn an_attachment_brings_its_addresses_and_a_certificate() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&site.settings("host-a").await, folder.path());
    let acme = site.environment("prod").await;
    host.status(|status| status.is_connected).await;
    site.allow(&acme, "host-a").await;
    assert_eq!(host.attach(&acme, "web").await, Ok(true));
    assert_eq!(host.attach(&acme, "web").await, Ok(false));
    let desired = host.until(|desired| desired.environments.len() == 1).await;
    let environment = &desired.environments[0];
    let [web] = &environment.attachments[..] else { panic!("{environment:?}") };
    assert_eq!((web.name.as_str(), web.addresses.len()), ("web", 2));
    assert!(web.addresses[0].is_ipv4());
    assert_eq!(environment.credentials.identity().host.as_str(), "host-a");
    assert_eq!(environment.credentials.identity().environment, acme);
    let mut other = wanted(&acme, "web");
    other.netns = "/run/netns/other".into();
    assert!(matches!(host.handle.attach(other).await, Err(RequestError::Exists(_))));
    host.handle.detach(acme.clone(), "web".parse().unwrap()).await.unwrap();
    assert!(site.attachments(&acme).await.is_empty());
    let mut reserved = wanted(&acme, "lo");
    reserved.interface = "lo".to_owned();
    assert!(matches!(host.handle.attach(reserved).await, Err(RequestError::Invalid(_))));
    let gone = host.handle.detach(acme.clone(), "web".parse().unwrap()).await;
    assert!(matches!(gone, Err(RequestError::NotFound(_))), "{gone:?}");
}

#[tokio::test]
async fn the_control_plane_hears_which_interfaces_are_there() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&site.settings("host-a").await, folder.path());
    let acme = site.environment("prod").await;
    host.status(|status| status.is_connected).await;
    site.allow(&acme, "host-a").await;
    // Nobody on the host has asked for this one.
    site.place(&acme, "later", "host-a").await;
    assert_eq!(host.attach(&acme, "web").await, Ok(true));
    host.until(|desired| desired.environments.len() == 1).await;
    let heard = async {
        loop {
            let all = site.attachments(&acme).await;
            let [later, web] = &all[..] else { panic!("{all:?}") };
            let is_up = web.interface() == v1::InterfaceState::Up;
            if is_up && later.interface() == v1::InterfaceState::Pending {
                return (web.health(), later.health());
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let health = timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(health, (v1::HealthState::Healthy, v1::HealthState::Starting));
}

#[tokio::test]
async fn a_host_without_a_right_learns_nothing() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&site.settings("host-a").await, folder.path());
    let acme = site.environment("prod").await;
    host.status(|status| status.is_connected).await;
    let other = if acme.as_str().ends_with('a') { 'b' } else { 'a' };
    let absent: EnvironmentId =
        format!("{}{other}", &acme.as_str()[..acme.as_str().len() - 1]).parse().unwrap();
    let [foreign, absent] = [
        host.attach(&acme, "web").await.unwrap_err(),
        host.attach(&absent, "web").await.unwrap_err(),
    ];
    assert_eq!(foreign, absent);
    assert!(matches!(foreign, RequestError::NotFound(_)), "{foreign:?}");
    assert!(site.attachments(&acme).await.is_empty());
}

#[tokio::test]
async fn hosts_of_an_environment_know_each_other_until_one_is_shut_out() {
    let site = Site::start().await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let acme = site.environment("prod").await;
    let mut hosts = Vec::new();
    for (name, folder) in ["host-a", "host-b"].iter().zip(&folders) {
        let host = Host::start(&site.settings(name).await, folder.path());
        host.status(|status| status.is_connected).await;
        site.allow(&acme, name).await;
        assert_eq!(host.attach(&acme, &format!("web-{name}")).await, Ok(true));
        hosts.push(host);
    }
    let peers =
        |n: usize| move |d: &weft_agent::Desired| d.environments.iter().any(|e| e.peers.len() == n);
    let desired = hosts[0].until(peers(1)).await;
    let peer = &desired.environments[0].peers[0];
    assert_eq!((peer.host.as_str(), peer.addresses.len()), ("host-b", 2));
    assert_eq!(peer.endpoint, "192.0.2.1:5820".parse().unwrap());
    hosts[1].until(peers(1)).await;
    site.revoke("host-b").await;
    hosts[0].until(peers(0)).await;
    let refused = hosts[1].status(|status| !status.is_connected).await;
    assert!(refused.error.contains("not accepted any more"), "{}", refused.error);
}

#[tokio::test]
async fn a_suspended_environment_keeps_its_interfaces() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&site.settings("host-a").await, folder.path());
    let acme = site.environment("prod").await;
    host.status(|status| status.is_connected).await;
    site.allow(&acme, "host-a").await;
    assert_eq!(host.attach(&acme, "web").await, Ok(true));
    site.suspend(&acme).await;
    let desired = host.until(|desired| desired.policies.contains_key(&acme)).await;
    assert_eq!(desired.policies[&acme], Rules::nothing());
    assert_eq!(desired.environments[0].attachments.len(), 1);
}

#[tokio::test]
async fn other_names_are_forwarded_as_it_is_told_also_without_its_control_plane() {
    let mut site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = site.settings("host-a").await;
    let mut host = Host::start(&settings, folder.path());
    let acme = site.environment("prod").await;
    host.status(|status| status.is_connected).await;
    site.allow(&acme, "host-a").await;
    assert_eq!(host.attach(&acme, "web").await, Ok(true));
    let outside = |desired: &weft_agent::Desired| {
        desired.environments.first().map(|environment| environment.names.outside.clone())
    };
    host.until(|desired| outside(desired) == Some(Outside::Refuse)).await;
    site.forward(&acme, &["192.0.2.53", "[2001:db8::53]:5353"]).await;
    let servers = ["192.0.2.53:53", "[2001:db8::53]:5353"].map(|server| server.parse().unwrap());
    let forward = Some(Outside::Forward(servers.to_vec()));
    host.until(|desired| outside(desired) == forward).await;
    site.stop();
    host.status(|status| !status.is_connected).await;
    host.end().await;
    let host = Host::start(&settings, folder.path());
    assert_eq!(outside(&host.first), forward);
    host.end().await;
}

#[tokio::test]
async fn without_its_control_plane_a_host_goes_on_and_admits_nothing_new() {
    let mut site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = site.settings("host-a").await;
    let host = Host::start(&settings, folder.path());
    let acme = site.environment("prod").await;
    host.status(|status| status.is_connected).await;
    site.allow(&acme, "host-a").await;
    for name in ["web", "db"] {
        assert_eq!(host.attach(&acme, name).await, Ok(true));
    }
    site.stop();
    host.status(|status| !status.is_connected).await;
    host.end().await;
    // Another daemon, still without one.
    let mut host = Host::start(&settings, folder.path());
    let names = |desired: &weft_agent::Desired| {
        let all = desired.environments.iter().flat_map(|e| &e.attachments);
        all.map(|attachment| attachment.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&host.first), ["db", "web"]);
    assert_eq!(host.attach(&acme, "web").await, Ok(false), "it was granted before");
    let new = host.attach(&acme, "cache").await.unwrap_err();
    assert!(
        matches!(&new, RequestError::Unavailable(why) if why.contains("nothing new")),
        "{new:?}"
    );
    host.handle.detach(acme.clone(), "db".parse().unwrap()).await.unwrap();
    host.until(|desired| names(desired) == ["web"]).await;
    site.start_again().await;
    let connected = host.status(|status| status.is_connected).await;
    assert!(connected.error.is_empty());
    // What ended meanwhile is told.
    for _ in 0..100 {
        if site.attachments(&acme).await.len() == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{:?}", site.attachments(&acme).await);
}
