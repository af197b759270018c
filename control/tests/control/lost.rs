//! Hosts that are not heard of any more, and come back.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tonic::{Code, transport::Channel};
use weft_control::{
    App, Clock,
    app::{Report, Turn},
};
use weft_control_api::v1::{
    self, HostPresence, attachments_client::AttachmentsClient, host_agent_client::HostAgentClient,
    host_update::Update, hosts_client::HostsClient, services_client::ServicesClient,
};
use weft_model::{
    Record, UnixMs,
    access::Actor,
    liveness::{LOST_AFTER, REPORT_INTERVAL},
    record::Heartbeat,
};
use weft_store::{LIST_LEN_MAX, OPERATIONS_MAX, Store};

use crate::site::{Site, name, next, said, with};

type Agent = HostAgentClient<Channel>;

/// A control plane of two processes: hosts call one, the other looks who is heard of.
struct Plane {
    site: Site,
    clock: Clock,
    watcher: Arc<App>,
    turn: Turn,
}

impl Plane {
    async fn start() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let watcher = site.another_process().await;
        let turn = site.turn(&watcher).await;
        Self { site, clock, watcher, turn }
    }

    /// What happens in one interval in which these report.
    async fn tick(&self, reporting: &mut [&mut Agent]) {
        self.clock.advance(REPORT_INTERVAL);
        for agent in reporting {
            agent.report(v1::ReportRequest::default()).await.unwrap();
        }
        self.site.app.keep_heartbeats().await.unwrap();
        self.look().await;
    }

    async fn look(&self) {
        self.site.seen(&self.watcher).await;
        self.watcher.renew_turn(&self.turn).await.unwrap();
        self.watcher.look_for_lost(&self.turn).await.unwrap();
        self.site.seen(&self.site.app).await;
    }

    /// Long enough for whoever says nothing to be lost.
    async fn pass(&self, reporting: &mut [&mut Agent]) {
        for _ in 0..LOST_AFTER.as_secs() / REPORT_INTERVAL.as_secs() + 1 {
            self.tick(reporting).await;
        }
    }

    async fn host(&self, id: &str) -> v1::Host {
        let mut hosts = HostsClient::new(self.site.connect(None).await);
        let get = v1::GetHostRequest { id: id.to_owned() };
        let one = hosts.get_host(with(get, &self.site.operator)).await.unwrap().into_inner();
        let list = v1::ListHostsRequest::default();
        let listed = hosts.list_hosts(with(list, &self.site.operator)).await.unwrap().into_inner();
        assert!(listed.hosts.contains(&one), "{listed:?}");
        one
    }

    async fn presence(&self, id: &str) -> HostPresence {
        self.host(id).await.presence()
    }
}

#[tokio::test]
async fn a_host_is_lost_that_no_process_hears_and_present_when_one_does() {
    let plane = Plane::start().await;
    let (a, b) = (plane.site.enrol("host-a").await, plane.site.enrol("host-b").await);
    let (mut a, mut b) = (plane.site.agent(&a).await, plane.site.agent(&b).await);
    assert_eq!(plane.presence("host-a").await, HostPresence::Expected);
    let version = "1.2.3".to_owned();
    a.report(v1::ReportRequest { version, ..Default::default() }).await.unwrap();
    let heard = plane.host("host-a").await;
    assert_eq!((heard.presence(), heard.version.as_str()), (HostPresence::Present, "1.2.3"));

    plane.pass(&mut [&mut a]).await;
    assert_eq!(plane.presence("host-a").await, HostPresence::Present);
    let lost = plane.host("host-b").await;
    assert_eq!((lost.presence(), lost.heard_ms), (HostPresence::Lost, 0));
    assert!(lost.lost_ms > 0 && lost.state() == v1::HostState::Active);

    // What it does is told by every process.
    plane.tick(&mut [&mut a, &mut b]).await;
    assert_eq!(plane.presence("host-b").await, HostPresence::Present);
    plane.site.seen(&plane.watcher).await;
    let signs = plane.watcher.signs(&"host-b".parse().unwrap()).unwrap();
    assert_eq!(signs.lost, None);
    assert_eq!(signs.heartbeat.unwrap().at, plane.clock.now());
}

#[tokio::test]
async fn who_heard_a_host_earlier_leaves_what_another_process_has_heard_since() {
    let plane = Plane::start().await;
    plane.site.enrol("host-a").await;
    let (one, other) = (&plane.site.app, &plane.watcher);
    let host = plane.site.caller(Actor::Host("host-a".parse().unwrap()));
    let report = |version: &str| Report { version: version.to_owned(), ..Report::default() };
    let kept = async || {
        let at = Heartbeat::key_at("host-a").unwrap();
        let kept = plane.site.store.get(&at).await.unwrap().unwrap();
        Heartbeat::decode(&kept).unwrap().record.version
    };
    one.report(&host, report("1")).await.unwrap();
    other.report(&host, report("2")).await.unwrap();
    other.keep_heartbeats().await.unwrap();
    one.keep_heartbeats().await.unwrap();
    assert_eq!(kept().await, "2");
    // The host calls the first one again.
    one.report(&host, report("3")).await.unwrap();
    one.keep_heartbeats().await.unwrap();
    assert_eq!(kept().await, "3");
}

#[tokio::test]
async fn nobody_is_lost_by_a_clock_that_is_set_or_while_nobody_looked() {
    let plane = Plane::start().await;
    let a = plane.site.enrol("host-a").await;
    let mut a = plane.site.agent(&a).await;
    plane.tick(&mut [&mut a]).await;
    for set in [plane.clock.now().after(Duration::from_secs(7_000)), UnixMs(1)] {
        plane.clock.set(set);
        plane.tick(&mut []).await;
        assert_eq!(plane.watcher.signs(&"host-a".parse().unwrap()).unwrap().lost, None);
    }
    // A process that has just begun, and one that stood still, have heard nobody for a while.
    let fresh = plane.site.another_process().await;
    plane.clock.advance(LOST_AFTER * 2);
    for process in [&plane.watcher, &fresh] {
        let turn = plane.site.turn(process).await;
        process.look_for_lost(&turn).await.unwrap();
        assert_eq!(process.signs(&"host-a".parse().unwrap()).unwrap().lost, None);
    }
}

#[tokio::test]
async fn hosts_are_kept_now_and_then_and_many_in_one_transaction() {
    let plane = Plane::start().await;
    let kept = async || {
        let page = plane.site.store.list("heartbeat/", None, LIST_LEN_MAX).await.unwrap();
        page.entries.into_iter().map(|entry| entry.modified).collect::<Vec<_>>()
    };
    let a = plane.site.enrol("host-a").await;
    let mut a = plane.site.agent(&a).await;
    let mut written = BTreeSet::new();
    for _ in 0..12 {
        plane.tick(&mut [&mut a]).await;
        written.extend(kept().await);
    }
    assert_eq!(written.len(), 4, "once in 30 s, however often it reports");
    for n in 0..2 * OPERATIONS_MAX {
        let host = Actor::Host(format!("host-{n}").parse().unwrap());
        plane.site.app.report(&plane.site.caller(host), Report::default()).await.unwrap();
    }
    plane.site.app.keep_heartbeats().await.unwrap();
    let all = kept().await;
    assert_eq!(all.len(), 2 * OPERATIONS_MAX + 1);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn a_lost_host_that_comes_back_has_lost_what_moved_and_is_not_heard_about_it() {
    let plane = Plane::start().await;
    let owner = plane.site.organisation("acme").await;
    let shop = plane.site.environment(&owner, "acme", "shop").await;
    let (a, b) = (plane.site.enrol("host-a").await, plane.site.enrol("host-b").await);
    for host in ["host-a", "host-b"] {
        plane.site.allow(&shop.id, host).await;
    }
    let (mut a, mut b) = (plane.site.agent(&a).await, plane.site.agent(&b).await);
    let attach = |name: &str| v1::AttachRequest {
        environment: shop.id.clone(),
        name: name.to_owned(),
        ..Default::default()
    };
    let web = a.attach(attach("web")).await.unwrap().into_inner();
    b.attach(attach("db")).await.unwrap();
    let health = |generation, health: v1::HealthState| v1::ReportRequest {
        attachments: vec![v1::ActualAttachment {
            environment: shop.id.clone(),
            name: "web".to_owned(),
            generation,
            health: health.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    a.report(health(web.generation, v1::HealthState::Healthy)).await.unwrap();
    let mut watch = a.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
    next(&mut watch).await.unwrap();

    let mut services = ServicesClient::new(plane.site.connect(None).await);
    let mut state_of_web = async || {
        let get = v1::GetServiceRequest { environment: name(&shop.id), name: "web".to_owned() };
        let found = services.get_service(with(get, &owner)).await.unwrap().into_inner();
        found.instances[0].state()
    };
    assert_eq!(state_of_web().await, v1::InstanceState::Healthy);
    plane.pass(&mut [&mut b]).await;
    assert_eq!(plane.presence("host-a").await, HostPresence::Lost);
    assert_eq!(state_of_web().await, v1::InstanceState::Unhealthy);

    // Nothing new goes there; what is there goes elsewhere, with its address and another generation.
    let mut attachments = AttachmentsClient::new(plane.site.connect(None).await);
    let get = || v1::GetAttachmentRequest { environment: name(&shop.id), name: "web".to_owned() };
    let there = attachments.get_attachment(with(get(), &owner)).await.unwrap().into_inner();
    assert_eq!(there.health(), v1::HealthState::Unhealthy);
    let create = v1::CreateAttachmentRequest {
        environment: name(&shop.id),
        name: "new".to_owned(),
        host: "host-a".to_owned(),
        ..Default::default()
    };
    let why = "host host-a is lost: it has not been heard of; expected one that is".to_owned();
    let refused = attachments.create_attachment(with(create, &owner)).await;
    assert_eq!(said(refused), (Code::FailedPrecondition, why.clone()));
    let to = |name_of: &str, host: &str| v1::MoveAttachmentRequest {
        environment: name(&shop.id),
        name: name_of.to_owned(),
        host: host.to_owned(),
        grant: String::new(),
    };
    let refused = attachments.move_attachment(with(to("db", "host-a"), &owner)).await;
    assert_eq!(said(refused), (Code::FailedPrecondition, why));
    let moved = attachments.move_attachment(with(to("web", "host-b"), &owner)).await;
    let moved = moved.unwrap().into_inner();
    assert_eq!(moved.addresses, web.addresses);
    assert!(moved.generation > web.generation);

    // It comes back: it is told that the attachment is not its own, and what it says of it is not heard.
    let is_gone = |update: &v1::HostUpdate| matches!(&update.update, Some(Update::Removed(gone)) if gone.environment == shop.id);
    while !next(&mut watch).await.unwrap().updates.iter().any(is_gone) {}
    for generation in [web.generation, moved.generation] {
        a.report(health(generation, v1::HealthState::Unhealthy)).await.unwrap();
        let there = attachments.get_attachment(with(get(), &owner)).await.unwrap().into_inner();
        assert_eq!(there.health(), v1::HealthState::Unspecified);
        assert_eq!(state_of_web().await, v1::InstanceState::Healthy);
    }
    assert_eq!(plane.presence("host-a").await, HostPresence::Present);
    let release = v1::ReleaseRequest {
        environment: shop.id.clone(),
        name: "web".to_owned(),
        generation: web.generation,
    };
    a.release(release).await.unwrap();
    let there = attachments.get_attachment(with(get(), &owner)).await.unwrap().into_inner();
    assert_eq!((there.host.as_str(), there.generation), ("host-b", moved.generation));
}

#[tokio::test]
async fn a_host_that_says_nothing_takes_no_name_away_and_none_when_it_begins_anew() {
    let plane = Plane::start().await;
    let owner = plane.site.organisation("acme").await;
    let shop = plane.site.environment(&owner, "acme", "shop").await;
    let (a, b) = (plane.site.enrol("host-a").await, plane.site.enrol("host-b").await);
    for host in ["host-a", "host-b"] {
        plane.site.allow(&shop.id, host).await;
    }
    let (mut a, mut b) = (plane.site.agent(&a).await, plane.site.agent(&b).await);
    let attach = |name: &str| v1::AttachRequest {
        environment: shop.id.clone(),
        name: name.to_owned(),
        ..Default::default()
    };
    let web = a.attach(attach("web")).await.unwrap().into_inner();
    b.attach(attach("db")).await.unwrap();
    let interface = |state: v1::InterfaceState| v1::ReportRequest {
        attachments: vec![v1::ActualAttachment {
            environment: shop.id.clone(),
            name: "web".to_owned(),
            generation: web.generation,
            interface: state.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    // What the other host answers names from.
    let mut known_to_b = async || {
        let mut watch = b.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
        let known = next(&mut watch).await.unwrap().updates.into_iter();
        let mut web = known.filter_map(|update| match update.update {
            Some(Update::Service(service)) if service.name == "web" => Some(service),
            _ => None,
        });
        let instance = web.next().unwrap().instances.remove(0);
        (instance.state(), instance.addresses)
    };
    let named = |state| (state, web.addresses.clone());
    a.report(interface(v1::InterfaceState::Up)).await.unwrap();
    assert_eq!(known_to_b().await, named(v1::InstanceState::Healthy));
    // Its connection is down for a while: as long as it is not lost, nothing is different, and then it is what is named
    // when nobody else is healthy.
    for _ in 0..LOST_AFTER.as_secs() / REPORT_INTERVAL.as_secs() - 2 {
        plane.tick(&mut []).await;
        assert_eq!(known_to_b().await, named(v1::InstanceState::Healthy));
    }
    plane.pass(&mut []).await;
    assert_eq!(plane.presence("host-a").await, HostPresence::Lost);
    assert_eq!(known_to_b().await, named(v1::InstanceState::Unhealthy));
    // It is heard again, over a new connection; its daemon has begun anew and makes its interfaces again.
    a.report(interface(v1::InterfaceState::Pending)).await.unwrap();
    assert_eq!(known_to_b().await, named(v1::InstanceState::Healthy));
    a.report(interface(v1::InterfaceState::Failed)).await.unwrap();
    assert_eq!(known_to_b().await, named(v1::InstanceState::Unhealthy));
}
