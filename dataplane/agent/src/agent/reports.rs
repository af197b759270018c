//! What the control plane is told of this host: everything once, then what has changed.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use weft_control_api::v1;

use crate::{documents::Documents, plane::Actual};

/// How soon it is told again after it could not be.
const AGAIN: Duration = Duration::from_secs(5);
/// Between these bounds the control plane says how soon it wants to be told.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What was told over one connection.
pub(super) struct Reports {
    attachments: BTreeMap<(String, String), v1::ActualAttachment>,
    peers: BTreeMap<(String, String), v1::ActualPeer>,
    /// Everything is to be told.
    is_first: bool,
    runs: bool,
    next: Instant,
}

impl Reports {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            attachments: BTreeMap::new(),
            peers: BTreeMap::new(),
            is_first: true,
            runs: false,
            next: now,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.runs && self.next <= now
    }

    /// What is to be told now.
    pub(super) fn take(
        &mut self,
        actual: &Actual,
        documents: &Documents,
        applied: u64,
        version: &str,
    ) -> v1::ReportRequest {
        let attachments = attachments(actual, documents);
        let peers = peers(actual);
        // A key's age changes all the time: it is told with what else changes.
        let is_news = |key: &(String, String), peer: &v1::ActualPeer| {
            let same = |before: &v1::ActualPeer| {
                before.is_established == peer.is_established && before.error == peer.error
            };
            !self.peers.get(key).is_some_and(same)
        };
        // What disappears can only be told by telling everything.
        let is_less = self.attachments.keys().any(|key| !attachments.contains_key(key))
            || self.peers.keys().any(|key| !peers.contains_key(key));
        let is_complete = self.is_first || is_less;
        let new_attachments = attachments
            .iter()
            .filter(|(key, now)| is_complete || self.attachments.get(*key) != Some(now));
        let new_peers = peers.iter().filter(|(key, now)| is_complete || is_news(key, now));
        let request = v1::ReportRequest {
            revision: applied,
            version: version.to_owned(),
            attachments: new_attachments.map(|(_, now)| now.clone()).collect(),
            peers: new_peers.map(|(_, now)| now.clone()).collect(),
            is_complete,
        };
        (self.attachments, self.peers) = (attachments, peers);
        (self.is_first, self.runs) = (false, true);
        request
    }

    /// The control plane has heard it.
    pub(super) fn done(&mut self, next: Duration, now: Instant) {
        self.runs = false;
        self.next = now + next.clamp(PAUSE.0, PAUSE.1);
    }

    /// It has not: everything is told again.
    pub(super) fn fail(&mut self, now: Instant) {
        *self = Self { next: now + AGAIN, ..Self::new(now) };
    }
}

fn attachments(
    actual: &Actual,
    documents: &Documents,
) -> BTreeMap<(String, String), v1::ActualAttachment> {
    let known = actual.attachments.iter().filter_map(|attachment| {
        let desired = documents.attachment(&attachment.environment, &attachment.name)?;
        let said = v1::ActualAttachment {
            environment: attachment.environment.to_string(),
            name: attachment.name.to_string(),
            generation: desired.generation,
            is_up: attachment.is_up,
            error: attachment.error.clone(),
            health: v1::HealthState::Unspecified.into(),
        };
        Some(((said.environment.clone(), said.name.clone()), said))
    });
    known.collect()
}

fn peers(actual: &Actual) -> BTreeMap<(String, String), v1::ActualPeer> {
    let known = actual.peers.iter().map(|peer| {
        let age = peer.key_age.unwrap_or_default().as_millis();
        let said = v1::ActualPeer {
            environment: peer.environment.to_string(),
            host: peer.host.to_string(),
            is_established: peer.is_established,
            key_age_ms: u64::try_from(age).unwrap_or(u64::MAX),
            error: peer.error.clone(),
        };
        ((said.environment.clone(), said.host.clone()), said)
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        documents::tests::{answer, attachment, environment},
        plane::{ActualAttachment, ActualPeer},
    };

    fn documents() -> Documents {
        let mut documents = Documents::default();
        let web = attachment("acme", "web", "10.40.0.2");
        documents.take(answer(3, vec![environment("acme"), web]));
        documents
    }

    fn web(is_up: bool) -> ActualAttachment {
        ActualAttachment {
            environment: "acme".parse().unwrap(),
            name: "web".parse().unwrap(),
            is_up,
            error: String::new(),
        }
    }

    fn peer(key_age: Option<Duration>) -> ActualPeer {
        ActualPeer {
            environment: "acme".parse().unwrap(),
            host: "host-b".parse().unwrap(),
            is_established: key_age.is_some(),
            key_age,
            error: String::new(),
        }
    }

    #[test]
    fn everything_is_told_once_and_then_what_changes() {
        let (now, documents) = (Instant::now(), documents());
        let mut reports = Reports::new(now);
        let tell = |reports: &mut Reports, attachments, peers| {
            let told = reports.take(&Actual { attachments, peers }, &documents, 3, "0.1.0");
            assert!(!reports.is_due(now + PAUSE.1), "it runs");
            reports.done(Duration::from_secs(10), now);
            (told.is_complete, told.attachments.len(), told.peers.len())
        };
        let age = Some(Duration::from_secs(1));
        assert_eq!(tell(&mut reports, vec![web(false)], vec![peer(None)]), (true, 1, 1));
        assert!(!reports.is_due(now + Duration::from_secs(9)));
        assert!(reports.is_due(now + Duration::from_secs(10)));
        assert_eq!(tell(&mut reports, vec![web(false)], vec![peer(None)]), (false, 0, 0));
        assert_eq!(tell(&mut reports, vec![web(true)], vec![peer(None)]), (false, 1, 0));
        assert_eq!(tell(&mut reports, vec![web(true)], vec![peer(age)]), (false, 0, 1));
        assert_eq!(
            tell(&mut reports, vec![web(true)], vec![peer(age.map(|a| a * 2))]),
            (false, 0, 0)
        );
        assert_eq!(tell(&mut reports, vec![web(true)], vec![]), (true, 1, 0));
        reports.fail(now);
        assert!(!reports.is_due(now) && reports.is_due(now + AGAIN));
        assert_eq!(tell(&mut reports, vec![web(true)], vec![]), (true, 1, 0));
    }

    #[test]
    fn the_pause_has_bounds() {
        let now = Instant::now();
        let mut reports = Reports::new(now);
        reports.done(Duration::ZERO, now);
        assert!(!reports.is_due(now) && reports.is_due(now + PAUSE.0));
        reports.done(Duration::MAX, now);
        assert!(reports.is_due(now + PAUSE.1));
    }
}
