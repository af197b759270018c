//! A control plane in this process, and who calls it.

use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use weft_audit::Word;
use weft_control::{
    App, Clock,
    app::{Caller, Proof, Sight, Turn},
    audit::{AuditPlace, BlobPlace, BlobUrl, named},
    init::Opened,
    serve,
};
use weft_control_api::v1::{
    self, enrolment_client::EnrolmentClient, environments_client::EnvironmentsClient,
    host_agent_client::HostAgentClient, hosts_client::HostsClient, members_client::MembersClient,
    organisations_client::OrganisationsClient, sessions_client::SessionsClient,
};
use weft_keys::{KeyFile, Keyring};
use weft_model::{
    TokenId,
    access::{Actor, Component, EnvironmentRole},
};
use weft_pki::{KeyKind, request};
use weft_store::{Key, Memory, Store};

pub(crate) const PASSWORD: &str = "correct horse battery staple";
const NAME: &str = "control.example";

/// A running control plane.
pub(crate) struct Site {
    pub(crate) app: Arc<App>,
    pub(crate) store: Arc<Memory>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) keys: Memory,
    pub(crate) master: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) anchor: String,
    pub(crate) operator: String,
    pub(crate) audit: AuditPlace,
    processes: AtomicU32,
    _stop: oneshot::Sender<()>,
    _served: JoinHandle<()>,
    _folder: TempDir,
}

/// A host that has enrolled.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_at(Clock::default()).await
    }

    pub(crate) async fn start_at(clock: Clock) -> Self {
        Self::start_in(TempDir::new().unwrap(), clock, None, None).await
    }

    /// With a second host for the audit.
    pub(crate) async fn start_replicated() -> Self {
        let folder = TempDir::new().unwrap();
        let replica = folder.path().join("replica");
        Self::start_in(folder, Clock::default(), Some(replica), None).await
    }

    /// With a blob store for the audit, a folder.
    pub(crate) async fn start_shipping(clock: Clock) -> Self {
        let folder = TempDir::new().unwrap();
        let blobs = folder.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let place = BlobPlace { url: BlobUrl::Folder(blobs), s3: None };
        Self::start_in(folder, clock, None, Some(place)).await
    }

    async fn start_in(
        folder: TempDir,
        clock: Clock,
        replica: Option<PathBuf>,
        blobs: Option<BlobPlace>,
    ) -> Self {
        let master = folder.path().join("master.key");
        KeyFile::init(&master, SystemTime::now()).unwrap();
        let kms = Arc::new(KeyFile::open(&master).unwrap());
        let keys = Memory::default();
        let keyring = Arc::new(Keyring::open(Arc::new(keys.clone()), kms).await.unwrap());
        let store = Arc::new(Memory::default());
        let opened = Opened::new(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&keyring));
        opened.create(&"weft".parse().unwrap(), &clock).await.unwrap();
        let process = "control".parse().unwrap();
        let audit = AuditPlace {
            folder: folder.path().join("audit"),
            replica,
            process,
            machine: "host-a".to_owned(),
            blobs,
        };
        let (app, _) = opened.app(clock, &audit).await.unwrap();
        let app = Arc::new(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stop_it = async move { drop(stopped.await) };
        let served = tokio::spawn(served(listener, Arc::clone(&app), stop_it));
        let anchor = app.anchor().to_owned();
        let invitation = app.invite_operator("operator@weft.example").await.unwrap();
        let operator = String::new();
        let (_stop, _served, _folder) = (stop, served, folder);
        let mut site = Self {
            app,
            store,
            keyring,
            keys,
            master,
            address,
            anchor,
            operator,
            audit,
            processes: AtomicU32::new(2),
            _stop,
            _served,
            _folder,
        };
        site.operator = site.accept(&invitation, "operator@weft.example").await;
        site
    }

    /// Another process of the same control plane.
    pub(crate) async fn another_process(&self) -> Arc<App> {
        self.process_over(Arc::clone(&self.store) as Arc<dyn Store>).await
    }

    /// A process of the same control plane over another store.
    pub(crate) async fn process_over(&self, store: Arc<dyn Store>) -> Arc<App> {
        self.start_process(store).await.unwrap()
    }

    /// One that may not begin.
    pub(crate) async fn start_process(&self, store: Arc<dyn Store>) -> anyhow::Result<Arc<App>> {
        let opened = Opened::new(store, Arc::clone(&self.keyring));
        let process = format!("control-{}", self.processes.fetch_add(1, Ordering::Relaxed));
        let audit = AuditPlace { process: process.parse().unwrap(), ..self.audit.clone() };
        Ok(Arc::new(opened.app(self.app.clock().clone(), &audit).await?.0))
    }

    /// Serves another process, as long as there is a runtime; returns its address.
    pub(crate) async fn serve(&self, app: &Arc<App>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(served(listener, Arc::clone(app), pending()));
        address
    }

    /// The turn of background work for one of its processes, whoever had it.
    pub(crate) async fn turn(&self, process: &App) -> Turn {
        let at = Key::new("turn/background").unwrap();
        if let Some(lease) = self.store.get(&at).await.unwrap().and_then(|turn| turn.lease) {
            self.store.revoke_lease(lease).await.unwrap();
        }
        process.take_turn().await.unwrap().unwrap()
    }

    /// Waits until a process sees all that is stored.
    pub(crate) async fn seen(&self, process: &App) {
        let revision = self.store.list("", None, 1).await.unwrap().revision;
        process.view().reached(revision).await.unwrap();
    }

    /// Removes what is over.
    pub(crate) async fn tidy(&self) {
        let turn = self.turn(&self.app).await;
        self.app.tidy(&turn).await.unwrap();
        self.app.end_turn(turn).await.unwrap();
    }

    /// A connection that shows a certificate, or none.
    pub(crate) async fn connect(&self, host: Option<&Host>) -> Channel {
        self.endpoint(host).connect().await.unwrap()
    }

    /// A connection from an address of this machine.
    pub(crate) async fn connect_from(&self, address: IpAddr) -> Channel {
        self.endpoint(None).local_address(Some(address)).connect().await.unwrap()
    }

    /// A connection that takes no more than so many bytes before they are read.
    pub(crate) async fn connect_narrowly(&self, bytes: u32) -> Channel {
        let endpoint = self.endpoint(None).initial_stream_window_size(bytes);
        endpoint.initial_connection_window_size(bytes).connect().await.unwrap()
    }

    /// A connection that takes no more than so many bytes of each answer before they are read.
    pub(crate) async fn connect_unread(&self, bytes: u32) -> Channel {
        self.endpoint(None).initial_stream_window_size(bytes).connect().await.unwrap()
    }

    fn endpoint(&self, host: Option<&Host>) -> Endpoint {
        self.endpoint_at(self.address, host)
    }

    fn endpoint_at(&self, address: SocketAddr, host: Option<&Host>) -> Endpoint {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.anchor))
            .domain_name(NAME);
        if let Some(host) = host {
            tls = tls.identity(Identity::from_pem(&host.certificate, &host.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        endpoint.tls_config(tls).unwrap()
    }

    /// Makes a person of an invitation; returns the token of a session.
    pub(crate) async fn accept(&self, invitation: &str, email: &str) -> String {
        let mut sessions = SessionsClient::new(self.connect(None).await);
        let accept = v1::AcceptInvitationRequest {
            secret: invitation.to_owned(),
            name: "Somebody".to_owned(),
            password: PASSWORD.to_owned(),
        };
        sessions.accept_invitation(accept).await.unwrap();
        self.login(email, PASSWORD).await.unwrap()
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Result<String, Status> {
        let mut sessions = SessionsClient::new(self.connect(None).await);
        let (email, password) = (email.to_owned(), password.to_owned());
        let login =
            sessions.login(v1::LoginRequest { email, password, code: String::new() }).await?;
        Ok(login.into_inner().token)
    }

    /// Makes an organisation; returns the token of its owner.
    pub(crate) async fn organisation(&self, name: &str) -> String {
        let mut organisations = OrganisationsClient::new(self.connect(None).await);
        let email = format!("owner@{name}.example");
        let make =
            v1::CreateOrganisationRequest { name: name.to_owned(), owner_email: email.clone() };
        let made = organisations.create_organisation(with(make, &self.operator)).await.unwrap();
        self.accept(&made.into_inner().invitation, &email).await
    }

    /// Invites somebody; returns the invitation's secret.
    pub(crate) async fn invite(
        &self,
        by: &str,
        organisation: &str,
        email: &str,
        role: v1::OrganisationRole,
    ) -> Result<String, Status> {
        let mut members = MembersClient::new(self.connect(None).await);
        let (organisation, email) = (organisation.to_owned(), email.to_owned());
        let invite = v1::InviteMemberRequest { organisation, email, role: role.into() };
        Ok(members.invite_member(with(invite, by)).await?.into_inner().secret)
    }

    /// Makes a person of an organisation; returns the token of a session.
    pub(crate) async fn member(
        &self,
        by: &str,
        organisation: &str,
        email: &str,
        role: v1::OrganisationRole,
    ) -> String {
        let secret = self.invite(by, organisation, email, role).await.unwrap();
        self.accept(&secret, email).await
    }

    /// Gives somebody a role in an environment.
    pub(crate) async fn give(
        &self,
        by: &str,
        environment: &str,
        user: &str,
        role: v1::EnvironmentRole,
    ) -> Result<v1::EnvironmentMember, Status> {
        let mut members = MembersClient::new(self.connect(None).await);
        let (environment, user) = (name(environment), user.to_owned());
        let give = v1::SetEnvironmentRoleRequest { environment, user, role: role.into() };
        Ok(members.set_environment_role(with(give, by)).await?.into_inner())
    }

    /// Who somebody is and what they may do.
    pub(crate) async fn who(&self, token: &str) -> Result<v1::WhoAmIResponse, Status> {
        let mut sessions = SessionsClient::new(self.connect(None).await);
        Ok(sessions.who_am_i(with(v1::WhoAmIRequest {}, token)).await?.into_inner())
    }

    pub(crate) async fn environment(
        &self,
        owner: &str,
        organisation: &str,
        name: &str,
    ) -> v1::Environment {
        let mut environments = EnvironmentsClient::new(self.connect(None).await);
        let make = v1::CreateEnvironmentRequest {
            organisation: organisation.to_owned(),
            name: name.to_owned(),
            subnets: vec!["10.40.0.0/24".to_owned(), "fd40::/64".to_owned()],
            ..Default::default()
        };
        environments.create_environment(with(make, owner)).await.unwrap().into_inner()
    }

    pub(crate) async fn join_token(&self) -> String {
        self.join_token_for("").await
    }

    /// A token for a host, or for any new one.
    pub(crate) async fn join_token_for(&self, host: &str) -> String {
        let mut hosts = HostsClient::new(self.connect(None).await);
        let (pod, host) = ("one".to_owned(), host.to_owned());
        let make = v1::CreateJoinTokenRequest { pod, host, ..Default::default() };
        let made = hosts.create_join_token(with(make, &self.operator)).await.unwrap().into_inner();
        // What comes after the dot is by what the host knows the installation.
        made.secret.split_once('.').unwrap().0.to_owned()
    }

    pub(crate) async fn enrol(&self, id: &str) -> Host {
        let token = self.join_token().await;
        let new = request::new_key(KeyKind::EcdsaP256).unwrap();
        let enrol = enrolment(&token, id, &new.request);
        let mut enrolment = EnrolmentClient::new(self.connect(None).await);
        let enrolled = enrolment.enrol(enrol).await.unwrap().into_inner();
        assert_eq!((enrolled.host.as_str(), enrolled.installation.as_str()), (id, "weft"));
        assert_eq!(enrolled.anchors, std::slice::from_ref(&self.anchor));
        Host { id: id.to_owned(), certificate: enrolled.certificate, key: new.key_pem.to_string() }
    }

    pub(crate) async fn allow(&self, environment: &str, host: &str) {
        let mut environments = EnvironmentsClient::new(self.connect(None).await);
        let (environment, host) = (name(environment), host.to_owned());
        let allow = v1::AllowHostRequest { environment, host };
        environments.allow_host(with(allow, &self.operator)).await.unwrap();
    }

    /// Somebody, in a call of which nothing is recorded.
    pub(crate) fn caller(&self, actor: Actor) -> Caller {
        let call = self.app.recorder().command(Word::new("tests.call"), named("tests"));
        Caller { actor, key_hash: None, call: Arc::new(call), sight: Sight::stored() }
    }

    /// A part of the platform.
    pub(crate) fn component(&self, component: Component) -> Caller {
        self.caller(Actor::Component(component))
    }

    /// A machine's token of an environment.
    pub(crate) fn machine(&self, environment: &str, role: EnvironmentRole) -> Caller {
        let environment = environment.parse().unwrap();
        self.caller(Actor::Token { id: TokenId::from_random(&[0; 10]), environment, role })
    }

    pub(crate) async fn agent(&self, host: &Host) -> HostAgentClient<Channel> {
        self.agent_at(self.address, host).await
    }

    /// The same at another process.
    pub(crate) async fn agent_at(
        &self,
        address: SocketAddr,
        host: &Host,
    ) -> HostAgentClient<Channel> {
        let endpoint = self.endpoint_at(address, Some(host));
        HostAgentClient::new(endpoint.connect().await.unwrap())
    }
}

async fn served(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    serve::serve(listener, app, &[NAME.parse().unwrap()], stop).await.unwrap();
}

pub(crate) fn enrolment(token: &str, host: &str, signing_request: &[u8]) -> v1::EnrolRequest {
    v1::EnrolRequest {
        token: token.to_owned(),
        host: host.to_owned(),
        signing_request: signing_request.to_vec(),
        endpoints: vec!["192.0.2.1:7777".to_owned()],
        ..Default::default()
    }
}

pub(crate) fn name(environment: &str) -> Option<v1::EnvironmentName> {
    Some(v1::EnvironmentName { value: environment.to_owned() })
}

/// Asks for an environment to be deleted, by somebody with everybody's password.
pub(crate) fn deletion(environment: &str, grace_seconds: u32) -> v1::DeleteEnvironmentRequest {
    v1::DeleteEnvironmentRequest {
        environment: name(environment),
        grace_seconds: Some(grace_seconds),
        password: PASSWORD.to_owned(),
        code: String::new(),
    }
}

/// What somebody shows who has no second factor.
pub(crate) fn proof(password: &str) -> Proof {
    Proof { password: password.to_owned().into(), code: String::new().into() }
}

/// A request of whoever has this token.
pub(crate) fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

pub(crate) fn code<T>(answer: Result<T, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// What a refusal says, all of it.
pub(crate) fn said<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

/// Waits for a message of a stream.
pub(crate) async fn next<T>(stream: &mut tonic::Streaming<T>) -> Result<T, Status> {
    let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    message.unwrap().map(|message| message.unwrap())
}
