//! The ways to peers: where they are, whether they answer, and whether what goes to them arrives whole.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::mpsc;
use weft_proto::{
    Counter64, LinkCounters, SessionId,
    peer::State,
    roam::{Answer, Challenge},
    silence::Verdict,
    way::Via,
};
use weft_sys::link::AddressWatch;
use weft_types::{EnvironmentId, HostId, WorkerId};

use super::{EventKind, Node, NodeEvent};
use crate::worker::Command;

/// How often at most peers hear that this host's addresses have changed: container engines change some
/// all the time.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Says when addresses of this host change, if that is watched.
pub(super) fn watch_addresses(watch: Option<AddressWatch>) -> anyhow::Result<mpsc::Receiver<()>> {
    // One change that waits stands for all.
    let (changes, changed) = mpsc::channel(1);
    if let Some(watch) = watch {
        let wait = move || {
            while watch.wait().is_ok() && !changes.is_closed() {
                let _ = changes.try_send(());
            }
        };
        std::thread::Builder::new()
            .name("weft-addresses".into())
            .spawn(wait)
            .context("cannot watch this host's addresses")?;
    }
    Ok(changed)
}

impl Node {
    /// A peer's datagrams come from elsewhere: ask whether it is there.
    pub(super) fn handle_elsewhere(
        &mut self,
        worker: WorkerId,
        id: SessionId,
        from: SocketAddr,
        is_home: bool,
    ) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        let Some(peer) = self.peer_mut(&environment, &host) else { return };
        let now = Instant::now();
        // Without random numbers nothing is asked that could be answered.
        let (Ok(one), Ok(other)) = (getrandom::u64(), getrandom::u64()) else { return };
        let (worker, numbers) = (worker.as_usize(), [one, other]);
        let challenges = peer.roaming.handle_seen(now, worker, from, is_home, numbers);
        if challenges.is_empty() {
            // It came by UDP from where it should, while datagrams go another way.
            peer.fallback.handle_heard(now);
            self.drive_peer(&environment, &host);
        }
        for challenge in challenges {
            self.challenge(id, challenge);
        }
    }

    pub(super) fn challenge(&self, id: SessionId, challenge: Challenge) {
        let Challenge { worker, way, number } = challenge;
        self.workers[worker].send(Command::Challenge(id, way, number));
    }

    /// A peer is where it was asked.
    pub(super) fn handle_answered(&mut self, id: SessionId, number: u64) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        let Some(peer) = self.peer_mut(&environment, &host) else { return };
        let now = Instant::now();
        let answer = peer.roaming.handle_answer(now, number);
        if answer != Answer::Unknown {
            peer.fallback.handle_udp_works(now);
        }
        let to = peer.roaming.moved_to().unwrap_or(peer.spec.endpoint);
        if answer == Answer::Moved {
            self.use_ways(&environment, &host);
            self.listener.authenticated(to.ip());
            let event = NodeEvent::new(EventKind::PeerMoved, format!("it is at {to} now"));
            self.publish(event.of(&environment).peer(&host));
        }
        self.drive_peer(&environment, &host);
    }

    /// Lets all workers send where the peer is.
    pub(super) fn use_ways(&mut self, environment: &EnvironmentId, host: &HostId) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        let (slot, mut ways) = (entry.slot, entry.roaming.ways().to_vec());
        if entry.fallback.is_streaming() {
            for way in &mut ways {
                way.via = Via::Stream(slot);
            }
        }
        for (worker, way) in self.workers.iter().zip(ways) {
            worker.send(Command::SetWay(slot, way));
        }
    }

    /// A peer says that datagrams are damaged on their way to it.
    pub(super) fn handle_damaged(&mut self, id: SessionId, refused: u32, sent: u32) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        let Some(peer) = self.peer_mut(&environment, &host) else { return };
        let damage = format!("{refused} of {sent} datagrams were damaged on their way");
        match peer.segmentation.handle_damage(Instant::now()) {
            None => return,
            Some(false) => {
                self.segment(&environment, &host, format!("{damage}: no segmented sends"));
            }
            Some(true) => {
                let message =
                    format!("{damage}, also without segmented sends: they are used again");
                self.segment(&environment, &host, message);
            }
        }
        self.drive_peer(&environment, &host);
    }

    /// Lets all workers send in segmented sends, or not.
    pub(super) fn segment(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
        message: impl Into<String>,
    ) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        let (slot, is_on) = (entry.slot, entry.segmentation.is_on());
        self.command_all(|_| Command::SetSegmented(slot, is_on));
        let event = NodeEvent::new(EventKind::PeerSegmentation, message);
        self.publish(event.of(environment).peer(host));
    }

    /// This host's addresses have changed: peers hear from the new one at once.
    pub(super) fn handle_addresses(&mut self) {
        let now = Instant::now();
        match self.told_addresses.0 {
            Some(last) if now < last + TELL_EVERY => self.told_addresses.1 = true,
            _ => self.tell_addresses(now),
        }
    }

    fn tell_addresses(&mut self, now: Instant) {
        self.told_addresses = (Some(now), false);
        for entry in self.environments.values().flat_map(|e| e.peers.values()) {
            if let State::Active { id, .. } = entry.machine.state() {
                // Each lane has a port of its own, which address translation has to learn.
                self.command_all(|_| Command::Ask(id));
            }
        }
    }

    /// Looks whether peers answer to whom packets go.
    pub(super) fn watch_peers(&mut self) {
        let now = Instant::now();
        if self.told_addresses.1 {
            self.tell_addresses(now);
        }
        let mut silent = Vec::new();
        let mut asked = Vec::new();
        let (mut challenges, mut lost) = (Vec::new(), Vec::new());
        for (environment, state) in &mut self.environments {
            for (host, entry) in &mut state.peers {
                let State::Active { id, .. } = entry.machine.state() else { continue };
                let sum = |count: fn(&LinkCounters) -> &Counter64| -> u64 {
                    entry.counters.iter().map(|counters| count(counters).get()).sum()
                };
                let counts = (sum(|c| &c.sent_datagrams), sum(|c| &c.received_datagrams));
                let was_silent = entry.silence.silent_for(now).is_some();
                let verdict = entry.silence.look(now, counts, entry.spec.keepalive);
                let is_lost = entry.silence.is_to_be_looked_for();
                if entry.silence.is_blocked() && !entry.fallback.is_streaming() {
                    entry.fallback.handle_blocked(now);
                    lost.push((environment.clone(), host.clone()));
                }
                // Without random numbers nothing is asked that could be answered.
                let places = entry.roaming.look(now, is_lost, || getrandom::u64().ok());
                challenges.extend(places.into_iter().map(|place| (id, place)));
                if verdict != Verdict::Fine {
                    asked.extend(std::iter::repeat_n(id, entry.silence.questions()));
                }
                let is_silent = verdict == Verdict::Silent;
                if is_silent || was_silent {
                    silent.push((environment.clone(), host.clone(), was_silent, is_silent));
                }
            }
        }
        // One lane asks for all: whoever answers on any of them is there.
        for id in asked {
            self.workers[0].send(Command::Ask(id));
        }
        for (id, challenge) in challenges {
            self.challenge(id, challenge);
        }
        for (environment, host) in lost {
            self.drive_peer(&environment, &host);
        }
        for (environment, host, was_silent, is_silent) in silent {
            if was_silent != is_silent {
                let (kind, message) = match is_silent {
                    true => (EventKind::PeerSilent, "packets go and nothing comes back"),
                    false => (EventKind::PeerAnswers, "it answers again"),
                };
                self.publish(NodeEvent::new(kind, message).of(&environment).peer(&host));
            }
            if is_silent && let Some(entry) = self.peer_mut(&environment, &host) {
                entry.machine.handle_silence(now);
                self.drive_peer(&environment, &host);
            }
        }
    }
}
