//! What the writer is asked, and how it answers.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Failed;
use crate::{
    entry::Revision,
    error::{CommitError, StoreError},
    key::Key,
    store::LeaseId,
    transaction::Transaction,
};

/// A request and who waits for its answer. Who does not wait any more is not told.
#[derive(Debug)]
pub(crate) enum Request {
    Commit(Transaction, oneshot::Sender<Result<Revision, CommitError>>),
    Grant(Duration, oneshot::Sender<Result<LeaseId, StoreError>>),
    Renew(LeaseId, oneshot::Sender<Result<(), StoreError>>),
    Revoke(LeaseId, oneshot::Sender<Result<(), StoreError>>),
}

/// What came of a request in a group that was made.
#[derive(Debug)]
pub(super) enum Answered {
    Committed(Revision),
    Conflict(Key),
    Granted(LeaseId),
    /// As asked, nothing to say.
    Done,
    Refused(StoreError),
}

impl Request {
    pub(super) fn answer(self, answered: Answered) {
        match (self, answered) {
            (Self::Commit(_, to), Answered::Committed(revision)) => drop(to.send(Ok(revision))),
            (Self::Commit(_, to), Answered::Conflict(key)) => {
                drop(to.send(Err(CommitError::Conflict { key })));
            }
            (Self::Grant(_, to), Answered::Granted(lease)) => drop(to.send(Ok(lease))),
            (Self::Renew(_, to) | Self::Revoke(_, to), Answered::Done) => drop(to.send(Ok(()))),
            (request, Answered::Refused(error)) => request.fail(&Failed::Refused(error)),
            // No request is answered as another one; whoever waits sees the sender dropped.
            _ => {}
        }
    }

    pub(super) fn answer_alone(self, answered: Result<Option<Answered>, Failed>) {
        match answered {
            Ok(Some(answered)) => self.answer(answered),
            Ok(None) => {}
            Err(failed) => self.fail(&failed),
        }
    }

    pub(super) fn fail(self, failed: &Failed) {
        match self {
            Self::Commit(_, to) => drop(to.send(Err(failed.commit_error()))),
            Self::Grant(_, to) => drop(to.send(Err(failed.store_error()))),
            Self::Renew(_, to) | Self::Revoke(_, to) => drop(to.send(Err(failed.store_error()))),
        }
    }
}
