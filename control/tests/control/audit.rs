//! Every call leaves its record, and nothing happens without one.

use std::{collections::BTreeMap, fs, time::Duration};

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use weft_audit::{Event, PAGE_LEN_MAX, Query, query};
use weft_control::{Clock, api::CALLS, audit::Manner};
use weft_control_api::{
    DESCRIPTORS,
    v1::{
        self, environments_client::EnvironmentsClient, hosts_client::HostsClient,
        secrets_client::SecretsClient, services_client::ServicesClient,
        sessions_client::SessionsClient,
    },
};

use self::{
    changes::{CANARY, Changes, acquire, put_secret, release_secret},
    reading::{organisation, read},
};
use crate::site::{PASSWORD, Site, name, with};

mod changes;
mod floods;
mod reading;
mod unrecorded;

/// A call of the protocol.
struct Rpc {
    path: String,
    /// As the audit has it.
    action: String,
}

/// `CreateJoinToken` as `create-join-token`.
fn small(name: &str) -> String {
    let mut small = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            small.push('-');
        }
        small.push(letter.to_ascii_lowercase());
    }
    small
}

fn every_rpc() -> Vec<Rpc> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let services = files.file.iter().flat_map(|file| &file.service);
    let rpcs = services.flat_map(|service| {
        service.method.iter().map(|method| Rpc {
            path: format!("/weft.control.v1.{}/{}", service.name(), method.name()),
            action: format!("{}.{}", small(service.name()), small(method.name())),
        })
    });
    rpcs.collect()
}

/// Calls with nothing in the request, which is a good message of every kind; what comes back is not looked at.
async fn call(channel: &Channel, rpc: &Rpc, request: Request<()>) -> (Code, String) {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path: PathAndQuery = rpc.path.parse().unwrap();
    let answer = client.unary(request, path, ProstCodec::<(), ()>::default()).await;
    let id = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("weft-request-id").unwrap().to_str().unwrap().to_owned()
    };
    match answer {
        Ok(answer) => (Code::Ok, id(answer.metadata())),
        Err(status) => (status.code(), id(status.metadata())),
    }
}

/// The whole log of the site.
fn log(site: &Site) -> Vec<Event> {
    let logs = [(site.audit.process.clone(), site.audit.own())];
    let page = query(&logs, &Query::default(), None, PAGE_LEN_MAX).unwrap();
    assert!(page.next.is_none(), "more than a page");
    page.found.into_iter().map(|found| found.event).collect()
}

/// How long the log of the site is.
fn lines(site: &Site) -> usize {
    let files = fs::read_dir(site.audit.own()).unwrap().map(|file| file.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    segments.map(|path| fs::read_to_string(path).unwrap().lines().count()).sum()
}

fn of_request(site: &Site, request: &str) -> Vec<String> {
    let events = log(site).into_iter().filter(|event| event.request.to_string() == request);
    events.map(|event| format!("{} {} {}", event.who, event.action, event.outcome)).collect()
}

#[tokio::test]
async fn every_call_of_the_protocol_leaves_a_record() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let host = site.enrol("host-a").await;
    let (stranger, known) = (site.connect(None).await, site.connect(Some(&host)).await);
    let manners: BTreeMap<&str, Manner> = CALLS.iter().copied().collect();
    let rpcs = every_rpc();
    assert_eq!(rpcs.len(), CALLS.len());
    for rpc in &rpcs {
        // Strangers have a bound for each minute.
        clock.advance(Duration::from_secs(60));
        let (_, id) = call(&stranger, rpc, Request::new(())).await;
        let records = of_request(&site, &id);
        assert_eq!(records.len(), 1, "{}", rpc.action);
        assert!(records[0].starts_with(&format!("anonymous {} ", rpc.action)), "{records:?}");

        // What changes something is recorded before it is decided, whatever comes of it.
        let manner = manners[rpc.action.as_str()];
        // A watch that is good has no end: it has a test of its own.
        if manner == Manner::Change && rpc.action != "host-agent.watch" {
            let (code, id) = call(&known, rpc, Request::new(())).await;
            let records = of_request(&site, &id);
            assert_eq!(records.len(), 2, "{}: {code}: {records:?}", rpc.action);
            assert_eq!(records[0], format!("host/host-a {} begun", rpc.action));
            let outcome = records[1].rsplit(' ').next().unwrap();
            assert_eq!(outcome == "done", code == Code::Ok, "{}: {outcome}", rpc.action);
        }
    }
}

#[tokio::test]
async fn a_record_says_who_what_on_what_and_what_was_made() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    site.enrol("host-a").await;
    site.allow("acme/shop", "host-a").await;
    let events = log(&site);
    let done = |action: &str| {
        let mut of_action = events.iter().filter(|event| event.action.as_str() == action);
        let done = of_action.rfind(|event| event.outcome.to_string() == "done").unwrap();
        (done.who.to_string(), done.object.to_string(), serde_json::to_value(&done.facts).unwrap())
    };
    let (who, object, facts) = done("environments.create-environment");
    assert!(who.starts_with("user/usr-"), "{who}");
    assert_eq!(object, format!("organisation/{}/environment/shop", shop.organisation));
    assert_eq!(facts["made"], shop.id.as_str());
    // However it was called, the record has the ids.
    let (_, object, _) = done("environments.allow-host");
    let environment = format!("organisation/{}/environment/{}", shop.organisation, shop.id);
    assert_eq!(object, format!("{environment}/host/host-a"));
    let (who, object, facts) = done("sessions.login");
    assert_eq!((who.as_str(), object.as_str()), ("anonymous", "account/owner@acme.example"));
    assert!(facts["made"].as_str().unwrap().starts_with("usr-"));
    let (_, _, facts) = done("enrolment.enrol");
    assert_eq!(facts["made"], "host-a");
    let from: Vec<_> = events.iter().map(|event| event.from.to_string()).collect();
    assert!(from.iter().all(|from| from == "127.0.0.1" || from == "local"), "{from:?}");
}

/// Facts of what was done last, of a kind.
fn facts(site: &Site, action: &str) -> serde_json::Value {
    let events = log(site).into_iter().rev();
    let mut done = events.filter(|event| event.outcome.to_string() == "done");
    let done = done.find(|event| event.action.as_str() == action).unwrap();
    serde_json::to_value(&done.facts).unwrap()
}

#[tokio::test]
async fn a_record_says_who_has_which_role_and_which_version_of_a_secret_it_is() {
    let (site, shop) = (Site::start().await, name("acme/shop"));
    let changes = Changes::prepare(&site).await;
    let mut services = ServicesClient::new(site.connect(None).await);
    let mut secrets = SecretsClient::new(site.connect(None).await);
    let owner = &changes.owner;
    let first = services.acquire_role(with(acquire("db-0"), owner)).await.unwrap().into_inner();
    let held = serde_json::json!({"holder": "db-0", "epoch": first.epoch});
    assert_eq!(facts(&site, "services.acquire-role"), held);
    let transfer = v1::TransferRoleRequest {
        environment: shop.clone(),
        service: "db".to_owned(),
        role: "primary".to_owned(),
        holder: "db-0".to_owned(),
        epoch: first.epoch,
    };
    let second = services.transfer_role(with(transfer, owner)).await.unwrap().into_inner();
    let held = serde_json::json!({"holder": "db-0", "epoch": second.epoch});
    assert_eq!(facts(&site, "services.transfer-role"), held);
    let attachment = "db-0".to_owned();
    let drain = v1::SetDrainedRequest {
        environment: shop.clone(),
        attachment,
        generation: 0,
        drained: true,
    };
    services.set_drained(with(drain, owner)).await.unwrap();
    assert_eq!(facts(&site, "services.set-drained"), serde_json::json!({"drained": true}));

    let drained = v1::ListAuditRecordsRequest {
        action: "services.set-drained".to_owned(),
        outcome: v1::AuditOutcome::Done.into(),
        ..organisation("acme")
    };
    let told = read(&site, owner, drained).await.unwrap();
    assert_eq!(told[0].facts, [("drained".to_owned(), "true".to_owned())].into());

    secrets.put_secret(with(put_secret(1), owner)).await.unwrap();
    assert_eq!(facts(&site, "secrets.put-secret"), serde_json::json!({"version": 2}));
    secrets.release_secret(with(release_secret(), owner)).await.unwrap();
    assert_eq!(facts(&site, "secrets.release-secret"), serde_json::json!({"version": 2}));
    let released = log(&site).into_iter().rev();
    let mut released = released.filter(|event| event.action.as_str() == "secrets.release-secret");
    let object = released.next().unwrap().object;
    assert!(object.as_str().ends_with("/secret/DB_PASSWORD"), "{object}");
    for (versions, told) in [(vec![1], ("version", 1)), (vec![1, 2], ("versions", 2))] {
        let (environment, name) = (shop.clone(), "DB_PASSWORD".to_owned());
        let destroy = v1::DestroySecretVersionsRequest { environment, name, versions };
        secrets.destroy_secret_versions(with(destroy, owner)).await.unwrap();
        let destroyed = facts(&site, "secrets.destroy-secret-versions");
        assert_eq!(destroyed, serde_json::json!({told.0: told.1}));
    }
}

#[tokio::test]
async fn hosts_that_watch_and_environments_that_go_are_recorded_and_reports_are_not() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await;
    let host = site.enrol("host-a").await;
    let mut agent = site.agent(&host).await;
    let watch = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap();
    let id = watch.metadata().get("weft-request-id").unwrap().to_str().unwrap().to_owned();
    let begun = "host/host-a host-agent.watch begun".to_owned();
    assert_eq!(of_request(&site, &id), [begun, "host/host-a host-agent.watch done".to_owned()]);
    let before = log(&site).len();
    agent.report(v1::ReportRequest::default()).await.unwrap();
    assert_eq!(log(&site).len(), before);

    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    let (environment, grace_seconds) = (name("acme/shop"), Some(60));
    let delete = v1::DeleteEnvironmentRequest { environment, grace_seconds };
    environments.delete_environment(with(delete, &owner)).await.unwrap();
    clock.advance(Duration::from_secs(61));
    site.tidy().await;
    site.tidy().await;
    let gone: Vec<_> = log(&site).into_iter().rev().take(2).collect();
    for (event, outcome) in gone.iter().rev().zip(["begun", "done"]) {
        assert_eq!(
            (event.who.to_string(), event.from.to_string()),
            ("system".into(), "internal".into())
        );
        assert_eq!(
            (event.action.as_str(), event.outcome.to_string().as_str()),
            ("environments.purge", outcome)
        );
        assert!(event.object.as_str().ends_with(&shop.id), "{}", event.object);
    }
}

#[tokio::test]
async fn no_secret_is_in_the_log() {
    let site = Site::start().await;
    let changes = Changes::prepare(&site).await;
    for answer in changes.make(&site).await {
        answer.unwrap();
    }
    // Also where one is put in the place of a name.
    let mut sessions = SessionsClient::new(site.connect(None).await);
    let secrets = [
        PASSWORD,
        &changes.owner,
        &changes.session,
        &changes.invitation,
        &changes.join,
        &site.operator,
        "hunter2",
        CANARY,
    ];
    for secret in secrets {
        let (email, password) = (secret.to_owned(), secret.to_owned());
        assert!(
            sessions
                .login(v1::LoginRequest { email, password, code: secret.to_owned() })
                .await
                .is_err()
        );
        let mut hosts = HostsClient::new(site.connect(None).await);
        if secret != "hunter2" {
            let revoke = v1::RevokeJoinTokenRequest { id: secret.to_owned() };
            assert!(hosts.revoke_join_token(with(revoke, &site.operator)).await.is_err());
        }
    }
    let mut text = String::new();
    for file in fs::read_dir(site.audit.own()).unwrap() {
        text += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    assert!(text.contains("sessions.login") && text.contains("hosts.revoke-join-token"));
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}");
    }
    let signing_request = data_encoding::BASE64.encode(&changes.key);
    assert!(!text.contains(&signing_request[..40]) && !text.contains("CERTIFICATE"));
}
