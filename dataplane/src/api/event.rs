//! From the node's events to the protocol's.

use weft_api::v1;

use super::status::unix_ms;
use crate::node::{EventKind, NodeEvent};

/// The event for a reader who lost `missed` others just before it.
pub(super) fn event(event: NodeEvent, missed: u64) -> v1::Event {
    v1::Event {
        kind: kind(event.kind).into(),
        time_ms: unix_ms(event.time),
        environment: event.environment.map(|e| e.to_string()).unwrap_or_default(),
        attachment: event.attachment.map(|a| a.to_string()).unwrap_or_default(),
        host: event.host.map(|h| h.to_string()).unwrap_or_default(),
        message: event.message,
        missed,
    }
}

fn kind(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::Attached => v1::EventKind::Attached,
        EventKind::Detached => v1::EventKind::Detached,
        EventKind::AttachmentChanged => v1::EventKind::AttachmentChanged,
        EventKind::AttachmentLost => v1::EventKind::AttachmentLost,
        EventKind::PeerAdded => v1::EventKind::PeerAdded,
        EventKind::PeerChanged => v1::EventKind::PeerChanged,
        EventKind::PeerSilent => v1::EventKind::PeerSilent,
        EventKind::PeerAnswers => v1::EventKind::PeerAnswers,
        EventKind::PeerMoved => v1::EventKind::PeerMoved,
        EventKind::PeerTransport => v1::EventKind::PeerTransport,
        EventKind::PeerSegmentation => v1::EventKind::PeerSegmentation,
        EventKind::PeerRemoved => v1::EventKind::PeerRemoved,
        EventKind::SessionEstablished => v1::EventKind::SessionEstablished,
        EventKind::SessionEnded => v1::EventKind::SessionEnded,
        EventKind::HandshakeFailed => v1::EventKind::HandshakeFailed,
        EventKind::EnvironmentChanged => v1::EventKind::EnvironmentChanged,
        EventKind::EnvironmentRemoved => v1::EventKind::EnvironmentRemoved,
        EventKind::Reloaded => v1::EventKind::Reloaded,
        EventKind::ReloadFailed => v1::EventKind::ReloadFailed,
        EventKind::Stopping => v1::EventKind::Stopping,
    }
}
