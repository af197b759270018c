//! What happens to sessions, and what peers' state machines want done about it.

use std::time::Instant;

use weft_handshake::HandshakeError;
use weft_proto::{
    LinkSlot, SessionId,
    peer::{Action, Peer, State},
};
use weft_types::{EnvironmentId, HostId};

use super::{EventKind, Node, NodeEvent};
use crate::worker::Command;

impl Node {
    /// Packets wait for a session.
    pub(super) fn handle_need(&mut self, slot: LinkSlot) {
        let Some((environment, host)) = self.links_by_slot.get(&slot).cloned() else { return };
        if let Some(entry) = self.peer_mut(&environment, &host) {
            entry.machine.handle_need();
        }
        self.drive_peer(&environment, &host);
    }

    pub(super) fn handle_alive(&mut self, id: SessionId) {
        self.with_session(id, |machine, now| machine.handle_alive(now, id));
    }

    pub(super) fn handle_rekey_soon(&mut self, id: SessionId) {
        self.with_session(id, |machine, _| machine.handle_rekey_soon(id));
    }

    pub(super) fn handle_closed(&mut self, id: SessionId) {
        self.with_session(id, |machine, now| machine.handle_closed(now, id));
    }

    fn with_session(&mut self, id: SessionId, act: impl FnOnce(&mut Peer, Instant)) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let (environment, host) = (entry.environment.clone(), entry.host.clone());
        if let Some(peer) = self.peer_mut(&environment, &host) {
            act(&mut peer.machine, Instant::now());
        }
        self.drive_peer(&environment, &host);
    }

    /// Time has passed for some peer.
    pub(super) fn handle_peer_timeouts(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = std::iter::from_fn(|| self.peer_timers.take_due(now)).collect();
        for slot in due {
            let Some((environment, host)) = self.links_by_slot.get(&slot).cloned() else {
                continue;
            };
            if let Some(entry) = self.peer_mut(&environment, &host) {
                entry.machine.handle_timeout(now);
                entry.fallback.handle_timeout(now);
                if entry.segmentation.handle_timeout(now).is_some() {
                    self.segment(&environment, &host, "segmented sends are tried again");
                }
            }
            self.drive_peer(&environment, &host);
        }
    }

    /// Does what a peer's state machine wants.
    pub(super) fn drive_peer(&mut self, environment: &EnvironmentId, host: &HostId) {
        while let Some(entry) = self.peer_mut(environment, host) {
            let Some(action) = entry.machine.poll_action() else { break };
            match action {
                Action::Handshake => self.begin_handshake(environment, host),
                Action::Activate(id) => {
                    self.command_all(|_| Command::Activate(id));
                    let event =
                        NodeEvent::new(EventKind::SessionEstablished, "session carries data");
                    self.publish(event.of(environment).peer(host));
                }
                Action::Late => {
                    if let Some(entry) = self.peer_mut(environment, host) {
                        entry.fallback.handle_blocked(Instant::now());
                    }
                }
                Action::Unproven => {
                    self.count_failure(environment, host, &HandshakeError::Unproven);
                }
                Action::Remove { id, say_so } => {
                    self.remove_session(id, say_so);
                    self.publish_end_of(environment, host);
                }
            }
        }
        self.drive_fallback(environment, host);
        if let Some(entry) = self.peer_mut(environment, host) {
            let timeouts = [
                entry.machine.poll_timeout(),
                entry.fallback.poll_timeout(),
                entry.segmentation.poll_timeout(),
            ];
            let (slot, timeout) = (entry.slot, timeouts.into_iter().flatten().min());
            self.peer_timers.set(slot, timeout);
        }
    }

    fn publish_end_of(&mut self, environment: &EnvironmentId, host: &HostId) {
        let Some(entry) = self.peer_mut(environment, host) else { return };
        if !matches!(entry.machine.state(), State::Active { .. }) {
            let event = NodeEvent::new(EventKind::SessionEnded, "no session any more");
            self.publish(event.of(environment).peer(host));
        }
    }
}
