//! Attachments: interfaces in containers.

use std::{io, net::IpAddr, sync::Arc};

use tokio::sync::oneshot;
use weft_config::{Attachment, Share};
use weft_helper::{ClientError, Interface, Opened};
use weft_proto::{AttachmentCounters, AttachmentSlot, NewAttachment};
use weft_sys::tun::TunQueue;
use weft_types::{AttachmentName, EnvironmentId, WORKERS_MAX};

use super::{
    AttachSpec, AttachmentState, EventKind, Node, NodeEvent, Origin, Owner, RequestError, not_kept,
    share::proto_share,
};
use crate::worker::Command;

/// Most attachments of one environment on this host.
const ATTACHMENTS_MAX: usize = 4096;
/// So many attachments that are missing are tried again at a time.
const RETRIES_MAX: usize = 64;
/// Segments of a TCP superpacket, as many as the wire format has chunks.
const GSO_MAX_SEGS: u16 = 64;
/// Packets that wait in one queue of an interface: as many as before an Ethernet card. They may be
/// superpackets, so this bounds the kernel's memory for a flood too, at 60 MiB for each queue.
const QUEUE_LEN: u32 = 1_000;
/// Longest name of an interface (`IFNAMSIZ` − 1).
const INTERFACE_LEN_MAX: usize = 15;

/// An interface that the helper made, with its queues.
type Made = (Opened, Vec<TunQueue>);

/// One attachment, made or not.
pub(super) struct AttachmentEntry {
    pub(super) spec: AttachSpec,
    /// What the configuration wants is tried again when it could not be made.
    origin: Origin,
    pub(super) state: State,
}

pub(super) enum State {
    /// Its turn to be made comes.
    Waiting,
    Up {
        slot: AttachmentSlot,
        counters: Vec<Arc<AttachmentCounters>>,
        /// Only the helper sees when its container is gone.
        is_adopted: bool,
    },
    Gone,
    Failed(String),
}

impl AttachmentEntry {
    pub(super) fn slot(&self) -> Option<AttachmentSlot> {
        match &self.state {
            State::Up { slot, .. } => Some(*slot),
            State::Waiting | State::Gone | State::Failed(_) => None,
        }
    }

    pub(super) fn reported_state(&self) -> AttachmentState {
        match &self.state {
            State::Waiting => AttachmentState::Waiting,
            State::Up { .. } => AttachmentState::Up,
            State::Gone => AttachmentState::Gone,
            State::Failed(error) => AttachmentState::Failed(error.clone()),
        }
    }
}

impl From<&Attachment> for AttachSpec {
    fn from(attachment: &Attachment) -> Self {
        Self {
            name: attachment.name.clone(),
            netns: attachment.netns.clone(),
            interface: attachment.interface.clone(),
            addresses: attachment.addresses.clone(),
            share: attachment.share,
        }
    }
}

impl AttachSpec {
    /// Whether the container would see the same interface.
    fn is_same_interface(&self, other: &Self) -> bool {
        let Self { name, netns, interface, addresses, share: _ } = self;
        *name == other.name
            && *netns == other.netns
            && *interface == other.interface
            && *addresses == other.addresses
    }
}

impl Node {
    /// Makes an attachment for a caller who wants to know. Idempotent by name; one that is there may
    /// get another share.
    pub(super) async fn attach(
        &mut self,
        environment: &EnvironmentId,
        spec: AttachSpec,
    ) -> Result<bool, RequestError> {
        let state = self.environment(environment)?;
        let replaces = match state.attachments.get(&spec.name) {
            Some(entry) if entry.spec.is_same_interface(&spec) => {
                if entry.slot().is_some() {
                    let is_new = entry.spec.share != spec.share;
                    if is_new && entry.origin == Origin::Api {
                        self.kept.attachment(environment, &spec).map_err(not_kept)?;
                    }
                    if is_new {
                        self.set_attachment_share(environment, &spec.name, spec.share)?;
                    }
                    return Ok(false);
                }
                true
            }
            Some(_) => {
                return Err(RequestError::Exists(format!(
                    "attachment {} of environment {environment} exists with other fields; detach \
                     it first",
                    spec.name
                )));
            }
            None => false,
        };
        check_spec(&spec)?;
        if !replaces && state.attachments.len() >= ATTACHMENTS_MAX {
            return Err(RequestError::Limit(format!(
                "environment {environment} has {ATTACHMENTS_MAX} attachments on this host, the \
                 limit"
            )));
        }
        for address in &spec.addresses {
            state.check_address(environment, *address, Owner::Here(&spec.name))?;
        }
        let entry = state.attachments.get(&spec.name);
        let origin = entry.map_or(Origin::Api, |entry| entry.origin);
        // It would have been made without this call, a little later.
        let is_planned = entry.is_some_and(|entry| matches!(entry.state, State::Waiting));
        if origin == Origin::Api {
            self.kept.attachment(environment, &spec).map_err(not_kept)?;
        }
        match self.make(environment, &spec).await {
            Ok(made) => self.insert_attachment(environment, spec, origin, made).await?,
            Err(error) => {
                if !replaces {
                    self.kept.forget_attachment(environment, &spec.name);
                }
                return Err(RequestError::Precondition(error.to_string()));
            }
        }
        Ok(!is_planned)
    }

    /// Lets an attachment send another share to other hosts from now on.
    pub(super) fn set_attachment_share(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
        share: Share,
    ) -> Result<(), RequestError> {
        let state = self.environment_mut(environment)?;
        let entry = state.attachments.get_mut(name).ok_or_else(|| {
            RequestError::NotFound(format!(
                "environment {environment} has no attachment {name} on this host"
            ))
        })?;
        entry.spec.share = share;
        if let Some(slot) = entry.slot() {
            let share = proto_share(share);
            self.command_all(|_| Command::SetAttachmentShare(slot, share.clone()));
        }
        let event = NodeEvent::new(EventKind::AttachmentChanged, "share changed");
        self.publish(event.of(environment).attachment(name));
        Ok(())
    }

    /// Plans an attachment of the configuration, or one that is restored. Each interface takes the
    /// kernel milliseconds and there may be thousands, so they are made one by one between everything
    /// else.
    pub(super) fn plan_attachment(
        &mut self,
        environment: &EnvironmentId,
        spec: AttachSpec,
        origin: Origin,
    ) -> Result<(), RequestError> {
        check_spec(&spec)?;
        let state = self.environment(environment)?;
        if state.attachments.contains_key(&spec.name) {
            return Err(RequestError::Exists(format!(
                "attachment {} of environment {environment} was asked for otherwise already; detach \
                 it first",
                spec.name
            )));
        }
        for address in &spec.addresses {
            state.check_address(environment, *address, Owner::Here(&spec.name))?;
        }
        let name = spec.name.clone();
        let entry = AttachmentEntry { spec, origin, state: State::Waiting };
        self.environment_mut(environment)?.attachments.insert(name.clone(), entry);
        self.unmade.push_back((environment.clone(), name));
        self.names_changed(environment);
        Ok(())
    }

    /// Makes the attachment that has waited longest; if that fails it is tried again later.
    pub(super) async fn make_next(&mut self) {
        let Some((environment, name)) = self.unmade.pop_front() else {
            self.settle();
            return;
        };
        let Ok(state) = self.environment(&environment) else { return };
        let Some(entry) = state.attachments.get(&name) else { return };
        if entry.slot().is_some() {
            return;
        }
        let (spec, origin) = (entry.spec.clone(), entry.origin);
        let error = match self.make(&environment, &spec).await {
            // The environment is there: it was a moment ago, and only this task removes one.
            Ok(made) => {
                let _ = self.insert_attachment(&environment, spec, origin, made).await;
                return;
            }
            Err(error) => error,
        };
        let Ok(state) = self.environment_mut(&environment) else { return };
        let Some(entry) = state.attachments.get_mut(&name) else { return };
        if matches!((&error, &entry.state), (ClientError::Absent(_), State::Gone)) {
            // It is still gone.
            return;
        }
        let error = error.to_string();
        let is_news = !matches!(&entry.state, State::Failed(before) if *before == error);
        entry.state = State::Failed(error.clone());
        if is_news {
            let event = NodeEvent::new(EventKind::AttachmentLost, error);
            self.publish(event.of(&environment).attachment(&name));
        }
    }

    /// All that was asked for before this daemon began to listen is there or has failed: what the
    /// helper has besides is nobody's.
    fn settle(&mut self) {
        self.is_settled = true;
        let helper = Arc::clone(&self.helper);
        self.closing.spawn_blocking(move || {
            if let Err(error) = helper.settle() {
                tracing::warn!(%error, "interfaces that nobody wants may have stayed");
            }
        });
    }

    /// Lets attachments of the configuration be tried again that could not be made or disappeared, and
    /// finds those whose containers are gone.
    pub(super) async fn look_after_attachments(&mut self) {
        let is_adopted =
            |entry: &AttachmentEntry| matches!(entry.state, State::Up { is_adopted: true, .. });
        if self.environments.values().any(|e| e.attachments.values().any(is_adopted)) {
            let helper = Arc::clone(&self.helper);
            let ended = tokio::task::spawn_blocking(move || helper.ended()).await;
            for name in ended.into_iter().flatten().flatten() {
                self.give_up(&name.environment, &name.attachment).await;
            }
        }
        if !self.unmade.is_empty() {
            return;
        }
        let mut missing = Vec::new();
        for (environment, state) in &self.environments {
            for (name, entry) in &state.attachments {
                if entry.origin == Origin::Configuration && entry.slot().is_none() {
                    missing.push((environment.clone(), name.clone()));
                }
            }
        }
        // They are in order: those behind the last one that was tried, then from the beginning.
        let first = self.retried.as_ref().map_or(0, |last| missing.partition_point(|m| m <= last));
        let some = missing.iter().cycle().skip(first).take(missing.len().min(RETRIES_MAX));
        self.unmade.extend(some.cloned());
        self.retried = self.unmade.back().cloned();
    }

    /// Removes an attachment for a caller who wants to know.
    pub(super) async fn detach(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) -> Result<(), RequestError> {
        if !self.environment(environment)?.attachments.contains_key(name) {
            return Err(RequestError::NotFound(format!(
                "environment {environment} has no attachment {name} on this host"
            )));
        }
        self.forget_attachment(environment, name).await;
        self.closed().await;
        Ok(())
    }

    pub(super) async fn forget_attachment(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
    ) {
        let Some(state) = self.environments.get_mut(environment) else { return };
        let Some(entry) = state.attachments.remove(name) else { return };
        self.kept.forget_attachment(environment, name);
        self.publish_routes(environment);
        self.names_changed(environment);
        self.release(environment, name, entry.slot()).await;
        let event = NodeEvent::new(EventKind::Detached, "attachment removed");
        self.publish(event.of(environment).attachment(name));
    }

    /// A worker found an interface gone.
    pub(super) async fn handle_queue_lost(&mut self, slot: AttachmentSlot) {
        let Some((environment, name)) = self.attachments_by_slot.get(&slot).cloned() else {
            return;
        };
        self.give_up(&environment, &name).await;
    }

    /// An interface has lost its container.
    async fn give_up(&mut self, environment: &EnvironmentId, name: &AttachmentName) {
        let Ok(state) = self.environment_mut(environment) else { return };
        let Some(entry) = state.attachments.get_mut(name) else { return };
        let Some(slot) = entry.slot() else { return };
        entry.state = State::Gone;
        self.publish_routes(environment);
        self.release(environment, name, Some(slot)).await;
        // The next interface of this name is asked for only when this one is gone.
        self.closed().await;
        let event = NodeEvent::new(EventKind::AttachmentLost, "the interface disappeared");
        self.publish(event.of(environment).attachment(name));
    }

    /// Takes the queues from the workers, and lets them and the helper's be closed.
    async fn release(
        &mut self,
        environment: &EnvironmentId,
        name: &AttachmentName,
        slot: Option<AttachmentSlot>,
    ) {
        let mut queues = Vec::with_capacity(self.workers.len());
        if let Some(slot) = slot {
            let mut waiting = Vec::with_capacity(self.workers.len());
            self.command_all(|_| {
                let (back, queue) = oneshot::channel();
                waiting.push(queue);
                Command::RemoveAttachment(slot, back)
            });
            for queue in waiting {
                // A worker that lost its queue or ended has none.
                queues.extend(queue.await);
            }
            self.attachments_by_slot.remove(&slot);
            self.attachment_slots.give_back(slot.0);
        }
        let (helper, name) = (Arc::clone(&self.helper), helper_name(environment, name));
        self.closing.spawn_blocking(move || {
            drop(queues);
            if let Err(error) = helper.close(name) {
                tracing::warn!(%error, "an interface that nobody wants may have stayed");
            }
        });
    }

    /// Waits until all interfaces that were given up are gone. The kernel takes its time for each
    /// and does many at once.
    pub(super) async fn closed(&mut self) {
        while self.closing.join_next().await.is_some() {}
    }

    /// Lets the helper make the interface. What fails says in a sentence why, and leaves nothing
    /// behind.
    async fn make(
        &self,
        environment: &EnvironmentId,
        spec: &AttachSpec,
    ) -> Result<Made, ClientError> {
        let subnets =
            self.environments.get(environment).map(|e| e.subnets.as_slice()).unwrap_or_default();
        let prefix_len =
            |a: &IpAddr| subnets.iter().find(|s| s.contains(*a)).map(|s| (*a, s.prefix_len()));
        let interface = Interface {
            name: helper_name(environment, &spec.name),
            netns: spec.netns.clone(),
            interface: spec.interface.clone(),
            addresses: spec.addresses.iter().filter_map(prefix_len).collect(),
            queues: u8::try_from(self.workers.len()).unwrap_or(WORKERS_MAX),
            mtu: self.sizes.tun_mtu,
            gso_max_size: self.sizes.gso_max_size,
            gso_max_segs: GSO_MAX_SEGS,
            queue_len: QUEUE_LEN,
        };
        let helper = Arc::clone(&self.helper);
        match tokio::task::spawn_blocking(move || helper.open(&interface)).await {
            Ok(result) => result,
            Err(error) => Err(ClientError::Io(io::Error::other(error))),
        }
    }

    async fn insert_attachment(
        &mut self,
        environment: &EnvironmentId,
        spec: AttachSpec,
        origin: Origin,
        (opened, queues): Made,
    ) -> Result<(), RequestError> {
        let environment_slot = self.environment(environment)?.place.slot;
        // One that disappeared gives way to its successor; its slot was released then.
        let slot = AttachmentSlot(self.attachment_slots.take());
        let counters: Vec<Arc<AttachmentCounters>> =
            self.workers.iter().map(|_| Arc::default()).collect();
        let (uso, share) = (opened.uso, proto_share(spec.share));
        for ((worker, counters), queue) in self.workers.iter().zip(&counters).zip(queues) {
            let new = NewAttachment {
                environment: environment_slot,
                addresses: spec.addresses.clone(),
                uso,
                share: share.clone(),
                counters: Arc::clone(counters),
            };
            worker.send(Command::AddAttachment(slot, new, queue));
        }
        let name = spec.name.clone();
        self.attachments_by_slot.insert(slot, (environment.clone(), name.clone()));
        let is_adopted = opened.origin == weft_helper::Origin::Adopted;
        let state = State::Up { slot, counters, is_adopted };
        let entry = AttachmentEntry { spec, origin, state };
        let before = self.environment_mut(environment)?.attachments.insert(name.clone(), entry);
        // One that was planned has its name already.
        if before.is_none() {
            self.names_changed(environment);
        }
        self.publish_routes(environment);
        self.barrier().await;
        let event = NodeEvent::new(
            EventKind::Attached,
            match opened.origin {
                weft_helper::Origin::New => "interface is there",
                weft_helper::Origin::Held | weft_helper::Origin::Adopted => {
                    "interface is there again"
                }
            },
        );
        self.publish(event.of(environment).attachment(&name));
        Ok(())
    }
}

fn check_spec(spec: &AttachSpec) -> Result<(), RequestError> {
    let v4 = spec.addresses.iter().filter(|a| a.is_ipv4()).count();
    let v6 = spec.addresses.len() - v4;
    if spec.addresses.is_empty() || v4 > 1 || v6 > 1 {
        return Err(RequestError::Invalid(
            "addresses: expected one IPv4 address, one IPv6 address, or one of each".into(),
        ));
    }
    let name = &spec.interface;
    let is_name = (1..=INTERFACE_LEN_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        && name != "."
        && name != ".."
        && name != "lo";
    if !is_name {
        return Err(RequestError::Invalid(format!(
            "interface {name:?}: expected 1 to {INTERFACE_LEN_MAX} characters without spaces, '/' \
             and ':'"
        )));
    }
    Ok(())
}

fn helper_name(environment: &EnvironmentId, attachment: &AttachmentName) -> weft_helper::Name {
    weft_helper::Name { environment: environment.clone(), attachment: attachment.clone() }
}
