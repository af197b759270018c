//! A store in a cluster of etcd, for several management hosts.
//!
//! ```text
//!   get, list ─▶ any member that has a leader, each in turn until the deadline        (linearizable)
//!   commit ────▶ one member; another only while it is certain that nothing was proposed
//!   watch ─────▶ one member; the next one after the last revision that was told
//! ```
//!
//! The cluster keeps nothing but what this product writes, under a prefix: history is compacted here, for all of
//! it. Protocol: etcd's API, version 3, of which `proto/etcd/rpc.proto` is a part. The generated client is used
//! with a channel per member instead of a client library's balanced one, which cannot say whether a request
//! that failed had been sent.

mod convert;
mod members;
mod status;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::task::AbortHandle;

use self::{
    convert::Names,
    members::{Failure, Members, Retry},
    watch::EtcdWatch,
};
use crate::{
    entry::{Entry, Page, Revision},
    error::{CommitError, StoreError},
    key::Key,
    limits::{HISTORY_REVISIONS_MIN, LIST_BYTES_MAX, LIST_LEN_MAX, VALUE_LEN_MAX},
    store::{LeaseId, Store, check_ttl},
    transaction::Transaction,
    watch::Watch,
};

/// The generated messages and clients.
#[expect(
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated code; it brings its own attributes"
)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

/// A request is answered or refused after this long, whatever happens to the cluster.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(4);
/// Most members that are named.
pub const ENDPOINTS_MAX: usize = 16;
/// How often history is compacted.
const COMPACT_INTERVAL: Duration = Duration::from_secs(60);
/// Largest answer, bytes.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// So many entries always fit in an answer.
const LIST_LEN_SAFE: usize = ANSWER_BYTES_MAX / 2 / VALUE_LEN_MAX;

/// Where the cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// `host:port` of each member, 1 to [`ENDPOINTS_MAX`].
    pub endpoints: Vec<String>,
    /// What all keys begin with there, for instance `weft/`; not empty.
    pub prefix: String,
    /// Without it nothing is encrypted and nobody is authenticated.
    pub tls: Option<EtcdTls>,
}

/// Who the members are and who we are, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authority of the members' certificates.
    pub authority: Vec<u8>,
    /// Our chain, the leaf first.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EtcdTls")
    }
}

/// A store in a cluster; see the module's text.
#[derive(Debug)]
pub struct Etcd {
    members: Arc<Members>,
    names: Names,
    compaction: AbortHandle,
}

impl Etcd {
    /// Makes ready for connecting, which happens with the first request. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] says what is wrong with the options.
    pub fn new(options: &EtcdOptions) -> Result<Self, StoreError> {
        let names = Names::new(&options.prefix)?;
        let members = Arc::new(Members::new(options)?);
        let compaction = tokio::spawn(compact_now_and_then(Arc::clone(&members))).abort_handle();
        Ok(Self { members, names, compaction })
    }

    /// Compacts history to the least that a store keeps. Happens by itself each minute.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn compact(&self) -> Result<(), StoreError> {
        compact(&self.members).await
    }

    async fn range(
        &self,
        request: proto::RangeRequest,
    ) -> Result<proto::RangeResponse, StoreError> {
        self.members.range(request).await
    }

    /// A page of at most `len_max` entries; fewer when they are large.
    async fn page(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        let answer = self.range(self.names.list(prefix, after, len_max)).await?;
        let mut page =
            Page { revision: convert::revision(answer.header.as_ref()), ..Page::default() };
        page.more = answer.more;
        let mut bytes = 0;
        for found in answer.kvs {
            if bytes >= LIST_BYTES_MAX {
                page.more = true;
                break;
            }
            bytes += found.key.len() + found.value.len();
            page.entries.push(self.names.entry(found)?);
        }
        Ok(page)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.compaction.abort();
    }
}

async fn compact_now_and_then(members: Arc<Members>) {
    loop {
        tokio::time::sleep(COMPACT_INTERVAL).await;
        if let Err(error) = compact(&members).await {
            tracing::warn!(%error, "etcd's history is not compacted");
        }
    }
}

async fn compact(members: &Members) -> Result<(), StoreError> {
    let Some(oldest) =
        members.newest().await?.0.checked_sub(HISTORY_REVISIONS_MIN).filter(|oldest| *oldest > 0)
    else {
        return Ok(());
    };
    let request = proto::CompactionRequest { revision: convert::number(Revision(oldest)) };
    let compact = |mut member: members::Member| async move {
        member.kv.compact(member.request(request)).await
    };
    match members.call(Retry::Always, compact).await.0 {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(Failure::Compacted) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let answer = self.range(self.names.get(key)).await?;
        answer.kvs.into_iter().next().map(|found| self.names.entry(found)).transpose()
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        len_max: usize,
    ) -> Result<Page, StoreError> {
        if len_max == 0 {
            // For etcd that is no limit.
            let mut page = self.page(prefix, after, 1).await?;
            page.more |= !page.entries.is_empty();
            page.entries.clear();
            return Ok(page);
        }
        let len_max = len_max.min(LIST_LEN_MAX);
        match self.page(prefix, after, len_max).await {
            Err(StoreError::Invalid(_)) if len_max > LIST_LEN_SAFE => {
                // It is larger than what is taken in one piece.
                self.page(prefix, after, LIST_LEN_SAFE).await
            }
            page => page,
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        transaction.check()?;
        let request = self.names.transaction(&transaction);
        let commit = |mut member: members::Member| {
            let request = request.clone();
            async move { member.kv.txn(member.request(request)).await }
        };
        let answer = match self.members.call(Retry::UnlessSent, commit).await.0 {
            Ok(answer) => answer,
            Err(Failure::Lost(text)) => return Err(CommitError::Unknown(text)),
            Err(failure) => return Err(StoreError::from(failure).into()),
        };
        if answer.succeeded {
            return Ok(convert::revision(answer.header.as_ref()));
        }
        Err(self.names.failed_condition(&transaction, answer)?)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let members = Arc::clone(&self.members);
        Ok(Box::new(EtcdWatch::begin(members, self.names.clone(), prefix, after).await?))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        check_ttl(ttl)?;
        // Not shorter than was asked for.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = proto::LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX) };
        let grant = |mut member: members::Member| async move {
            member.lease.lease_grant(member.request(request)).await
        };
        // One whose answer was lost ends unused.
        let granted = self.members.call(Retry::Always, grant).await.0?;
        u64::try_from(granted.id)
            .map(LeaseId)
            .map_err(|_| StoreError::Corrupt(format!("a lease of number {}", granted.id)))
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let request = proto::LeaseKeepAliveRequest { id: convert::lease(lease) };
        let renew = |mut member: members::Member| async move {
            let once = member.request(tokio_stream::once(request));
            let mut answers = member.lease.lease_keep_alive(once).await?.into_inner();
            let answer = answers.message().await?;
            answer.map(tonic::Response::new).ok_or_else(|| tonic::Status::unavailable("no answer"))
        };
        let renewed = self.members.call(Retry::Always, renew).await.0?;
        if renewed.ttl > 0 { Ok(()) } else { Err(StoreError::LeaseGone) }
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let request = proto::LeaseRevokeRequest { id: convert::lease(lease) };
        let revoke = |mut member: members::Member| async move {
            member.lease.lease_revoke(member.request(request)).await
        };
        match self.members.call(Retry::Always, revoke).await {
            (Ok(_), _) => Ok(()),
            // An answer was lost before, so that may have been us.
            (Err(Failure::Refused(StoreError::LeaseGone)), true) => Ok(()),
            (Err(failure), _) => Err(failure.into()),
        }
    }
}
