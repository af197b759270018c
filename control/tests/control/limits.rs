//! What nobody does without end.

use std::{fs, time::Duration};

use tonic::Code;
use weft_audit::{Event, Facts, Outcome, RequestId, Word};
use weft_control::{
    Clock,
    app::{Report, ReportedHealth},
    audit::{ACTOR_RATE, Manner, ORGANISATION_RATE, Standing, named},
};
use weft_control_api::v1::{
    self, audit_client::AuditClient, environments_client::EnvironmentsClient,
    organisations_client::OrganisationsClient, services_client::ServicesClient, who_am_i_response,
};
use weft_model::{
    OrganisationId, Record,
    access::Actor,
    record::{Health, HealthState},
};
use weft_store::Store;

use crate::site::{Site, code, deletion, name, next, said, with};

/// Lines of the audit.
fn lines(site: &Site) -> usize {
    let files = fs::read_dir(site.audit.own()).unwrap().map(|file| file.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    segments.map(|path| fs::read_to_string(path).unwrap().lines().count()).sum()
}

/// Does so much on somebody's account, of which nothing is recorded.
fn spend(site: &Site, who: &str, own: Option<&OrganisationId>, times: u32) {
    let event = Event {
        who: who.parse().unwrap(),
        from: "127.0.0.1".parse().unwrap(),
        action: Word::new("tests.call"),
        object: named("tests"),
        outcome: Outcome::Begun,
        request: RequestId([0; 16]),
        facts: Facts::none(),
    };
    let standing = Standing { is_operator: false, own: own.cloned() };
    let call = site.app.recorder().call(Manner::Change, event, standing);
    for _ in 0..times {
        call.hear().unwrap();
    }
}

struct Shop {
    clock: Clock,
    site: Site,
    acme: String,
    globex: String,
    services: ServicesClient<tonic::transport::Channel>,
}

impl Shop {
    async fn new() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let (acme, globex) = (site.organisation("acme").await, site.organisation("globex").await);
        site.environment(&acme, "acme", "shop").await;
        site.environment(&globex, "globex", "shop").await;
        let services = ServicesClient::new(site.connect(None).await);
        // Making all of that is paid by now.
        clock.advance(Duration::from_secs(3_600));
        Self { clock, site, acme, globex, services }
    }

    /// Says again what is said already.
    async fn put(&self, environment: &str, by: &str) -> Result<v1::Service, tonic::Status> {
        let service = "web".to_owned();
        let put = v1::PutServiceRequest {
            environment: name(environment),
            name: service,
            ..Default::default()
        };
        Ok(self.services.clone().put_service(with(put, by)).await?.into_inner())
    }
}

#[tokio::test]
async fn who_changes_something_all_the_time_is_told_when_to_come_again() {
    let shop = Shop::new().await;
    let who = shop.site.who(&shop.acme).await.unwrap();
    let Some(who_am_i_response::Actor::User(user)) = who.actor else { panic!("no person") };
    spend(&shop.site, &format!("user/{}", user.id), None, ACTOR_RATE.burst - 2);
    for _ in 0..2 {
        shop.put("acme/shop", &shop.acme).await.unwrap();
    }
    let before = lines(&shop.site);
    for _ in 0..20 {
        let refused = shop.put("acme/shop", &shop.acme).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.message(), "too many calls that are recorded; come again in 1 s");
    }
    // What is refused is recorded as one refusal each, up to its bound.
    assert_eq!(lines(&shop.site), before + 20);
    // What is sensitive is recorded as well; what is only told is not.
    let mut audit = AuditClient::new(shop.site.connect(None).await);
    let read =
        v1::ListAuditRecordsRequest { organisation: "acme".to_owned(), ..Default::default() };
    let read = audit.list_audit_records(with(read, &shop.acme)).await;
    assert_eq!(code(read), Code::ResourceExhausted);
    let list = v1::ListServicesRequest { environment: name("acme/shop"), ..Default::default() };
    shop.services.clone().list_services(with(list, &shop.acme)).await.unwrap();
    // Others are heard, and so is this one again.
    shop.put("globex/shop", &shop.globex).await.unwrap();
    shop.clock.advance(ACTOR_RATE.interval);
    shop.put("acme/shop", &shop.acme).await.unwrap();
    assert_eq!(code(shop.put("acme/shop", &shop.acme).await), Code::ResourceExhausted);
}

#[tokio::test]
async fn an_organisation_has_a_rate_together_and_nobody_else_spends_it() {
    let shop = Shop::new().await;
    let found = shop.site.who(&shop.acme).await.unwrap().organisations;
    let own: OrganisationId = found[0].organisation.parse().unwrap();
    // Programs without number, as many as somebody makes tokens.
    let each = ACTOR_RATE.burst / 2;
    for token in 0..ORGANISATION_RATE.burst / each {
        let last = u32::from((token + 1) * each == ORGANISATION_RATE.burst);
        spend(&shop.site, &format!("token/tok-{token}"), Some(&own), each - last);
    }
    // What a stranger tries in it is the stranger's.
    for _ in 0..3 {
        assert_eq!(code(shop.put("acme/shop", &shop.globex).await), Code::NotFound);
    }
    shop.put("acme/shop", &shop.acme).await.unwrap();
    let refused = shop.put("acme/shop", &shop.acme).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    shop.put("globex/shop", &shop.globex).await.unwrap();
    shop.clock.advance(ORGANISATION_RATE.interval);
    shop.put("acme/shop", &shop.acme).await.unwrap();
}

#[tokio::test]
async fn a_host_whose_health_changes_all_the_time_changes_the_store_so_often() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let owner = site.organisation("acme").await;
    let host = site.enrol("host-a").await;
    let mut agent = site.agent(&host).await;
    let caller = site.caller(Actor::Host("host-a".parse().unwrap()));
    let mut generations = Vec::new();
    for shop in ["a", "b"] {
        let environment = site.environment(&owner, "acme", shop).await.id;
        site.allow(&environment, "host-a").await;
        let attach = v1::AttachRequest {
            environment: environment.clone(),
            name: "web".to_owned(),
            ..Default::default()
        };
        let generation = agent.attach(attach).await.unwrap().into_inner().generation;
        generations.push((environment, generation));
    }
    let say = async |shop: usize, state| {
        let (environment, generation) = &generations[shop];
        let health = ReportedHealth {
            environment: environment.parse().unwrap(),
            attachment: "web".parse().unwrap(),
            generation: *generation,
            state: Some(state),
            interface: None,
        };
        let report = Report { health: vec![health], ..Default::default() };
        site.app.report(&caller, report).await.unwrap().again
    };
    let kept = async |shop: usize| {
        let path = format!("{}/web", generations[shop].0);
        let found = site.store.get(&Health::key_at(&path).unwrap()).await.unwrap().unwrap();
        (Health::decode(&found).unwrap().record.state.unwrap(), found.modified)
    };
    let mut changes = 0;
    let mut last = None;
    for _ in 0..1_500 {
        for state in [HealthState::Healthy, HealthState::Unhealthy] {
            say(0, state).await;
            let now = kept(0).await.1;
            changes += u32::from(last.replace(now) != Some(now));
        }
    }
    assert_eq!(changes, 2_048);
    // Another environment on the same host has its own.
    say(1, HealthState::Healthy).await;
    assert_eq!(kept(1).await.0, HealthState::Healthy);
    // What is so when there is room again is kept.
    assert!(say(0, HealthState::Starting).await, "it is asked to say everything again");
    assert_ne!(kept(0).await.0, HealthState::Starting);
    clock.advance(Duration::from_millis(100));
    assert!(!say(0, HealthState::Starting).await);
    assert_eq!(kept(0).await.0, HealthState::Starting);
}

#[tokio::test]
async fn an_organisation_has_so_many_environments_and_those_that_go_count_until_they_are_gone() {
    let clock = Clock::manual(Clock::default().now());
    let site = Site::start_at(clock.clone()).await;
    let owner = site.organisation("acme").await;
    site.environment(&owner, "acme", "shop").await;
    let channel = site.connect(None).await;
    let set = async |by: &str, environments_max| {
        let organisation = "acme".to_owned();
        let set = v1::SetOrganisationQuotasRequest { organisation, environments_max };
        OrganisationsClient::new(channel.clone()).set_organisation_quotas(with(set, by)).await
    };
    let make = async || {
        let make = v1::CreateEnvironmentRequest {
            organisation: "acme".to_owned(),
            name: "other".to_owned(),
            subnets: vec!["10.41.0.0/24".to_owned()],
            ..Default::default()
        };
        EnvironmentsClient::new(channel.clone()).create_environment(with(make, &owner)).await
    };
    // It is for operators to say, and in a range.
    assert_eq!(code(set(&owner, 100).await), Code::PermissionDenied);
    for wrong in [0, 1_025] {
        let why = format!("environments_max: {wrong}; expected 1 to 1024");
        assert_eq!(said(set(&site.operator, wrong).await), (Code::InvalidArgument, why));
    }
    assert_eq!(set(&site.operator, 1).await.unwrap().into_inner().environments_max, 1);
    let full = "the organisation's limit of 1 environments is reached; those that are being deleted count until they are gone";
    let full = (Code::ResourceExhausted, full.to_owned());
    assert_eq!(said(make().await), full);
    let keys = site.keys.list("", None, 1_000).await.unwrap().entries.len();
    let mut environments = EnvironmentsClient::new(channel.clone());
    environments.delete_environment(with(deletion("acme/shop", 60), &owner)).await.unwrap();
    assert_eq!(said(make().await), full);
    let now = site.keys.list("", None, 1_000).await.unwrap().entries.len();
    assert_eq!(now, keys, "no key is made for what is refused");
    clock.advance(Duration::from_secs(60));
    for _ in 0..3 {
        site.tidy().await;
    }
    make().await.unwrap();
    assert_eq!(said(make().await).0, Code::AlreadyExists);
    assert_eq!(set(&site.operator, 50).await.unwrap().into_inner().environments_max, 50);
}

#[tokio::test]
async fn a_host_listens_once_and_the_newest_is_told() {
    let site = Site::start().await;
    let (a, b) = (site.enrol("host-a").await, site.enrol("host-b").await);
    let listen = async |host| {
        let mut agent = site.agent(host).await;
        agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner()
    };
    let (mut other, mut old) = (listen(&b).await, listen(&a).await);
    assert!(
        next(&mut other).await.unwrap().is_snapshot && next(&mut old).await.unwrap().is_snapshot
    );
    let mut new = listen(&a).await;
    let why = "the host listens anew: what it began before ends".to_owned();
    assert_eq!(said(next(&mut old).await), (Code::ResourceExhausted, why));
    assert!(next(&mut new).await.unwrap().is_snapshot);
    // They are told what comes.
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await.id;
    for (host, name, stream) in [(&a, "host-a", &mut new), (&b, "host-b", &mut other)] {
        site.allow(&shop, name).await;
        let (environment, name) = (shop.clone(), format!("web-{name}"));
        let attach = v1::AttachRequest { environment, name, ..Default::default() };
        site.agent(host).await.attach(attach).await.unwrap();
        assert!(!next(stream).await.unwrap().updates.is_empty());
    }
}
