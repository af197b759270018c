//! While the store does not answer, what was seen last is told, with its age, and nothing is changed.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tonic::{Code, Response, Status, transport::Channel};
use weft_audit::Origin;
use weft_control::{
    App, AppError,
    app::{Caller, HOSTS_SEEN_MAX, HostWatch, NewToken, PEOPLE_SEEN_MAX, Sight},
};
use weft_control_api::v1::{
    self, account_client::AccountClient, attachments_client::AttachmentsClient,
    environments_client::EnvironmentsClient, hosts_client::HostsClient,
    policies_client::PoliciesClient, secrets_client::SecretsClient,
    services_client::ServicesClient, sessions_client::SessionsClient, users_client::UsersClient,
};
use weft_model::{
    Record,
    access::{Actor, EnvironmentRole},
    record::{self, HostState},
};
use weft_store::{Key, Revision, Store};

use crate::{
    held::Held,
    site::{PASSWORD, Site, code, name, next, proof, said, with},
};

const AGE: &str = "weft-seen-seconds-ago";
/// What the product promises of what is refused.
const REFUSED_MAX: Duration = Duration::from_secs(5);
const UNAVAILABLE: &str = "the store takes no changes now; nothing was changed";

/// How old what was told may be, seconds; `None` when it is of the store.
fn age<T>(answer: &Response<T>) -> Option<u64> {
    answer.metadata().get(AGE).map(|age| age.to_str().unwrap().parse().unwrap())
}

/// An environment `acme/shop` with `web-1` on `host-a`, and its owner.
struct Shop {
    site: Site,
    owner: String,
    channel: Channel,
}

impl Shop {
    async fn open() -> Self {
        let site = Site::start().await;
        let owner = site.organisation("acme").await;
        let id = site.environment(&owner, "acme", "shop").await.id;
        site.enrol("host-a").await;
        site.allow(&id, "host-a").await;
        let channel = site.connect(None).await;
        let shop = Self { site, owner, channel };
        shop.attach("web-1").await.unwrap();
        shop
    }

    async fn attach(&self, called: &str) -> Result<Response<v1::Attachment>, Status> {
        let create = v1::CreateAttachmentRequest {
            environment: name("acme/shop"),
            name: called.to_owned(),
            host: "host-a".to_owned(),
            ..Default::default()
        };
        AttachmentsClient::new(self.channel.clone())
            .create_attachment(with(create, &self.owner))
            .await
    }

    async fn show(&self, token: &str) -> Result<Response<v1::Environment>, Status> {
        let get = v1::GetEnvironmentRequest { environment: name("acme/shop") };
        EnvironmentsClient::new(self.channel.clone()).get_environment(with(get, token)).await
    }

    /// A token of the environment.
    async fn token(&self) -> String {
        let owner = self.site.caller(self.site.app.actor_of(&self.owner).await.unwrap());
        let token = NewToken {
            name: "robot".to_owned(),
            role: EnvironmentRole::Viewer,
            uses: Default::default(),
            seconds: 24 * 3_600,
        };
        let shop = "acme/shop".parse().unwrap();
        let made = self.site.app.create_token(&owner, &shop, &token, proof(PASSWORD)).await;
        made.unwrap().1.to_string()
    }
}

#[tokio::test]
async fn what_was_seen_last_is_told_with_its_age_and_what_changes_something_is_refused() {
    let shop = Shop::open().await;
    let (site, owner, channel) = (&shop.site, &shop.owner, &shop.channel);
    let robot = shop.token().await;
    assert_eq!(age(&shop.show(owner).await.unwrap()), None, "the store says so");
    site.seen(&site.app).await;
    site.store.set_unavailable(true);

    // People and machines, by names, by ids and in lists.
    let id = shop.show(owner).await.unwrap();
    assert!(age(&id).is_some());
    assert!(age(&shop.show(&robot).await.unwrap()).is_some());
    let who = SessionsClient::new(channel.clone());
    assert!(age(&who.clone().who_am_i(with(v1::WhoAmIRequest {}, owner)).await.unwrap()).is_some());
    let list = v1::ListEnvironmentsRequest::default();
    let mut environments = EnvironmentsClient::new(channel.clone());
    let listed = environments.list_environments(with(list, owner)).await.unwrap();
    assert!(age(&listed).is_some());
    assert_eq!(listed.into_inner().environments.len(), 1);
    let get = v1::GetAttachmentRequest { environment: name("acme/shop"), name: "web-1".into() };
    let mut attachments = AttachmentsClient::new(channel.clone());
    let web = attachments.get_attachment(with(get, owner)).await.unwrap().into_inner();
    assert_eq!(web.host, "host-a");
    let get = v1::GetPolicyRequest { environment: name("acme/shop") };
    PoliciesClient::new(channel.clone()).get_policy(with(get, owner)).await.unwrap();
    let get = v1::GetServiceRequest { environment: name("acme/shop"), name: "web-1".into() };
    let mut services = ServicesClient::new(channel.clone());
    services.get_service(with(get, owner)).await.unwrap();
    let watch = v1::WatchServicesRequest { environment: name("acme/shop"), revision: 0 };
    let watched = services.watch_services(with(watch, owner)).await.unwrap();
    assert!(age(&watched).is_some());
    assert_eq!(next(&mut watched.into_inner()).await.unwrap().services.len(), 1);
    let get = v1::GetHostRequest { id: "host-a".to_owned() };
    let mut hosts = HostsClient::new(channel.clone());
    hosts.get_host(with(get, &site.operator)).await.unwrap();
    let list = v1::ListSessionsRequest {};
    AccountClient::new(channel.clone()).list_sessions(with(list, owner)).await.unwrap();

    // Who may not, may not; who is nobody is nobody.
    let other = v1::GetEnvironmentRequest { environment: name("globex/shop") };
    let other = environments.get_environment(with(other, owner)).await;
    assert_eq!(code(other), Code::NotFound);
    assert_eq!(code(shop.show("weft_session_wrong").await), Code::Unauthenticated);

    // What changes something is refused in time, and says why.
    let asked = Instant::now();
    let refused = shop.attach("web-2").await;
    assert_eq!(said(refused), (Code::Unavailable, UNAVAILABLE.to_owned()));
    let login = site.login("owner@acme.example", PASSWORD).await;
    assert_eq!(code(login), Code::Unavailable);
    assert!(asked.elapsed() < REFUSED_MAX, "{:?}", asked.elapsed());

    site.store.set_unavailable(false);
    let is_back = async {
        while age(&shop.show(owner).await.unwrap()).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), is_back).await.unwrap();
    shop.attach("web-2").await.unwrap();
}

#[tokio::test]
async fn secrets_keys_and_what_is_sensitive_need_the_store() {
    let shop = Shop::open().await;
    let (site, owner, channel) = (&shop.site, &shop.owner, &shop.channel);
    let put = v1::PutSecretRequest {
        environment: name("acme/shop"),
        name: "DB_PASSWORD".to_owned(),
        value: Some(v1::SecretValue { data: b"value".to_vec() }),
        ..Default::default()
    };
    let mut secrets = SecretsClient::new(channel.clone());
    secrets.put_secret(with(put, owner)).await.unwrap();
    let host = site.enrol("host-b").await;
    site.allow("acme/shop", "host-b").await;
    let mut agent = site.agent(&host).await;
    site.seen(&site.app).await;
    site.store.set_unavailable(true);
    // It is known by now that the store is away.
    assert!(age(&shop.show(owner).await.unwrap()).is_some());

    let release = v1::ReleaseSecretRequest {
        environment: name("acme/shop"),
        name: "DB_PASSWORD".to_owned(),
        ..Default::default()
    };
    assert_eq!(code(secrets.release_secret(with(release, owner)).await), Code::Unavailable);
    let get = v1::GetSecretMetadataRequest {
        environment: name("acme/shop"),
        name: "DB_PASSWORD".to_owned(),
    };
    assert_eq!(code(secrets.get_secret_metadata(with(get, owner)).await), Code::Unavailable);
    let list = v1::ListSecretsRequest { environment: name("acme/shop"), ..Default::default() };
    assert_eq!(code(secrets.list_secrets(with(list, owner)).await), Code::Unavailable);
    let users = v1::ListUsersRequest::default();
    let users = UsersClient::new(channel.clone()).list_users(with(users, &site.operator)).await;
    assert_eq!(code(users), Code::Unavailable);
    let leaf = v1::IssueLeafRequest { environment: "acme/shop".into(), signing_request: vec![] };
    assert_eq!(code(agent.issue_leaf(leaf).await), Code::Unavailable);
    let renew = v1::RenewHostCertificateRequest { signing_request: vec![] };
    assert_eq!(code(agent.renew_host_certificate(renew).await), Code::Unavailable);
    let listen = agent.watch(v1::WatchRequest { revision: 0 }).await;
    assert_eq!(code(listen), Code::Unavailable);
    // What a host says of itself is heard all the same.
    agent.report(v1::ReportRequest::default()).await.unwrap();
}

#[tokio::test]
async fn what_was_taken_away_before_is_nobodys_and_what_was_over_stays_so() {
    let shop = Shop::open().await;
    let site = &shop.site;
    let (robot, left) = (shop.token().await, site.login("owner@acme.example", PASSWORD).await);
    let left = left.unwrap();
    let mut sessions = SessionsClient::new(shop.channel.clone());
    sessions.logout(with(v1::LogoutRequest {}, &left)).await.unwrap();
    let user = "owner@acme.example".to_owned();
    let suspend = v1::SuspendUserRequest { user };
    let mut users = UsersClient::new(shop.channel.clone());
    users.suspend_user(with(suspend, &site.operator)).await.unwrap();
    site.seen(&site.app).await;
    site.store.set_unavailable(true);
    for token in [&left, &shop.owner, &robot] {
        assert_eq!(code(shop.show(token).await), Code::Unauthenticated);
    }
    assert!(age(&shop.show(&site.operator).await.unwrap()).is_some());
}

/// Lets time go by, in which whoever looks after the store asks it in vain.
async fn pass(time: Duration) {
    const STEP: Duration = Duration::from_secs(5);
    let until = Instant::now() + time;
    while Instant::now() < until {
        tokio::time::sleep(STEP).await;
    }
}

async fn is_told(app: &App, token: &str) -> bool {
    app.actor_seen(token, &Sight::seen()).await.is_ok()
}

/// A host that has enrolled, as the store knows it.
async fn enrolled(site: &Site) -> record::Host {
    let host = site.enrol("host-b").await;
    let found = site.store.get(&record::Host::key_at(&host.id).unwrap()).await.unwrap().unwrap();
    record::Host::decode(&found).unwrap().record
}

/// Whether it is let in to say how it is.
async fn is_admitted(app: &App, host: &record::Host) -> Result<(), AppError> {
    app.admit_host(&host.id, &host.key_hash, Origin::Local, &Sight::seen()).await
}

#[tokio::test]
async fn what_was_seen_of_people_and_hosts_counts_for_so_long_and_no_longer() {
    let shop = Shop::open().await;
    let site = &shop.site;
    let host = enrolled(site).await;
    let caller = site.caller(Actor::Host(host.id.clone()));
    let caller = Caller { key_hash: Some(host.key_hash.clone()), ..caller };
    let (mut watch, _anew) =
        HostWatch::begin(Arc::clone(&site.app), &caller, Revision(0)).await.unwrap();
    assert!(watch.next(pending()).await.unwrap().unwrap().is_snapshot);
    site.seen(&site.app).await;

    tokio::time::pause();
    site.store.set_unavailable(true);
    let begin = Instant::now();
    is_admitted(&site.app, &host).await.unwrap();
    // A host that is told nothing new goes to another process, in time to hear there of those that are shut out.
    let ended = watch.next(pending()).await;
    assert!(matches!(ended, Err(AppError::Behind)), "{ended:?}");
    let after = begin.elapsed();
    assert!(after < HOSTS_SEEN_MAX + Duration::from_secs(15), "{after:?}");
    let refused = is_admitted(&site.app, &host).await;
    assert!(matches!(refused, Err(AppError::Unavailable)), "{refused:?}");
    assert!(is_told(&site.app, &shop.owner).await);
    pass(PEOPLE_SEEN_MAX - begin.elapsed() - Duration::from_secs(60)).await;
    assert!(is_told(&site.app, &shop.owner).await);
    pass(Duration::from_secs(120)).await;
    assert!(!is_told(&site.app, &shop.owner).await);
    site.store.set_unavailable(false);
    pass(Duration::from_secs(30)).await;
    assert!(is_told(&site.app, &shop.owner).await);
    is_admitted(&site.app, &host).await.unwrap();
}

#[tokio::test]
async fn who_is_cut_off_lets_nobody_in_for_long_whom_others_have_shut_out() {
    let shop = Shop::open().await;
    let site = &shop.site;
    let cut = Held::new(Arc::clone(&site.store) as Arc<dyn Store>, Key::new("none").unwrap());
    let alone = site.process_over(Arc::clone(&cut) as Arc<dyn Store>).await;
    // It looks after its standing.
    site.serve(&alone).await;
    let host = enrolled(site).await;
    site.seen(&alone).await;
    is_admitted(&alone, &host).await.unwrap();
    cut.cut_off(true);
    let operator = site.caller(site.app.actor_of(&site.operator).await.unwrap());
    site.app.set_host_state(&operator, &host.id, HostState::Revoked).await.unwrap();
    let mut sessions = SessionsClient::new(shop.channel.clone());
    sessions.logout(with(v1::LogoutRequest {}, &shop.owner)).await.unwrap();

    tokio::time::pause();
    let begin = Instant::now();
    while is_admitted(&alone, &host).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(begin.elapsed() < Duration::from_secs(60), "a host is shut out in 60 s");
    }
    // Of people it tells for longer what it knew, to read.
    assert!(is_told(&alone, &shop.owner).await);
    cut.cut_off(false);
    pass(Duration::from_secs(30)).await;
    let refused = is_admitted(&alone, &host).await;
    assert!(matches!(refused, Err(AppError::Unauthenticated)), "{refused:?}");
    assert!(!is_told(&alone, &shop.owner).await);
}
