//! From a finished handshake to lanes in all workers, and back.

use std::time::{Duration, Instant, SystemTime};

use weft_handshake::{Established, Role as TlsRole};
use weft_pki::SniTag;
use weft_proto::{
    LinkSlot, NewSession, SessionId,
    aead::Suite,
    keys::{Role, Secret, scrub_stack},
    lane::{Limits, ReceiveLane, SendLane},
    peer::{self, DISTRUST_MAX, SESSION_AGE_MAX},
};
use weft_types::{EnvironmentId, HostId, LaneId, ReceiverIndex};

use super::Node;
use crate::worker::Command;

/// What the node remembers of a session.
pub(super) struct SessionEntry {
    pub(super) environment: EnvironmentId,
    pub(super) host: HostId,
    indices: Vec<ReceiverIndex>,
}

impl Node {
    /// Makes lanes of a finished handshake, hands them to the workers, and tells the peer's state
    /// machine.
    pub(super) fn install_session(
        &mut self,
        link: LinkSlot,
        established: Established,
    ) -> Result<(), weft_types::IndexError> {
        let now = Instant::now();
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let environment = established.environment.clone();
        let host = established.peer.identity.host.clone();
        let role = match established.role {
            TlsRole::Client => Role::Client,
            TlsRole::Server => Role::Server,
        };
        let state = self.environments.get(&environment);
        let time = state.map(|e| e.tls.time().now());
        let left = established.not_after.duration_since(time.unwrap_or_else(SystemTime::now));
        // It may have been judged by what is not trusted any more: handshakes take their time.
        let is_trusted = |tag: &SniTag| {
            state.is_some_and(|state| state.tls.anchor().tags().any(|trusted| trusted == *tag))
        };
        let is_doubtful = !established.trusted.iter().all(is_trusted);
        let age_max = if is_doubtful { DISTRUST_MAX } else { SESSION_AGE_MAX };
        let expires = now + left.unwrap_or(Duration::ZERO).min(age_max);
        let params = established.peer_params;
        let new = peer::Established {
            id,
            role,
            peer_instance: params.instance,
            generation: established.generation,
            expires,
        };
        for session in self.lanes(id, link, role, expires, &established)? {
            let (worker, session) = session;
            self.workers[worker].send(Command::Install(Box::new(session)));
        }
        let indices = established.local_indices.keep();
        drop(established.secret);
        scrub_stack();
        let entry = SessionEntry { environment: environment.clone(), host: host.clone(), indices };
        self.sessions.insert(id, entry);
        if let Some(entry) = self.peer_mut(&environment, &host) {
            entry.roaming.handle_lanes(params.lanes);
            entry.fallback.handle_lanes(params.lanes);
            entry.machine.handle_established(now, new);
        }
        self.drive_peer(&environment, &host);
        Ok(())
    }

    fn lanes(
        &self,
        id: SessionId,
        link: LinkSlot,
        role: Role,
        expires: Instant,
        established: &Established,
    ) -> Result<Vec<(usize, NewSession)>, weft_types::IndexError> {
        let exported = Secret::exported(established.secret.expose());
        let no_aes = established.no_aes;
        let suite = if no_aes { Suite::ChaCha20Poly1305 } else { Suite::Aes256Gcm };
        let limits = Limits {
            epoch_datagrams_max: self.config.keys.epoch_datagrams_max,
            epoch_age_max: Duration::from_secs(self.config.keys.epoch_seconds_max),
        };
        let datagram_max = self.sizes.datagram_max.min(established.peer_params.datagram_max);
        let count = self.workers.len();
        let mut sessions = Vec::with_capacity(count);
        for (worker, index) in established.peer_indices.iter().copied().enumerate().take(count) {
            let secret = exported.lane(role, LaneId::new(worker)?);
            let receive = established
                .local_indices
                .iter()
                .enumerate()
                .filter(|(lane, _)| lane % count == worker)
                .map(|(lane, index)| {
                    let secret = exported.lane(role.peer(), LaneId::new(lane)?);
                    Ok((*index, ReceiveLane::new(suite, &secret)))
                })
                .collect::<Result<Vec<_>, weft_types::IndexError>>()?;
            sessions.push((
                worker,
                NewSession {
                    id,
                    link,
                    role,
                    datagram_max: datagram_max.into(),
                    send: SendLane::new(index, suite, secret, limits, expires),
                    receive,
                    confirms: role == Role::Client && worker == 0,
                },
            ));
        }
        Ok(sessions)
    }

    pub(super) fn remove_session(&mut self, id: SessionId, say_so: bool) {
        let Some(entry) = self.sessions.remove(&id) else { return };
        // One worker tells the peer; the other lanes just go.
        self.command_all(|worker| Command::RemoveSession { id, say_so: say_so && worker == 0 });
        self.indices.release_all(&entry.indices);
    }
}
