//! One connection to the control plane, from its beginning to its end.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tonic::{Code, Status};
use weft_control_api::v1;
use weft_pki::{installation, request::NewKey};
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{
    Agent, NewAttachment, Reply, Request, TICK,
    attachments::{ended_meanwhile, is_definite},
    caller::Connected,
    chance,
    reports::Reports,
    task::{self, ANSWER_MAX, Client, Done},
};
use crate::{
    connection::{ConnectError, SILENCE_MAX},
    documents::DocumentError,
    enrol::{self, EnrolError},
    join::JoinTokenError,
    plane::Dataplane,
    refusal::RequestError,
    renewal::{self, RenewError},
    state::{Identity, Release, StateError},
};

/// Certificates of environments that are asked for at a time.
const LEAVES_AT_ONCE: usize = 16;
/// How long before its end the certificate of the installation is renewed: half of its life, and up to a tenth more.
const RENEW_BEFORE: Duration = Duration::from_secs(installation::HOST_DAYS as u64 * 86_400 / 2);
/// How soon that is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(300);
/// A connection over which no report is heard for so long is given up: another process may hear it, before this host is
/// taken for lost.
pub(super) const UNHEARD_MAX: Duration = SILENCE_MAX;
/// How soon an end is told again that could not be.
const RELEASE_AGAIN: Duration = Duration::from_secs(5);
/// How long after a lost answer, or after the beginning of a connection, what was asked for may still be granted: longer
/// than a call takes.
const GRANTED_LATE_MAX: Duration = ANSWER_MAX.saturating_mul(2);

/// Why a connection ended or was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("it is no host yet, and has no join token; expected join_token to name one")]
    NoToken,
    #[error("expected join_token to name a file with a new join token")]
    NoNewToken,
    #[error("refused: this host's certificate is not accepted any more")]
    NotAccepted,
    #[error(
        "refused: this host's certificate is not accepted any more; unless it was revoked, put a token that names it \
         (`weft host token --host {host}`) into the file of join_token: {why}"
    )]
    ShutOut { host: HostId, why: Box<SessionError> },
    #[error("it has joined again; its new certificate is shown")]
    JoinedAgain,
    #[error("this host's certificate ended {ended}: {why}")]
    Over { ended: String, why: Box<SessionError> },
    #[error("join_token: {0}")]
    Token(#[from] JoinTokenError),
    #[error("cannot join: {0}")]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the connection ended")]
    Ended,
    #[error("a new certificate is shown")]
    Renewed,
    #[error("an answer without an end")]
    Endless,
    #[error("the control plane hears no report")]
    Unheard,
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::NotAccepted,
            Code::Unavailable | Code::Unknown | Code::Cancelled if status.message().is_empty() => {
                Self::Ended
            }
            _ => Self::Refused(status.message().to_owned()),
        }
    }
}

/// What belongs to a connection.
pub(super) struct Live {
    client: Client,
    tasks: JoinSet<Done>,
    reports: Reports,
    /// Since when there is one that was not heard.
    unheard_since: Option<Instant>,
    /// Certificates that are asked for.
    leaves: usize,
    /// Ends that are being told, with who waits for that.
    releases: Vec<(Release, Option<Reply<()>>)>,
    /// When those are told again that could not be.
    release_again: Instant,
    /// Attachments that are asked for.
    attaching: Vec<Attaching>,
    /// Until when the control plane may grant what it was asked for without an answer.
    pub(super) granted_late: Instant,
    /// When the installation's certificate is renewed.
    renew: SystemTime,
}

/// An attachment that is asked for.
pub(super) struct Attaching {
    environment: EnvironmentId,
    name: AttachmentName,
    reply: Reply<bool>,
    /// Somebody has ended it since.
    is_ended: bool,
    /// No earlier call for it is unanswered.
    is_first: bool,
}

/// Nobody waits for an answer that will not come.
impl Drop for Live {
    fn drop(&mut self) {
        for (_, reply) in self.releases.drain(..) {
            // It has ended here; the control plane hears of it later.
            reply.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
        }
        for Attaching { reply, .. } in self.attaching.drain(..) {
            let error = "the connection to the control plane ended; ask again".to_owned();
            drop(reply.send(Err(RequestError::Unavailable(error))));
        }
    }
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
        self.documents.forget_parts();
        self.leaves.forget_requests();
        if self.caller.end_of_old(SystemTime::now()).is_some() && self.documents.revision() > 0 {
            self.ask_anew().await;
        }
        let (mut caller, revision) = (self.caller.clone(), self.documents.revision());
        let calling = async move {
            let called = caller.call(revision).await;
            (caller.identities, called)
        };
        // Until it is there, it is as if there were none.
        let (identities, called) = self.wait(calling, dataplane).await;
        self.caller.identities = identities;
        if matches!(called, Err(SessionError::JoinedAgain)) {
            self.ask_anew().await;
        }
        let Connected { client, identity, mut news } = called?;
        let is_former = self.caller.identities.is_former_shown();
        // The one of before is good for nothing else than to get the next one.
        let renew = if is_former { SystemTime::UNIX_EPOCH } else { renewal(&identity) };
        let mut live = Live::new(client, renew);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                part = news.message() => {
                    let part = part?.ok_or(SessionError::Ended)?;
                    if let Some(errors) = self.documents.take(part) {
                        if errors.contains(&DocumentError::Endless) {
                            return Err(SessionError::Endless);
                        }
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
                _ = ticks.tick() => {
                    if live.unheard_since.is_some_and(|since| since.elapsed() >= UNHEARD_MAX) {
                        return Err(SessionError::Unheard);
                    }
                    self.tick(&mut live, dataplane).await;
                }
            }
        }
    }

    /// Who joins again may do so elsewhere, where these revisions mean something else.
    async fn ask_anew(&mut self) {
        self.documents.ask_anew();
        self.is_unkept = true;
        self.keep().await;
    }

    /// What is due.
    async fn tick<D: Dataplane>(&mut self, live: &mut Live, dataplane: &D) {
        self.ask_for_leaves(live);
        self.caller.identities.destroy_ended(&self.state, SystemTime::now());
        self.give_up_waiting(dataplane).await;
        self.give_back_unanswered(live).await;
        if live.reports.is_due(Instant::now())
            && let Some(actual) = dataplane.actual().await
        {
            let report = live.reports.take(
                &actual,
                &self.documents,
                self.applied,
                &self.caller.settings.version,
                Instant::now(),
            );
            live.unheard_since.get_or_insert_with(Instant::now);
            live.tasks.spawn(task::report(live.client.clone(), report));
        }
        if SystemTime::now() >= live.renew
            && let Some(identity) = self.caller.identities.shown()
        {
            live.renew = SystemTime::now() + RENEW_AGAIN;
            let (client, state) = (live.client.clone(), Arc::clone(&self.state));
            live.tasks.spawn(task::renew(client, state, identity.clone()));
        }
        // What ended while the control plane was away is told, one after the other.
        if live.releases.is_empty()
            && Instant::now() >= live.release_again
            && let Some(release) = self.bindings.releases.first().cloned()
        {
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
            let (client, host) = (live.client.clone(), self.caller.settings.host.clone());
            live.tasks.spawn(task::leaf(client, environment, host));
        }
    }

    async fn request<D: Dataplane>(&mut self, request: Request, live: &mut Live, dataplane: &D) {
        match request {
            Request::Attach(new, reply) => match self.may_ask(&new, live).await {
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
                Ok(is_first) => {
                    let (environment, name) = (new.environment.clone(), new.name.clone());
                    let asked = Attaching { environment, name, reply, is_ended: false, is_first };
                    live.attaching.push(asked);
                    live.tasks.spawn(task::attach(live.client.clone(), new));
                }
            },
            Request::JoinWith(token) => self.caller.settings.join_token = token,
            Request::Detach(environment, name, reply) => {
                if let Some(asked) = live.attaching(&environment, &name) {
                    // What is granted is given back at once.
                    asked.is_ended = true;
                    let _ = reply.send(Ok(()));
                    return;
                }
                match self.detach(&environment, &name, dataplane).await {
                    Ok(release) => live.release(release, Some(reply)),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
        }
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
                        self.leaves.insert(environment, *leaf, now);
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
            Done::Attached(new, attached) => {
                let Some(asked) = live.attached(&new) else { return Ok(()) };
                match *attached {
                    Ok(granted) if asked.is_ended => {
                        let (environment, name) = (new.environment, new.name);
                        let _ = asked.reply.send(Err(ended_meanwhile(&environment, &name)));
                        let generation = granted.generation;
                        self.give_back(Release { environment, name, generation }).await;
                    }
                    Ok(granted) => {
                        self.attached(new, &granted, asked.reply, dataplane).await;
                        live.reports.soon(now);
                    }
                    Err(status) => {
                        if is_definite(&status) {
                            // What an earlier call was granted, and nobody heard of, is another matter.
                            if asked.is_first {
                                self.bindings.answered(&new.environment, &new.name);
                                self.keep_places().await;
                            }
                        } else {
                            live.granted_late = now + GRANTED_LATE_MAX;
                        }
                        let _ = asked.reply.send(Err(status.into()));
                    }
                }
            }
            Done::Released(release, released) => {
                let at = live.releases.iter().position(|(running, _)| *running == release);
                let reply = at.and_then(|at| live.releases.swap_remove(at).1);
                if !self.released(&release, &released).await {
                    live.release_again = now + RELEASE_AGAIN;
                }
                // It has ended here, whether the control plane has heard of it or not.
                reply.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
            }
            Done::Reported(Ok((next, again))) => {
                live.unheard_since = None;
                live.reports.done(next, again, now);
                self.heard(Vec::new());
            }
            Done::Reported(Err(status)) => {
                tracing::debug!(%status, "a report is not heard");
                live.reports.fail(now);
            }
            Done::Renewed(Ok(answered)) => {
                let (key, answer) = *answered;
                match self.renewed(&key, answer) {
                    // The next connection shows it.
                    Ok(()) => return Err(SessionError::Renewed),
                    Err(error) => {
                        tracing::error!(%error, "the certificate of the installation is no use");
                    }
                }
            }
            Done::Renewed(Err(error)) => {
                tracing::warn!(error, "the certificate of the installation is not renewed");
            }
        }
        Ok(())
    }

    fn renewed(
        &mut self,
        key: &NewKey,
        answer: v1::RenewHostCertificateResponse,
    ) -> Result<(), RenewError> {
        let identities = &mut self.caller.identities;
        let Some(shown) = identities.shown() else { return Ok(()) };
        let renewed = renewal::install(&self.state, shown, key, answer)?;
        identities.renewed(renewed);
        tracing::info!("this host has another certificate of the installation, and another key");
        Ok(())
    }
}

impl Live {
    /// A connection that has just been made; when the installation's certificate is renewed.
    pub(super) fn new(client: Client, renew: SystemTime) -> Self {
        let now = Instant::now();
        Self {
            client,
            tasks: JoinSet::new(),
            reports: Reports::new(now),
            unheard_since: None,
            leaves: 0,
            releases: Vec::new(),
            release_again: now,
            attaching: Vec::new(),
            granted_late: now + GRANTED_LATE_MAX,
            renew,
        }
    }

    fn release(&mut self, release: Release, reply: Option<Reply<()>>) {
        self.releases.push((release.clone(), reply));
        self.tasks.spawn(task::release(self.client.clone(), release));
    }

    /// An attachment that is asked for, and whose answer has not come.
    pub(super) fn attaching(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) -> Option<&mut Attaching> {
        self.attaching.iter_mut().find(|a| a.environment == *environment && a.name == *name)
    }

    /// Its answer has come.
    fn attached(&mut self, new: &NewAttachment) -> Option<Attaching> {
        let is_it = |a: &Attaching| a.environment == new.environment && a.name == new.name;
        let at = self.attaching.iter().position(is_it)?;
        Some(self.attaching.swap_remove(at))
    }
}

/// When the certificate of the installation is to be renewed.
fn renewal(identity: &Identity) -> SystemTime {
    let before = RENEW_BEFORE.mul_f64(1.0 + chance() / 10.0);
    // One that cannot be read is renewed now.
    enrol::end(identity).and_then(|end| end.checked_sub(before)).unwrap_or(SystemTime::UNIX_EPOCH)
}
