//! The members of a cluster, and which of them is asked.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Request, Response, Status,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    ANSWER_BYTES_MAX, ENDPOINTS_MAX, EtcdOptions, REQUEST_TIME_MAX,
    convert::revision,
    proto::{self, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient},
    status::failure,
};
use crate::{entry::Revision, error::StoreError};

/// How long one member is waited for while another may be asked too.
const ATTEMPT_TIME_MAX: Duration = Duration::from_millis(1_500);
/// How long a commit's answer is waited for. What is sent to a leader that has just died is lost; the next one
/// is elected in less than this, and the sooner the caller knows that it knows nothing, the sooner it can look.
const COMMIT_TIME_MAX: Duration = Duration::from_millis(2_500);
/// How long connecting takes at most, and then TLS.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// A connection is asked so often whether it lives, and given up after as long without an answer.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// A pause after every member has refused.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was done; another member, or this one later, may do it.
    NotDone(String),
    /// It was sent, and whether it was done is not known.
    Lost(String),
    /// Nothing was done, and nothing would be elsewhere.
    Refused(StoreError),
    /// What was asked for is compacted.
    Compacted,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotDone(text) | Failure::Lost(text) => Self::Unavailable(text),
            Failure::Refused(error) => error,
            Failure::Compacted => Self::Invalid("etcd has compacted it".to_owned()),
        }
    }
}

/// Whether a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Once or twice is the same.
    Always,
    /// Only while it is certain that nothing was done.
    UnlessSent,
}

/// Clients of one member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) kv: KvClient<Channel>,
    pub(super) lease: LeaseClient<Channel>,
    pub(super) watch: WatchClient<Channel>,
}

impl Member {
    fn new(channel: &Channel) -> Self {
        let max = ANSWER_BYTES_MAX;
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(max),
            lease: LeaseClient::new(channel.clone()).max_decoding_message_size(max),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(max),
        }
    }

    /// A request that a member without a leader refuses at once.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        request
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    /// Which one answered last.
    preferred: AtomicUsize,
}

impl Members {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, StoreError> {
        let count = options.endpoints.len();
        if !(1..=ENDPOINTS_MAX).contains(&count) {
            return Err(StoreError::Invalid(format!(
                "{count} endpoints of etcd; expected 1 to {ENDPOINTS_MAX}"
            )));
        }
        let connect = |at: &String| channel(at, options).map(|channel| Member::new(&channel));
        let members = options.endpoints.iter().map(connect).collect::<Result<_, _>>()?;
        Ok(Self { members, preferred: AtomicUsize::new(0) })
    }

    pub(super) async fn range(
        &self,
        request: proto::RangeRequest,
    ) -> Result<proto::RangeResponse, StoreError> {
        let range = |mut member: Member| {
            let request = request.clone();
            async move { member.kv.range(member.request(request)).await }
        };
        Ok(self.call(Retry::Always, range).await.0?)
    }

    /// The revision of the cluster.
    pub(super) async fn newest(&self) -> Result<Revision, StoreError> {
        // Any key will do: it is in the header.
        let any = proto::RangeRequest { key: vec![0].into(), ..Default::default() };
        Ok(revision(self.range(any).await?.header.as_ref()))
    }

    /// Asks one member after the other until there is an answer, for [`REQUEST_TIME_MAX`] at most. Says also
    /// whether an answer was lost on the way.
    pub(super) async fn call<T, F>(
        &self,
        retry: Retry,
        mut ask: impl FnMut(Member) -> F + Send,
    ) -> (Result<T, Failure>, bool)
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let deadline = Instant::now() + REQUEST_TIME_MAX;
        let mut lost = false;
        let mut why = Failure::NotDone("no member was reached".to_owned());
        for attempt in 1_usize.. {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let preferred = self.preferred.load(Ordering::Relaxed);
            let member = self.members[preferred % self.members.len()].clone();
            let patience = match retry {
                Retry::Always => left.min(ATTEMPT_TIME_MAX),
                Retry::UnlessSent => left.min(COMMIT_TIME_MAX),
            };
            why = match timeout(patience, ask(member)).await {
                Ok(Ok(answer)) => return (Ok(answer.into_inner()), lost),
                Ok(Err(status)) => failure(&status),
                Err(_) => Failure::Lost(format!("no answer within {patience:?}")),
            };
            if let Failure::Refused(_) | Failure::Compacted = why {
                return (Err(why), lost);
            }
            // Unless another request has moved on already.
            let _ = self.preferred.compare_exchange(
                preferred,
                preferred.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if let Failure::Lost(_) = why {
                lost = true;
                if retry == Retry::UnlessSent {
                    break;
                }
            }
            if attempt % self.members.len() == 0 {
                sleep(PAUSE).await;
            }
        }
        (Err(why), lost)
    }
}

fn channel(at: &str, options: &EtcdOptions) -> Result<Channel, StoreError> {
    let invalid = |e: tonic::transport::Error| {
        StoreError::Invalid(format!("endpoint {at:?} of etcd: {}", innermost(&e)))
    };
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{at}"))
        .map_err(invalid)?
        .connect_timeout(CONNECT_TIME_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    if let Some(tls) = &options.tls {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&tls.authority))
            .identity(Identity::from_pem(&tls.certificate, &tls.key))
            .timeout(CONNECT_TIME_MAX);
        endpoint = endpoint.tls_config(config).map_err(invalid)?;
    }
    Ok(endpoint.connect_lazy())
}

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}
