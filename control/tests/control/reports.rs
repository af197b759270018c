//! What hosts say of what they have, who sees it, and what it costs.

use std::time::Duration;

use tonic::{Code, Status, transport::Channel};
use weft_control::Clock;
use weft_control_api::v1::{
    self, InstanceState, InterfaceState, attachments_client::AttachmentsClient,
    environments_client::EnvironmentsClient, host_agent_client::HostAgentClient,
    hosts_client::HostsClient, services_client::ServicesClient,
};
use weft_model::{
    Record,
    access::Component,
    liveness::HEARTBEAT_GRAIN,
    record::Peering,
    reports::{ATTACHMENTS_MAX, ENVIRONMENTS_MAX, ERROR_LEN_MAX, KEYS_GRAIN, PEERS_MAX},
};
use weft_store::{Revision, Store};

use crate::site::{Site, deletion, name, said, with};

/// `web` of `acme/shop` and `api` of `globex/shop` on one host, and a host that has nothing.
struct Shops {
    site: Site,
    clock: Clock,
    acme: Shop,
    globex: Shop,
    host: HostAgentClient<Channel>,
    other: HostAgentClient<Channel>,
}

struct Shop {
    owner: String,
    id: String,
    generation: u64,
}

impl Shops {
    async fn open() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let (host, other) = (site.enrol("host-a").await, site.enrol("host-b").await);
        let (mut host, other) = (site.agent(&host).await, site.agent(&other).await);
        let mut shops = Vec::new();
        for (organisation, attachment) in [("acme", "web"), ("globex", "api")] {
            let owner = site.organisation(organisation).await;
            let id = site.environment(&owner, organisation, "shop").await.id;
            site.allow(&id, "host-a").await;
            let (environment, name) = (id.clone(), attachment.to_owned());
            let attach = v1::AttachRequest { environment, name, ..Default::default() };
            let generation = host.attach(attach).await.unwrap().into_inner().generation;
            shops.push(Shop { owner, id, generation });
        }
        let [acme, globex] = <[Shop; 2]>::try_from(shops).ok().unwrap();
        Self { site, clock, acme, globex, host, other }
    }

    async fn report(&mut self, report: v1::ReportRequest) -> v1::ReportResponse {
        self.host.report(report).await.unwrap().into_inner()
    }

    async fn report_of(
        &self,
        id: &str,
        page: Option<v1::PageRequest>,
    ) -> v1::GetHostReportResponse {
        let mut hosts = HostsClient::new(self.site.connect(None).await);
        let get = v1::GetHostReportRequest { id: id.to_owned(), page };
        hosts.get_host_report(with(get, &self.site.operator)).await.unwrap().into_inner()
    }

    async fn attachment(&self, by: &Shop, called: &str) -> Result<v1::Attachment, Status> {
        let mut attachments = AttachmentsClient::new(self.site.connect(None).await);
        let get = v1::GetAttachmentRequest { environment: name(&by.id), name: called.to_owned() };
        Ok(attachments.get_attachment(with(get, &by.owner)).await?.into_inner())
    }

    /// Whether others are sent to `web`.
    async fn web(&self) -> InstanceState {
        let mut services = ServicesClient::new(self.site.connect(None).await);
        let get =
            v1::GetServiceRequest { environment: name(&self.acme.id), name: "web".to_owned() };
        let found = services.get_service(with(get, &self.acme.owner)).await.unwrap().into_inner();
        found.instances[0].state()
    }

    /// When what is kept of the host's sessions in `acme/shop` was written.
    async fn written(&self) -> Option<Revision> {
        let key = Peering::key_at(&format!("{}/host-a", self.acme.id)).unwrap();
        self.site.store.get(&key).await.unwrap().map(|found| found.modified)
    }

    async fn release(&mut self, name: &str, generation: u64) {
        let (environment, name) = (self.acme.id.clone(), name.to_owned());
        let release = v1::ReleaseRequest { environment, name, generation };
        self.host.release(release).await.unwrap();
    }

    async fn kept(&self, kind: &str) -> usize {
        self.site.store.list(&format!("{kind}/"), None, 1_000).await.unwrap().entries.len()
    }
}

impl Shop {
    fn actual(&self, name: &str, state: InterfaceState, error: &str) -> v1::ActualAttachment {
        v1::ActualAttachment {
            environment: self.id.clone(),
            name: name.to_owned(),
            generation: self.generation,
            error: error.to_owned(),
            interface: state.into(),
            ..Default::default()
        }
    }

    fn peer(&self, host: &str, key_age_ms: u64, error: &str) -> v1::ActualPeer {
        v1::ActualPeer {
            environment: self.id.clone(),
            host: host.to_owned(),
            is_established: key_age_ms > 0,
            key_age_ms,
            error: error.to_owned(),
        }
    }
}

fn attachments(attachments: Vec<v1::ActualAttachment>) -> v1::ReportRequest {
    v1::ReportRequest { attachments, ..Default::default() }
}

fn peers(peers: Vec<v1::ActualPeer>) -> v1::ReportRequest {
    v1::ReportRequest { peers, ..Default::default() }
}

#[tokio::test]
async fn operators_see_what_a_host_has_and_members_what_is_of_their_environment() {
    let mut shops = Shops::open().await;
    let before = shops.report_of("host-a", None).await.environments;
    assert_eq!(before[0].attachments[0].interface(), InterfaceState::Unspecified);
    assert_eq!((before[0].sessions.len(), before[0].reported_ms), (0, 0));
    let report = v1::ReportRequest {
        attachments: vec![
            shops.acme.actual("web", InterfaceState::Up, ""),
            shops.globex.actual("api", InterfaceState::Failed, "no\x1b[2J\u{202e} namespace"),
        ],
        peers: vec![
            shops.acme.peer("host-b", 1_500, ""),
            shops.acme.peer("host-c", 0, "it does\nnot answer"),
            shops.globex.peer("host-b", 7, ""),
        ],
        ..Default::default()
    };
    let answer = shops.report(report).await;
    assert!(!answer.again);
    let now = shops.clock.now().0;

    let report = shops.report_of("host-a", None).await;
    assert_eq!(report.page.unwrap().next, "");
    let of = |shop: &Shop| {
        report.environments.iter().find(|found| found.environment == shop.id).unwrap()
    };
    let (acme, globex) = (of(&shops.acme), of(&shops.globex));
    assert_eq!(report.environments.len(), 2);
    let [web] = &acme.attachments[..] else { panic!("{acme:?}") };
    assert_eq!((web.name.as_str(), web.interface()), ("web", InterfaceState::Up));
    assert_eq!((web.health(), web.reported_ms), (v1::HealthState::Healthy, now));
    let session = |host: &str, key_age_ms, error: &str| v1::PeerSession {
        host: host.to_owned(),
        is_established: key_age_ms > 0,
        key_age_ms,
        error: error.to_owned(),
    };
    let expected =
        [session("host-b", 1_500, ""), session("host-c", 0, "it does\u{fffd}not answer")];
    assert_eq!((&acme.sessions[..], acme.reported_ms), (&expected[..], now));
    assert_eq!(globex.sessions, [session("host-b", 7, "")]);
    let cleaned = "no\u{fffd}[2J\u{fffd} namespace";
    let api = &globex.attachments[0];
    assert_eq!((api.interface(), api.error.as_str()), (InterfaceState::Failed, cleaned));

    // In parts.
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = Some(v1::PageRequest { size: 1, after });
        let part = shops.report_of("host-a", page).await;
        found.extend(part.environments);
        after = part.page.unwrap().next;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(found, report.environments);
    assert_eq!(shops.report_of("host-b", None).await.environments, []);

    // Every process knows it.
    let process = shops.site.another_process().await;
    shops.site.seen(&process).await;
    let scheduler = shops.site.component(Component::Scheduler);
    let (host, mut seen) = ("host-a".parse().unwrap(), Vec::new());
    let take = |report: weft_control::app::EnvironmentReport| {
        seen.push(report.peering.unwrap().peers.len());
        false
    };
    process.host_report(&scheduler, &host, None, take).await.unwrap();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);

    // Members see what is theirs of it, and the other environment's is not there.
    let web = shops.attachment(&shops.acme, "web").await.unwrap();
    assert_eq!((web.interface(), web.error.as_str()), (InterfaceState::Up, ""));
    let api = shops.attachment(&shops.globex, "api").await.unwrap();
    assert_eq!((api.interface(), api.error.as_str()), (InterfaceState::Failed, cleaned));
    assert_eq!((api.health(), api.reported_ms), (v1::HealthState::Unhealthy, now));
    let absent = said(shops.attachment(&shops.acme, "nothing").await);
    assert_eq!(said(shops.attachment(&shops.acme, "api").await), absent);
    let mut hosts = HostsClient::new(shops.site.connect(None).await);
    let get = v1::GetHostReportRequest { id: "host-a".to_owned(), page: None };
    let refused = said(hosts.get_host_report(with(get, &shops.acme.owner)).await);
    assert_eq!(refused, (Code::NotFound, "no such host".to_owned()));
}

#[tokio::test]
async fn others_are_sent_to_what_is_served_and_answers() {
    let mut shops = Shops::open().await;
    assert_eq!(shops.web().await, InstanceState::Healthy, "nobody says anything");
    let (id, generation) = (shops.acme.id.clone(), shops.acme.generation);
    let acme = Shop { owner: String::new(), id, generation };
    let said = |interface: InterfaceState, health: v1::HealthState| {
        let error = if interface == InterfaceState::Failed { "no such namespace" } else { "" };
        let actual = acme.actual("web", interface, error);
        attachments(vec![v1::ActualAttachment { health: health.into(), ..actual }])
    };
    let reports = [
        (InterfaceState::Pending, v1::HealthState::Unspecified, InstanceState::Starting),
        (InterfaceState::Up, v1::HealthState::Unspecified, InstanceState::Healthy),
        // Whoever makes it anew says so, and it stays what it was.
        (InterfaceState::Pending, v1::HealthState::Unspecified, InstanceState::Healthy),
        (InterfaceState::Up, v1::HealthState::Starting, InstanceState::Starting),
        (InterfaceState::Up, v1::HealthState::Unhealthy, InstanceState::Unhealthy),
        (InterfaceState::Failed, v1::HealthState::Healthy, InstanceState::Unhealthy),
        // What is not said is as it was said last.
        (InterfaceState::Pending, v1::HealthState::Unspecified, InstanceState::Unhealthy),
        (InterfaceState::Unspecified, v1::HealthState::Healthy, InstanceState::Unhealthy),
        (InterfaceState::Up, v1::HealthState::Unspecified, InstanceState::Healthy),
    ];
    for (interface, health, expected) in reports {
        let report = said(interface, health);
        shops.report(report.clone()).await;
        assert_eq!(shops.web().await, expected, "{report:?}");
    }
}

#[tokio::test]
async fn what_a_host_says_of_what_is_not_its_own_is_not_heard() {
    let mut shops = Shops::open().await;
    let foreign = v1::ReportRequest {
        attachments: vec![shops.acme.actual("web", InterfaceState::Failed, "it is mine")],
        peers: vec![shops.acme.peer("host-a", 0, "it is mine")],
        without_peers: vec![shops.globex.id.clone()],
        ..Default::default()
    };
    let answer = shops.other.report(foreign.clone()).await.unwrap().into_inner();
    assert!(!answer.again);
    // Nor of another one of that name, which it had.
    let earlier = v1::ActualAttachment {
        generation: shops.acme.generation + 1,
        ..shops.acme.actual("web", InterfaceState::Failed, "")
    };
    shops.report(attachments(vec![earlier])).await;
    assert_eq!((shops.kept("health").await, shops.kept("peering").await), (0, 0));
    assert_eq!(shops.web().await, InstanceState::Healthy);
    assert_eq!(shops.attachment(&shops.acme, "web").await.unwrap().reported_ms, 0);
    let absent = foreign
        .attachments
        .into_iter()
        .map(|actual| v1::ActualAttachment { environment: "env-0".to_owned(), ..actual });
    let absent = shops.other.report(attachments(absent.collect())).await.unwrap().into_inner();
    assert_eq!(absent, answer, "an environment that is not there looks the same");
}

#[tokio::test]
async fn a_report_has_bounds() {
    let mut shops = Shops::open().await;
    let web = shops.acme.actual("web", InterfaceState::Up, "");
    let peer = |n: usize| shops.acme.peer(&format!("host-{n}"), 1, "");
    let environment = |n: usize| format!("env-{n}");
    let long = "x".repeat(ERROR_LEN_MAX + 1);
    let too_long = "257 bytes; expected at most 256";
    let too_many = "1025 of them; expected at most 1024";
    let without = |len| v1::ReportRequest {
        without_peers: (0..len).map(environment).collect(),
        ..Default::default()
    };
    let refused = [
        (attachments(vec![web.clone(); ATTACHMENTS_MAX + 1]), "attachments", too_many),
        (peers((0..=PEERS_MAX).map(peer).collect()), "peers", too_many),
        (without(ENVIRONMENTS_MAX + 1), "without_peers", too_many),
        (
            attachments(vec![shops.acme.actual("web", InterfaceState::Failed, &long)]),
            "attachments.error",
            too_long,
        ),
        (peers(vec![shops.acme.peer("host-b", 0, &long)]), "peers.error", too_long),
    ];
    let taken = [
        attachments(vec![web; ATTACHMENTS_MAX]),
        peers((0..PEERS_MAX).map(peer).collect()),
        without(ENVIRONMENTS_MAX),
        attachments(vec![shops.acme.actual("web", InterfaceState::Failed, &long[1..])]),
    ];
    for (report, field, problem) in refused {
        let expected = (Code::InvalidArgument, format!("{field}: {problem}"));
        assert_eq!(said(shops.host.report(report).await), expected);
    }
    assert_eq!((shops.kept("health").await, shops.kept("peering").await), (0, 0));
    for report in taken {
        shops.report(report).await;
    }
    let report = shops.report_of("host-a", None).await;
    let sessions = report.environments.iter().map(|found| found.sessions.len());
    assert_eq!(sessions.sum::<usize>(), PEERS_MAX);
}

#[tokio::test]
async fn sessions_cost_the_store_what_changes_and_so_much_at_most() {
    let mut shops = Shops::open().await;
    let clock = shops.clock.clone();
    let mut say = async |key_age_ms, error: &str| {
        let said = peers(vec![shops.acme.peer("host-b", key_age_ms, error)]);
        let again = shops.report(said).await.again;
        (shops.written().await, again)
    };
    let first = say(1, "").await;
    assert!(first.0.is_some());
    // Over a new connection a host says everything again.
    for age in 1..5 {
        assert_eq!(say(age, "").await, first, "keys grow older");
    }
    clock.advance(KEYS_GRAIN);
    let older = say(5, "").await;
    assert!(older.0 > first.0);

    clock.advance(HEARTBEAT_GRAIN * 64);
    let mut last = older.0;
    for n in 0..64 {
        let (now, again) = say(0, &n.to_string()).await;
        assert!(now > last && !again, "{n}");
        last = now;
    }
    assert_eq!(say(0, "one more").await, (last, true));
    // What is so already needs no room.
    assert_eq!(say(0, "63").await, (last, false));
    clock.advance(HEARTBEAT_GRAIN);
    let (now, again) = say(0, "one more").await;
    assert!(now > last && !again);
}

#[tokio::test]
async fn what_is_kept_of_a_hosts_sessions_goes_with_its_last_attachment_there() {
    let mut shops = Shops::open().await;
    let attach = v1::AttachRequest {
        environment: shops.acme.id.clone(),
        name: "db".to_owned(),
        ..Default::default()
    };
    let db = shops.host.attach(attach).await.unwrap().into_inner();
    let said = peers(vec![shops.acme.peer("host-b", 1, ""), shops.globex.peer("host-b", 1, "")]);
    shops.report(said.clone()).await;
    shops.release("db", db.generation).await;
    assert!(shops.written().await.is_some());
    shops.release("web", shops.acme.generation).await;
    assert!(shops.written().await.is_none());
    // It has nothing there any more.
    shops.report(said).await;
    assert!(shops.written().await.is_none());
    assert_eq!(shops.kept("peering").await, 1);
    // Nobody is left who could have sessions with it.
    let none = vec![shops.globex.id.clone()];
    shops.report(v1::ReportRequest { without_peers: none, ..Default::default() }).await;
    let report = shops.report_of("host-a", None).await;
    assert_eq!((report.environments.len(), report.environments[0].sessions.len()), (1, 0));
    // With its environment goes what is left.
    let mut environments = EnvironmentsClient::new(shops.site.connect(None).await);
    let delete = with(deletion(&shops.globex.id, 0), &shops.globex.owner);
    environments.delete_environment(delete).await.unwrap();
    shops.clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        shops.site.tidy().await;
    }
    assert_eq!(shops.kept("peering").await, 0);
}
