//! What goes with an environment and its organisation, whenever the process ends that removes it.

use std::{sync::Arc, time::Duration};

use weft_control::{
    App, AppError, Clock,
    app::{
        AttachWish, EnvironmentReference, HostWish, JOIN_TOKEN_SECONDS_MAX, NewToken, Report,
        ReportedHealth, StateChange,
    },
    secret,
};
use weft_control_api::v1::{
    self, EnvironmentRole, OrganisationRole, secrets_client::SecretsClient,
    services_client::ServicesClient,
};
use weft_model::{
    Record, SlotName,
    access::{self, Actor},
    record::{Environment, Interface, JoinToken, PeerSession, SlotKey},
};
use weft_store::{Key, Store};
use weft_types::HostId;

use crate::{
    held::Held,
    site::{PASSWORD, Site, name, proof, with},
};

const GRACE: Duration = Duration::from_secs(60);

/// What was made, and must leave nothing.
struct Made {
    owner: String,
    environment: String,
    organisation: String,
}

/// An organisation with people, and an environment with something of everything.
async fn fill(site: &Site, called: &str, host: &HostId) -> Made {
    let owner = site.organisation(called).await;
    let made = site.environment(&owner, called, "shop").await;
    let shop = format!("{called}/shop");
    let email = format!("m@{called}.example");
    site.member(&owner, called, &email, OrganisationRole::Member).await;
    site.give(&owner, &shop, &email, EnvironmentRole::Viewer).await.unwrap();
    let invited = format!("x@{called}.example");
    site.invite(&owner, called, &invited, OrganisationRole::Member).await.unwrap();
    site.allow(&shop, host.as_str()).await;

    let caller = site.caller(site.app.actor_of(&owner).await.unwrap());
    let reference: EnvironmentReference = shop.parse().unwrap();
    let token = NewToken {
        name: "robot".to_owned(),
        role: access::EnvironmentRole::Viewer,
        uses: Default::default(),
        seconds: 3_600,
    };
    site.app.create_token(&caller, &reference, &token, proof(PASSWORD)).await.unwrap();
    let wish = AttachWish {
        name: "web-1".parse().unwrap(),
        slot: SlotKey { service: "web".parse().unwrap(), slot: SlotName::Stable(0) },
        host: HostWish { id: host.clone(), grant: None },
        addresses: Vec::new(),
        share: None,
    };
    let web = site.app.create_attachment(&caller, &reference, &wish).await.unwrap();
    let health = ReportedHealth {
        environment: web.environment.clone(),
        attachment: web.name,
        generation: web.generation,
        state: None,
        interface: Some(Interface::Up),
    };
    let session = PeerSession { is_up: true, key_age_ms: 1, error: String::new() };
    let peers = [(web.environment, [("host-b".parse().unwrap(), session)].into())].into();
    let report = Report { health: vec![health], peers, ..Report::default() };
    site.app.report(&site.caller(Actor::Host(host.clone())), report).await.unwrap();
    let channel = site.connect(None).await;
    let put = v1::PutServiceRequest {
        environment: name(&shop),
        name: "web".to_owned(),
        ..Default::default()
    };
    ServicesClient::new(channel.clone()).put_service(with(put, &owner)).await.unwrap();
    let put = v1::PutSecretRequest {
        environment: name(&shop),
        name: "DB_PASSWORD".to_owned(),
        value: Some(v1::SecretValue { data: b"value".to_vec() }),
        ..Default::default()
    };
    SecretsClient::new(channel).put_secret(with(put, &owner)).await.unwrap();
    Made { owner, environment: made.id, organisation: made.organisation }
}

/// How many keys there are, and those in which one of these is, or in whose values.
async fn keys(site: &Site, of: &[&str]) -> (usize, Vec<String>) {
    let page = site.store.list("", None, 1_000).await.unwrap();
    assert!(!page.more);
    // Each process has a log of its own.
    let entries = page.entries.into_iter().filter(|entry| !entry.key.has_prefix("audit"));
    let entries: Vec<_> = entries.collect();
    let len = entries.len();
    let with = entries.into_iter().filter(|entry| {
        let text = format!("{} {}", entry.key, String::from_utf8_lossy(&entry.value));
        of.iter().any(|of| text.contains(of))
    });
    (len, with.map(|entry| entry.key.to_string()).collect())
}

#[tokio::test]
async fn whenever_the_process_ends_that_purges_another_one_leaves_nothing() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let host: HostId = site.enrol("host-a").await.id.parse().unwrap();
    let held = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, Key::new("none").unwrap());
    let ending = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
    let mut before = keys(&site, &[]).await.0;
    let mut steps = 0;
    for step in 1.. {
        let made = fill(&site, "acme", &host).await;
        let owner = site.caller(site.app.actor_of(&made.owner).await.unwrap());
        let shop = "acme/shop".parse().unwrap();
        let delete = StateChange::Delete { grace: GRACE };
        site.app.set_environment_state(&owner, &shop, delete).await.unwrap();
        site.app.delete_organisation(&owner, "acme", GRACE).await.unwrap();
        clock.advance(2 * GRACE);
        site.tidy().await;

        let turn = site.turn(&ending).await;
        site.seen(&ending).await;
        held.last(step - 1);
        let ended = ending.tidy(&turn).await;
        held.last(usize::MAX);
        ending.end_turn(turn).await.unwrap();
        if ended.is_ok() {
            break;
        }
        assert!(matches!(ended, Err(AppError::Unavailable)), "{ended:?} at step {step}");
        steps = step;
        // Another process, with what it has read of the store.
        let other = site.another_process().await;
        let turn = site.turn(&other).await;
        other.tidy(&turn).await.unwrap();
        other.tidy(&turn).await.unwrap();
        other.end_turn(turn).await.unwrap();

        let (len, left) = keys(&site, &[&made.environment, &made.organisation]).await;
        assert_eq!(left, Vec::<String>::new(), "after step {step}");
        // Two people are left, with an address, a place where they signed in, and a session each.
        let people = len - before;
        assert_eq!(people, 8, "after step {step}");
        // So that the next ones have their addresses.
        for email in ["owner@acme.example", "m@acme.example"] {
            let operator = site.caller(site.app.actor_of(&site.operator).await.unwrap());
            site.app.remove_user(&operator, email).await.unwrap();
        }
        before = keys(&site, &[]).await.0;
    }
    assert!(steps > 15, "{steps} steps were ended");
}

/// Three environments whose time has come, and a process over a store that can be told what it refuses.
async fn three(site: &Site, clock: &Clock) -> (Vec<String>, Arc<Held>, Arc<App>) {
    let owner = site.organisation("acme").await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let made = site.environment(&owner, "acme", name).await;
        let owner = site.caller(site.app.actor_of(&owner).await.unwrap());
        let delete = StateChange::Delete { grace: GRACE };
        site.app.set_environment_state(&owner, &made.id.parse().unwrap(), delete).await.unwrap();
        // So that this is their order.
        clock.advance(Duration::from_secs(1));
        ids.push(made.id);
    }
    clock.advance(2 * GRACE);
    // Nobody resumes them any more.
    site.tidy().await;
    let held = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, Key::new("none").unwrap());
    let process = site.process_over(Arc::clone(&held) as Arc<dyn Store>).await;
    (ids, held, process)
}

async fn is_there(site: &Site, environment: &str) -> bool {
    let at = Environment::key_at(environment).unwrap();
    site.store.get(&at).await.unwrap().is_some()
}

#[tokio::test]
async fn what_cannot_be_removed_holds_up_nothing_else() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let (ids, held, process) = three(&site, &clock).await;
    let token = site.join_token().await;
    let token = JoinToken::key_at(&secret::hash(&token)).unwrap();
    assert!(site.store.get(&token).await.unwrap().is_some());
    clock.advance(Duration::from_secs(JOIN_TOKEN_SECONDS_MAX.into()));
    site.seen(&process).await;

    held.refuse(Some(&ids[0]));
    let turn = site.turn(&process).await;
    let failed = process.tidy(&turn).await;
    assert!(matches!(failed, Err(AppError::Unavailable)), "it says so: {failed:?}");
    for (id, stays) in ids.iter().zip([true, false, false]) {
        assert_eq!(is_there(&site, id).await, stays, "{id}");
    }
    assert!(site.store.get(&token).await.unwrap().is_none(), "what comes after them goes, too");

    held.refuse(None);
    process.tidy(&turn).await.unwrap();
    assert!(!is_there(&site, &ids[0]).await);
    process.end_turn(turn).await.unwrap();
}

#[tokio::test]
async fn who_is_superseded_tries_nothing_more() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let (ids, held, process) = three(&site, &clock).await;
    let turn = site.turn(&process).await;
    let _other = site.turn(&site.app).await;
    held.last(1_000);
    let over = process.tidy(&turn).await;
    assert!(matches!(over, Err(AppError::Superseded)), "{over:?}");
    assert_eq!(held.left(), 999, "it has asked once");
    for id in &ids {
        assert!(is_there(&site, id).await);
    }
}
