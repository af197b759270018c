//! From nothing to two hosts that know of each other.

use std::{collections::BTreeSet, time::Duration};

use tonic::Code;
use weft_control::Clock;
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, environments_client::EnvironmentsClient,
    host_update::Update, policies_client::PoliciesClient,
};
use weft_model::projection;
use weft_pki::{
    CertificateDer, KeyKind, TrustAnchor, UnixTime, installation, request, verify_peer,
};

use crate::site::{Site, code, deletion, name, next, said, with};

fn attach(name: &str) -> v1::AttachRequest {
    v1::AttachRequest {
        environment: "acme/shop".to_owned(),
        name: name.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn two_hosts_come_to_know_of_each_other() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let (a, b) = (site.enrol("host-a").await, site.enrol("host-b").await);
    site.allow(&shop.id, "host-a").await;
    site.allow("acme/shop", "host-b").await;

    let (mut on_a, mut on_b) = (site.agent(&a).await, site.agent(&b).await);
    let mut watch = on_a.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    let first = next(&mut watch).await.unwrap();
    assert!(first.is_snapshot && first.updates.is_empty(), "{first:?}");

    let web = on_a.attach(attach("web")).await.unwrap().into_inner();
    assert_eq!((web.host.as_str(), web.addresses.len()), ("host-a", 2));
    let news = next(&mut watch).await.unwrap();
    assert!(!news.is_snapshot);
    let kinds: Vec<&str> = news.updates.iter().map(kind).collect();
    // Whatever it had of that environment is void; it had nothing.
    assert_eq!(kinds, ["removed", "environment", "policy", "attachment", "service"]);

    let db = on_b.attach(attach("db")).await.unwrap().into_inner();
    assert!(BTreeSet::from_iter(&db.addresses).is_disjoint(&BTreeSet::from_iter(&web.addresses)));
    let news = next(&mut watch).await.unwrap();
    let peer = news.updates.iter().find_map(|update| match update.update.as_ref().unwrap() {
        Update::Peer(peer) => Some(peer.clone()),
        _ => None,
    });
    let peer = peer.unwrap();
    let mut addresses = db.addresses.clone();
    addresses.sort();
    assert_eq!((peer.host.as_str(), peer.addresses), ("host-b", addresses));
    assert_eq!(peer.endpoints, ["192.0.2.1:7777"]);

    // Whoever comes back with what it had gets what it missed.
    let mut again =
        on_b.watch(v1::WatchRequest { revision: news.revision }).await.unwrap().into_inner();
    let first = next(&mut again).await.unwrap();
    assert!(!first.is_snapshot && first.updates.is_empty(), "{first:?}");

    // Asked again, nothing changes; moved by nobody, it ends.
    let same = on_a.attach(attach("web")).await.unwrap().into_inner();
    assert_eq!(same, web);
    let release = |generation| v1::ReleaseRequest {
        environment: shop.id.clone(),
        name: "db".to_owned(),
        generation,
    };
    on_b.release(release(db.generation + 1)).await.unwrap();
    on_a.release(release(db.generation)).await.unwrap();
    let mut attachments = AttachmentsClient::new(site.connect(None).await);
    let list = || v1::ListAttachmentsRequest { environment: name("acme/shop"), page: None };
    let listed = attachments.list_attachments(with(list(), &owner)).await.unwrap().into_inner();
    assert_eq!(listed.attachments.len(), 2, "another generation, another host: not theirs to end");
    on_b.release(release(db.generation)).await.unwrap();
    let listed = attachments.list_attachments(with(list(), &owner)).await.unwrap().into_inner();
    assert_eq!(listed.attachments.len(), 1);
    let news = next(&mut watch).await.unwrap();
    assert_eq!(news.updates.iter().map(kind).collect::<Vec<_>>(), ["removed", "removed"]);
}

fn kind(update: &v1::HostUpdate) -> &'static str {
    match update.update.as_ref().unwrap() {
        Update::Environment(_) => "environment",
        Update::Attachment(_) => "attachment",
        Update::Peer(_) => "peer",
        Update::Service(_) => "service",
        Update::Policy(_) => "policy",
        Update::Removed(_) => "removed",
    }
}

#[tokio::test]
async fn a_leaf_is_of_the_environment_and_of_the_key_on_the_host() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let a = site.enrol("host-a").await;
    site.allow(&shop.id, "host-a").await;
    let mut agent = site.agent(&a).await;
    agent.attach(attach("web")).await.unwrap();
    let key = request::new_key(KeyKind::EcdsaP256).unwrap();
    let ask = v1::IssueLeafRequest { environment: shop.id.clone(), signing_request: key.request };
    let issued = agent.issue_leaf(ask).await.unwrap().into_inner();
    let anchor = TrustAnchor::from_pem(issued.anchors[0].as_bytes()).unwrap();
    let leaf: CertificateDer<'_> = installation::anchor(issued.certificate.as_bytes()).unwrap();
    let peer = verify_peer(&anchor, &[leaf], UnixTime::now()).unwrap();
    assert_eq!(peer.identity.to_string(), format!("spiffe://weft/env/{}/host/host-a", shop.id));
    let lasts = peer.not_after.duration_since(peer.not_before).unwrap().as_secs();
    assert_eq!(lasts, 24 * 3_600 + 5 * 60, "a day, and the time for clocks that are behind");
}

#[tokio::test]
async fn an_environment_is_suspended_resumed_and_its_policy_replaced() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let a = site.enrol("host-a").await;
    site.allow(&shop.id, "host-a").await;
    let mut agent = site.agent(&a).await;
    agent.attach(attach("web")).await.unwrap();
    let mut watch = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();

    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    let again = v1::CreateEnvironmentRequest {
        organisation: "acme".to_owned(),
        name: "shop".to_owned(),
        subnets: vec!["10.41.0.0/24".to_owned()],
        ..Default::default()
    };
    let taken = environments.create_environment(with(again, &owner)).await;
    assert_eq!(
        said(taken),
        (Code::AlreadyExists, "there is an environment shop already".to_owned())
    );
    let suspend = v1::SuspendEnvironmentRequest { environment: name("acme/shop") };
    environments.suspend_environment(with(suspend, &owner)).await.unwrap();
    let news = next(&mut watch).await.unwrap();
    assert!(matches!(&news.updates[0].update, Some(Update::Environment(e)) if e.suspended));
    assert_eq!(code(agent.attach(attach("web-2")).await), Code::NotFound);
    let resume = v1::ResumeEnvironmentRequest { environment: name("acme/shop") };
    environments.resume_environment(with(resume, &site.operator)).await.unwrap();
    let news = next(&mut watch).await.unwrap();
    assert!(matches!(&news.updates[0].update, Some(Update::Environment(e)) if !e.suspended));

    let mut policies = PoliciesClient::new(site.connect(None).await);
    let set = |version| v1::SetPolicyRequest {
        environment: name("acme/shop"),
        version,
        default: v1::Verdict::Deny.into(),
        rules: vec![v1::Rule {
            name: "web-to-db".to_owned(),
            from: "web".to_owned(),
            to: "db".to_owned(),
            protocol: v1::Transport::Tcp.into(),
            ports: vec![v1::PortRange { first: 5432, last: 0 }],
            verdict: v1::Verdict::Allow.into(),
        }],
    };
    let stale = policies.set_policy(with(set(7), &owner)).await;
    assert_eq!(said(stale).0, Code::Aborted);
    let policy = policies.set_policy(with(set(1), &owner)).await.unwrap().into_inner();
    assert_eq!((policy.version, policy.rules[0].ports[0].last), (2, 5432));
    let news = next(&mut watch).await.unwrap();
    assert!(matches!(&news.updates[0].update, Some(Update::Policy(p)) if *p == policy));
}

#[tokio::test]
async fn many_at_once_get_different_addresses() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let mut tasks = Vec::new();
    for n in 0..4 {
        let host = site.enrol(&format!("host-{n}")).await;
        site.allow(&shop.id, &host.id).await;
        let mut agent = site.agent(&host).await;
        tasks.push(tokio::spawn(async move {
            let mut addresses = Vec::new();
            for k in 0..8 {
                // Whoever lost every race is told to come again.
                let attached = loop {
                    match agent.attach(attach(&format!("web-{n}-{k}"))).await {
                        Err(busy) if busy.code() == Code::Unavailable => {}
                        attached => break attached.unwrap().into_inner(),
                    }
                };
                addresses.extend(attached.addresses);
            }
            addresses
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 4 * 8 * 2);
    assert_eq!(BTreeSet::from_iter(&all).len(), all.len(), "an address was given twice");
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    let get = v1::GetEnvironmentRequest { environment: name(&shop.id) };
    let usage =
        environments.get_environment(with(get, &owner)).await.unwrap().into_inner().usage.unwrap();
    assert_eq!((usage.attachments, usage.addresses_v4, usage.addresses_v6), (32, 32, 32));
}

#[tokio::test]
async fn a_deleted_environment_can_be_taken_back_until_everything_of_it_goes() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let other = site.environment(&owner, "acme", "other").await;
    let a = site.enrol("host-a").await;
    let mut agent = site.agent(&a).await;
    for environment in [&shop.id, &other.id] {
        site.allow(environment, "host-a").await;
        let (environment, name) = (environment.clone(), "web".to_owned());
        agent.attach(v1::AttachRequest { environment, name, ..Default::default() }).await.unwrap();
    }
    let mut watch = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    let delete = || deletion("acme/shop", 3_600);
    let deleting =
        environments.delete_environment(with(delete(), &owner)).await.unwrap().into_inner();
    assert_eq!(deleting.purge_ms, clock.now().0 + 3_600_000);
    let news = next(&mut watch).await.unwrap();
    assert!(matches!(&news.updates[0].update, Some(Update::Environment(e)) if e.suspended));
    site.tidy().await;
    let resume = || v1::ResumeEnvironmentRequest { environment: name("acme/shop") };
    let back = environments.resume_environment(with(resume(), &owner)).await.unwrap().into_inner();
    assert_eq!((back.state(), back.purge_ms), (v1::EnvironmentState::Active, 0));

    environments.delete_environment(with(delete(), &owner)).await.unwrap();
    clock.advance(Duration::from_secs(3_601));
    site.tidy().await;
    assert_eq!(
        code(environments.resume_environment(with(resume(), &owner)).await),
        Code::FailedPrecondition
    );
    site.tidy().await;
    let get = |id: &str| v1::GetEnvironmentRequest { environment: name(id) };
    assert_eq!(
        code(environments.get_environment(with(get(&shop.id), &owner)).await),
        Code::NotFound
    );
    let left =
        environments.get_environment(with(get(&other.id), &owner)).await.unwrap().into_inner();
    assert_eq!(left.usage.unwrap().attachments, 1, "another's is untouched");
    let nothing =
        site.app.view().read(|state| state.projection().snapshot(&"host-a".parse().unwrap()));
    assert!(nothing.iter().all(|update| match update {
        projection::Update::Put(document) => document.id().environment().as_str() == other.id,
        projection::Update::Remove(_) => true,
    }));
    // Its name is free again; its key is gone for good.
    let again = site.environment(&owner, "acme", "shop").await;
    assert_ne!(again.id, shop.id);
}

#[tokio::test]
async fn a_released_address_is_free_after_its_quarantine() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let a = site.enrol("host-a").await;
    site.allow(&shop.id, "host-a").await;
    let mut agent = site.agent(&a).await;
    let web = agent.attach(attach("web")).await.unwrap().into_inner();
    let (environment, name) = (shop.id.clone(), "web".to_owned());
    let generation = web.generation;
    agent.release(v1::ReleaseRequest { environment, name, generation }).await.unwrap();
    let id = shop.id.parse().unwrap();
    let used = || site.app.view().read(|state| state.ledger(&id).len());
    for (later, expected) in [(0, 2), (599, 2), (1, 0)] {
        clock.advance(Duration::from_secs(later));
        site.tidy().await;
        assert_eq!(used(), expected);
    }
}
