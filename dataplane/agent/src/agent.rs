//! The agent's task: one connection at a time, one thing after the other.

mod handle;
mod reports;
mod session;
mod task;

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use weft_config::ControlUrl;
use weft_types::{AttachmentName, EnvironmentId, HostId};

pub use self::handle::{AgentHandle, AttachError, NewAttachment};
use self::handle::{Reply, Request};
use crate::{
    desired::Desired,
    documents::{DocumentError, Documents},
    enrol::Candidate,
    leaves::Leaves,
    plane::Dataplane,
    state::{Bindings, Cache, Identity, Release, State, StateError},
    status::ControlStatus,
};

/// Requests of the local API that may wait.
const REQUESTS_MAX: usize = 256;
/// First and longest pause before the control plane is called again, each with a random share of it more.
const CALL_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A connection that held so long was a good one: the next pause is the first.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// Shortest time between two times that what is known is kept.
const KEEP_PAUSE: Duration = Duration::from_millis(50);
/// It takes at most this part of the time.
const KEEP_SHARE: u32 = 20;
/// How soon it is tried again when it could not be kept.
const KEEP_AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// How long somebody waits for an attachment that was granted: a certificate and the next news.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What an agent is told by its host's configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the control plane is.
    pub url: ControlUrl,
    /// The file with the join token; used only while the host has no identity.
    pub join_token: Option<PathBuf>,
    /// The host's id.
    pub host: HostId,
    /// Where other hosts reach its daemon, best first.
    pub endpoints: Vec<SocketAddr>,
    /// The daemon's version.
    pub version: String,
}

/// Follows the control plane.
pub struct Agent {
    settings: Settings,
    candidate: Candidate,
    state: Arc<State>,
    identity: Option<Identity>,
    documents: Documents,
    leaves: Leaves,
    bindings: Bindings,
    /// Callers whose attachments were granted and are not there yet.
    waiting: Vec<Waiting>,
    contact: Option<SystemTime>,
    status: watch::Sender<ControlStatus>,
    handle: AgentHandle,
    inbox: mpsc::Receiver<Request>,
    /// What is kept is older than what is known.
    is_unkept: bool,
    /// When it may be kept again.
    keep_after: Instant,
    is_alarmed: bool,
}

/// Somebody who waits for an attachment that was granted.
struct Waiting {
    environment: EnvironmentId,
    name: AttachmentName,
    until: Instant,
    is_new: bool,
    reply: Reply<bool>,
}

impl Agent {
    /// Reads what the host has kept.
    ///
    /// # Errors
    /// [`StateError`]; what is kept is not touched.
    pub fn open(settings: Settings, state: State) -> Result<Self, StateError> {
        let identity = state.identity(&settings.host)?;
        let (cache, bindings) = (state.cache()?, state.bindings()?);
        let mut documents = Documents::default();
        let (mut leaves, mut contact) = (Leaves::default(), None);
        if let Some(cache) = cache {
            complain(documents.take(cache.snapshot));
            if cache.version != settings.version {
                documents.ask_anew();
            }
            leaves = Leaves::restore(cache.leaves);
            contact = Some(UNIX_EPOCH + Duration::from_secs(cache.contact));
        }
        let status = watch::Sender::new(ControlStatus {
            url: settings.url.to_string(),
            is_connected: false,
            contact,
            revision: documents.revision(),
            first_end: leaves.first_end(),
            error: String::new(),
        });
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let handle = AgentHandle::new(requests, status.subscribe());
        let Settings { host, endpoints, version, .. } = settings.clone();
        Ok(Self {
            candidate: Candidate::new(host, endpoints, version),
            settings,
            state: Arc::new(state),
            identity,
            documents,
            leaves,
            bindings,
            waiting: Vec::new(),
            contact,
            status,
            handle,
            inbox,
            is_unkept: false,
            keep_after: Instant::now(),
            is_alarmed: false,
        })
    }

    /// What the host is to run with what it has kept.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let is_ipv4 = self.settings.endpoints.first().is_none_or(SocketAddr::is_ipv4);
        Desired::new(&self.documents, &self.leaves, &self.bindings, is_ipv4)
    }

    /// For the local API.
    #[must_use]
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }

    /// Follows the control plane until `stop` is over; what is known is kept then.
    pub async fn run<D: Dataplane>(mut self, dataplane: D, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        tokio::select! {
            () = self.follow(&dataplane) => {}
            () = &mut stop => {}
        }
        self.keep().await;
    }

    async fn follow<D: Dataplane>(&mut self, dataplane: &D) {
        let (first, longest) = CALL_PAUSE;
        let mut pause = first;
        loop {
            let began = Instant::now();
            let error = self.session(dataplane).await;
            if began.elapsed() >= GOOD_AFTER {
                pause = first;
            }
            self.disconnected(error.to_string());
            self.wait(Instant::now() + pause.mul_f64(1.0 + chance()), dataplane).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits without a control plane.
    async fn wait<D: Dataplane>(&mut self, until: Instant, dataplane: &D) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.sound_alarm();
                    self.give_up_waiting();
                }
                () = sleep_until(until) => return,
                () = sleep_until(self.keep_after), if self.is_unkept => self.keep().await,
                Some(request) = self.inbox.recv() => match request {
                    Request::Attach(new, reply) => self.attach_alone(&new, reply, dataplane),
                    Request::Detach(environment, name, reply) => {
                        let ended = self.detach(&environment, &name, dataplane).await;
                        // Whoever asked may have gone.
                        let _ = reply.send(ended.map(drop));
                    }
                },
            }
        }
    }

    fn sound_alarm(&mut self) {
        let is_alarming = self.status.borrow().is_alarming(SystemTime::now());
        if is_alarming && !self.is_alarmed {
            let ends = self.leaves.first_end().map(weft_pki::format_utc);
            tracing::error!(
                url = %self.settings.url,
                first_certificate_ends = ends.as_deref().unwrap_or("never"),
                "the control plane has been away for six hours; traffic ends with the certificates"
            );
        }
        self.is_alarmed = is_alarming;
    }

    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        for waiting in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            let Waiting { environment, name, reply, .. } = waiting;
            let error = format!(
                "attachment {name} of environment {environment} was granted, and what it needs has not \
                 come in {} s; ask again",
                WAIT_MAX.as_secs()
            );
            // Whoever asked may have gone.
            let _ = reply.send(Err(AttachError::Unavailable(error)));
        }
    }

    /// Without a control plane only what was granted before is made.
    fn attach_alone<D: Dataplane>(
        &mut self,
        new: &NewAttachment,
        reply: Reply<bool>,
        dataplane: &D,
    ) {
        let known = self.bindings.get(&new.environment, &new.name);
        let is_known = known.is_some_and(|b| b.netns == new.netns && b.interface == new.interface);
        let desired = self.desired();
        match desired.attachment(&new.environment, &new.name).filter(|_| is_known) {
            Some(known) if new.addresses.iter().any(|wanted| !known.addresses.contains(wanted)) => {
                let error = format!("attachment {} has other addresses; detach it first", new.name);
                let _ = reply.send(Err(AttachError::Exists(error)));
            }
            Some(attachment) => {
                make(dataplane, new.environment.clone(), attachment.clone(), false, reply);
            }
            None => {
                let url = &self.settings.url;
                let error = format!("{url} is not reached: nothing new is admitted meanwhile");
                let _ = reply.send(Err(AttachError::Unavailable(error)));
            }
        }
    }

    /// Takes an attachment away here; what is to be said of it to the control plane is returned.
    async fn detach<D: Dataplane>(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
        dataplane: &D,
    ) -> Result<Release, AttachError> {
        let binding = self.bindings.remove(environment, name).ok_or_else(|| {
            AttachError::NotFound(format!(
                "environment {environment} has no attachment {name} on this host"
            ))
        })?;
        let release = Release {
            environment: environment.clone(),
            name: name.clone(),
            generation: binding.generation,
        };
        self.bindings.releases.push(release.clone());
        if let Err(error) = self.state.keep_bindings(&self.bindings) {
            self.bindings.releases.pop();
            self.bindings.bindings.push(binding);
            return Err(not_kept(&error));
        }
        let is_its =
            |waiting: &mut Waiting| waiting.environment == *environment && waiting.name == *name;
        for Waiting { reply, .. } in self.waiting.extract_if(.., is_its) {
            let _ = reply.send(Err(ended_meanwhile(environment, name)));
        }
        self.apply(dataplane).await;
        Ok(release)
    }

    /// Lets the data plane run what is desired now.
    async fn apply<D: Dataplane>(&mut self, dataplane: &D) {
        self.leaves.retain(&self.documents);
        self.forget_bindings();
        let desired = self.desired();
        if let Err(error) = dataplane.apply(desired.clone()).await {
            tracing::error!(error, "what the control plane says is not carried out");
        }
        self.is_unkept = true;
        let is_ready = |waiting: &mut Waiting| {
            desired.attachment(&waiting.environment, &waiting.name).is_some()
        };
        let ready: Vec<_> = self.waiting.extract_if(.., is_ready).collect();
        if ready.is_empty() && Instant::now() < self.keep_after {
            return;
        }
        // What somebody was promised is there for the next daemon, too.
        self.keep().await;
        for Waiting { environment, name, is_new, reply, .. } in ready {
            if let Some(attachment) = desired.attachment(&environment, &name).cloned() {
                make(dataplane, environment, attachment, is_new, reply);
            }
        }
    }

    /// Places of attachments that are not to be here any more, and that nobody waits for.
    fn forget_bindings(&mut self) {
        let awaited: HashSet<_> =
            self.waiting.iter().map(|w| (w.environment.clone(), w.name.clone())).collect();
        let before = self.bindings.bindings.len();
        let documents = &self.documents;
        self.bindings.bindings.retain(|binding| {
            let known = documents.attachment(&binding.environment, &binding.name);
            known.is_some_and(|known| known.generation == binding.generation)
                || awaited.contains(&(binding.environment.clone(), binding.name.clone()))
        });
        if self.bindings.bindings.len() < before
            && let Err(error) = self.state.keep_bindings(&self.bindings)
        {
            tracing::warn!(%error, "places that are no use are kept");
        }
    }

    fn heard(&mut self, errors: Vec<DocumentError>) {
        complain(Some(errors));
        self.contact = Some(SystemTime::now());
        self.say(true, String::new());
    }

    fn disconnected(&mut self, error: String) {
        if self.status.borrow().error != error {
            tracing::warn!(url = %self.settings.url, error, "without a control plane");
        }
        self.say(false, error);
        // When it was heard of last.
        self.is_unkept |= self.contact.is_some();
    }

    fn say(&mut self, is_connected: bool, error: String) {
        let (contact, revision) = (self.contact, self.documents.revision());
        let first_end = self.leaves.first_end();
        self.status.send_modify(|status| {
            let url = std::mem::take(&mut status.url);
            *status = ControlStatus { url, is_connected, contact, revision, first_end, error };
        });
    }

    /// Keeps what is known for the next daemon.
    async fn keep(&mut self) {
        if !std::mem::take(&mut self.is_unkept) {
            return;
        }
        let contact = self.contact.unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH);
        let cache = Cache {
            snapshot: self.documents.snapshot(),
            leaves: self.leaves.keep(),
            contact: contact.unwrap_or_default().as_secs(),
            version: self.settings.version.clone(),
        };
        let (state, began) = (Arc::clone(&self.state), Instant::now());
        let kept = tokio::task::spawn_blocking(move || state.keep_cache(&cache)).await;
        self.keep_after = began + (began.elapsed() * KEEP_SHARE).max(KEEP_PAUSE);
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                (self.is_unkept, self.keep_after) = (true, began + KEEP_AGAIN);
                tracing::error!(%error, "what the control plane says is not kept");
            }
            Err(error) => tracing::error!(%error, "what the control plane says is not kept"),
        }
    }
}

/// What this version does not understand is left out, and said.
fn complain(errors: Option<Vec<DocumentError>>) {
    for error in errors.into_iter().flatten() {
        tracing::error!(%error, "the control plane says something that is left out");
    }
}

/// Makes an attachment for somebody who waits.
fn make<D: Dataplane>(
    dataplane: &D,
    environment: EnvironmentId,
    attachment: weft_config::Attachment,
    is_new: bool,
    reply: Reply<bool>,
) {
    let dataplane = dataplane.clone();
    tokio::spawn(async move {
        let made = dataplane.make(environment, attachment).await;
        let _ = reply.send(made.map(|()| is_new));
    });
}

fn ended_meanwhile(environment: &EnvironmentId, name: &AttachmentName) -> AttachError {
    let error = format!("attachment {name} of environment {environment} was ended meanwhile");
    AttachError::Precondition(error)
}

fn not_kept(error: &StateError) -> AttachError {
    AttachError::Precondition(format!("it cannot be kept for the next daemon: {error}"))
}

/// A number between 0 and 1; not one that must not be guessed.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}
