//! The agent as the local API sees it.

use std::{net::IpAddr, path::PathBuf};

use tokio::sync::{mpsc, oneshot, watch};
use weft_types::{AttachmentName, EnvironmentId};

use crate::{refusal::RequestError, status::ControlStatus};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

/// An attachment that somebody on this host wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAttachment {
    /// Where.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: AttachmentName,
    /// Path of the container's network namespace.
    pub netns: PathBuf,
    /// Name of the interface there.
    pub interface: String,
    /// Addresses that it must have; any without.
    pub addresses: Vec<IpAddr>,
}

pub(super) enum Request {
    /// Answers whether it is new.
    Attach(NewAttachment, Reply<bool>),
    Detach(EnvironmentId, AttachmentName, Reply<()>),
    /// The file with the join token is another one.
    JoinWith(Option<PathBuf>),
}

/// Asks the agent things. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<ControlStatus>,
}

impl AgentHandle {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        status: watch::Receiver<ControlStatus>,
    ) -> Self {
        Self { requests, status }
    }

    /// Makes an attachment, if the control plane gives this host the right. Idempotent by name; answers whether this
    /// call made it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn attach(&self, new: NewAttachment) -> Result<bool, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Attach(new, reply), answer).await
    }

    /// Ends an attachment on this host, also while the control plane is away; it is told then when it is back.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn detach(
        &self,
        environment: EnvironmentId,
        name: AttachmentName,
    ) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Detach(environment, name, reply), answer).await
    }

    /// Reads the join token from another file, or from none, whenever one is needed from now on.
    pub async fn join_with(&self, join_token: Option<PathBuf>) {
        // An agent that stops needs none.
        let _ = self.requests.send(Request::JoinWith(join_token)).await;
    }

    /// How it stands with the control plane.
    #[must_use]
    pub fn status(&self) -> ControlStatus {
        self.status.borrow().clone()
    }

    /// [`AgentHandle::status`] whenever it changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<ControlStatus> {
        self.status.clone()
    }

    async fn ask<T>(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        self.requests.send(request).await.map_err(|_| RequestError::Stopping)?;
        answer.await.map_err(|_| RequestError::Stopping)?
    }
}
