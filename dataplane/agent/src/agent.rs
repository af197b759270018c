//! The agent's task: one connection at a time, one thing after the other.

mod attachments;
mod caller;
mod handle;
mod reports;
mod session;
mod task;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use weft_config::ControlUrl;
use weft_types::HostId;

pub use self::handle::{AgentHandle, NewAttachment};
use self::{
    attachments::Waiting,
    caller::Caller,
    handle::{Reply, Request},
};
use crate::{
    connection::{Lookup, Ways},
    desired::Desired,
    documents::{DocumentError, Documents},
    enrol::Candidate,
    identities::Identities,
    leaves::Leaves,
    plane::Dataplane,
    state::{Bindings, Cache, State, StateError},
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

/// What an agent is told by its host's configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the control plane is.
    pub url: ControlUrl,
    /// Where its processes are.
    pub lookup: Lookup,
    /// The file with the join token; used only while the host has no identity, or one that has ended or is
    /// not accepted any more, and then once.
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
    caller: Caller,
    state: Arc<State>,
    documents: Documents,
    /// The revision that was carried out last; 0 before the first.
    applied: u64,
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

impl Agent {
    /// Reads what the host has kept.
    ///
    /// # Errors
    /// [`StateError`]; what is kept is not touched.
    pub fn open(settings: Settings, state: State) -> Result<Self, StateError> {
        let identities = Identities::open(&state, &settings.host, SystemTime::now())?;
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
        let Settings { host, endpoints, version, lookup, .. } = settings.clone();
        let (state, ways) = (Arc::new(state), Ways::new(lookup));
        let candidate = Candidate::new(host, endpoints, version);
        let caller = Caller { settings, candidate, state: Arc::clone(&state), identities, ways };
        Ok(Self {
            caller,
            state,
            documents,
            applied: 0,
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
        let is_ipv4 = self.caller.settings.endpoints.first().is_none_or(SocketAddr::is_ipv4);
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
            self.disconnected(error.to_string()).await;
            self.wait(sleep(pause.mul_f64(1.0 + chance())), dataplane).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits for something without a control plane.
    async fn wait<T, D: Dataplane>(
        &mut self,
        something: impl Future<Output = T>,
        dataplane: &D,
    ) -> T {
        tokio::pin!(something);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.sound_alarm();
                    self.caller.identities.destroy_ended(&self.state, SystemTime::now());
                    self.give_up_waiting(dataplane).await;
                }
                done = &mut something => return done,
                () = sleep_until(self.keep_after), if self.is_unkept => self.keep().await,
                Some(request) = self.inbox.recv() => match request {
                    Request::Attach(new, reply) => self.attach_alone(&new, reply, dataplane),
                    Request::Detach(environment, name, reply) => {
                        let ended = self.detach(&environment, &name, dataplane).await;
                        // Whoever asked may have gone.
                        let _ = reply.send(ended.map(drop));
                    }
                    Request::JoinWith(token) => self.caller.settings.join_token = token,
                },
            }
        }
    }

    fn sound_alarm(&mut self) {
        let is_alarming = self.status.borrow().is_alarming(SystemTime::now());
        if is_alarming && !self.is_alarmed {
            let ends = self.leaves.first_end().map(weft_pki::format_utc);
            tracing::error!(
                url = %self.caller.settings.url,
                first_certificate_ends = ends.as_deref().unwrap_or("never"),
                "the control plane has been away for six hours; traffic ends with the certificates"
            );
        }
        self.is_alarmed = is_alarming;
    }

    /// Lets the data plane run what is desired now.
    async fn apply<D: Dataplane>(&mut self, dataplane: &D) {
        self.leaves.retain(&self.documents);
        self.forget_bindings().await;
        if self.forget_ended() {
            self.keep_places().await;
        }
        let desired = self.desired();
        match dataplane.apply(desired.clone()).await {
            Ok(()) => self.applied = self.documents.revision(),
            Err(error) => tracing::error!(error, "what the control plane says is not carried out"),
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
        for Waiting { environment, name, origin, reply, .. } in ready {
            if let Some(attachment) = desired.attachment(&environment, &name).cloned() {
                self.make(dataplane, environment, attachment, origin, reply);
            }
        }
    }

    fn heard(&mut self, errors: Vec<DocumentError>) {
        complain(Some(errors));
        self.contact = Some(SystemTime::now());
        self.say(true, String::new());
    }

    /// Nothing is heard from here on: whoever is told so finds what was heard kept.
    async fn disconnected(&mut self, error: String) {
        if self.status.borrow().error != error {
            tracing::warn!(url = %self.caller.settings.url, error, "without a control plane");
        }
        // When it was heard of last.
        self.is_unkept |= self.contact.is_some();
        self.keep().await;
        self.say(false, error);
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
            version: self.caller.settings.version.clone(),
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

/// A number between 0 and 1; not one that must not be guessed.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
