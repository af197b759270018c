//! The daemon's answers as JSON for programs: the field names of the protocol, with words for
//! states and objects for counts.

use std::collections::BTreeMap;

use serde::Serialize;
use weft_api::v1::{
    AttachmentState, AttachmentStatus, ControlStatus, DropCount, EnvironmentStatus, Event,
    EventKind, PeerStatus, SessionRole, SessionState, Share, StatusResponse, Traffic, WorkerStatus,
};

#[derive(Debug, Serialize)]
pub(crate) struct StatusJson<'a> {
    host: &'a str,
    version: &'a str,
    pid: u32,
    uptime_ms: u64,
    sampled_at_ms: u64,
    engine: &'a str,
    listen: &'a str,
    resident_bytes: u64,
    workers: Vec<WorkerJson>,
    environments: Vec<EnvironmentJson<'a>>,
    drops: BTreeMap<&'a str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<ControlJson<'a>>,
}

#[derive(Debug, Serialize)]
struct ControlJson<'a> {
    url: &'a str,
    connected: bool,
    contact_ms: u64,
    revision: u64,
    first_certificate_ends_ms: u64,
    last_error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct WorkerJson {
    worker: u32,
    cpu: Option<u32>,
    lane_port: u32,
    wakeups: u64,
    receive_batches: u64,
    receive_datagrams: u64,
    send_batches: u64,
    send_datagrams: u64,
    tun_reads: u64,
    tun_writes: u64,
}

#[derive(Debug, Serialize)]
struct EnvironmentJson<'a> {
    id: &'a str,
    subnets: &'a [String],
    certificate_expires_ms: u64,
    attachments: Vec<AttachmentJson<'a>>,
    peers: Vec<PeerJson<'a>>,
    drops: BTreeMap<&'a str, u64>,
    #[serde(flatten)]
    share: ShareJson,
}

#[derive(Debug, Serialize)]
struct AttachmentJson<'a> {
    name: &'a str,
    interface: &'a str,
    netns: &'a str,
    addresses: &'a [String],
    state: &'static str,
    last_error: Option<&'a str>,
    #[serde(flatten)]
    share: ShareJson,
    #[serde(flatten)]
    traffic: TrafficJson,
}

#[derive(Debug, Serialize)]
struct ShareJson {
    weight: u32,
    egress_mbit_max: Option<u32>,
}

#[derive(Debug, Serialize)]
struct PeerJson<'a> {
    host: &'a str,
    endpoint: &'a str,
    alternative_endpoints: &'a [String],
    reached_at: Option<&'a str>,
    transport: &'static str,
    segmented: bool,
    addresses: &'a [String],
    state: &'static str,
    role: Option<&'static str>,
    session_age_ms: Option<u64>,
    epoch: Option<u32>,
    key_age_ms: Option<u64>,
    datagram_max: Option<u32>,
    silent_ms: Option<u64>,
    handshakes_ok: u64,
    handshakes_failed: u64,
    last_error: Option<&'a str>,
    #[serde(flatten)]
    traffic: TrafficJson,
}

#[derive(Debug, Serialize)]
struct TrafficJson {
    rx_bytes: u64,
    rx_packets: u64,
    tx_bytes: u64,
    tx_packets: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct EventJson<'a> {
    time_ms: u64,
    kind: &'static str,
    environment: Option<&'a str>,
    attachment: Option<&'a str>,
    host: Option<&'a str>,
    message: Option<&'a str>,
    missed: u64,
}

/// The JSON form of the daemon's state.
pub(crate) fn status(status: &StatusResponse) -> StatusJson<'_> {
    StatusJson {
        host: &status.host,
        version: &status.version,
        pid: status.pid,
        uptime_ms: status.uptime_ms,
        sampled_at_ms: status.sampled_at_ms,
        engine: &status.engine,
        listen: &status.listen,
        resident_bytes: status.resident_bytes,
        workers: status.workers.iter().map(worker).collect(),
        environments: status.environments.iter().map(environment).collect(),
        drops: drops(&status.drops),
        control: status.control.as_ref().map(control),
    }
}

fn control(control: &ControlStatus) -> ControlJson<'_> {
    ControlJson {
        url: &control.url,
        connected: control.connected,
        contact_ms: control.contact_ms,
        revision: control.revision,
        first_certificate_ends_ms: control.first_certificate_ends_ms,
        last_error: text(&control.last_error),
    }
}

fn worker(worker: &WorkerStatus) -> WorkerJson {
    WorkerJson {
        worker: worker.worker,
        cpu: worker.cpu,
        lane_port: worker.lane_port,
        wakeups: worker.wakeups,
        receive_batches: worker.receive_batches,
        receive_datagrams: worker.receive_datagrams,
        send_batches: worker.send_batches,
        send_datagrams: worker.send_datagrams,
        tun_reads: worker.tun_reads,
        tun_writes: worker.tun_writes,
    }
}

fn environment(environment: &EnvironmentStatus) -> EnvironmentJson<'_> {
    EnvironmentJson {
        id: &environment.id,
        subnets: &environment.subnets,
        certificate_expires_ms: environment.certificate_expires_ms,
        attachments: environment.attachments.iter().map(attachment).collect(),
        peers: environment.peers.iter().map(peer).collect(),
        drops: drops(&environment.drops),
        share: share(environment.share),
    }
}

fn attachment(attachment: &AttachmentStatus) -> AttachmentJson<'_> {
    AttachmentJson {
        name: &attachment.name,
        interface: &attachment.interface,
        netns: &attachment.netns,
        addresses: &attachment.addresses,
        state: attachment_state(attachment.state()),
        last_error: text(&attachment.last_error),
        share: share(attachment.share),
        traffic: traffic(attachment.traffic.as_ref()),
    }
}

fn peer(peer: &PeerStatus) -> PeerJson<'_> {
    PeerJson {
        host: &peer.host,
        endpoint: &peer.endpoint,
        alternative_endpoints: &peer.alternative_endpoints,
        reached_at: text(&peer.reached_at),
        segmented: peer.is_segmented,
        transport: if peer.is_over_tcp { "tcp" } else { "udp" },
        addresses: &peer.addresses,
        state: session_state(peer.state()),
        role: session_role(peer.role()),
        session_age_ms: peer.session_age_ms,
        epoch: peer.epoch,
        key_age_ms: peer.key_age_ms,
        datagram_max: peer.datagram_max,
        silent_ms: peer.silent_ms,
        handshakes_ok: peer.handshakes_ok,
        handshakes_failed: peer.handshakes_failed,
        last_error: text(&peer.last_error),
        traffic: traffic(peer.traffic.as_ref()),
    }
}

/// The JSON form of an event.
pub(crate) fn event(event: &Event) -> EventJson<'_> {
    EventJson {
        time_ms: event.time_ms,
        kind: event_kind(event.kind()),
        environment: text(&event.environment),
        attachment: text(&event.attachment),
        host: text(&event.host),
        message: text(&event.message),
        missed: event.missed,
    }
}

/// A daemon of before there were shares says nothing of them.
fn share(share: Option<Share>) -> ShareJson {
    let Share { weight, egress_mbit_max } = share.unwrap_or_default();
    let limit = (egress_mbit_max > 0).then_some(egress_mbit_max);
    ShareJson { weight, egress_mbit_max: limit }
}

fn traffic(traffic: Option<&Traffic>) -> TrafficJson {
    let traffic = traffic.copied().unwrap_or_default();
    TrafficJson {
        rx_bytes: traffic.rx_bytes,
        rx_packets: traffic.rx_packets,
        tx_bytes: traffic.tx_bytes,
        tx_packets: traffic.tx_packets,
    }
}

fn drops(drops: &[DropCount]) -> BTreeMap<&str, u64> {
    drops.iter().map(|drop| (drop.cause.as_str(), drop.packets)).collect()
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The word for an attachment's state.
pub(crate) fn attachment_state(state: AttachmentState) -> &'static str {
    match state {
        AttachmentState::Unspecified => "unknown",
        AttachmentState::Waiting => "waiting",
        AttachmentState::Up => "up",
        AttachmentState::Gone => "gone",
        AttachmentState::Failed => "failed",
    }
}

/// The word for a session's state.
pub(crate) fn session_state(state: SessionState) -> &'static str {
    match state {
        SessionState::Unspecified => "unknown",
        SessionState::Idle => "idle",
        SessionState::Handshaking => "handshaking",
        SessionState::Backoff => "backoff",
        SessionState::Established => "established",
    }
}

/// The word for this host's side of a session; none without one.
pub(crate) fn session_role(role: SessionRole) -> Option<&'static str> {
    match role {
        SessionRole::Unspecified => None,
        SessionRole::Client => Some("client"),
        SessionRole::Server => Some("server"),
    }
}

/// The word for a kind of event.
pub(crate) fn event_kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Unspecified => "unknown",
        EventKind::Attached => "attached",
        EventKind::Detached => "detached",
        EventKind::AttachmentChanged => "attachment_changed",
        EventKind::AttachmentLost => "attachment_lost",
        EventKind::PeerAdded => "peer_added",
        EventKind::PeerChanged => "peer_changed",
        EventKind::PeerSilent => "peer_silent",
        EventKind::PeerAnswers => "peer_answers",
        EventKind::PeerMoved => "peer_moved",
        EventKind::PeerTransport => "peer_transport",
        EventKind::PeerSegmentation => "peer_segmentation",
        EventKind::PeerRemoved => "peer_removed",
        EventKind::SessionEstablished => "session_established",
        EventKind::SessionEnded => "session_ended",
        EventKind::HandshakeFailed => "handshake_failed",
        EventKind::EnvironmentChanged => "environment_changed",
        EventKind::EnvironmentRemoved => "environment_removed",
        EventKind::Reloaded => "reloaded",
        EventKind::ReloadFailed => "reload_failed",
        EventKind::Stopping => "stopping",
    }
}
