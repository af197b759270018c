//! Handshakes with peers: those that this host begins, and what became of all.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use weft_handshake::{
    DEADLINE, Established, Exhausted, HandshakeError, IndexAllocator, LocalSide, Role, connect,
    dial,
};
use weft_proto::IndexTable;
use weft_types::{EnvironmentId, HostId, ReceiverIndex, WorkerId};

use super::{EventKind, Message, Node, NodeEvent};

/// How much of what is known of the time the next daemon may not know.
const TIME_KEPT_EVERY: Duration = Duration::from_secs(3600);

/// What became of the handshakes with one peer.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) ok: u64,
    pub(super) failed: BTreeMap<&'static str, u64>,
    pub(super) time: Duration,
    pub(super) last_error: String,
}

/// The receiver indices of this host, for all handshakes at once.
pub(super) struct Indices {
    table: Mutex<IndexTable>,
    workers: usize,
}

impl Indices {
    pub(super) fn new(table: Mutex<IndexTable>, workers: usize) -> Self {
        Self { table, workers }
    }

    pub(super) fn release_all(&self, indices: &[ReceiverIndex]) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for index in indices {
            table.release(Instant::now(), *index);
        }
    }
}

impl IndexAllocator for Indices {
    fn allocate(&self, lanes: u8) -> Result<Vec<ReceiverIndex>, Exhausted> {
        let now = Instant::now();
        let mut taken = Vec::with_capacity(lanes.into());
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in 0..usize::from(lanes) {
            let worker = WorkerId::new(lane % self.workers).map_err(|_| Exhausted)?;
            // Without random numbers nothing works; the table then runs dry instead of guessing.
            let index = getrandom::u32().ok().and_then(|first| {
                let mut next = Some(first);
                let random = || next.take().or_else(|| getrandom::u32().ok()).unwrap_or(0);
                table.allocate(now, worker, random).ok()
            });
            match index {
                Some(index) => taken.push(index),
                None => {
                    for index in taken {
                        table.release(now, index);
                    }
                    return Err(Exhausted);
                }
            }
        }
        Ok(taken)
    }

    fn release(&self, indices: &[ReceiverIndex]) {
        self.release_all(indices);
    }
}

impl Node {
    /// Begins a handshake beside everything else; its result comes back as a message.
    pub(super) fn begin_handshake(&mut self, environment: &EnvironmentId, host: &HostId) {
        let Some(state) = self.environments.get(environment) else { return };
        let Some(entry) = state.peers.get(host) else { return };
        let mut side: LocalSide = entry.side.clone();
        side.params.generation = entry.machine.next_generation();
        let tls = Arc::clone(&state.tls);
        let endpoint = entry.roaming.calls_at(entry.failures);
        let local = self.config.listen.ip();
        let (environment, host) = (environment.clone(), host.clone());
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let deadline = tokio::time::Instant::now() + DEADLINE;
            let result = match dial(endpoint, Some(local), deadline).await {
                Ok(stream) => connect(stream, &tls, &host, &side, deadline).await,
                Err(error) => Err(HandshakeError::Io(error)),
            };
            let result = Box::new(result);
            // The node is gone: so is everything that the handshake was for.
            let _ = inbox.send(Message::Connected { environment, host, endpoint, result }).await;
        });
    }

    /// A handshake that this host began is over.
    pub(super) fn handle_connected(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
        endpoint: SocketAddr,
        result: Result<Established, HandshakeError>,
    ) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        match result {
            Ok(established) => {
                entry.failures = 0;
                entry.roaming.handle_called(endpoint);
                self.use_ways(environment, host);
                self.listener.authenticated(endpoint.ip());
                self.handle_established(established);
            }
            Err(error) => {
                let random = getrandom::u32().unwrap_or(0);
                entry.failures = entry.failures.wrapping_add(1);
                entry.machine.handle_failed(Instant::now(), random);
                self.count_failure(environment, host, &error);
                self.drive_peer(environment, host);
            }
        }
    }

    /// A handshake is done, whoever began it.
    pub(super) fn handle_established(&mut self, established: Established) {
        let environment = established.environment.clone();
        let host = established.peer.identity.host.clone();
        // A peer that was removed while its handshake ran: the guard gives the indices back.
        let Some(entry) = self.peer_mut(&environment, &host) else { return };
        entry.tally.ok += 1;
        entry.tally.time += established.elapsed;
        entry.tally.last_error.clear();
        let slot = entry.slot;
        tracing::info!(
            environment = environment.as_str(),
            peer = host.as_str(),
            client = established.role == Role::Client,
            elapsed_ms = established.elapsed.as_secs_f64() * 1e3,
            "handshake done"
        );
        if let Err(error) = self.install_session(slot, established) {
            tracing::error!(%error, "a lane has an impossible number");
        }
        self.keep_time(&environment);
    }

    /// The next daemon is to know what this one knows of the time, to the hour. Last of all: the peer
    /// may send already, and a disk takes its time.
    fn keep_time(&mut self, environment: &EnvironmentId) {
        let Some(state) = self.environments.get_mut(environment) else { return };
        let Some(known) = state.tls.time().known() else { return };
        if state.kept_time.is_some_and(|kept| known < kept + TIME_KEPT_EVERY) {
            return;
        }
        match self.kept.time(environment, known) {
            Ok(()) => state.kept_time = Some(known),
            Err(error) => tracing::warn!(%error, "what is known of the time is not kept"),
        }
    }

    pub(super) fn count_failure(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
        error: &HandshakeError,
    ) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        *entry.tally.failed.entry(error.label()).or_default() += 1;
        entry.tally.last_error = error.to_string();
        let event = NodeEvent::new(EventKind::HandshakeFailed, format!("handshake: {error}"));
        self.publish(event.of(environment).peer(host));
    }
}
