//! The data plane as the agent sees it.

use std::{future::Future, time::Duration};

use weft_config::Attachment;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use crate::{desired::Desired, refusal::RequestError};

/// How an attachment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualAttachment {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub name: AttachmentName,
    /// Its interface is there, and workers serve it.
    pub is_up: bool,
    /// Why it is not; empty when nothing is wrong, and it will be there.
    pub error: String,
}

/// How the session with another host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualPeer {
    /// Where.
    pub environment: EnvironmentId,
    /// With whom.
    pub host: HostId,
    /// There is one.
    pub is_established: bool,
    /// Age of the oldest key that seals.
    pub key_age: Option<Duration>,
    /// Why the last handshake failed; empty when it did not.
    pub error: String,
}

/// How everything is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Attachments on this host.
    pub attachments: Vec<ActualAttachment>,
    /// Other hosts.
    pub peers: Vec<ActualPeer>,
}

/// What carries out what is desired.
pub trait Dataplane: Clone + Send + Sync + 'static {
    /// Runs this from now on; what did not change is not touched.
    ///
    /// # Errors
    /// A sentence; what runs stays then.
    fn apply(&self, desired: Desired) -> impl Future<Output = Result<(), String>> + Send;

    /// Makes an attachment that is desired, now, for somebody who waits for it.
    ///
    /// # Errors
    /// Why it cannot be made.
    fn make(
        &self,
        environment: EnvironmentId,
        attachment: Attachment,
    ) -> impl Future<Output = Result<(), RequestError>> + Send;

    /// How everything is; `None` when the data plane ends.
    fn actual(&self) -> impl Future<Output = Option<Actual>> + Send;
}
