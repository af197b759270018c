//! One connection to the control plane, from its beginning to its end.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tonic::{Code, Status};
use weft_control_api::{MESSAGE_BYTES_MAX, v1, v1::host_agent_client::HostAgentClient};
use weft_pki::installation;

use super::{
    Agent, AttachError, NewAttachment, Reply, Request, WAIT_MAX, Waiting, chance, not_kept,
    reports::Reports,
    task::{self, Client, Done},
};
use crate::{
    connection::{self, ConnectError},
    enrol::{self, EnrolError},
    join::{JoinToken, JoinTokenError},
    plane::Dataplane,
    state::{Binding, Identity, Release, StateError},
};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// Certificates of environments that are asked for at a time.
const LEAVES_AT_ONCE: usize = 16;
/// How long before its end the certificate of the installation is renewed: half of its life, and up to a tenth more.
const RENEW_BEFORE: Duration = Duration::from_secs(installation::HOST_DAYS as u64 * 86_400 / 2);
/// How soon that is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(300);

/// Why a connection ended or was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("it is no host yet, and has no join token; expected join_token to name one")]
    NoToken,
    #[error("join_token: {0}")]
    Token(#[from] JoinTokenError),
    #[error("cannot join: {0}")]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the identity in the state is {0}'s; expected this host's")]
    OtherHost(weft_types::HostId),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the connection ended")]
    Ended,
    #[error("a new certificate is shown")]
    Renewed,
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => {
                Self::Refused("this host's certificate is not accepted any more".to_owned())
            }
            Code::Unavailable | Code::Unknown | Code::Cancelled if status.message().is_empty() => {
                Self::Ended
            }
            _ => Self::Refused(status.message().to_owned()),
        }
    }
}

/// What belongs to a connection.
struct Live {
    client: Client,
    tasks: JoinSet<Done>,
    reports: Reports,
    /// Certificates that are asked for.
    leaves: usize,
    /// Ends that are being told.
    releases: Vec<Release>,
    /// When the installation's certificate is renewed.
    renew: SystemTime,
}

impl Agent {
    /// Connects and follows until that ends.
    pub(super) async fn session<D: Dataplane>(&mut self, dataplane: &D) -> SessionError {
        match self.try_session(dataplane).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_session<D: Dataplane>(
        &mut self,
        dataplane: &D,
    ) -> Result<Infallible, SessionError> {
        let identity = self.become_host().await?;
        let Identity { anchors, certificate, key, .. } = &identity;
        let channel = connection::connect(
            &self.settings.url,
            connection::as_host(anchors, certificate, key)?,
        );
        let mut client =
            HostAgentClient::new(channel.await?).max_decoding_message_size(MESSAGE_BYTES_MAX);
        self.documents.forget_parts();
        self.leaves.forget_requests();
        let watch = v1::WatchRequest { revision: self.documents.revision() };
        let mut news = client.watch(watch).await?.into_inner();
        let mut live = Live {
            client,
            tasks: JoinSet::new(),
            reports: Reports::new(Instant::now()),
            leaves: 0,
            releases: Vec::new(),
            renew: renewal(&identity),
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                part = news.message() => {
                    let part = part?.ok_or(SessionError::Ended)?;
                    if let Some(errors) = self.documents.take(part) {
                        self.heard(errors);
                        self.apply(dataplane).await;
                        self.ask_for_leaves(&mut live);
                    }
                }
                Some(done) = live.tasks.join_next() => {
                    if let Ok(done) = done {
                        self.finish(done, &mut live, dataplane).await?;
                    }
                }
                Some(request) = self.inbox.recv() => {
                    self.request(request, &mut live, dataplane).await;
                }
                () = sleep_until(self.keep_after), if self.is_unkept => self.keep().await,
                _ = ticks.tick() => self.tick(&mut live, dataplane).await,
            }
        }
    }

    /// The identity that there is, or a new one by a join token.
    async fn become_host(&mut self) -> Result<Identity, SessionError> {
        if let Some(identity) = &self.identity {
            if identity.host != self.settings.host {
                return Err(SessionError::OtherHost(identity.host.clone()));
            }
            return Ok(identity.clone());
        }
        let token = self.settings.join_token.as_ref().ok_or(SessionError::NoToken)?;
        let token = JoinToken::read(token)?;
        // The same key asks again when an answer was lost.
        let key = match self.state.enrolling()? {
            Some(key) => weft_pki::request::for_key(&key).map_err(EnrolError::from)?,
            None => enrol::new_key().map_err(EnrolError::from)?,
        };
        self.state.keep_enrolling(&key.key_pem)?;
        let identity = enrol::enrol(&self.settings.url, &token, &self.candidate, &key).await?;
        self.state.keep_identity(&identity)?;
        self.state.forget_enrolling();
        tracing::info!(host = %identity.host, installation = %identity.installation, "joined");
        self.identity = Some(identity.clone());
        Ok(identity)
    }

    /// What is due.
    async fn tick<D: Dataplane>(&mut self, live: &mut Live, dataplane: &D) {
        self.ask_for_leaves(live);
        self.give_up_waiting();
        if live.reports.is_due(Instant::now())
            && let Some(actual) = dataplane.actual().await
        {
            let report = live.reports.take(&actual, &self.documents, &self.settings.version);
            live.tasks.spawn(task::report(live.client.clone(), report));
        }
        if SystemTime::now() >= live.renew
            && let Some(identity) = &self.identity
        {
            live.renew = SystemTime::now() + RENEW_AGAIN;
            live.tasks.spawn(task::renew(live.client.clone(), identity.key.clone()));
        }
        // Those that ended while the control plane was away.
        let ended =
            self.bindings.releases.iter().filter(|release| !live.releases.contains(release));
        let ended: Vec<_> = ended.cloned().collect();
        for release in ended {
            live.release(release, None);
        }
    }

    fn ask_for_leaves(&mut self, live: &mut Live) {
        if live.leaves >= LEAVES_AT_ONCE {
            return;
        }
        let room = LEAVES_AT_ONCE - live.leaves;
        let (wall, now) = (SystemTime::now(), Instant::now());
        for environment in self.leaves.take_due(&self.documents, wall, now, room) {
            live.leaves += 1;
            let (client, host) = (live.client.clone(), self.settings.host.clone());
            live.tasks.spawn(task::leaf(client, environment, host));
        }
    }

    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        for waiting in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            let Waiting { environment, name, reply, .. } = waiting;
            let error = format!(
                "attachment {name} of environment {environment} was granted, and its certificate has \
                 not come in {} s; it is made when it comes",
                WAIT_MAX.as_secs()
            );
            // Whoever asked may have gone.
            let _ = reply.send(Err(AttachError::Unavailable(error)));
        }
    }

    async fn request<D: Dataplane>(&mut self, request: Request, live: &mut Live, dataplane: &D) {
        match request {
            Request::Attach(new, reply) => {
                if let Err(error) = self.check(&new) {
                    let _ = reply.send(Err(error));
                    return;
                }
                live.tasks.spawn(task::attach(live.client.clone(), new, reply));
            }
            Request::Detach(environment, name, reply) => {
                match self.detach(&environment, &name, dataplane).await {
                    Ok(release) => live.release(release, Some(reply)),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
        }
    }

    /// What can be said before the control plane is asked.
    fn check(&self, new: &NewAttachment) -> Result<(), AttachError> {
        let NewAttachment { environment, name, netns, interface, .. } = new;
        if let Some(binding) = self.bindings.get(environment, name)
            && (binding.netns != *netns || binding.interface != *interface)
        {
            return Err(AttachError::Exists(format!(
                "attachment {name} of environment {environment} exists with other fields; detach it \
                 first"
            )));
        }
        let ends = |r: &Release| r.environment == *environment && r.name == *name;
        if self.bindings.releases.iter().any(ends) {
            return Err(AttachError::Unavailable(format!(
                "attachment {name} of environment {environment} is being ended; ask again"
            )));
        }
        Ok(())
    }

    async fn finish<D: Dataplane>(
        &mut self,
        done: Done,
        live: &mut Live,
        dataplane: &D,
    ) -> Result<(), SessionError> {
        let now = Instant::now();
        match done {
            Done::Leaf(environment, issued) => {
                live.leaves -= 1;
                match issued {
                    Ok(leaf) => {
                        self.leaves.insert(environment, *leaf);
                        self.apply(dataplane).await;
                        self.say(true, String::new());
                    }
                    Err(error) => {
                        tracing::warn!(%environment, error, "no certificate");
                        self.leaves.fail(&environment, now);
                    }
                }
                self.ask_for_leaves(live);
            }
            Done::Attached(new, reply, attached) => match *attached {
                Ok(attached) => self.attached(new, &attached, reply, dataplane).await,
                Err(status) => {
                    let _ = reply.send(Err(status.into()));
                }
            },
            Done::Released(release, reply, released) => {
                live.releases.retain(|running| *running != release);
                self.released(&release, reply, released);
            }
            Done::Reported(Ok(next)) => {
                live.reports.done(next, now);
                self.heard(Vec::new());
            }
            Done::Reported(Err(status)) => {
                tracing::debug!(%status, "a report is not heard");
                live.reports.fail(now);
            }
            Done::Renewed(Ok(renewed)) => {
                let certificate = renewed.certificate;
                self.renewed(certificate, renewed.anchors)?;
                // The next connection shows it.
                return Err(SessionError::Renewed);
            }
            Done::Renewed(Err(status)) => {
                tracing::warn!(%status, "the certificate of the installation is not renewed");
            }
        }
        Ok(())
    }

    /// The control plane has granted an attachment.
    async fn attached<D: Dataplane>(
        &mut self,
        new: NewAttachment,
        granted: &v1::Attachment,
        reply: Reply<bool>,
        dataplane: &D,
    ) {
        let binding = Binding {
            environment: new.environment,
            name: new.name,
            generation: granted.generation,
            netns: new.netns,
            interface: new.interface,
        };
        let (environment, name) = (binding.environment.clone(), binding.name.clone());
        let before = self.bindings.remove(&environment, &name);
        let is_new = before.as_ref() != Some(&binding);
        self.bindings.bindings.push(binding);
        if let Err(error) = self.state.keep_bindings(&self.bindings) {
            self.bindings.remove(&environment, &name);
            self.bindings.bindings.extend(before);
            let _ = reply.send(Err(not_kept(&error)));
            return;
        }
        let until = Instant::now() + WAIT_MAX;
        self.waiting.push(Waiting { environment, name, until, is_new, reply });
        self.apply(dataplane).await;
    }

    fn released(
        &mut self,
        release: &Release,
        reply: Option<Reply<()>>,
        released: Result<(), Status>,
    ) {
        let is_over = match &released {
            Ok(()) => true,
            // It will not become right by asking again.
            Err(status) => matches!(status.code(), Code::NotFound | Code::InvalidArgument),
        };
        if is_over {
            self.bindings.releases.retain(|other| other != release);
            if let Err(error) = self.state.keep_bindings(&self.bindings) {
                tracing::warn!(%error, "an end that was told is told again");
            }
        } else if let Err(status) = &released {
            tracing::warn!(%status, name = %release.name, "an end is not told yet");
        }
        if let Some(reply) = reply {
            // It has ended here; the control plane hears of it.
            let _ = reply.send(Ok(()));
        }
    }

    fn renewed(&mut self, certificate: String, anchors: Vec<String>) -> Result<(), SessionError> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let renewed = Identity { certificate, anchors, ..identity.clone() };
        // It is of use, before the one that is goes.
        connection::as_host(&renewed.anchors, &renewed.certificate, &renewed.key)?;
        self.state.keep_identity(&renewed)?;
        tracing::info!("the certificate of the installation is renewed");
        self.identity = Some(renewed);
        Ok(())
    }
}

impl Live {
    fn release(&mut self, release: Release, reply: Option<Reply<()>>) {
        self.releases.push(release.clone());
        self.tasks.spawn(task::release(self.client.clone(), release, reply));
    }
}

/// When the certificate of the installation is to be renewed.
fn renewal(identity: &Identity) -> SystemTime {
    let certificate = installation::anchor(identity.certificate.as_bytes());
    let member = certificate.and_then(|certificate| installation::member(&certificate));
    let before = RENEW_BEFORE.mul_f64(1.0 + chance() / 10.0);
    // One that cannot be read is renewed now.
    member
        .ok()
        .and_then(|member| member.not_after.checked_sub(before))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
