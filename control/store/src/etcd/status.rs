//! What etcd's errors mean.

use std::error::Error;

use tonic::{Code, ConnectError, Status};

use super::members::Failure;
use crate::error::StoreError;

// etcd's texts, from its `api/v3rpc/rpctypes/error.go`.
const NO_LEADER: &str = "etcdserver: no leader";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// The alarm stays until it is taken back, whatever room there is meanwhile.
const NO_SPACE_HELP: &str = "etcd has raised its alarm NOSPACE, because its database is as large as its quota allows \
    (--quota-backend-bytes); it takes changes again after `etcdctl compact REVISION`, `etcdctl defrag --cluster` and \
    `etcdctl alarm disarm`";
const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";
const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const CORRUPT: &str = "etcdserver: corrupt cluster";

/// What a request's failure says of it.
pub(super) fn failure(status: &Status) -> Failure {
    let text = status.message().to_owned();
    match (status.code(), status.message()) {
        // Said before anything is proposed.
        (_, NO_LEADER | TOO_MANY_REQUESTS) => Failure::NotDone(text),
        (_, NO_SPACE) => Failure::Refused(StoreError::Full(NO_SPACE_HELP.to_owned())),
        (_, LEASE_NOT_FOUND) => Failure::Refused(StoreError::LeaseGone),
        (_, COMPACTED) => Failure::Compacted,
        (_, CORRUPT) | (Code::DataLoss, _) => Failure::Refused(StoreError::Corrupt(text)),
        (
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::ResourceExhausted
            | Code::NotFound,
            _,
        ) => Failure::Refused(StoreError::Invalid(format!("etcd refuses: {text}"))),
        _ if is_not_connected(status) => Failure::NotDone(with_sources(status)),
        _ => Failure::Lost(with_sources(status)),
    }
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |error: &&(dyn Error + 'static)| (*error).source())
}

fn is_not_connected(status: &Status) -> bool {
    sources(status).any(|error| error.is::<ConnectError>())
}

/// The innermost error says most.
fn with_sources(status: &Status) -> String {
    match sources(status).last() {
        Some(inner) => format!("{}: {inner}", status.message()),
        None => status.message().to_owned(),
    }
}
