//! An environment's authority gives way to its next generation.

use std::time::Duration;

use tonic::{Code, Streaming, transport::Channel};
use weft_audit::{PAGE_LEN_MAX, Query, query};
use weft_control::{Clock, app::Turn};
use weft_control_api::v1::{
    self,
    AuthorityState::{Current, Next, Previous},
    environments_client::EnvironmentsClient,
    host_agent_client::HostAgentClient,
    host_update::Update,
};
use weft_model::{
    record::{Authority, AuthorityState},
    rotation::{AUTHORITY_DAYS, LEAF_MARGIN, PREPARE_MIN, ROTATE_BEFORE_DAYS},
};
use weft_pki::{
    CertificateDer, KeyKind, TrustAnchor, UnixTime, installation, request, verify_peer,
};

use crate::site::{Site, code, name, next, said, with};

const LEAF: Duration = Duration::from_secs(3_600);

/// A host with an attachment, which follows what it is told.
struct Follower {
    agent: HostAgentClient<Channel>,
    watch: Streaming<v1::WatchResponse>,
    revision: u64,
    anchors: Vec<String>,
}

impl Follower {
    /// What it trusts, once it is told.
    async fn hear(&mut self) -> &[String] {
        loop {
            let news = next(&mut self.watch).await.unwrap();
            self.revision = news.revision;
            let settings = news.updates.into_iter().find_map(|update| match update.update {
                Some(Update::Environment(settings)) => Some(settings),
                _ => None,
            });
            if let Some(settings) = settings {
                self.anchors = settings.anchors;
                return &self.anchors;
            }
        }
    }

    async fn report(&mut self) {
        let report = v1::ReportRequest { revision: self.revision, ..Default::default() };
        self.agent.report(report).await.unwrap();
    }
}

struct Shop {
    site: Site,
    clock: Clock,
    owner: String,
    id: String,
    turn: Turn,
    environments: EnvironmentsClient<Channel>,
}

impl Shop {
    async fn open() -> Self {
        let clock = Clock::manual(Clock::default().now());
        let site = Site::start_at(clock.clone()).await;
        let owner = site.organisation("acme").await;
        let mut environments = EnvironmentsClient::new(site.connect(None).await);
        let make = v1::CreateEnvironmentRequest {
            organisation: "acme".to_owned(),
            name: "shop".to_owned(),
            subnets: vec!["10.40.0.0/24".to_owned()],
            leaf_seconds: 3_600,
            ..Default::default()
        };
        let made = environments.create_environment(with(make, &owner)).await.unwrap();
        let turn = site.turn(&site.app).await;
        Self { site, clock, owner, id: made.into_inner().id, turn, environments }
    }

    async fn host(&self, id: &str) -> Follower {
        let host = self.site.enrol(id).await;
        self.site.allow(&self.id, id).await;
        let mut agent = self.site.agent(&host).await;
        let (environment, name) = (self.id.clone(), format!("on-{id}"));
        agent.attach(v1::AttachRequest { environment, name, ..Default::default() }).await.unwrap();
        let watch = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
        let mut follower = Follower { agent, watch, revision: 0, anchors: Vec::new() };
        follower.hear().await;
        follower
    }

    async fn rotate(
        &mut self,
        generation: u32,
        emergency: bool,
    ) -> Result<v1::Environment, tonic::Status> {
        let environment = name(&self.id);
        let rotate = v1::RotateAuthorityRequest { environment, generation, emergency };
        let rotated = self.environments.rotate_authority(with(rotate, &self.owner)).await;
        Ok(rotated?.into_inner())
    }

    async fn go_on(&mut self, after: Duration) {
        self.clock.advance(after);
        self.site.app.keep_heartbeats().await.unwrap();
        self.site.seen(&self.site.app).await;
        self.site.app.go_on_with_rotations(&self.turn).await.unwrap();
    }

    /// Generations with what they do, as they are told to whoever asks.
    async fn generations(&mut self) -> Vec<(u32, v1::AuthorityState)> {
        let get = v1::GetEnvironmentRequest { environment: name(&self.id) };
        let found = self.environments.get_environment(with(get, &self.owner)).await.unwrap();
        let found = found.into_inner().authorities;
        found.iter().map(|of| (of.generation, of.state())).collect()
    }

    /// Whether a new leaf of a host is of this anchor.
    async fn issues(&self, host: &mut Follower, anchor: &str) -> bool {
        let key = request::new_key(KeyKind::EcdsaP256).unwrap();
        let environment = self.id.clone();
        let ask = v1::IssueLeafRequest { environment, signing_request: key.request };
        let issued = host.agent.issue_leaf(ask).await.unwrap().into_inner();
        assert_eq!(issued.anchors, host.anchors);
        let leaf: CertificateDer<'_> = installation::anchor(issued.certificate.as_bytes()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(self.clock.now().0));
        let anchor = TrustAnchor::from_pem(anchor.as_bytes()).unwrap();
        verify_peer(&anchor, &[leaf], now).is_ok()
    }

    /// What is recorded of authorities.
    fn recorded(&self) -> Vec<String> {
        let logs = [(self.site.audit.process.clone(), self.site.audit.own())];
        let page = query(&logs, &Query::default(), None, PAGE_LEN_MAX).unwrap();
        let events = page.found.into_iter().map(|found| found.event);
        let of_authority = events.filter(|event| event.action.as_str().ends_with("-authority"));
        of_authority.map(|event| format!("{} {}", event.action, event.outcome)).collect()
    }
}

#[tokio::test]
async fn an_authority_is_replaced_step_by_step() {
    let mut shop = Shop::open().await;
    let (mut a, mut b) = (shop.host("host-a").await, shop.host("host-b").await);
    let [old] = &a.anchors.clone()[..] else { panic!("{:?}", a.anchors) };
    assert_eq!(said(shop.rotate(2, false).await).0, Code::InvalidArgument);
    assert_eq!(said(shop.rotate(0, false).await).0, Code::InvalidArgument);
    let begun = shop.rotate(1, false).await.unwrap();
    let until = shop.clock.now().after(LEAF + LEAF_MARGIN).0;
    assert_eq!(begun.authorities[1].until_ms, until);
    assert_eq!(shop.rotate(1, false).await.unwrap(), begun, "asked again, nothing happens");
    assert_eq!(shop.generations().await, [(1, Current), (2, Next)]);

    // Both are trusted, and the old one issues, until everybody has heard of the new one.
    for host in [&mut a, &mut b] {
        assert_eq!(host.hear().await.len(), 2);
    }
    let new = a.anchors[1].clone();
    assert!(shop.issues(&mut a, old).await && a.anchors[0] == *old);
    a.report().await;
    shop.go_on(PREPARE_MIN).await;
    assert_eq!(shop.generations().await, [(1, Current), (2, Next)]);
    b.report().await;
    shop.go_on(Duration::ZERO).await;
    assert_eq!(shop.generations().await, [(2, Current), (1, Previous)]);
    for host in [&mut a, &mut b] {
        assert_eq!(host.hear().await, [new.clone(), old.clone()]);
        assert!(shop.issues(host, &new).await);
    }
    let kept = shop
        .site
        .app
        .view()
        .read(|state| state.list::<Authority>(&format!("{}/", shop.id), None, 10).unwrap());
    assert!(kept[0].record.sealed_key.is_empty(), "the key of what issues no more is gone");
    assert_eq!(said(shop.rotate(2, false).await).0, Code::FailedPrecondition);

    shop.go_on(LEAF).await;
    assert_eq!(shop.generations().await.len(), 2);
    shop.go_on(LEAF_MARGIN).await;
    assert_eq!(shop.generations().await, [(2, Current)]);
    assert_eq!(a.hear().await, std::slice::from_ref(&new));
    let rotate = ["environments.rotate-authority begun", "environments.rotate-authority done"];
    let recorded = shop.recorded();
    assert!(recorded.windows(2).any(|lines| lines == rotate), "{recorded:?}");
    let own = [
        "environments.switch-authority begun",
        "environments.switch-authority done",
        "environments.retire-authority begun",
        "environments.retire-authority done",
    ];
    let by_itself = recorded.iter().filter(|line| !line.starts_with("environments.rotate"));
    assert_eq!(by_itself.map(String::as_str).collect::<Vec<_>>(), own);
}

#[tokio::test]
async fn who_is_not_heard_of_holds_a_rotation_up_as_long_as_its_leaf_counts() {
    let mut shop = Shop::open().await;
    let _away = shop.host("host-a").await;
    shop.rotate(1, false).await.unwrap();
    shop.go_on(LEAF).await;
    assert_eq!(shop.generations().await, [(1, Current), (2, Next)]);
    shop.go_on(LEAF_MARGIN).await;
    assert_eq!(shop.generations().await, [(2, Current), (1, Previous)]);
}

/// Whoever is away has a certificate of when they were longer.
#[tokio::test]
async fn leaves_that_were_longer_hold_a_rotation_up() {
    let mut shop = Shop::open().await;
    for leaf_seconds in [7_200, 3_600] {
        let environment = name(&shop.id);
        let update = v1::UpdateEnvironmentRequest { environment, leaf_seconds, other_names: None };
        let updated = shop.environments.update_environment(with(update, &shop.owner)).await;
        assert_eq!(updated.unwrap().into_inner().leaf_seconds, leaf_seconds);
    }
    let _away = shop.host("host-a").await;
    let begun = shop.rotate(1, false).await.unwrap();
    let until = shop.clock.now().after(2 * LEAF + LEAF_MARGIN).0;
    assert_eq!(begun.authorities[1].until_ms, until);
    shop.go_on(LEAF + LEAF_MARGIN).await;
    assert_eq!(shop.generations().await, [(1, Current), (2, Next)]);
    shop.go_on(LEAF).await;
    assert_eq!(shop.generations().await, [(2, Current), (1, Previous)]);
}

#[tokio::test]
async fn a_stolen_authority_is_trusted_no_more_at_once() {
    let mut shop = Shop::open().await;
    let mut a = shop.host("host-a").await;
    let old = a.anchors[0].clone();
    shop.rotate(1, false).await.unwrap();
    a.hear().await;
    let replaced = shop.rotate(1, true).await.unwrap();
    assert_eq!(shop.generations().await, [(3, Current)]);
    assert_eq!(shop.rotate(1, true).await.unwrap(), replaced, "asked again, nothing happens");
    let trusts = a.hear().await.to_vec();
    assert!(trusts.len() == 1 && trusts[0] != old, "{trusts:?}");
    assert!(shop.issues(&mut a, &trusts[0]).await);
    // Only an admin of it may.
    let rotate =
        v1::RotateAuthorityRequest { environment: name(&shop.id), generation: 3, emergency: true };
    let operator = shop.site.operator.clone();
    let refused = shop.environments.rotate_authority(with(rotate, &operator)).await;
    assert_eq!(code(refused), Code::PermissionDenied);
}

#[tokio::test]
async fn an_authority_that_ends_is_replaced_by_itself() {
    let mut shop = Shop::open().await;
    let day = Duration::from_secs(24 * 3_600);
    let states = |shop: &Shop| {
        let path = format!("{}/", shop.id);
        let all = shop.site.app.view().read(|state| state.list::<Authority>(&path, None, 10));
        all.unwrap().into_iter().map(|of| of.record.state).collect::<Vec<_>>()
    };
    shop.go_on(day * (AUTHORITY_DAYS - ROTATE_BEFORE_DAYS - 1)).await;
    assert_eq!(states(&shop), [AuthorityState::Current]);
    shop.go_on(day).await;
    assert_eq!(states(&shop), [AuthorityState::Current, AuthorityState::Next]);
    shop.go_on(PREPARE_MIN).await;
    assert_eq!(states(&shop), [AuthorityState::Previous, AuthorityState::Current]);
    shop.go_on(LEAF + LEAF_MARGIN).await;
    assert_eq!(states(&shop), [AuthorityState::Current]);
    assert_eq!(shop.recorded().len(), 6);
}
