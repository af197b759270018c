//! A control plane, and a person with a session.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc},
    time::SystemTime,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use weft_control::{Clock, audit::AuditPlace, init::Opened, serve};
use weft_control_api::v1::{
    self, enrolment_client::EnrolmentClient, host_agent_client::HostAgentClient,
};
use weft_keys::{KeyFile, Keyring};
use weft_pki::{KeyKind, request};
use weft_store::Memory;

const PASSWORD: &str = "correct horse battery staple";

/// A control plane, and a person with a session.
pub(crate) struct Desk {
    folder: TempDir,
    pub(crate) server: String,
    /// The control plane ends with it.
    _stop: oneshot::Sender<()>,
}

/// What a host shows.
pub(crate) struct Joined {
    certificate: String,
    key: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (started, start) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let master = folder.path().join("master.key");
        let process = "control".parse().unwrap();
        let audit = AuditPlace {
            folder: folder.path().join("audit"),
            replica: None,
            process,
            machine: "host-a".to_owned(),
            blobs: None,
        };
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                KeyFile::init(&master, SystemTime::now()).unwrap();
                let kms = Arc::new(KeyFile::open(&master).unwrap());
                let keyring = Keyring::open(Arc::new(Memory::default()), kms).await.unwrap();
                let opened = Opened::new(Arc::new(Memory::default()), Arc::new(keyring));
                let clock = Clock::default();
                opened.create(&"weft".parse().unwrap(), &clock).await.unwrap();
                let (app, _) = opened.app(clock, &audit).await.unwrap();
                let app = Arc::new(app);
                let invitation = app.invite_operator("operator@weft.example").await.unwrap();
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let server = listener.local_addr().unwrap().to_string();
                started.send((server, app.anchor().to_owned(), invitation.to_string())).unwrap();
                let names = ["127.0.0.1".parse().unwrap()];
                serve::serve(listener, app, &names, async move { drop(stopped.await) })
                    .await
                    .unwrap();
            });
        });
        let (server, authority, invitation) = start.recv().unwrap();
        let desk = Self { folder, server, _stop: stop };
        desk.write("authority.pem", &authority);
        desk.write("password", &format!("{PASSWORD}\n"));
        desk.accept(&invitation, "operator@weft.example");
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(arguments)
            .env("WEFT_CONTEXT", self.path("context.json"))
            .output()
            .unwrap()
    }

    pub(crate) fn ok(&self, order: &str) -> String {
        let output = self.run(&order.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "weft {order}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is said beside the answer.
    pub(crate) fn noted(&self, order: &str) -> String {
        let output = self.run(&order.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "weft {order}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn ok_with_input(&self, order: &str, input: &[u8]) -> Vec<u8> {
        let mut running = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(order.split(' '))
            .env("WEFT_CONTEXT", self.path("context.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        running.stdin.take().unwrap().write_all(input).unwrap();
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "weft {order}");
        output.stdout
    }

    pub(crate) fn json(&self, order: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{order} --json"))).unwrap()
    }

    pub(crate) fn refused(&self, order: &str) -> String {
        let output = self.run(&order.split(' ').collect::<Vec<_>>());
        assert!(!output.status.success(), "weft {order} was not refused");
        String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
    }

    pub(crate) fn where_to(&self) -> String {
        format!("--server {} --authority {}", self.server, self.path("authority.pem").display())
    }

    pub(crate) fn accept(&self, invitation: &str, email: &str) {
        let (invitation, password) = (self.write("invitation", invitation), self.path("password"));
        let there = self.where_to();
        self.ok(&format!(
            "accept {there} --name Somebody --invitation-file {invitation} --password-file {}",
            password.display()
        ));
        self.login(email);
    }

    /// Says something as a host, over a connection with its certificate.
    pub(crate) fn report(&self, host: &Joined, report: v1::ReportRequest) {
        let authority = fs::read_to_string(self.path("authority.pem")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(authority))
                .identity(Identity::from_pem(&host.certificate, &host.key))
                .domain_name("127.0.0.1");
            let endpoint = Endpoint::from_shared(format!("https://{}", self.server)).unwrap();
            let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
            HostAgentClient::new(channel).report(report).await.unwrap();
        });
    }

    /// Makes a host, as its daemon does when it joins.
    pub(crate) fn enrol(&self, id: &str) -> Joined {
        let token = self.json("host token --pod one")["secret"].as_str().unwrap().to_owned();
        let authority = fs::read_to_string(self.path("authority.pem")).unwrap();
        let key = request::new_key(KeyKind::EcdsaP256).unwrap();
        let enrol = v1::EnrolRequest {
            token: token.split_once('.').unwrap().0.to_owned(),
            host: id.to_owned(),
            signing_request: key.request,
            endpoints: vec!["192.0.2.1:7777".to_owned()],
            ..Default::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(authority))
                .domain_name("127.0.0.1");
            let endpoint = Endpoint::from_shared(format!("https://{}", self.server)).unwrap();
            let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
            let enrolled = EnrolmentClient::new(channel).enrol(enrol).await.unwrap().into_inner();
            Joined { certificate: enrolled.certificate, key: key.key_pem.to_string() }
        })
    }

    pub(crate) fn login(&self, email: &str) {
        let (there, password) = (self.where_to(), self.path("password"));
        let said = self
            .ok(&format!("login {there} --email {email} --password-file {}", password.display()));
        assert_eq!(said, format!("logged in as {email}\n"));
    }
}
