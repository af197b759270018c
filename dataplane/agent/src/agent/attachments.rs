//! Attachments of containers on this host: asked for, granted, made, given back.

use std::{collections::HashSet, io, sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Code, Status};
use weft_control_api::v1;
use weft_types::{AttachmentName, EnvironmentId};

use super::{Agent, NewAttachment, Reply, session::Live};
use crate::{
    plane::Dataplane,
    refusal::RequestError,
    state::{Asked, Binding, Release, StateError},
};

/// How long somebody waits for an attachment that was granted: a certificate and the next news.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Attachments that may be asked for and unanswered.
const ASKED_MAX: usize = 1_024;

/// How an attachment came to be on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was here before.
    Known,
    /// It was placed here before anybody on this host asked.
    Placed,
    /// This host has asked for it. If it cannot be made, it is given back.
    Asked,
}

/// Somebody who waits for an attachment that was granted.
pub(super) struct Waiting {
    pub(super) environment: EnvironmentId,
    pub(super) name: AttachmentName,
    pub(super) until: Instant,
    pub(super) origin: Origin,
    pub(super) reply: Reply<bool>,
}

impl Agent {
    /// That something is asked for is kept first. Whether no earlier call for it is unanswered.
    pub(super) async fn may_ask(
        &mut self,
        new: &NewAttachment,
        live: &mut Live,
    ) -> Result<bool, RequestError> {
        self.check(new, live)?;
        let NewAttachment { environment, name, .. } = new;
        // What is there already is not given back, whoever has made it.
        let is_there = self.there(environment, name).is_some();
        if is_there || self.bindings.was_asked(environment, name) {
            return Ok(false);
        }
        if self.bindings.asked.len() >= ASKED_MAX {
            return Err(RequestError::Limit(format!(
                "{ASKED_MAX} attachments are asked for and not answered; ask again"
            )));
        }
        self.bindings.asked.push(Asked { environment: environment.clone(), name: name.clone() });
        if let Err(error) = self.keep_bindings().await {
            self.bindings.asked.pop();
            return Err(not_kept(&error));
        }
        Ok(true)
    }

    /// The generation of an attachment that is to be here, as far as is known. One whose end was told is not, whether or
    /// not it has been heard that it is gone.
    fn there(&self, environment: &EnvironmentId, name: &AttachmentName) -> Option<u64> {
        let generation = self.documents.attachment(environment, name)?.generation;
        let ends = |r: &Release| {
            r.environment == *environment && r.name == *name && r.generation == generation
        };
        (!self.bindings.ended.iter().any(ends)).then_some(generation)
    }

    /// Ends that were told, and of which it is heard by now; whether there were any.
    pub(super) fn forget_ended(&mut self) -> bool {
        let (documents, before) = (&self.documents, self.bindings.ended.len());
        self.bindings.ended.retain(|ended| {
            let known = documents.attachment(&ended.environment, &ended.name);
            known.is_some_and(|known| known.generation == ended.generation)
        });
        self.bindings.ended.len() < before
    }

    /// What can be said before the control plane is asked.
    fn check(&self, new: &NewAttachment, live: &mut Live) -> Result<(), RequestError> {
        let NewAttachment { environment, name, netns, interface, .. } = new;
        if let Err(problem) = weft_config::check_interface(interface) {
            return Err(RequestError::Invalid(format!("interface {interface:?}: {problem}")));
        }
        if live.attaching(environment, name).is_some() {
            return Err(RequestError::Unavailable(format!(
                "attachment {name} of environment {environment} is being asked for; ask again"
            )));
        }
        if let Some(binding) = self.bindings.get(environment, name)
            && (binding.netns != *netns || binding.interface != *interface)
        {
            return Err(RequestError::Exists(format!(
                "attachment {name} of environment {environment} exists with other fields; detach it \
                 first"
            )));
        }
        let ends = |r: &Release| r.environment == *environment && r.name == *name;
        if self.bindings.releases.iter().any(ends) {
            return Err(RequestError::Unavailable(format!(
                "attachment {name} of environment {environment} is being ended; ask again"
            )));
        }
        Ok(())
    }

    /// The control plane has granted an attachment.
    pub(super) async fn attached<D: Dataplane>(
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
        let before = self.bindings.clone();
        let origin = match self.bindings.remove(&environment, &name) {
            Some(known) if known == binding => Origin::Known,
            _ if before.was_asked(&environment, &name) => Origin::Asked,
            _ => Origin::Placed,
        };
        self.bindings.answered(&environment, &name);
        self.bindings.bindings.push(binding);
        if let Err(error) = self.keep_bindings().await {
            // As it was, also that it was asked for: it is given back.
            self.bindings = before;
            let _ = reply.send(Err(not_kept(&error)));
            return;
        }
        let until = Instant::now() + WAIT_MAX;
        self.waiting.push(Waiting { environment, name, until, origin, reply });
        self.apply(dataplane).await;
    }

    /// Whether nothing more is to be told of an end.
    pub(super) async fn released(
        &mut self,
        release: &Release,
        released: &Result<(), Status>,
    ) -> bool {
        if let Err(status) = released
            // Another code will not become right by asking again.
            && !matches!(status.code(), Code::NotFound | Code::InvalidArgument)
        {
            tracing::warn!(%status, name = %release.name, "an end is not told yet");
            return false;
        }
        self.bindings.releases.retain(|other| other != release);
        self.bindings.ended.push(release.clone());
        self.forget_ended();
        self.keep_places().await;
        true
    }

    /// What the control plane granted is not wanted any more; it is told so when its turn comes.
    pub(super) async fn give_back(&mut self, release: Release) {
        self.bindings.answered(&release.environment, &release.name);
        self.bindings.releases.push(release);
        self.keep_places().await;
    }

    /// What was asked for, and is there although nobody has had the answer, is given back.
    pub(super) async fn give_back_unanswered(&mut self, live: &mut Live) {
        let asked = std::mem::take(&mut self.bindings.asked);
        let before = asked.len();
        for Asked { environment, name } in asked {
            match self.there(&environment, &name) {
                Some(generation) if live.attaching(&environment, &name).is_none() => {
                    tracing::info!(%environment, %name, "an attachment that nobody waits for is given back");
                    self.bindings.releases.push(Release { environment, name, generation });
                }
                None if live.attaching(&environment, &name).is_none()
                    && live.granted_late <= Instant::now() => {}
                _ => self.bindings.asked.push(Asked { environment, name }),
            }
        }
        if self.bindings.asked.len() < before {
            self.keep_places().await;
        }
    }

    /// Writes what this host has said of its attachments, beside this task: a disk may be slow, and others go on meanwhile.
    /// One is awaited before the next one begins, so the newest is on disk in the end.
    pub(super) async fn keep_bindings(&mut self) -> Result<(), StateError> {
        let (state, bindings) = (Arc::clone(&self.state), self.bindings.clone());
        let kept = tokio::task::spawn_blocking(move || state.keep_bindings(&bindings)).await;
        kept.unwrap_or_else(|error| Err(self.state.bindings_error(io::Error::other(error))))
    }

    /// What could not be kept is done again by the next daemon, which changes nothing.
    pub(super) async fn keep_places(&mut self) {
        if let Err(error) = self.keep_bindings().await {
            tracing::warn!(%error, "places of attachments are not kept as they are");
        }
    }

    /// What was granted and not made is given back.
    pub(super) async fn give_up_waiting<D: Dataplane>(&mut self, dataplane: &D) {
        let now = Instant::now();
        let over: Vec<_> = self.waiting.extract_if(.., |waiting| waiting.until <= now).collect();
        for Waiting { environment, name, origin, reply, .. } in over {
            if origin == Origin::Asked
                && let Err(error) = self.detach(&environment, &name, dataplane).await
            {
                tracing::warn!(%environment, %name, %error, "an attachment is not given back");
            }
            let error = format!(
                "attachment {name} of environment {environment} was granted, and what it needs has not \
                 come in {} s; ask again",
                WAIT_MAX.as_secs()
            );
            // Whoever asked may have gone.
            let _ = reply.send(Err(RequestError::Unavailable(error)));
        }
    }

    /// Without a control plane only what was granted before is made.
    pub(super) fn attach_alone<D: Dataplane>(
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
                let _ = reply.send(Err(RequestError::Exists(error)));
            }
            Some(attachment) => {
                self.make(
                    dataplane,
                    new.environment.clone(),
                    attachment.clone(),
                    Origin::Known,
                    reply,
                );
            }
            None => {
                let url = &self.caller.settings.url;
                let error = format!(
                    "{url} is not reached and is called again: nothing new is admitted meanwhile"
                );
                let _ = reply.send(Err(RequestError::Unavailable(error)));
            }
        }
    }

    /// Makes an attachment for somebody who waits. A new one that cannot be made is given back.
    pub(super) fn make<D: Dataplane>(
        &self,
        dataplane: &D,
        environment: EnvironmentId,
        attachment: weft_config::Attachment,
        origin: Origin,
        reply: Reply<bool>,
    ) {
        let (dataplane, handle) = (dataplane.clone(), self.handle());
        tokio::spawn(async move {
            let name = attachment.name.clone();
            let made = dataplane.make(environment.clone(), attachment).await;
            if made.is_err()
                && origin == Origin::Asked
                && let Err(error) = handle.detach(environment, name).await
            {
                tracing::debug!(%error, "what was not made was ended by another");
            }
            let _ = reply.send(made.map(|()| origin != Origin::Known));
        });
    }

    /// Takes an attachment away here; what is to be said of it to the control plane is returned.
    pub(super) async fn detach<D: Dataplane>(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
        dataplane: &D,
    ) -> Result<Release, RequestError> {
        let binding = self.bindings.remove(environment, name).ok_or_else(|| {
            RequestError::NotFound(format!(
                "environment {environment} has no attachment {name} on this host"
            ))
        })?;
        let release = Release {
            environment: environment.clone(),
            name: name.clone(),
            generation: binding.generation,
        };
        self.bindings.releases.push(release.clone());
        if let Err(error) = self.keep_bindings().await {
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

    /// Places of attachments that are not to be here any more, and that nobody waits for.
    pub(super) async fn forget_bindings(&mut self) {
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
            && let Err(error) = self.keep_bindings().await
        {
            tracing::warn!(%error, "places that are no use are kept");
        }
    }
}

pub(super) fn ended_meanwhile(environment: &EnvironmentId, name: &AttachmentName) -> RequestError {
    let error = format!("attachment {name} of environment {environment} was ended meanwhile");
    RequestError::Precondition(error)
}

fn not_kept(error: &StateError) -> RequestError {
    RequestError::Precondition(format!("it cannot be kept for the next daemon: {error}"))
}

/// Whether nothing was granted, and nothing will be.
pub(super) fn is_definite(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}
