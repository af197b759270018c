//! What a host is to have and has.

use weft_control_api::v1;

use crate::control::{
    attachment::{health, interface},
    show::{Item, Shown},
};

fn attachment(attachment: v1::Attachment) -> Item {
    let (interface, health) = (interface(&attachment), health(&attachment));
    Item::new()
        .with("environment", attachment.environment)
        .with("name", attachment.name)
        .with("generation", attachment.generation)
        .with_some("interface", interface)
        .with_some("health", health)
        .with_some("error", attachment.error)
        .with_some("reported_ms", attachment.reported_ms)
}

fn session(environment: &str, reported_ms: u64, session: v1::PeerSession) -> Item {
    Item::new()
        .with("environment", environment)
        .with("host", session.host)
        .with("session", if session.is_established { "up" } else { "down" })
        .with_some("key_age_ms", session.key_age_ms)
        .with_some("error", session.error)
        .with("reported_ms", reported_ms)
}

/// A host with all that it has.
pub(super) fn shown(host: Item, reports: Vec<v1::EnvironmentReport>) -> Shown {
    let (mut attachments, mut sessions) = (Vec::new(), Vec::new());
    for report in reports {
        let v1::EnvironmentReport { environment, attachments: its, sessions: with, reported_ms } =
            report;
        attachments.extend(its.into_iter().map(attachment));
        sessions.extend(with.into_iter().map(|one| session(&environment, reported_ms, one)));
    }
    let lists = vec![("attachments", attachments), ("sessions", sessions)];
    Shown::Whole { item: host, lists }
}
