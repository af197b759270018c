//! Every call leaves its record, and nothing happens without one.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;
use weft_audit::{Event, PAGE_LEN_MAX, Query, query};
use weft_control::{
    Clock,
    api::CALLS,
    audit::{ACTOR_REFUSALS_MAX, ADDRESS_REFUSALS_MAX, Manner},
};
use weft_control_api::{
    DESCRIPTORS,
    v1::{
        self, attachments_client::AttachmentsClient, audit_client::AuditClient,
        enrolment_client::EnrolmentClient, environments_client::EnvironmentsClient,
        hosts_client::HostsClient, policies_client::PoliciesClient, secrets_client::SecretsClient,
        services_client::ServicesClient, sessions_client::SessionsClient,
    },
};
use weft_pki::{KeyKind, request};

use crate::site::{PASSWORD, Site, code, deletion, enrolment, name, said, with};

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
async fn a_record_says_which_settings_and_whom_hosts_ask() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    site.environment(&owner, "acme", "shop").await;
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    let update = |leaf_seconds, rule: v1::OtherNamesRule, servers: &[&str]| {
        let name_servers = servers.iter().map(ToString::to_string).collect();
        let other_names = Some(v1::OtherNames { rule: rule.into(), name_servers });
        let environment = name("acme/shop");
        v1::UpdateEnvironmentRequest { environment, leaf_seconds, other_names }
    };
    let absent = update(3_600, v1::OtherNamesRule::Absent, &[]);
    environments.update_environment(with(absent, &owner)).await.unwrap();
    let action = "environments.update-environment";
    let absent = serde_json::json!({"leaf-seconds": 3_600, "other-names": "absent"});
    assert_eq!(facts(&site, action), absent);
    let servers = ["192.0.2.53", "[2001:db8::53]:5353"];
    let forward = || update(0, v1::OtherNamesRule::Forward, &servers);
    let refused = environments.update_environment(with(forward(), &owner)).await;
    assert_eq!(code(refused), Code::PermissionDenied);
    let said = serde_json::json!({
        "other-names": "forward",
        "name-server-1": "192.0.2.53@53",
        "name-server-2": "2001:db8::53@5353",
    });
    let last = log(&site).pop().unwrap();
    assert_eq!(serde_json::to_value(&last.facts).unwrap(), said, "also of what was refused");
    environments.update_environment(with(forward(), &site.operator)).await.unwrap();
    assert_eq!(facts(&site, action), said);
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
    environments.delete_environment(with(deletion("acme/shop", 60), &owner)).await.unwrap();
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

/// Where the second host's copy is, it is not any more: nothing can be recorded as it should.
fn break_replica(folder: &Path) {
    fs::rename(folder, folder.with_extension("away")).unwrap();
    fs::write(folder, "").unwrap();
}

fn mend_replica(folder: &Path) {
    fs::remove_file(folder).unwrap();
    fs::rename(folder.with_extension("away"), folder).unwrap();
}

/// No name either, so it is not in a record where somebody gives it for one.
const CANARY: &str = "Hunter2-Canary-Value";

fn put_secret(version: u64) -> v1::PutSecretRequest {
    v1::PutSecretRequest {
        environment: name("acme/shop"),
        name: "DB_PASSWORD".to_owned(),
        value: Some(v1::SecretValue { data: CANARY.as_bytes().to_vec() }),
        version,
    }
}

fn release_secret() -> v1::ReleaseSecretRequest {
    let (environment, name) = (name("acme/shop"), "DB_PASSWORD".to_owned());
    v1::ReleaseSecretRequest { environment, name, ..Default::default() }
}

fn acquire(holder: &str) -> v1::AcquireRoleRequest {
    v1::AcquireRoleRequest {
        environment: name("acme/shop"),
        service: "db".to_owned(),
        role: "primary".to_owned(),
        holder: holder.to_owned(),
    }
}

/// Good calls of all kinds that change something or tell what is sensitive.
struct Changes {
    owner: String,
    session: String,
    invitation: String,
    join: String,
    key: Vec<u8>,
}

impl Changes {
    async fn prepare(site: &Site) -> Self {
        let owner = site.organisation("acme").await;
        site.environment(&owner, "acme", "shop").await;
        site.enrol("host-b").await;
        site.allow("acme/shop", "host-b").await;
        let mut attachments = AttachmentsClient::new(site.connect(None).await);
        let attach = v1::CreateAttachmentRequest {
            environment: name("acme/shop"),
            name: "db-0".to_owned(),
            slot: Some(v1::SlotName { service: "db".to_owned(), slot: "0".to_owned() }),
            host: "host-b".to_owned(),
            ..Default::default()
        };
        attachments.create_attachment(with(attach, &owner)).await.unwrap();
        let mut secrets = SecretsClient::new(site.connect(None).await);
        secrets.put_secret(with(put_secret(0), &owner)).await.unwrap();
        Self {
            owner,
            session: site.login("operator@weft.example", PASSWORD).await.unwrap(),
            invitation: site.app.invite_operator("second@weft.example").await.unwrap().to_string(),
            join: site.join_token().await,
            key: request::new_key(KeyKind::EcdsaP256).unwrap().request,
        }
    }

    async fn make(&self, site: &Site) -> Vec<Result<(), Status>> {
        let channel = site.connect(None).await;
        let mut environments = EnvironmentsClient::new(channel.clone());
        let mut sessions = SessionsClient::new(channel.clone());
        let mut hosts = HostsClient::new(channel.clone());
        let mut enrolments = EnrolmentClient::new(channel.clone());
        let mut secrets = SecretsClient::new(channel.clone());
        let mut services = ServicesClient::new(channel.clone());
        let mut audit = AuditClient::new(channel);
        let suspend = v1::SuspendEnvironmentRequest { environment: name("acme/shop") };
        let accept = v1::AcceptInvitationRequest {
            secret: self.invitation.clone(),
            name: "Second".to_owned(),
            password: PASSWORD.to_owned(),
        };
        let enrol = enrolment(&self.join, "host-a", &self.key);
        let token = v1::CreateJoinTokenRequest::default();
        let logout = with(v1::LogoutRequest {}, &self.session);
        let list = v1::ListAuditRecordsRequest::default();
        vec![
            services.acquire_role(with(acquire("db-0"), &self.owner)).await.map(drop),
            secrets.put_secret(with(put_secret(1), &self.owner)).await.map(drop),
            secrets.release_secret(with(release_secret(), &self.owner)).await.map(drop),
            environments.suspend_environment(with(suspend, &self.owner)).await.map(drop),
            hosts.create_join_token(with(token, &site.operator)).await.map(drop),
            sessions.accept_invitation(accept).await.map(drop),
            enrolments.enrol(enrol).await.map(drop),
            site.login("operator@weft.example", PASSWORD).await.map(drop),
            sessions.logout(logout).await.map(drop),
            audit.list_audit_records(with(list, &site.operator)).await.map(drop),
        ]
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let site = Site::start_replicated().await;
    let changes = Changes::prepare(&site).await;
    let replica = site.audit.replica.clone().unwrap().join("control");
    let revision = || site.app.view().read(|state| state.projection().revision());
    let before = revision();
    break_replica(&replica);
    for answer in changes.make(&site).await {
        let refusal = "the audit takes no records now; nothing was done".to_owned();
        assert_eq!(said(answer), (Code::Unavailable, refusal));
    }
    assert_eq!(revision(), before);
    // What needs no record is told.
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    let get = v1::GetEnvironmentRequest { environment: name("acme/shop") };
    let shop = environments.get_environment(with(get, &changes.owner)).await.unwrap().into_inner();
    assert_eq!(shop.state(), v1::EnvironmentState::Active);
    mend_replica(&replica);
    for answer in changes.make(&site).await {
        answer.unwrap();
    }
    assert!(revision() > before);
}

#[tokio::test]
async fn a_secret_whose_release_cannot_be_recorded_is_not_released() {
    let site = Site::start_replicated().await;
    let changes = Changes::prepare(&site).await;
    let replica = site.audit.replica.clone().unwrap().join("control");
    let mut secrets = SecretsClient::new(site.connect(None).await);
    break_replica(&replica);
    let refused = said(secrets.release_secret(with(release_secret(), &changes.owner)).await);
    let nothing = "the audit takes no records now; nothing was done".to_owned();
    assert_eq!(refused, (Code::Unavailable, nothing));
    mend_replica(&replica);
    let released = secrets.release_secret(with(release_secret(), &changes.owner)).await.unwrap();
    assert_eq!(released.into_inner().value.unwrap().data, CANARY.as_bytes());
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

#[tokio::test]
async fn strangers_do_not_fill_the_log_and_how_many_were_left_out_is_in_it() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let before = log(&site).len();
    let mut hosts = HostsClient::new(site.connect(None).await);
    let calls = ADDRESS_REFUSALS_MAX + 25;
    for _ in 0..calls {
        let token = v1::CreateJoinTokenRequest::default();
        assert_eq!(code(hosts.create_join_token(token).await), Code::Unauthenticated);
    }
    assert_eq!(log(&site).len() - before, ADDRESS_REFUSALS_MAX as usize);
    site.app.recorder().record_left_out().await.unwrap();
    site.app.recorder().record_left_out().await.unwrap();
    let events = log(&site);
    let told: Vec<_> =
        events.iter().filter(|event| event.action.as_str() == "audit.left-out").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(serde_json::to_value(&told[0].facts).unwrap()["count"], 25);
    // Whoever has shown who it is is heard meanwhile, and the next minute is another.
    site.join_token().await;
    clock.advance(Duration::from_secs(60));
    let before = log(&site).len();
    let token = v1::CreateJoinTokenRequest::default();
    assert_eq!(code(hosts.create_join_token(token).await), Code::Unauthenticated);
    assert_eq!(log(&site).len() - before, 1);
}

#[tokio::test]
async fn who_is_refused_all_the_time_is_not_heard_for_the_rest_of_the_minute() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let host = site.enrol("host-a").await;
    let mut environments = EnvironmentsClient::new(site.connect(Some(&host)).await);
    let suspend = || v1::SuspendEnvironmentRequest { environment: name("acme/shop") };
    for _ in 0..ACTOR_REFUSALS_MAX {
        assert_eq!(code(environments.suspend_environment(suspend()).await), Code::NotFound);
    }
    let refused = said(environments.suspend_environment(suspend()).await);
    assert_eq!(refused, (Code::ResourceExhausted, "refused too often; wait a minute".to_owned()));
    // Others are, and so is this one again.
    site.join_token().await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(code(environments.suspend_environment(suspend()).await), Code::NotFound);
}

#[tokio::test]
async fn who_asks_wrongly_all_the_time_does_not_fill_the_log() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let owner = site.organisation("acme").await;
    site.environment(&owner, "acme", "shop").await;
    let mut policies = PoliciesClient::new(site.connect(None).await);
    let malformed = || v1::SetPolicyRequest { environment: None, ..Default::default() };
    let before = lines(&site);
    for _ in 0..ACTOR_REFUSALS_MAX {
        let set = policies.set_policy(with(malformed(), &owner)).await;
        assert_eq!(code(set), Code::InvalidArgument);
    }
    let full = before + 2 * ACTOR_REFUSALS_MAX as usize;
    assert_eq!(lines(&site), full);
    // Nothing more is begun, nor recorded: nor would it be if it were good.
    for _ in 0..20 {
        let set = policies.set_policy(with(malformed(), &owner)).await;
        assert_eq!(code(set), Code::ResourceExhausted);
    }
    assert_eq!(lines(&site), full);
    clock.advance(Duration::from_secs(60));
    let set = policies.set_policy(with(malformed(), &owner)).await;
    assert_eq!(code(set), Code::InvalidArgument);
}

/// What somebody reads of a scope, part after part.
async fn read(
    site: &Site,
    token: &str,
    asked: v1::ListAuditRecordsRequest,
) -> Result<Vec<v1::AuditRecord>, Status> {
    let mut audit = AuditClient::new(site.connect(None).await);
    let (mut records, mut after) = (Vec::new(), String::new());
    loop {
        let page = Some(v1::PageRequest { size: 3, after });
        let request = v1::ListAuditRecordsRequest { page, ..asked.clone() };
        let part = audit.list_audit_records(with(request, token)).await?.into_inner();
        assert!(part.records.len() <= 3);
        records.extend(part.records);
        after = part.page.unwrap().next;
        if after.is_empty() {
            return Ok(records);
        }
    }
}

fn organisation(name: &str) -> v1::ListAuditRecordsRequest {
    v1::ListAuditRecordsRequest { organisation: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn an_organisation_reads_what_was_done_in_it_and_nothing_else() {
    let site = Site::start().await;
    let (acme, globex) = (site.organisation("acme").await, site.organisation("globex").await);
    let shop = site.environment(&acme, "acme", "shop").await;
    let other = site.environment(&globex, "globex", "shop").await;
    site.enrol("host-a").await;
    site.allow(&shop.id, "host-a").await;
    site.allow(&other.id, "host-a").await;
    // A stranger is at it, by name and by id.
    let mut environments = EnvironmentsClient::new(site.connect(None).await);
    for called in ["acme/shop", &shop.id] {
        let delete = deletion(called, 60);
        let deleted = environments.delete_environment(with(delete, &globex)).await;
        assert_eq!(code(deleted), Code::NotFound);
    }

    let mut sessions = SessionsClient::new(site.connect(None).await);
    let me = sessions.who_am_i(with(v1::WhoAmIRequest {}, &acme)).await.unwrap().into_inner();
    let Some(v1::who_am_i_response::Actor::User(me)) = me.actor else { panic!("no person") };
    let me = format!("user/{}", me.id);
    let own = read(&site, &acme, organisation("acme")).await.unwrap();
    let whole = format!("organisation/{}", shop.organisation);
    assert!(own.iter().all(|record| record.object.starts_with(&whole)), "{own:?}");
    let denied = own.iter().filter(|record| record.outcome() == v1::AuditOutcome::Denied);
    assert_eq!(denied.count(), 2);
    let allowed = own.iter().filter(|record| record.action == "environments.allow-host");
    assert_eq!(allowed.count(), 2, "begun and done");
    // Where its own people come from is told; where operators and strangers do is not.
    let (own_people, others) = own.iter().partition::<Vec<_>, _>(|record| record.actor == me);
    assert!(!own_people.is_empty() && own_people.iter().all(|told| told.source == "127.0.0.1"));
    let strangers = others.iter().filter(|told| told.outcome() == v1::AuditOutcome::Denied);
    assert_eq!((strangers.count(), others.len() > 4), (2, true));
    assert!(others.iter().all(|told| told.source.is_empty()), "{others:?}");
    // How much others do, and where the platform is, is not told.
    assert!(own.iter().all(|record| record.sequence == 0 && record.process.is_empty()));
    let in_shop = v1::ListAuditRecordsRequest {
        environment: name("acme/shop"),
        object: "host/host-a".to_owned(),
        outcome: v1::AuditOutcome::Done.into(),
        ..Default::default()
    };
    let found = read(&site, &acme, in_shop.clone()).await.unwrap();
    assert_eq!((found.len(), found[0].action.as_str()), (1, "environments.allow-host"));

    // To others it is as what is not there.
    let absent = organisation("nothing");
    for (asked, absent) in [
        (organisation("acme"), absent),
        (
            in_shop,
            v1::ListAuditRecordsRequest { environment: name("acme/no"), ..Default::default() },
        ),
    ] {
        let foreign = said(read(&site, &globex, asked).await);
        assert_eq!(foreign.0, Code::NotFound);
        assert_eq!(foreign, said(read(&site, &globex, absent).await));
    }
    let everything = v1::ListAuditRecordsRequest::default();
    let refused = read(&site, &acme, everything.clone()).await;
    assert_eq!(code(refused), Code::PermissionDenied);

    // An operator reads everything, that it was read as well.
    let all = read(&site, &site.operator, everything).await.unwrap();
    assert!(all.len() > own.len() && all.iter().all(|record| record.sequence > 0));
    let reads = all.iter().filter(|record| record.action == "audit.list-audit-records");
    assert!(reads.count() >= 4);
    assert!(read(&site, &site.operator, organisation("acme")).await.unwrap().len() >= own.len());
}

#[tokio::test]
async fn a_page_of_one_scope_does_not_go_on_in_another() {
    let site = Site::start().await;
    let (acme, globex) = (site.organisation("acme").await, site.organisation("globex").await);
    site.environment(&acme, "acme", "shop").await;
    let mut audit = AuditClient::new(site.connect(None).await);
    let page = |after: &str| Some(v1::PageRequest { size: 1, after: after.to_owned() });
    let first = v1::ListAuditRecordsRequest { page: page(""), ..organisation("acme") };
    let first = audit.list_audit_records(with(first, &acme)).await.unwrap().into_inner();
    let next = first.page.unwrap().next;
    for (token, scope, after) in [
        (&globex, "globex", next.as_str()),
        (&acme, "acme", "control=1.0"),
        (&acme, "acme", "AAAA"),
    ] {
        let forged = v1::ListAuditRecordsRequest { page: page(after), ..organisation(scope) };
        let refused = said(audit.list_audit_records(with(forged, token)).await);
        assert_eq!(refused.0, Code::InvalidArgument, "{refused:?}");
        assert!(refused.1.starts_with("page.after: "), "{refused:?}");
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_read_names_its_field() {
    let site = Site::start().await;
    let acme = site.organisation("acme").await;
    let asked = || organisation("acme");
    for (asked, field) in [
        (v1::ListAuditRecordsRequest { actor: "me".to_owned(), ..asked() }, "actor: "),
        (v1::ListAuditRecordsRequest { object: "a//b".to_owned(), ..asked() }, "object: "),
        (v1::ListAuditRecordsRequest { object: "a/b/c/d/e/f/g".to_owned(), ..asked() }, "object: "),
        (v1::ListAuditRecordsRequest { action: "A B".to_owned(), ..asked() }, "action: "),
        (v1::ListAuditRecordsRequest { request: "7".to_owned(), ..asked() }, "request: "),
        (
            v1::ListAuditRecordsRequest { environment: name("acme/shop"), ..asked() },
            "organisation: is given with environment",
        ),
    ] {
        let refused = said(read(&site, &acme, asked).await);
        assert_eq!(refused.0, Code::InvalidArgument);
        assert!(refused.1.starts_with(field), "{refused:?}");
    }
}

#[tokio::test]
async fn what_was_changed_on_the_disk_is_found() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let mut audit = AuditClient::new(site.connect(None).await);
    let refused = audit.verify_audit(with(v1::VerifyAuditRequest::default(), &owner)).await;
    assert_eq!(code(refused), Code::PermissionDenied);
    let verify = || with(v1::VerifyAuditRequest::default(), &site.operator);
    let whole = audit.verify_audit(verify()).await.unwrap().into_inner();
    let [log] = whole.logs.as_slice() else { panic!("{whole:?}") };
    assert_eq!((log.process.as_str(), log.fault.as_str()), ("control", ""));
    assert!(log.last > 5 && log.lines == log.last && log.anchored > 0, "{log:?}");
    assert!(log.head.contains(&whole.public_key), "{log:?}");
    assert_eq!((log.source(), log.compared), (v1::AuditLogSource::Log, 0));

    let segment = site.audit.own().join("0000000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("127.0.0.1", "127.0.0.2", 1)).unwrap();
    let changed = audit.verify_audit(verify()).await.unwrap().into_inner();
    assert!(changed.logs[0].fault.contains("0000000001.jsonl, line "), "{changed:?}");
    let read = read(&site, &site.operator, v1::ListAuditRecordsRequest::default()).await;
    assert_eq!(code(read), Code::FailedPrecondition);
}
