//! The agent as the local API sees it.

use std::{net::IpAddr, path::PathBuf};

use tokio::sync::{mpsc, oneshot, watch};
use weft_types::{AttachmentName, EnvironmentId};

use crate::status::ControlStatus;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, AttachError>>;

/// Why an attachment is not made or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// A field is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing, or this host has no right to it.
    #[error("{0}")]
    NotFound(String),
    /// The name or an address is taken.
    #[error("{0}")]
    Exists(String),
    /// Not as things are.
    #[error("{0}")]
    Precondition(String),
    /// A limit is reached.
    #[error("{0}")]
    Limit(String),
    /// The control plane is not reached, or the daemon stops.
    #[error("{0}")]
    Unavailable(String),
}

impl From<tonic::Status> for AttachError {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;

        let message = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument => Self::Invalid(message),
            Code::NotFound => Self::NotFound(message),
            Code::AlreadyExists => Self::Exists(message),
            Code::ResourceExhausted => Self::Limit(message),
            Code::FailedPrecondition | Code::PermissionDenied | Code::Aborted => {
                Self::Precondition(message)
            }
            _ => Self::Unavailable(format!("the control plane does not answer: {message}")),
        }
    }
}

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
    /// [`AttachError`].
    pub async fn attach(&self, new: NewAttachment) -> Result<bool, AttachError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Attach(new, reply), answer).await
    }

    /// Ends an attachment on this host, also while the control plane is away; it is told then when it is back.
    ///
    /// # Errors
    /// [`AttachError`].
    pub async fn detach(
        &self,
        environment: EnvironmentId,
        name: AttachmentName,
    ) -> Result<(), AttachError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Detach(environment, name, reply), answer).await
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
        answer: oneshot::Receiver<Result<T, AttachError>>,
    ) -> Result<T, AttachError> {
        let stopping = || AttachError::Unavailable("the daemon stops".to_owned());
        self.requests.send(request).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}
