//! Summing up what all workers counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use weft_proto::{
    AttachmentCounters, Counter64, DropReason, EnvironmentCounters, LinkCounters, peer::State,
};
use weft_types::EnvironmentId;

use super::{
    AttachmentStatus, EnvironmentStatus, Node, PeerStatus, RequestError, SessionState, Status,
    Traffic, WorkerStatus,
    attachment::{self, AttachmentEntry},
    environment::EnvironmentState,
    link::PeerEntry,
};
use crate::worker::Worker;

fn sum<T>(parts: &[Arc<T>], of: impl Fn(&T) -> &Counter64) -> u64 {
    parts.iter().map(|part| of(part).get()).sum()
}

fn drops<'a>(
    parts: impl Iterator<Item = &'a Arc<EnvironmentCounters>> + Clone,
) -> Vec<(DropReason, u64)> {
    let of = |reason| parts.clone().map(|p| p.drops[reason as usize].get()).sum();
    DropReason::ALL.into_iter().map(|reason| (reason, of(reason))).collect()
}

impl Node {
    /// Everything that the daemon knows about itself, or about one environment.
    pub(super) fn status(&self, only: Option<&EnvironmentId>) -> Result<Status, RequestError> {
        if let Some(only) = only {
            self.environment(only)?;
        }
        let environments = self
            .environments
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| only == *id))
            .map(|(id, state)| self.environment_status(id, state))
            .collect();
        Ok(Status {
            host: self.config.host.clone(),
            uptime: self.started.elapsed(),
            listen: self.config.listen,
            engine: self.engine.engine,
            resident_bytes: weft_sys::process::resident_bytes().unwrap_or(0),
            workers: self.workers.iter().map(worker_status).collect(),
            environments,
            drops: drops(self.workers.iter().map(|w| &w.unattributed)),
            rejected_handshakes: self.listener.rejected(),
        })
    }

    fn environment_status(
        &self,
        id: &EnvironmentId,
        state: &EnvironmentState,
    ) -> EnvironmentStatus {
        let counters = &state.place.counters;
        EnvironmentStatus {
            id: id.clone(),
            subnets: state.subnets.clone(),
            share: state.share,
            certificate_expires: state.tls.not_after(),
            attachments: state.attachments.values().map(attachment_status).collect(),
            peers: state.peers.values().map(peer_status).collect(),
            relayed: (sum(counters, |c| &c.relayed_packets), sum(counters, |c| &c.relayed_bytes)),
            drops: drops(counters.iter()),
            policy: state.guard.as_ref().map(|guard| guard.hits()).unwrap_or_default(),
            gateway: state.named.answering.status(),
            sessions: state.peers.values().map(|p| p.machine.sessions().count()).sum(),
        }
    }
}

fn attachment_status(entry: &AttachmentEntry) -> AttachmentStatus {
    let traffic = match &entry.state {
        attachment::State::Up { counters, .. } => attachment_traffic(counters),
        _ => Traffic::default(),
    };
    AttachmentStatus { spec: entry.spec.clone(), state: entry.reported_state(), traffic }
}

fn attachment_traffic(counters: &[Arc<AttachmentCounters>]) -> Traffic {
    Traffic {
        rx_bytes: sum(counters, |c| &c.received_bytes),
        rx_packets: sum(counters, |c| &c.received_packets),
        tx_bytes: sum(counters, |c| &c.sent_bytes),
        tx_packets: sum(counters, |c| &c.sent_packets),
    }
}

fn peer_status(entry: &PeerEntry) -> PeerStatus {
    PeerStatus {
        spec: entry.spec.clone(),
        reached_at: entry.roaming.moved_to(),
        is_over_tcp: entry.fallback.is_streaming(),
        is_segmented: entry.segmentation.is_on(),
        session: session_state(entry),
        handshakes_ok: entry.tally.ok,
        handshakes_failed: entry.tally.failed.iter().map(|(cause, n)| (*cause, *n)).collect(),
        handshake_time: entry.tally.time,
        last_error: entry.tally.last_error.clone(),
        traffic: link_traffic(&entry.counters),
    }
}

fn link_traffic(counters: &[Arc<LinkCounters>]) -> Traffic {
    Traffic {
        rx_bytes: sum(counters, |c| &c.received_bytes),
        rx_packets: sum(counters, |c| &c.received_datagrams),
        tx_bytes: sum(counters, |c| &c.sent_bytes),
        tx_packets: sum(counters, |c| &c.sent_datagrams),
    }
}

fn session_state(entry: &PeerEntry) -> SessionState {
    match entry.machine.state() {
        State::Idle => SessionState::Idle,
        State::Handshaking => SessionState::Handshaking,
        State::Waiting => SessionState::Backoff,
        State::Active { role, established, .. } => SessionState::Established {
            role,
            age: Instant::now().saturating_duration_since(established),
            epoch: entry.counters.iter().map(|c| c.epoch.get()).max().unwrap_or(0),
            key_age: entry
                .counters
                .iter()
                .map(|c| c.key_age_seconds.get())
                .max()
                .filter(|age| *age > 0)
                .map(Duration::from_secs),
            datagram_max: entry.counters.iter().map(|c| c.datagram_max.get()).min().unwrap_or(0),
            silent: entry.silence.silent_for(Instant::now()),
        },
    }
}

fn worker_status(worker: &Worker) -> WorkerStatus {
    let c = &worker.counters;
    WorkerStatus {
        cpu: worker.cpu,
        lane_port: worker.lane_port,
        wakeups: c.wakeups.get(),
        receive_batches: c.receive_batches.get(),
        receive_datagrams: c.receive_datagrams.get(),
        send_batches: c.send_batches.get(),
        send_datagrams: c.send_datagrams.get(),
        send_errors: c.send_errors.get(),
        tun_reads: c.tun_reads.get(),
        tun_writes: c.tun_writes.get(),
        gso: c.gso.get() > 0,
    }
}
