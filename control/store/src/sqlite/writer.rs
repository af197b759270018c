//! The one thread that writes.

mod apply;
mod leases;
pub(super) mod request;

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use self::{
    apply::Changes,
    leases::Leases,
    request::{Answered, Request},
};
use super::{
    Job, Shared, SqliteOptions,
    error::store_error,
    schema::{self, Stored},
};
use crate::{
    error::{CommitError, StoreError},
    store::LeaseId,
};

/// Most requests that one sync makes durable. With 1 MiB each at worst they are bounded by the queue.
const GROUP_LEN_MAX: usize = 256;
/// How often it is looked whether the file can be used again.
const RECOVER_INTERVAL: Duration = Duration::from_millis(500);
/// Leases that end in one transaction. The rest follows at once.
const ENDING_MAX: usize = 64;

pub(super) struct Writer {
    shared: Arc<Shared>,
    options: SqliteOptions,
    /// None when what is on the disk is not known; opening it again says.
    connection: Option<Connection>,
    stored: Stored,
    leases: Leases,
}

/// Why a group did not happen.
enum Failed {
    /// Nothing was changed.
    Refused(StoreError),
    /// The log could not be synced, nor be emptied: a loss of power would decide.
    Unknown(String),
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        mut stored: Stored,
        options: SqliteOptions,
    ) -> Self {
        // How long each has left was known to a process that is gone.
        let leases = Leases::new(std::mem::take(&mut stored.leases), Instant::now());
        Self { shared, options, connection: Some(connection), stored, leases }
    }

    /// Until nobody is left to ask.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Job>) {
        loop {
            let first = match self.next_wake() {
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => queue.recv().map_err(Into::into),
            };
            let mut group = Vec::new();
            match first {
                Ok(job) => group.push(job),
                // So that reading goes on when nobody writes. Should it fail, it is tried again.
                Err(mpsc::RecvTimeoutError::Timeout) => drop(self.recover()),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            while group.len() < GROUP_LEN_MAX {
                let Ok(job) = queue.try_recv() else { break };
                group.push(job);
            }
            let (requests, places): (Vec<_>, Vec<_>) =
                group.into_iter().map(|job| (job.request, job.room)).unzip();
            self.handle(requests);
            drop(places);
        }
    }

    /// When there is something to do though nobody asks.
    fn next_wake(&self) -> Option<Instant> {
        let recovery = self.connection.is_none().then(|| Instant::now() + RECOVER_INTERVAL);
        self.leases.next_end().into_iter().chain(recovery).min()
    }

    fn handle(&mut self, requests: Vec<Request>) {
        let now = Instant::now();
        let requests: Vec<_> =
            requests.into_iter().filter_map(|r| self.leases.handle_renewal(r, now)).collect();
        let ending = self.leases.ended(now, ENDING_MAX);
        if requests.is_empty() && ending.is_empty() {
            return;
        }
        match self.make(&requests, &ending) {
            Ok(answers) => {
                for (request, answer) in requests.into_iter().zip(answers) {
                    request.answer(answer);
                }
            }
            // One of them may be what there is no room for: each alone.
            Err(Failed::Refused(StoreError::Full(_))) if requests.len() + ending.len() > 1 => {
                for lease in ending {
                    self.end_lease(lease, now);
                }
                for request in requests {
                    let answer = self.make(std::slice::from_ref(&request), &[]);
                    request.answer_alone(answer.map(|mut answers| answers.pop()));
                }
            }
            Err(failed) => {
                for lease in ending {
                    self.leases.end_later(lease, now);
                }
                for request in requests {
                    request.fail(&failed);
                }
            }
        }
    }

    fn end_lease(&mut self, lease: LeaseId, now: Instant) {
        if self.make(&[], &[lease]).is_err() {
            self.leases.end_later(lease, now);
        }
    }

    /// Makes a group durable and tells the watches.
    fn make(&mut self, requests: &[Request], ending: &[LeaseId]) -> Result<Vec<Answered>, Failed> {
        self.recover().map_err(Failed::Refused)?;
        let Some(connection) = &mut self.connection else {
            return Err(Failed::Refused(StoreError::Unavailable("it is not open".to_owned())));
        };
        let refused = |e: rusqlite::Error| Failed::Refused(store_error(&e));
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(refused)?;
        let mut changes =
            Changes::new(&transaction, &self.stored, &self.leases, self.options.erase);
        let answers = changes.make(requests, ending).map_err(refused)?;
        let done = changes.finish().map_err(refused)?;
        let Some(done) = done else {
            // Nothing but refusals and questions.
            transaction.rollback().map_err(refused)?;
            return Ok(answers);
        };
        if let Err(error) = transaction.commit() {
            return Err(self.not_committed(&error));
        }
        if self.options.erase && done.removed {
            self.erase()?;
        }
        self.leases.apply(done.leases, Instant::now());
        self.stored = done.stored;
        self.shared.feed.publish(done.batches);
        Ok(answers)
    }

    /// A commit failed. Its end may be in the log nevertheless, not synced, and come alive after a loss of
    /// power; so the log is emptied of it before anybody is told that nothing happened.
    fn not_committed(&mut self, error: &rusqlite::Error) -> Failed {
        let told = store_error(error);
        // Then the end of the transaction was not written.
        if matches!(told, StoreError::Full(_)) {
            return Failed::Refused(told);
        }
        let emptied = self.connection.as_ref().map(schema::empty_log);
        if matches!(emptied, Some(Ok(()))) {
            return Failed::Refused(told);
        }
        tracing::error!(path = %self.shared.path.display(), %error, "the store's log cannot be synced");
        self.shared.readers.set_unsure(true);
        self.connection = None;
        Failed::Unknown(told.to_string())
    }

    /// Opens the file again when it is not known what is on the disk.
    fn recover(&mut self) -> Result<(), StoreError> {
        if self.connection.is_some() {
            return Ok(());
        }
        let opened = schema::reopen(&self.shared.path, self.options).and_then(|connection| {
            schema::empty_log(&connection)?;
            let stored = schema::stored(&connection)?;
            Ok((connection, stored))
        });
        let (connection, mut stored) = opened.map_err(|e| store_error(&e))?;
        stored.leases.clear();
        if stored.revision != self.stored.revision {
            // It happened after all. Watches read it from the file.
            self.shared.feed.forget_up_to(stored.revision);
        }
        self.stored = stored;
        self.connection = Some(connection);
        self.shared.readers.set_unsure(false);
        Ok(())
    }

    /// Rewrites the file without what was removed, and empties the log.
    fn erase(&mut self) -> Result<(), Failed> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let erased =
            connection.execute_batch("VACUUM").and_then(|()| schema::empty_log(connection));
        erased.map_err(|e| {
            self.shared.readers.set_unsure(true);
            self.connection = None;
            Failed::Unknown(format!("it was made, but what it replaces is not erased: {e}"))
        })
    }
}

impl Failed {
    fn store_error(&self) -> StoreError {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Unknown(text) => StoreError::Unavailable(text.clone()),
        }
    }

    fn commit_error(&self) -> CommitError {
        match self {
            Self::Refused(error) => error.clone().into(),
            Self::Unknown(text) => CommitError::Unknown(text.clone()),
        }
    }
}
