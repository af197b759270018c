//! How a machine becomes a host.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::time::timeout;
use tonic::{Code, Status};
use weft_config::ControlUrl;
use weft_control_api::v1::{self, enrolment_client::EnrolmentClient};
use weft_pki::{
    KeyKind, PkiError,
    installation::{self, Member},
    issue::IssueError,
    request,
};
use weft_types::HostId;

use crate::{
    connection::{self, ConnectError, Ways},
    join::JoinToken,
    state::Identity,
};

/// How long the answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Why a machine is no host yet.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The control plane is not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It says no, and will whenever it is asked.
    #[error("{0}")]
    Refused(String),
    /// It does not answer, or not now.
    #[error("{0}")]
    Unanswered(String),
    /// No key can be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] IssueError),
    /// What it answers is no identity.
    #[error("the answer cannot be used: {0}")]
    Answer(#[from] PkiError),
    /// It is somebody else's.
    #[error("the answer cannot be used: {0}")]
    Other(String),
}

impl From<Status> for EnrolError {
    fn from(status: Status) -> Self {
        let said = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated => Self::Refused(said),
            _ => Self::Unanswered(said),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) host: HostId,
    /// Where its daemon listens, best first.
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) version: String,
    /// Thousandths of a core.
    pub(crate) cpu_milli: u64,
    /// Bytes.
    pub(crate) memory_bytes: u64,
}

impl Candidate {
    /// This machine. Not all of it can be found out later: the daemon gives up reading files.
    pub(crate) fn new(host: HostId, endpoints: Vec<SocketAddr>, version: String) -> Self {
        Self { host, endpoints, version, cpu_milli: cpu_milli(), memory_bytes: memory_bytes() }
    }
}

/// Thousandths of a core of this machine.
fn cpu_milli() -> u64 {
    std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64 * 1_000)
}

/// Memory of this machine, bytes (proc_meminfo(5)); 0 when it is not known.
fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Becomes a host with a join token. The key is made here and stays here.
pub(crate) async fn enrol(
    (url, ways): (&ControlUrl, &Ways),
    token: &JoinToken,
    candidate: &Candidate,
    key: &request::NewKey,
) -> Result<Identity, EnrolError> {
    let channel =
        connection::connect(url, ways, connection::as_stranger(token.authority())?).await?;
    let request = v1::EnrolRequest {
        token: token.secret().to_owned(),
        host: candidate.host.to_string(),
        signing_request: key.request.clone(),
        endpoints: candidate.endpoints.iter().map(ToString::to_string).collect(),
        version: candidate.version.clone(),
        cpu_milli: candidate.cpu_milli,
        memory_bytes: candidate.memory_bytes,
    };
    let mut client = EnrolmentClient::new(channel);
    let enrolled = timeout(ANSWER_MAX, client.enrol(request)).await;
    let enrolled = enrolled.map_err(|_| EnrolError::Unanswered("no answer in time".to_owned()))?;
    let enrolled = enrolled?.into_inner();
    let authority = enrolled
        .anchors
        .first()
        .ok_or_else(|| EnrolError::Other("no authority; expected the installation's".to_owned()))?;
    let authority = installation::anchor(authority.as_bytes())?;
    if installation::fingerprint(&authority) != *token.authority() {
        return Err(EnrolError::Other("an authority that the token does not name".to_owned()));
    }
    judged(&candidate.host, key, enrolled.certificate, enrolled.anchors)
}

/// What a host is by an answer that is of use to it, before anything is kept of that.
pub(crate) fn judged(
    host: &HostId,
    key: &request::NewKey,
    certificate: String,
    anchors: Vec<String>,
) -> Result<Identity, EnrolError> {
    let member = installation::member(&installation::anchor(certificate.as_bytes())?)?;
    if member.identity.member != Member::Host(host.clone()) {
        return Err(EnrolError::Other("a certificate of somebody else".to_owned()));
    }
    connection::as_host(&anchors, &certificate, &key.key_pem)?;
    let (host, installation) = (host.clone(), member.identity.installation);
    Ok(Identity { host, installation, certificate, key: key.key_pem.clone(), anchors })
}

/// When a host's certificate ends; `None` for one that cannot be read.
pub(crate) fn end(identity: &Identity) -> Option<SystemTime> {
    let certificate = installation::anchor(identity.certificate.as_bytes()).ok()?;
    installation::member(&certificate).ok().map(|member| member.not_after)
}

/// A key for a host's identity.
pub(crate) fn new_key() -> Result<request::NewKey, IssueError> {
    request::new_key(KeyKind::EcdsaP256)
}
