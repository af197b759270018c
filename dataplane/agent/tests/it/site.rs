//! A control plane in this process, and hosts that follow it.

use std::{
    future::pending,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use weft_agent::{
    Actual, ActualAttachment, Agent, AgentHandle, ControlStatus, Dataplane, Desired, Lookup,
    NewAttachment, RequestError, Seal, Settings, State,
};
use weft_config::Attachment;
use weft_control::{App, Clock, audit::AuditPlace, init::Opened, serve};
use weft_control_api::v1::{
    self, environments_client::EnvironmentsClient, hosts_client::HostsClient,
    organisations_client::OrganisationsClient, sessions_client::SessionsClient,
};
use weft_keys::{KeyFile, Keyring};
use weft_model::{Record, record};
use weft_store::{Memory, Store};
use weft_types::EnvironmentId;

use crate::held::Held;

const PASSWORD: &str = "correct horse battery staple";
const NAME: &str = "127.0.0.1";
/// Longest wait for something that is to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A control plane.
pub(crate) struct Site {
    app: Arc<App>,
    pub(crate) store: Arc<Held>,
    pub(crate) address: SocketAddr,
    operator: String,
    owner: String,
    serving: Option<Runtime>,
    folder: TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_at(Clock::default()).await
    }

    /// One that goes by this clock.
    pub(crate) async fn start_at(clock: Clock) -> Self {
        let folder = TempDir::new().unwrap();
        let master = folder.path().join("master.key");
        KeyFile::init(&master, SystemTime::now()).unwrap();
        let kms = Arc::new(KeyFile::open(&master).unwrap());
        let keyring = Keyring::open(Arc::new(Memory::default()), kms).await.unwrap();
        let store = Arc::new(Held::new());
        let opened = Opened::new(Arc::clone(&store) as Arc<dyn Store>, Arc::new(keyring));
        opened.create(&"weft".parse().unwrap(), &clock).await.unwrap();
        let process = "control".parse().unwrap();
        let machine = "control-host".to_owned();
        let folder_of_audit = folder.path().join("audit");
        let audit =
            AuditPlace { folder: folder_of_audit, replica: None, machine, process, blobs: None };
        let app = Arc::new(opened.app(clock, &audit).await.unwrap().0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (operator, owner) = (String::new(), String::new());
        let mut site = Self { app, store, address, operator, owner, serving: None, folder };
        site.serve(listener);
        let invitation = site.app.invite_operator("operator@weft.example").await.unwrap();
        site.operator = site.accept(&invitation, "operator@weft.example").await;
        let mut organisations = OrganisationsClient::new(site.connect().await);
        let owner_email = "owner@acme.example".to_owned();
        let make = v1::CreateOrganisationRequest { name: "acme".to_owned(), owner_email };
        let made = organisations.create_organisation(with(make, &site.operator)).await.unwrap();
        site.owner = site.accept(&made.into_inner().invitation, "owner@acme.example").await;
        site
    }

    /// In a runtime of its own, with which every connection ends.
    fn serve(&mut self, listener: TcpListener) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = Arc::clone(&self.app);
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let names = [NAME.parse().unwrap()];
            serve::serve(listener, app, &names, pending()).await.unwrap();
        });
        self.serving = Some(runtime);
    }

    /// Nobody answers any more, and every connection is gone.
    pub(crate) fn stop(&mut self) {
        self.serving.take().unwrap().shutdown_background();
    }

    /// Answers again, at the same address.
    pub(crate) async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    async fn connect(&self) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.app.anchor()))
            .domain_name(NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    async fn accept(&self, invitation: &str, email: &str) -> String {
        let mut sessions = SessionsClient::new(self.connect().await);
        let (secret, name) = (invitation.to_owned(), "Somebody".to_owned());
        let password = PASSWORD.to_owned();
        let accept = v1::AcceptInvitationRequest { secret, name, password };
        sessions.accept_invitation(accept).await.unwrap();
        self.login(email).await
    }

    async fn login(&self, email: &str) -> String {
        let mut sessions = SessionsClient::new(self.connect().await);
        let (email, password) = (email.to_owned(), PASSWORD.to_owned());
        let login = v1::LoginRequest { email, password, ..Default::default() };
        sessions.login(login).await.unwrap().into_inner().token
    }

    /// Begins another session of the operator, where so much time went by that the first one is over.
    pub(crate) async fn login_again(&mut self) {
        self.operator = self.login("operator@weft.example").await;
    }

    pub(crate) async fn join_token(&self) -> String {
        self.join_token_for("").await
    }

    /// A token for a host, or for any new one.
    pub(crate) async fn join_token_for(&self, host: &str) -> String {
        let mut hosts = HostsClient::new(self.connect().await);
        let (pod, host) = ("one".to_owned(), host.to_owned());
        let make = v1::CreateJoinTokenRequest { pod, host, ..Default::default() };
        hosts.create_join_token(with(make, &self.operator)).await.unwrap().into_inner().secret
    }

    pub(crate) async fn environment(&self, name: &str) -> EnvironmentId {
        let mut environments = EnvironmentsClient::new(self.connect().await);
        let make = v1::CreateEnvironmentRequest {
            organisation: "acme".to_owned(),
            name: name.to_owned(),
            subnets: vec!["10.40.0.0/24".to_owned(), "fd40::/64".to_owned()],
            ..Default::default()
        };
        let made = environments.create_environment(with(make, &self.owner)).await.unwrap();
        made.into_inner().id.parse().unwrap()
    }

    pub(crate) async fn allow(&self, environment: &EnvironmentId, host: &str) {
        let mut environments = EnvironmentsClient::new(self.connect().await);
        let (environment, host) = (name(environment), host.to_owned());
        let allow = v1::AllowHostRequest { environment, host };
        environments.allow_host(with(allow, &self.operator)).await.unwrap();
    }

    /// Says to which servers other names are forwarded.
    pub(crate) async fn forward(&self, environment: &EnvironmentId, servers: &[&str]) {
        let mut environments = EnvironmentsClient::new(self.connect().await);
        let name_servers = servers.iter().map(ToString::to_string).collect();
        let rule = v1::OtherNamesRule::Forward.into();
        let update = v1::UpdateEnvironmentRequest {
            environment: name(environment),
            other_names: Some(v1::OtherNames { rule, name_servers }),
            ..Default::default()
        };
        environments.update_environment(with(update, &self.operator)).await.unwrap();
    }

    pub(crate) async fn suspend(&self, environment: &EnvironmentId) {
        let mut environments = EnvironmentsClient::new(self.connect().await);
        let suspend = v1::SuspendEnvironmentRequest { environment: name(environment) };
        environments.suspend_environment(with(suspend, &self.operator)).await.unwrap();
    }

    pub(crate) async fn revoke(&self, host: &str) {
        let mut hosts = HostsClient::new(self.connect().await);
        let (id, state) = (host.to_owned(), v1::HostState::Revoked.into());
        let set = v1::SetHostStateRequest { id, state };
        hosts.set_host_state(with(set, &self.operator)).await.unwrap();
    }

    /// What the control plane has of a host.
    pub(crate) async fn record(&self, host: &str) -> Option<record::Host> {
        let entry = self.store.get(&record::Host::key_at(host).unwrap()).await.unwrap()?;
        Some(record::Host::decode(&entry).unwrap().record)
    }

    /// The control plane has this of a host from now on, as from a copy of its store.
    pub(crate) async fn restore(&self, host: &record::Host) {
        self.store.restore(host.key().unwrap(), host.encode().unwrap()).await;
    }

    pub(crate) async fn attachments(&self, environment: &EnvironmentId) -> Vec<v1::Attachment> {
        use v1::attachments_client::AttachmentsClient;
        let mut attachments = AttachmentsClient::new(self.connect().await);
        let list = v1::ListAttachmentsRequest { environment: name(environment), page: None };
        let listed = attachments.list_attachments(with(list, &self.owner)).await.unwrap();
        listed.into_inner().attachments
    }

    /// Makes an attachment for a host that has not asked for it.
    pub(crate) async fn place(&self, environment: &EnvironmentId, attachment: &str, host: &str) {
        use v1::attachments_client::AttachmentsClient;
        let mut attachments = AttachmentsClient::new(self.connect().await);
        let create = v1::CreateAttachmentRequest {
            environment: name(environment),
            name: attachment.to_owned(),
            host: host.to_owned(),
            ..Default::default()
        };
        attachments.create_attachment(with(create, &self.owner)).await.unwrap();
    }

    /// What an agent of this name is told, with a join token.
    pub(crate) async fn settings(&self, host: &str) -> Settings {
        let token = self.folder.path().join(format!("{host}.token"));
        std::fs::write(&token, self.join_token().await).unwrap();
        Settings {
            url: format!("https://{}", self.address).parse().unwrap(),
            lookup: Lookup::Name,
            join_token: Some(token),
            host: host.parse().unwrap(),
            endpoints: vec!["192.0.2.1:5820".parse().unwrap()],
            version: "0.1.0".to_owned(),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A runtime must not be waited for inside of another.
        if let Some(runtime) = self.serving.take() {
            runtime.shutdown_background();
        }
    }
}

fn name(environment: &EnvironmentId) -> Option<v1::EnvironmentName> {
    Some(v1::EnvironmentName { value: environment.to_string() })
}

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A data plane that remembers what it was told last.
#[derive(Clone)]
struct Remembers(watch::Sender<Desired>);

impl Dataplane for Remembers {
    async fn apply(&self, desired: Desired) -> Result<(), String> {
        self.0.send_replace(desired);
        Ok(())
    }

    async fn make(&self, _: EnvironmentId, attachment: Attachment) -> Result<(), RequestError> {
        match attachment.netns.starts_with("/nowhere") {
            true => Err(RequestError::Precondition("no such namespace".to_owned())),
            false => Ok(()),
        }
    }

    async fn actual(&self) -> Option<Actual> {
        let desired = self.0.borrow();
        let all = desired.environments.iter().flat_map(|environment| {
            environment.attachments.iter().map(|attachment| ActualAttachment {
                environment: environment.id.clone(),
                name: attachment.name.clone(),
                is_up: true,
                error: String::new(),
            })
        });
        Some(Actual { attachments: all.collect(), peers: Vec::new() })
    }
}

/// A host that follows.
pub(crate) struct Host {
    pub(crate) handle: AgentHandle,
    desired: watch::Receiver<Desired>,
    /// What it began with.
    pub(crate) first: Desired,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

pub(crate) fn state(folder: &Path) -> State {
    State::new(folder, Seal::beside(&State::key_file(folder)).unwrap())
}

impl Host {
    pub(crate) fn start(settings: &Settings, folder: &Path) -> Self {
        let agent = Agent::open(settings.clone(), state(folder)).unwrap();
        let (handle, first) = (agent.handle(), agent.desired());
        let (sender, desired) = watch::channel(first.clone());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            agent.run(Remembers(sender), async move { drop(stopped.await) }).await;
        });
        Self { handle, desired, first, stop, running }
    }

    pub(crate) async fn end(self) {
        drop(self.stop);
        self.running.await.unwrap();
    }

    pub(crate) async fn until(&mut self, good: impl Fn(&Desired) -> bool) -> Desired {
        timeout(PATIENCE, self.desired.wait_for(good)).await.unwrap().unwrap().clone()
    }

    pub(crate) async fn status(&self, good: impl Fn(&ControlStatus) -> bool) -> ControlStatus {
        let mut status = self.handle.subscribe();
        timeout(PATIENCE, status.wait_for(good)).await.unwrap().unwrap().clone()
    }

    pub(crate) async fn attach(
        &self,
        environment: &EnvironmentId,
        name: &str,
    ) -> Result<bool, RequestError> {
        self.handle.attach(wanted(environment, name)).await
    }
}

pub(crate) fn wanted(environment: &EnvironmentId, name: &str) -> NewAttachment {
    NewAttachment {
        environment: environment.clone(),
        name: name.parse().unwrap(),
        netns: format!("/run/netns/{name}").into(),
        interface: "weft0".to_owned(),
        addresses: Vec::new(),
    }
}
