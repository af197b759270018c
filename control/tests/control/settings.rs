//! What is changed about an environment after it was made.

use tonic::{Code, Streaming, transport::Channel};
use weft_control::AppError;
use weft_control_api::v1::{
    self,
    OtherNamesRule::{Absent, Forward, Refuse, Unspecified},
    environments_client::EnvironmentsClient,
    host_agent_client::HostAgentClient,
    host_update::Update,
};
use weft_model::{access::EnvironmentRole, record::OtherNames, settings::Change};
use weft_pki::{
    CertificateDer, KeyKind, TrustAnchor, UnixTime, installation, request, verify_peer,
};

use crate::site::{Site, deletion, name, next, said, with};

const DAY_SECONDS: u32 = 86_400;

/// An environment with an attachment on a host that follows.
struct Shop {
    site: Site,
    owner: String,
    id: String,
    environments: EnvironmentsClient<Channel>,
    agent: HostAgentClient<Channel>,
    watch: Streaming<v1::WatchResponse>,
}

impl Shop {
    async fn open() -> Self {
        let site = Site::start().await;
        let owner = site.organisation("acme").await;
        let id = site.environment(&owner, "acme", "shop").await.id;
        let host = site.enrol("host-a").await;
        site.allow(&id, "host-a").await;
        let mut agent = site.agent(&host).await;
        let attach = v1::AttachRequest {
            environment: id.clone(),
            name: "web".to_owned(),
            ..Default::default()
        };
        agent.attach(attach).await.unwrap();
        let watch = agent.watch(v1::WatchRequest { revision: 0 }).await.unwrap().into_inner();
        let environments = EnvironmentsClient::new(site.connect(None).await);
        let mut shop = Self { site, owner, id, environments, agent, watch };
        shop.hear().await;
        shop
    }

    async fn update(
        &mut self,
        by: &str,
        update: v1::UpdateEnvironmentRequest,
    ) -> Result<v1::Environment, (Code, String)> {
        let update = v1::UpdateEnvironmentRequest { environment: name(&self.id), ..update };
        match self.environments.update_environment(with(update, by)).await {
            Ok(updated) => Ok(updated.into_inner()),
            refused => Err(said(refused)),
        }
    }

    /// By its owner.
    async fn own(
        &mut self,
        update: v1::UpdateEnvironmentRequest,
    ) -> Result<v1::Environment, (Code, String)> {
        let owner = self.owner.clone();
        self.update(&owner, update).await
    }

    /// What the host is told of it next.
    async fn hear(&mut self) -> v1::EnvironmentSettings {
        loop {
            let news = next(&mut self.watch).await.unwrap();
            let settings = news.updates.into_iter().find_map(|update| match update.update {
                Some(Update::Environment(settings)) => Some(settings),
                _ => None,
            });
            if let Some(settings) = settings {
                return settings;
            }
        }
    }

    /// For how long the host gets a certificate now, seconds.
    async fn lasts(&mut self) -> u32 {
        let key = request::new_key(KeyKind::EcdsaP256).unwrap();
        let environment = self.id.clone();
        let ask = v1::IssueLeafRequest { environment, signing_request: key.request };
        let issued = self.agent.issue_leaf(ask).await.unwrap().into_inner();
        let anchor = TrustAnchor::from_pem(issued.anchors[0].as_bytes()).unwrap();
        let leaf: CertificateDer<'_> = installation::anchor(issued.certificate.as_bytes()).unwrap();
        let peer = verify_peer(&anchor, &[leaf], UnixTime::now()).unwrap();
        // For clocks that are behind.
        let seconds = peer.not_after.duration_since(peer.not_before).unwrap().as_secs() - 5 * 60;
        u32::try_from(seconds).unwrap()
    }
}

fn leaf(leaf_seconds: u32) -> v1::UpdateEnvironmentRequest {
    v1::UpdateEnvironmentRequest { leaf_seconds, ..Default::default() }
}

#[tokio::test]
async fn leaves_are_valid_for_another_time_from_the_next_renewal_on() {
    let mut shop = Shop::open().await;
    assert_eq!(shop.lasts().await, DAY_SECONDS);
    for seconds in [3_600, 7 * DAY_SECONDS] {
        let updated = shop.own(leaf(seconds)).await.unwrap();
        assert_eq!(
            (updated.leaf_seconds, updated.state()),
            (seconds, v1::EnvironmentState::Active)
        );
        assert_eq!(shop.lasts().await, seconds);
        assert_eq!(shop.hear().await.leaf_seconds, seconds);
        assert_eq!(shop.own(leaf(seconds)).await.unwrap(), updated, "asked again, nothing happens");
    }
}

fn names(rule: v1::OtherNamesRule, servers: &[&str]) -> v1::UpdateEnvironmentRequest {
    let name_servers = servers.iter().map(ToString::to_string).collect();
    let other_names = Some(v1::OtherNames { rule: rule.into(), name_servers });
    v1::UpdateEnvironmentRequest { other_names, ..Default::default() }
}

fn forward(servers: &[&str]) -> v1::UpdateEnvironmentRequest {
    names(Forward, servers)
}

#[tokio::test]
async fn other_names_are_forwarded_where_an_operator_says_so() {
    let mut shop = Shop::open().await;
    let operator = shop.site.operator.clone();
    let get = |shop: &Shop| {
        let get = v1::GetEnvironmentRequest { environment: name(&shop.id) };
        with(get, &shop.owner)
    };
    let found = get(&shop);
    let found = shop.environments.get_environment(found).await.unwrap().into_inner();
    assert_eq!(found.other_names.unwrap().rule(), Refuse);
    let servers = ["192.0.2.53", "[2001:db8::53]:5353"];
    let whole = v1::OtherNames {
        rule: Forward.into(),
        name_servers: vec!["192.0.2.53:53".to_owned(), "[2001:db8::53]:5353".to_owned()],
    };
    let updated = shop.update(&operator, forward(&servers)).await.unwrap();
    assert_eq!((updated.other_names, updated.leaf_seconds), (Some(whole.clone()), DAY_SECONDS));
    assert_eq!(shop.hear().await.other_names, Some(whole.clone()));
    // What is not said stays.
    let updated = shop.own(leaf(3_600)).await.unwrap();
    assert_eq!(updated.other_names, Some(whole));
    assert_eq!(shop.hear().await.leaf_seconds, 3_600);
    // Who may not open it may close it, and who has opened it, too.
    let updated = shop.own(names(Absent, &[])).await.unwrap();
    assert_eq!(updated.other_names.unwrap().rule(), Absent);
    let told = shop.hear().await.other_names.unwrap();
    assert_eq!((told.rule(), told.name_servers.len()), (Absent, 0));
    shop.update(&operator, names(Refuse, &[])).await.unwrap();
    assert_eq!(shop.hear().await.other_names.unwrap().rule(), Refuse);
}

/// Hosts ask from their own network: a tenant does not say whom.
#[tokio::test]
async fn no_tenant_says_whom_hosts_ask() {
    let mut shop = Shop::open().await;
    let (code, _) = shop.own(forward(&["192.0.2.53"])).await.unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    let (reference, servers) = (shop.id.parse().unwrap(), vec!["127.0.0.1:53".parse().unwrap()]);
    let forward = Change { other_names: Some(OtherNames::Forward(servers)), ..Change::default() };
    let absent = Change { other_names: Some(OtherNames::Absent), ..Change::default() };
    for (role, may) in [
        (EnvironmentRole::Viewer, false),
        (EnvironmentRole::Deployer, false),
        (EnvironmentRole::Admin, true),
    ] {
        let (machine, app) = (shop.site.machine(&shop.id, role), &shop.site.app);
        let refused = app.update_environment(&machine, &reference, &forward).await;
        assert!(matches!(refused, Err(AppError::Refused)), "{role:?}: {refused:?}");
        let updated = app.update_environment(&machine, &reference, &absent).await;
        assert_eq!(updated.is_ok(), may, "{role:?}: {updated:?}");
    }
}

#[tokio::test]
async fn other_names_that_there_are_not_are_refused_and_change_nothing() {
    let mut shop = Shop::open().await;
    let operator = shop.site.operator.clone();
    for (update, why) in [
        (names(Unspecified, &[]), "rule: is missing; expected refuse, absent or forward"),
        (forward(&[]), "name_servers: 0 servers; expected 1 to 4"),
        (forward(&["192.0.2.53"; 5]), "name_servers: 5 servers; expected 1 to 4"),
        (
            names(Absent, &["192.0.2.53"]),
            "name_servers: are asked by nobody; expected them with forward only",
        ),
        (
            forward(&["dns.example"]),
            "name_servers: dns.example: expected ADDRESS, ADDRESS:PORT or [IPv6]:PORT",
        ),
        (
            forward(&["192.0.2.53:0"]),
            "name_servers: 192.0.2.53:0: port 0 is not usable; expected 1 to 65535",
        ),
        (
            forward(&["10.40.0.1"]),
            "name_servers: 10.40.0.1:53: is the gateway that asks; expected a server outside",
        ),
    ] {
        let refused = shop.update(&operator, update).await.unwrap_err();
        assert_eq!(refused, (Code::InvalidArgument, format!("other_names.{why}")));
    }
    let updated = shop.own(names(Absent, &[])).await.unwrap();
    assert_eq!(shop.hear().await.other_names, updated.other_names, "the first that is told");
}

#[tokio::test]
async fn settings_that_there_are_not_are_refused_and_change_nothing() {
    let mut shop = Shop::open().await;
    for seconds in [3_599, 604_801] {
        let problem = format!("leaf_seconds: {seconds}; expected 3600 to 604800");
        assert_eq!(shop.own(leaf(seconds)).await.unwrap_err(), (Code::InvalidArgument, problem));
    }
    let (code, why) = shop.own(v1::UpdateEnvironmentRequest::default()).await.unwrap_err();
    assert_eq!(code, Code::InvalidArgument, "{why}");
    assert_eq!(shop.lasts().await, DAY_SECONDS);
    let delete = with(deletion(&shop.id, DAY_SECONDS), &shop.owner);
    shop.environments.delete_environment(delete).await.unwrap();
    let gone = (Code::FailedPrecondition, "the environment is being deleted".to_owned());
    assert_eq!(shop.own(leaf(3_600)).await.unwrap_err(), gone);
}

#[tokio::test]
async fn the_life_of_leaves_is_its_admins_to_change() {
    let mut shop = Shop::open().await;
    let operator = shop.site.operator.clone();
    let (code, _) = shop.update(&operator, leaf(3_600)).await.unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    let (reference, change) =
        (shop.id.parse().unwrap(), Change { leaf_seconds: Some(3_600), ..Change::default() });
    for (role, may) in [
        (EnvironmentRole::Viewer, false),
        (EnvironmentRole::Deployer, false),
        (EnvironmentRole::Admin, true),
    ] {
        let machine = shop.site.machine(&shop.id, role);
        let updated = shop.site.app.update_environment(&machine, &reference, &change).await;
        assert_eq!(updated.is_ok(), may, "{role:?}: {updated:?}");
    }
}
