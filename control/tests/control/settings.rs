//! What is changed about an environment after it was made.

use tonic::{Code, Streaming, transport::Channel};
use weft_control_api::v1::{
    self, environments_client::EnvironmentsClient, host_agent_client::HostAgentClient,
    host_update::Update,
};
use weft_model::access::EnvironmentRole;
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
    v1::UpdateEnvironmentRequest { environment: None, leaf_seconds }
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
        (shop.id.parse().unwrap(), weft_model::settings::Change { leaf_seconds: Some(3_600) });
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
