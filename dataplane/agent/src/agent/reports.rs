//! What the control plane is told of this host: everything once, then what has changed.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;
use weft_control_api::v1;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use crate::{
    documents::Documents,
    plane::{Actual, ActualAttachment, ActualPeer},
};

/// How soon it is told again after it could not be.
const AGAIN: Duration = Duration::from_secs(5);
/// Between these bounds the control plane says how soon it wants to be told.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often it is told how old keys are, when nothing else changes.
const KEYS_AGAIN: Duration = Duration::from_secs(600);
/// So long after something about attachments has changed it is told soon that one is there now: nobody is sent to one that
/// is told to be pending.
const HURRY: Duration = Duration::from_secs(20);
/// Most attachments that are told at a time; the others are told a moment later.
const ATTACHMENTS_MAX: usize = 1_024;
/// The same of peers. Of an environment that has more, those without a session are told first, and the others not.
const PEERS_MAX: usize = 1_024;
/// Longest error that is told, bytes.
const ERROR_LEN_MAX: usize = 256;

/// The sessions of an environment, as they were told.
struct Told {
    peers: BTreeMap<HostId, v1::ActualPeer>,
    at: Instant,
}

impl Told {
    fn is_news(&self, peers: &BTreeMap<HostId, v1::ActualPeer>, now: Instant) -> bool {
        // A key's age changes all the time.
        let same = |(one, other): (&v1::ActualPeer, &v1::ActualPeer)| {
            (one.is_established, &one.error) == (other.is_established, &other.error)
        };
        let is_as_told =
            self.peers.keys().eq(peers.keys()) && self.peers.values().zip(peers.values()).all(same);
        !is_as_told || (!peers.is_empty() && now >= self.at + KEYS_AGAIN)
    }
}

/// What was told over one connection.
pub(super) struct Reports {
    attachments: BTreeMap<(EnvironmentId, AttachmentName), v1::ActualAttachment>,
    peers: BTreeMap<EnvironmentId, Told>,
    /// There is more than one report may have.
    is_more: bool,
    /// An attachment is not there yet, and may soon be.
    is_pending: bool,
    /// Until when that is told soon.
    hurry_until: Instant,
    /// Something is there since the last report.
    is_news: bool,
    runs: bool,
    next: Instant,
}

impl Reports {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            attachments: BTreeMap::new(),
            peers: BTreeMap::new(),
            is_more: false,
            is_pending: false,
            hurry_until: now,
            is_news: false,
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
        now: Instant,
    ) -> v1::ReportRequest {
        (self.is_more, self.is_news, self.runs) = (false, false, true);
        let attachments = self.take_attachments(attachments(actual, documents));
        if !attachments.is_empty() {
            self.hurry_until = now + HURRY;
        }
        let (peers, without_peers) = self.take_peers(peers(actual, documents), now);
        let version = version.to_owned();
        v1::ReportRequest { revision: applied, version, attachments, peers, without_peers }
    }

    /// What the control plane does not want here any more, it is not told of.
    fn take_attachments(
        &mut self,
        now: BTreeMap<(EnvironmentId, AttachmentName), v1::ActualAttachment>,
    ) -> Vec<v1::ActualAttachment> {
        self.attachments.retain(|key, _| now.contains_key(key));
        let is_pending =
            |said: &v1::ActualAttachment| said.interface() == v1::InterfaceState::Pending;
        self.is_pending = now.values().any(is_pending);
        let mut told = Vec::new();
        for (key, said) in now {
            if self.attachments.get(&key) == Some(&said) {
                continue;
            }
            if told.len() >= ATTACHMENTS_MAX {
                self.is_more = true;
                break;
            }
            told.push(said.clone());
            self.attachments.insert(key, said);
        }
        told
    }

    /// Of an environment all are told. First those of which nothing was told for longest, so that none waits for ever.
    fn take_peers(
        &mut self,
        all: BTreeMap<EnvironmentId, BTreeMap<HostId, v1::ActualPeer>>,
        now: Instant,
    ) -> (Vec<v1::ActualPeer>, Vec<String>) {
        self.peers.retain(|environment, _| all.contains_key(environment));
        let is_news = |environment: &EnvironmentId, peers: &BTreeMap<_, _>| {
            self.peers.get(environment).is_none_or(|told| told.is_news(peers, now))
        };
        let news = all.into_iter().filter(|(environment, peers)| is_news(environment, peers));
        let mut news: Vec<_> = news.collect();
        news.sort_by_key(|(environment, _)| self.peers.get(environment).map(|told| told.at));
        let (mut some, mut without) = (Vec::new(), Vec::new());
        for (environment, peers) in news {
            if some.len() + peers.len() > PEERS_MAX || without.len() >= PEERS_MAX {
                self.is_more = true;
                continue;
            }
            if peers.is_empty() {
                without.push(environment.to_string());
            }
            some.extend(peers.values().cloned());
            self.peers.insert(environment, Told { peers, at: now });
        }
        (some, without)
    }

    /// An attachment was made, or will be in a moment: it is told soon.
    pub(super) fn soon(&mut self, now: Instant) {
        (self.is_news, self.hurry_until) = (true, now + HURRY);
        self.next = self.next.min(now + PAUSE.0);
    }

    /// The control plane has heard it, and wants to be told again, of everything if it says so.
    pub(super) fn done(&mut self, next: Duration, everything: bool, now: Instant) {
        let hurries = self.is_pending && now < self.hurry_until;
        let is_soon = self.is_more || self.is_news || hurries;
        let next = if is_soon { PAUSE.0 } else { next.clamp(PAUSE.0, PAUSE.1) };
        if everything {
            *self = Self::new(now);
        }
        self.runs = false;
        self.next = now + next;
    }

    /// It has not: everything is told again.
    pub(super) fn fail(&mut self, now: Instant) {
        *self = Self { next: now + AGAIN, ..Self::new(now) };
    }
}

/// An error that may be told: what is longer ends with three dots.
fn short(error: &str) -> String {
    const DOTS: &str = "...";
    if error.len() <= ERROR_LEN_MAX {
        return error.to_owned();
    }
    let mut end = ERROR_LEN_MAX - DOTS.len();
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{DOTS}", &error[..end])
}

/// Everything that is to be here, and how it is. What nobody has asked for on this host yet is not there yet.
fn attachments(
    actual: &Actual,
    documents: &Documents,
) -> BTreeMap<(EnvironmentId, AttachmentName), v1::ActualAttachment> {
    let there: HashMap<_, _> =
        actual.attachments.iter().map(|one| ((&one.environment, &one.name), one)).collect();
    let mut all = BTreeMap::new();
    for (environment, known) in documents.environments() {
        for (name, desired) in &known.attachments {
            let actual = there.get(&(environment, name)).copied();
            let said = v1::ActualAttachment {
                environment: environment.to_string(),
                name: name.to_string(),
                generation: desired.generation,
                error: actual.map(|actual| short(&actual.error)).unwrap_or_default(),
                health: v1::HealthState::Unspecified.into(),
                interface: actual.map_or(v1::InterfaceState::Pending, interface).into(),
            };
            all.insert((environment.clone(), name.clone()), said);
        }
    }
    all
}

fn interface(actual: &ActualAttachment) -> v1::InterfaceState {
    match (actual.is_up, actual.error.is_empty()) {
        (true, _) => v1::InterfaceState::Up,
        (false, true) => v1::InterfaceState::Pending,
        (false, false) => v1::InterfaceState::Failed,
    }
}

/// Sessions by environment, with as many hosts as can be told.
fn peers(
    actual: &Actual,
    documents: &Documents,
) -> BTreeMap<EnvironmentId, BTreeMap<HostId, v1::ActualPeer>> {
    let known = documents.environments().keys();
    let mut all: BTreeMap<EnvironmentId, Vec<&ActualPeer>> =
        known.map(|environment| (environment.clone(), Vec::new())).collect();
    for peer in &actual.peers {
        if let Some(peers) = all.get_mut(&peer.environment) {
            peers.push(peer);
        }
    }
    let told = all.into_iter().map(|(environment, mut peers)| {
        peers.sort_by_key(|peer| (peer.is_established, &peer.host));
        let peers = peers.into_iter().take(PEERS_MAX);
        (environment, peers.map(|peer| (peer.host.clone(), session(peer))).collect())
    });
    told.collect()
}

fn session(peer: &ActualPeer) -> v1::ActualPeer {
    let age = peer.key_age.unwrap_or_default().as_millis();
    v1::ActualPeer {
        environment: peer.environment.to_string(),
        host: peer.host.to_string(),
        is_established: peer.is_established,
        key_age_ms: u64::try_from(age).unwrap_or(u64::MAX),
        error: short(&peer.error),
    }
}

#[cfg(test)]
mod tests;
