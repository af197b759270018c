//! The node: everything of the daemon that is not on the packet path. One task owns all state and
//! takes requests, worker events and handshake results one at a time; workers and handshakes run
//! beside it.
//!
//! ```text
//!  local API ─▶ NodeHandle ─┐                  ┌─▶ Worker (commands)
//!  SIGHUP ──────────────────┼─▶ Node (1 task) ─┼─▶ handshake tasks ─▶ results ─┐
//!  worker events ───────────┘        ▲         └─▶ events, status              │
//!                                    └─────────────────────────────────────────┘
//! ```

mod attachment;
mod credentials;
mod directory;
mod drive;
mod environment;
mod handle;
mod handshakes;
mod link;
mod listener;
mod names;
mod paths;
mod policy;
mod reload;
mod sessions;
mod share;
mod sizes;
mod slots;
mod status;
mod streams;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::MissedTickBehavior,
};
use weft_config::{Config, Placement};
use weft_handshake::{Accepted, Established, HandshakeError, ServerEnvironments};
use weft_helper::Client;
use weft_pki::{Credentials, TrustAnchor};
use weft_proto::{
    AttachmentSlot, EnvironmentSlot, Event, IndexTable, LinkSlot, SessionId, policy::Rules, silence,
};
use weft_sys::{link::AddressWatch, thread, udp};
use weft_types::{AttachmentName, EnvironmentId, HostId, WORKERS_MAX, WorkerId};

use crate::{
    gateway::Gateways,
    kept::Kept,
    worker::{self, Command, EngineChoice, IdleWorker, Worker, WorkerEvent, WorkerSetup},
};

pub use crate::model::{
    AttachSpec, AttachmentState, AttachmentStatus, EnvironmentStatus, EventKind, GatewayStatus,
    NodeEvent, PeerSpec, PeerStatus, SessionState, Status, Traffic, WorkerStatus,
};
pub use handle::{NodeHandle, Request};
pub use weft_agent::RequestError;

use credentials::Owed;
use directory::Directory;
use environment::EnvironmentState;
use handshakes::Indices;
use paths::watch_addresses;
use sessions::SessionEntry;
use sizes::Sizes;
use slots::SlotPool;
use timers::{Timers, sleep_until};

/// Requests, worker events and handshake results that may wait for the node.
const INBOX_MAX: usize = 4096;
/// Worker events that may wait; a worker makes few, and every one is repeated by its cause.
const WORKER_EVENTS_MAX: usize = 16_384;
/// Events that a slow watcher may be behind before it loses the oldest.
const EVENTS_MAX: usize = 1024;
/// How often attachments of the configuration that could not be made are tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// What reaches the node.
enum Message {
    Request(Request),
    /// A handshake that this host began is over.
    Connected {
        environment: EnvironmentId,
        host: HostId,
        /// Where the peer was called.
        endpoint: SocketAddr,
        result: Box<Result<Established, HandshakeError>>,
    },
    /// A peer's handshake is over.
    Accepted(Accepted<TcpStream>),
    /// Streams that this host began to open.
    Opened {
        environment: EnvironmentId,
        host: HostId,
        opened: streams::Opened,
    },
}

/// The node's state. See the module documentation.
pub struct Node {
    config: Config,
    started: Instant,
    sizes: Sizes,
    workers: Vec<Worker>,
    engine: EngineChoice,
    /// Answers names.
    gateways: Gateways,
    environments: BTreeMap<EnvironmentId, EnvironmentState>,
    /// By what environments are judged, whether they are here or not.
    policies: BTreeMap<EnvironmentId, Rules>,
    /// Whose names are to be made anew.
    stale_names: BTreeSet<EnvironmentId>,
    environment_slots: SlotPool,
    attachment_slots: SlotPool,
    link_slots: SlotPool,
    /// Who owns a slot that a worker names.
    attachments_by_slot: HashMap<AttachmentSlot, (EnvironmentId, AttachmentName)>,
    links_by_slot: HashMap<LinkSlot, (EnvironmentId, HostId)>,
    sessions: HashMap<SessionId, SessionEntry>,
    next_session: u64,
    indices: Arc<Indices>,
    directory: Arc<Directory>,
    server_environments: Arc<ServerEnvironments>,
    listener: Arc<listener::Shared>,
    events: broadcast::Sender<NodeEvent>,
    inbox: mpsc::Sender<Message>,
    /// When peers were last told that this host's addresses changed, and whether they are to be again.
    told_addresses: (Option<Instant>, bool),
    /// When peers want their timeouts handled.
    peer_timers: Timers,
    /// Certificates that could not be replaced.
    owed: Owed<(TrustAnchor, Credentials)>,
    /// Makes interfaces and keeps them.
    helper: Arc<Client>,
    /// What the local API made.
    kept: Kept,
    /// Attachments that are to be made, in this order.
    unmade: VecDeque<(EnvironmentId, AttachmentName)>,
    /// The last of those that were tried again.
    retried: Option<(EnvironmentId, AttachmentName)>,
    /// The helper has been told that what was not asked for by now is not wanted.
    is_settled: bool,
    /// Queues of interfaces that were given up, being closed.
    closing: JoinSet<()>,
}

/// What becomes of the interfaces when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// They stay in their containers for the next daemon.
    Keep,
    /// They go, and everything else that was made.
    Remove,
}

/// A node that is ready to run.
pub struct Prepared {
    node: Node,
    workers: Vec<IdleWorker>,
    inbox: mpsc::Receiver<Message>,
    worker_events: mpsc::Receiver<(WorkerId, WorkerEvent)>,
    tcp: std::net::TcpListener,
    /// Where this host sends from any of its addresses.
    addresses: Option<AddressWatch>,
    /// For the API, metrics and signals.
    pub handle: NodeHandle,
}

/// Opens sockets and rings, and starts no thread: what needs privilege is done afterwards. Environments are judged by
/// `policies` from their first packet on.
///
/// # Errors
/// When the listening address is taken, or the kernel refuses something; the message says what.
pub fn prepare(
    config: Config,
    policies: BTreeMap<EnvironmentId, Rules>,
    helper: Arc<Client>,
    kept: Kept,
) -> anyhow::Result<Prepared> {
    let listen = config.listen;
    let cpus = thread::available_cpus();
    let count = config.workers.map_or(cpus.len(), usize::from).clamp(1, WORKERS_MAX.into());
    let tcp = listener::bind(listen).with_context(|| format!("cannot listen on TCP {listen}"))?;
    let workers_u8 = u8::try_from(count).unwrap_or(WORKERS_MAX);
    let group = udp::bind_group(listen, workers_u8)
        .with_context(|| format!("cannot listen on UDP {listen}"))?;
    let engine = worker::choose_engine(config.engine)?;
    let (event_sender, worker_events) = mpsc::channel(WORKER_EVENTS_MAX);
    let mut workers = Vec::with_capacity(count);
    for (i, group) in group.into_iter().enumerate() {
        let lane = udp::bind_lane(listen.ip(), lane_ports(listen.port()))
            .context("cannot open a worker's sending socket")?;
        let cpu = match config.placement {
            Placement::Free => None,
            Placement::Pinned => cpus.get(i % cpus.len().max(1)).copied(),
        };
        let id = WorkerId::new(i)?;
        let setup = WorkerSetup {
            id,
            cpu,
            engine: engine.engine,
            latency: config.latency,
            group,
            lane,
            events: event_sender.clone(),
        };
        workers.push(Worker::prepare(setup).with_context(|| format!("cannot prepare worker {i}"))?);
    }
    let interface = weft_sys::link::interface_of(listen.ip());
    let mtu = interface
        .context("cannot ask for the underlay's MTU")?
        .map_or(sizes::UNDERLAY_MTU, |interface| interface.mtu);
    let server_environments =
        ServerEnvironments::new([]).context("cannot make the decoy certificate")?;
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let node = Node {
        started: Instant::now(),
        sizes: Sizes::of_underlay(mtu),
        workers: Vec::new(),
        engine,
        gateways: Gateways::prepare().context("cannot prepare what answers names")?,
        environments: BTreeMap::new(),
        policies,
        stale_names: BTreeSet::new(),
        environment_slots: SlotPool::default(),
        attachment_slots: SlotPool::default(),
        link_slots: SlotPool::default(),
        attachments_by_slot: HashMap::new(),
        links_by_slot: HashMap::new(),
        sessions: HashMap::new(),
        next_session: 1,
        indices: Arc::new(Indices::new(Mutex::new(IndexTable::default()), count)),
        directory: Arc::default(),
        server_environments: Arc::new(server_environments),
        listener: Arc::default(),
        events: broadcast::channel(EVENTS_MAX).0,
        inbox: inbox.clone(),
        told_addresses: (None, false),
        peer_timers: Timers::default(),
        owed: Owed::default(),
        helper,
        kept,
        unmade: VecDeque::new(),
        retried: None,
        is_settled: false,
        closing: JoinSet::new(),
        config,
    };
    let handle = NodeHandle::new(inbox, node.events.clone());
    // A host that sends from one address keeps it.
    let addresses = match listen.ip().is_unspecified() {
        true => Some(AddressWatch::open().context("cannot watch this host's addresses")?),
        false => None,
    };
    Ok(Prepared { node, workers, inbox: messages, worker_events, tcp, addresses, handle })
}

/// Where workers' sending sockets are: the 512 ports behind the listening port, or before it when
/// there are not so many.
fn lane_ports(listen: u16) -> std::ops::RangeInclusive<u16> {
    const RANGE: u16 = 512;
    match listen.checked_add(RANGE) {
        Some(last) => listen + 1..=last,
        None => listen - RANGE..=listen - 1,
    }
}

impl Prepared {
    /// Applies the configuration and serves until `stop`; then tells all peers, keeps or removes the
    /// interfaces and returns.
    ///
    /// # Errors
    /// When an environment of the configuration cannot be set up, or no thread is to be had.
    pub async fn run(self, mut stop: oneshot::Receiver<Ending>) -> anyhow::Result<()> {
        let Self { mut node, workers, mut inbox, mut worker_events, tcp, addresses, handle: _ } =
            self;
        let mut addresses = watch_addresses(addresses)?;
        let tcp = tokio::net::TcpListener::from_std(tcp).context("cannot accept handshakes")?;
        node.engine.log();
        for worker in workers {
            node.workers.push(worker.start().context("cannot start a worker")?);
        }
        node.gateways.start().context("cannot start what answers names")?;
        node.apply_initial().await?;
        let accepting = tokio::spawn(listener::serve(
            tcp,
            Arc::clone(&node.listener),
            Arc::clone(&node.server_environments),
            Arc::clone(&node.directory),
            node.inbox.clone(),
        ));
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        let mut watch = tokio::time::interval(silence::LOOK_EVERY);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ending = loop {
            let (peer_timeout, again) = (node.peer_timers.next(), node.owed.next());
            let has_names = !node.stale_names.is_empty();
            let has_work = !node.unmade.is_empty() || !node.is_settled;
            tokio::select! {
                biased;
                ending = &mut stop => break ending.unwrap_or(Ending::Keep),
                Some((worker, event)) = worker_events.recv() => {
                    node.handle_worker(worker, event).await;
                }
                Some(message) = inbox.recv() => node.handle_message(message).await,
                () = sleep_until(peer_timeout) => node.handle_peer_timeouts(),
                () = sleep_until(again) => node.retry_credentials(),
                Some(()) = addresses.recv() => node.handle_addresses(),
                _ = watch.tick() => node.watch_peers(),
                _ = retry.tick() => node.look_after_attachments().await,
                () = std::future::ready(()), if has_names => node.refresh_names(),
                () = std::future::ready(()), if has_work => node.make_next().await,
            }
        };
        accepting.abort();
        node.stop(ending).await;
        Ok(())
    }
}

impl Node {
    async fn handle_message(&mut self, message: Message) {
        match message {
            Message::Request(request) => self.handle_request(request).await,
            Message::Connected { environment, host, endpoint, result } => {
                self.handle_connected(&environment, &host, endpoint, *result);
            }
            Message::Accepted(Accepted::Session(established)) => {
                self.handle_established(*established);
            }
            Message::Accepted(Accepted::Stream(stream)) => self.handle_stream(stream),
            Message::Opened { environment, host, opened } => {
                self.handle_opened(&environment, &host, opened);
            }
        }
    }

    async fn handle_worker(&mut self, worker: WorkerId, event: WorkerEvent) {
        match event {
            WorkerEvent::QueueLost(slot) => self.handle_queue_lost(slot).await,
            WorkerEvent::StreamLost(key) => self.handle_stream_lost(key),
            WorkerEvent::Engine(Event::NeedSession(link)) => self.handle_need(link),
            WorkerEvent::Engine(Event::Alive(id)) => self.handle_alive(id),
            WorkerEvent::Engine(Event::RekeySoon(id)) => self.handle_rekey_soon(id),
            WorkerEvent::Engine(Event::Closed(id)) => self.handle_closed(id),
            WorkerEvent::Engine(Event::Elsewhere { session, from, is_home }) => {
                self.handle_elsewhere(worker, session, from, is_home);
            }
            // All lanes say where they come from now, each from a port of its own.
            WorkerEvent::Engine(Event::Challenged(id)) => self.command_all(|_| Command::Ask(id)),
            WorkerEvent::Engine(Event::Answered(id, number)) => self.handle_answered(id, number),
            WorkerEvent::Engine(Event::Damaged { session, refused, sent }) => {
                self.handle_damaged(session, refused, sent);
            }
            WorkerEvent::Engine(Event::Denied(denial)) => self.handle_denied(&denial),
        }
    }

    /// Sends the same kind of command to every worker.
    fn command_all(&self, mut command: impl FnMut(usize) -> Command) {
        for (i, worker) in self.workers.iter().enumerate() {
            worker.send(command(i));
        }
    }

    /// Waits until all workers have done what they were told.
    async fn barrier(&self) {
        let mut waiting = Vec::with_capacity(self.workers.len());
        self.command_all(|_| {
            let (sender, receiver) = oneshot::channel();
            waiting.push(receiver);
            Command::Barrier(sender)
        });
        for done in waiting {
            // A worker that ended has nothing left to do.
            let _ = done.await;
        }
    }

    fn publish(&self, event: NodeEvent) {
        tracing::info!(
            environment = event.environment.as_ref().map(EnvironmentId::as_str),
            attachment = event.attachment.as_ref().map(AttachmentName::as_str),
            peer = event.host.as_ref().map(HostId::as_str),
            "{}",
            event.message
        );
        // Nobody watches: fine.
        let _ = self.events.send(event);
    }

    /// Everything ends: peers are told, threads stop, and interfaces go or wait for the next daemon.
    async fn stop(&mut self, ending: Ending) {
        self.publish(NodeEvent::new(EventKind::Stopping, "the daemon stops"));
        let ids: Vec<_> = self.environments.keys().cloned().collect();
        for id in ids {
            self.part_from_peers(&id);
        }
        self.barrier().await;
        self.gateways.stop();
        for worker in &mut self.workers {
            worker.stop();
        }
        if ending == Ending::Remove {
            self.kept.clear();
            let helper = Arc::clone(&self.helper);
            let ended = tokio::task::spawn_blocking(move || helper.end()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!(?ended, "the helper may have kept interfaces");
            }
        }
    }
}

/// The environment's own addresses, by family.
fn gateways(subnets: &[weft_types::Subnet]) -> (Option<IpAddr>, Option<IpAddr>) {
    let of = |v4: bool| {
        subnets.iter().map(weft_types::Subnet::gateway).find(|gateway| gateway.is_ipv4() == v4)
    };
    (of(true), of(false))
}

/// An environment's slot with its counters, one set per worker.
struct EnvironmentPlace {
    slot: EnvironmentSlot,
    counters: Vec<Arc<weft_proto::EnvironmentCounters>>,
}

fn not_kept(error: std::io::Error) -> RequestError {
    RequestError::Precondition(format!("it cannot be kept for the next daemon: {error}"))
}

/// Who asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It stands in the file.
    Configuration,
    /// It was asked for through the local API, and is kept beside its socket.
    Api,
}

/// Whose an address may be when it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner<'a> {
    /// This attachment's.
    Here(&'a AttachmentName),
    /// This peer's.
    Peer(&'a HostId),
}
