//! Attachments: interfaces in containers.

use std::{io, sync::Arc};

use tokio::sync::oneshot;
use weft_config::{Attachment, Share};
use weft_proto::{AttachmentCounters, AttachmentSlot, NewAttachment};
use weft_sys::{
    link::{self, LinkConfig},
    netns::Netns,
    tun::{Tun, TunOptions},
};
use weft_types::{AttachmentName, EnvironmentId, Subnet};

use super::{
    AttachSpec, AttachmentState, EventKind, Node, NodeEvent, Owner, RequestError, Sizes,
    environment::proto_share,
};
use crate::worker::Command;

/// Most attachments of one environment on this host.
const ATTACHMENTS_MAX: usize = 4096;
/// Segments of a TCP superpacket, as many as the wire format has chunks.
const GSO_MAX_SEGS: u16 = 64;
/// Packets that wait in one queue of an interface: as many as before an Ethernet card. They may be
/// superpackets, so this bounds the kernel's memory for a flood too, at 60 MiB for each queue.
const QUEUE_LEN: u32 = 1_000;
/// Longest name of an interface (`IFNAMSIZ` − 1).
const INTERFACE_LEN_MAX: usize = 15;

/// One attachment, made or not.
pub(super) struct AttachmentEntry {
    pub(super) spec: AttachSpec,
    /// From the configuration: tried again when it could not be made.
    is_configured: bool,
    pub(super) state: State,
}

pub(super) enum State {
    Up { slot: AttachmentSlot, counters: Vec<Arc<AttachmentCounters>> },
    Gone,
    Failed(String),
}

impl AttachmentEntry {
    pub(super) fn slot(&self) -> Option<AttachmentSlot> {
        match &self.state {
            State::Up { slot, .. } => Some(*slot),
            State::Gone | State::Failed(_) => None,
        }
    }

    pub(super) fn reported_state(&self) -> AttachmentState {
        match &self.state {
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
        let is_configured =
            state.attachments.get(&spec.name).is_some_and(|entry| entry.is_configured);
        let made = self.make(environment, &spec).await.map_err(RequestError::Precondition)?;
        self.insert_attachment(environment, spec, is_configured, made).await?;
        Ok(true)
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

    /// Makes an attachment of the configuration; if that fails it is tried again later.
    pub(super) async fn attach_configured(
        &mut self,
        environment: &EnvironmentId,
        spec: AttachSpec,
    ) -> Result<(), RequestError> {
        let made = match self.make(environment, &spec).await {
            Ok(made) => made,
            Err(error) => {
                let state = self.environment_mut(environment)?;
                let name = spec.name.clone();
                let is_news = !matches!(
                    state.attachments.get(&name),
                    Some(AttachmentEntry { state: State::Failed(before), .. }) if *before == error
                );
                let failed = State::Failed(error.clone());
                let entry = AttachmentEntry { spec, is_configured: true, state: failed };
                state.attachments.insert(name.clone(), entry);
                if is_news {
                    let event = NodeEvent::new(EventKind::AttachmentLost, error);
                    self.publish(event.of(environment).attachment(&name));
                }
                return Ok(());
            }
        };
        self.insert_attachment(environment, spec, true, made).await
    }

    /// Tries attachments of the configuration again that could not be made or disappeared.
    pub(super) async fn retry_attachments(&mut self) {
        let mut again = Vec::new();
        for (environment, state) in &self.environments {
            for entry in state.attachments.values() {
                if entry.is_configured && entry.slot().is_none() && entry.spec.netns.exists() {
                    again.push((environment.clone(), entry.spec.clone()));
                }
            }
        }
        for (environment, spec) in again {
            // The environment is there: it was a moment ago, and only this task removes one.
            let _ = self.attach_configured(&environment, spec).await;
        }
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
        self.publish_routes(environment);
        if let Some(slot) = entry.slot() {
            self.release_slot(slot).await;
        }
        let event = NodeEvent::new(EventKind::Detached, "attachment removed");
        self.publish(event.of(environment).attachment(name));
    }

    /// A worker found an interface gone.
    pub(super) async fn handle_queue_lost(&mut self, slot: AttachmentSlot) {
        let Some((environment, name)) = self.attachments_by_slot.get(&slot).cloned() else {
            return;
        };
        let Ok(state) = self.environment_mut(&environment) else { return };
        if let Some(entry) = state.attachments.get_mut(&name)
            && entry.slot() == Some(slot)
        {
            entry.state = State::Gone;
            self.publish_routes(&environment);
            self.release_slot(slot).await;
            let event = NodeEvent::new(EventKind::AttachmentLost, "the interface disappeared");
            self.publish(event.of(&environment).attachment(&name));
        }
    }

    async fn release_slot(&mut self, slot: AttachmentSlot) {
        let mut waiting = Vec::with_capacity(self.workers.len());
        self.command_all(|_| {
            let (back, queue) = oneshot::channel();
            waiting.push(queue);
            Command::RemoveAttachment(slot, back)
        });
        let mut queues = Vec::with_capacity(waiting.len());
        for queue in waiting {
            // A worker that lost its queue or ended has none.
            queues.extend(queue.await);
        }
        self.closing.spawn_blocking(move || drop(queues));
        self.attachments_by_slot.remove(&slot);
        self.attachment_slots.give_back(slot.0);
    }

    /// Waits until all interfaces that were given up are gone. The kernel takes its time for each
    /// and does many at once.
    pub(super) async fn closed(&mut self) {
        while self.closing.join_next().await.is_some() {}
    }

    /// Makes the interface. What fails says in a sentence why, and leaves nothing behind.
    async fn make(&self, environment: &EnvironmentId, spec: &AttachSpec) -> Result<Tun, String> {
        let subnets =
            self.environments.get(environment).map(|e| e.subnets.clone()).unwrap_or_default();
        let (spec, sizes, queues) = (spec.clone(), self.sizes, self.workers.len());
        let work = move || make_interface(&spec, &subnets, sizes, queues);
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(format!("the interface could not be made: {error}")),
        }
    }

    async fn insert_attachment(
        &mut self,
        environment: &EnvironmentId,
        spec: AttachSpec,
        is_configured: bool,
        tun: Tun,
    ) -> Result<(), RequestError> {
        let environment_slot = self.environment(environment)?.place.slot;
        // One that disappeared gives way to its successor; its slot was released then.
        let slot = AttachmentSlot(self.attachment_slots.take());
        let counters: Vec<Arc<AttachmentCounters>> =
            self.workers.iter().map(|_| Arc::default()).collect();
        let (uso, share) = (tun.uso(), proto_share(spec.share));
        let mut queues = tun.into_queues().into_iter();
        for (worker, counters) in self.workers.iter().zip(&counters) {
            let Some(queue) = queues.next() else { break };
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
        let entry = AttachmentEntry { spec, is_configured, state: State::Up { slot, counters } };
        self.environment_mut(environment)?.attachments.insert(name.clone(), entry);
        self.publish_routes(environment);
        self.barrier().await;
        let event = NodeEvent::new(EventKind::Attached, "interface is there");
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

/// Opens all queues in the host's namespace, then moves the device: a queue that was opened in
/// the container's namespace would keep that namespace alive.
fn make_interface(
    spec: &AttachSpec,
    subnets: &[Subnet],
    sizes: Sizes,
    queues: usize,
) -> Result<Tun, String> {
    let path = spec.netns.display();
    let netns = Netns::open(&spec.netns)
        .map_err(|e| format!("netns {path} cannot be opened as a network namespace: {e}"))?;
    let random = getrandom::u32().map_err(|e| format!("no random numbers: {e}"))?;
    let name = format!("weft{random:08x}");
    let options = TunOptions {
        name: &name,
        queues: u8::try_from(queues).map_err(|_| "more workers than queues".to_owned())?,
        mtu: sizes.tun_mtu,
        gso_max_size: sizes.gso_max_size,
        gso_max_segs: GSO_MAX_SEGS,
        queue_len: QUEUE_LEN,
    };
    let tun = Tun::create(&options).map_err(|e| format!("no TUN device can be made: {e}"))?;
    let interface = &spec.interface;
    link::move_to_netns(tun.ifindex(), &netns, interface).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("netns {path} has an interface {interface} already; choose another name")
        }
        _ => format!("the interface cannot be moved to netns {path}: {e}"),
    })?;
    let addresses: Vec<_> = spec
        .addresses
        .iter()
        .filter_map(|a| subnets.iter().find(|s| s.contains(*a)).map(|s| (*a, s.prefix_len())))
        .collect();
    let config = LinkConfig { name: interface, addresses: &addresses, routes: &[] };
    link::configure(&netns, &config)
        .map_err(|e| format!("interface {interface} in netns {path} cannot be configured: {e}"))?;
    Ok(tun)
}
