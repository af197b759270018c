//! Why something is not done that was asked of the daemon.

use tonic::{Code, Status};

/// Why a request was not carried out. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A field is wrong.
    #[error("{0}")]
    Invalid(String),
    /// No such thing on this host, or the host has no right to it.
    #[error("{0}")]
    NotFound(String),
    /// Something else has that name or address.
    #[error("{0}")]
    Exists(String),
    /// Not as things are: the namespace is missing, or the kernel refuses.
    #[error("{0}")]
    Precondition(String),
    /// A limit is reached; the sentence names it.
    #[error("{0}")]
    Limit(String),
    /// The control plane is not reached.
    #[error("{0}")]
    Unavailable(String),
    /// The daemon stops.
    #[error("the daemon stops")]
    Stopping,
}

/// As the control plane has said.
impl From<Status> for RequestError {
    fn from(status: Status) -> Self {
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
