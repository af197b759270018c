//! A daemon that answers as it is told and remembers what it was asked.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_stream::{Stream, iter};
use tonic::{Request, Response, Status, async_trait, transport::Server};
use weft_api::v1::{
    AddPeerRequest, AddPeerResponse, AttachRequest, AttachResponse, AttachmentState,
    AttachmentStatus, DetachRequest, DetachResponse, DropCount, EnvironmentStatus, Event,
    EventKind, PeerStatus, RemovePeerRequest, RemovePeerResponse, SessionRole, SessionState,
    SetRoutesRequest, SetRoutesResponse, Share, StatusRequest, StatusResponse, Traffic,
    WatchEventsRequest, WorkerStatus,
    local_api_server::{LocalApi, LocalApiServer},
};

/// What the daemon was asked, as text.
type Asked = Arc<Mutex<Vec<String>>>;

pub(crate) struct Fake {
    folder: TempDir,
    asked: Asked,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Fake {
    /// Starts a daemon on a socket of its own and waits until it listens.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let asked = Asked::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, listening) = std::sync::mpsc::channel();
        let path = folder.path().join("weftd.sock");
        let service = LocalApiServer::new(Service { asked: asked.clone(), samples: Mutex::new(0) });
        let server = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = weft_api::bind(&path).unwrap().listen().unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    served = Server::builder().serve_with_incoming(service, listener) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        listening.recv().unwrap();
        Self { folder, asked, stop: Some(stop), server: Some(server) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("weftd.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

struct Service {
    asked: Asked,
    /// Answers to `Status` so far; each is half a second later and 1,000 packets further.
    samples: Mutex<u64>,
}

type Reply<T> = Result<Response<T>, Status>;

impl Service {
    fn ask(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

fn known(environment: &str) -> Result<(), Status> {
    match environment {
        "acme" | "globex" | "" => Ok(()),
        other => Err(Status::not_found(format!("environment {other} is not on this host"))),
    }
}

#[async_trait]
impl LocalApi for Service {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn attach(&self, request: Request<AttachRequest>) -> Reply<AttachResponse> {
        let r = request.into_inner();
        known(&r.environment)?;
        if r.netns.ends_with("missing") {
            let message = format!("there is no network namespace at {}", r.netns);
            return Err(Status::failed_precondition(message));
        }
        let what = format!(
            "attach {} {} {} {:?} {:?}",
            r.environment, r.name, r.netns, r.interface, r.addresses
        );
        let created = !self.asked.lock().unwrap().contains(&what);
        self.ask(what);
        Ok(Response::new(AttachResponse { created }))
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Reply<DetachResponse> {
        let r = request.into_inner();
        known(&r.environment)?;
        if r.name != "web-1" {
            return Err(Status::not_found(format!(
                "{} has no attachment {}",
                r.environment, r.name
            )));
        }
        self.ask(format!("detach {} {}", r.environment, r.name));
        Ok(Response::new(DetachResponse {}))
    }

    async fn add_peer(&self, request: Request<AddPeerRequest>) -> Reply<AddPeerResponse> {
        let r = request.into_inner();
        known(&r.environment)?;
        self.ask(format!("add {} {} {} {:?}", r.environment, r.host, r.endpoint, r.addresses));
        Ok(Response::new(AddPeerResponse { created: r.host == "host-c" }))
    }

    async fn remove_peer(&self, request: Request<RemovePeerRequest>) -> Reply<RemovePeerResponse> {
        let r = request.into_inner();
        known(&r.environment)?;
        if r.host != "host-b" {
            // A daemon of a bad day: a refusal without words.
            return Err(Status::resource_exhausted(""));
        }
        self.ask(format!("remove {} {}", r.environment, r.host));
        Ok(Response::new(RemovePeerResponse {}))
    }

    async fn set_routes(&self, _: Request<SetRoutesRequest>) -> Reply<SetRoutesResponse> {
        Err(Status::unimplemented(""))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Reply<StatusResponse> {
        let environment = request.into_inner().environment;
        known(&environment)?;
        let mut samples = self.samples.lock().unwrap();
        *samples += 1;
        let mut status = status(*samples);
        status.environments.retain(|e| environment.is_empty() || e.id == environment);
        Ok(Response::new(status))
    }

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Reply<Self::WatchEventsStream> {
        let environment = request.into_inner().environment;
        known(&environment)?;
        let event = |kind: EventKind, host: &str, message: &str| Event {
            kind: kind.into(),
            time_ms: 1_800_000_000_000,
            environment: "acme".to_owned(),
            host: host.to_owned(),
            message: message.to_owned(),
            ..Event::default()
        };
        let events = vec![
            Ok(event(EventKind::PeerAdded, "host-b", "")),
            Ok(event(EventKind::SessionEstablished, "host-b", "as client in 12 ms")),
            Ok(Event { kind: EventKind::Stopping.into(), missed: 2, ..Event::default() }),
        ];
        Ok(Response::new(Box::pin(iter(events))))
    }
}

/// The daemon's `n`th answer.
fn status(n: u64) -> StatusResponse {
    StatusResponse {
        host: "host-a".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_ms: 11_520_000 + 500 * n,
        engine: "epoll".to_owned(),
        listen: "192.0.2.1:5820".to_owned(),
        resident_bytes: 18 << 20,
        pid: 4_242,
        sampled_at_ms: 11_520_000 + 500 * n,
        workers: vec![
            WorkerStatus::default(),
            WorkerStatus { worker: 1, cpu: Some(1), ..WorkerStatus::default() },
        ],
        control: None,
        environments: vec![acme(n), globex()],
        drops: vec![drop_count("unknown_index", 17)],
    }
}

fn acme(n: u64) -> EnvironmentStatus {
    EnvironmentStatus {
        id: "acme".to_owned(),
        subnets: vec!["10.40.0.0/16".to_owned()],
        certificate_expires_ms: 1_800_000_000_000,
        attachments: vec![AttachmentStatus {
            name: "web-1".to_owned(),
            interface: "weft0".to_owned(),
            netns: "/run/netns/web1".to_owned(),
            addresses: vec!["10.40.0.2".to_owned()],
            state: AttachmentState::Up.into(),
            traffic: Some(traffic(n)),
            last_error: String::new(),
            share: Some(Share { weight: 200, egress_mbit_max: 50 }),
        }],
        peers: vec![PeerStatus {
            host: "host-b".to_owned(),
            endpoint: "192.0.2.2:5820".to_owned(),
            addresses: (3_u8..8).map(|i| Ipv4Addr::new(10, 40, 0, i).to_string()).collect(),
            state: SessionState::Established.into(),
            role: SessionRole::Client.into(),
            session_age_ms: Some(720_000),
            epoch: Some(6),
            key_age_ms: Some(48_000),
            datagram_max: Some(1_472),
            silent_ms: None,
            alternative_endpoints: vec![],
            is_over_tcp: false,
            is_segmented: true,
            reached_at: String::new(),
            handshakes_ok: 2,
            handshakes_failed: 0,
            last_error: String::new(),
            traffic: Some(traffic(n)),
        }],
        drops: vec![drop_count("replay", 3), drop_count("source", 12), drop_count("policy", 0)],
        share: Some(Share { weight: 100, egress_mbit_max: 0 }),
    }
}

/// An environment in trouble, whose peer says something nasty.
fn globex() -> EnvironmentStatus {
    EnvironmentStatus {
        id: "globex".to_owned(),
        subnets: vec!["10.40.0.0/16".to_owned(), "fd40::/64".to_owned()],
        attachments: vec![AttachmentStatus {
            name: "web-1".to_owned(),
            interface: "weft0".to_owned(),
            netns: "/run/netns/web1".to_owned(),
            addresses: vec!["10.40.0.2".to_owned(), "fd40::2".to_owned()],
            state: AttachmentState::Failed.into(),
            last_error: "weft0 exists already".to_owned(),
            ..AttachmentStatus::default()
        }],
        peers: vec![PeerStatus {
            host: "host-b".to_owned(),
            endpoint: "192.0.2.2:5820".to_owned(),
            state: SessionState::Backoff.into(),
            handshakes_failed: 4,
            last_error: "certificate \u{1b}[2Jexpired".to_owned(),
            ..PeerStatus::default()
        }],
        ..EnvironmentStatus::default()
    }
}

fn traffic(n: u64) -> Traffic {
    Traffic {
        rx_bytes: n * 1_000_000,
        rx_packets: n * 1_000,
        tx_bytes: n * 125_000_000,
        tx_packets: n * 100_000,
    }
}

fn drop_count(cause: &str, packets: u64) -> DropCount {
    DropCount { cause: cause.to_owned(), packets }
}
