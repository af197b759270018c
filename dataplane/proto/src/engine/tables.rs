//! Putting in and taking out what the engine judges packets by.

use std::{sync::Arc, time::Instant};

use super::{
    Attachment, AttachmentSlot, DENIALS_BURST, DENIALS_INTERVAL, Engine, Environment,
    EnvironmentSlot, ICMP_BURST, ICMP_INTERVAL, Link, LinkSlot, NewAttachment, NewEnvironment,
    NewLink,
    gateway::{GATEWAY_BURST, GATEWAY_INTERVAL},
    pending::Pending,
};
use crate::{
    Bucket, DropReason, RouteTable, Share, path::PathMtu, policy::Guard, reading::Reader, way::Way,
};

impl Engine {
    /// Adds an environment, without routes yet, and so without traffic. Its policy, if it has one, is to be set
    /// before them: until then everything is allowed.
    pub fn add_environment(&mut self, slot: EnvironmentSlot, new: NewEnvironment) {
        let environment = Environment {
            gateway: new.gateway,
            gateway6: new.gateway6,
            routes: Arc::default(),
            guard: None,
            denials: Bucket::new(DENIALS_BURST, DENIALS_INTERVAL),
            share: new.share,
            counters: new.counters,
        };
        self.environments.insert(slot, environment);
    }

    /// Forgets an environment. Packets of attachments and links that still name it are dropped.
    pub fn remove_environment(&mut self, slot: EnvironmentSlot) {
        let forgotten = self.backlog.forget_environment(slot);
        self.count_drops(slot, DropReason::Congestion, forgotten);
        self.environments.remove(slot);
    }

    /// What an environment may send to other hosts from now on, with what waits already.
    pub fn set_environment_share(&mut self, slot: EnvironmentSlot, share: Share) {
        if let Some(environment) = self.environments.get_mut(slot) {
            self.backlog.set_environment_share(slot, &share);
            environment.share = share;
        }
    }

    /// What an attachment may send to other hosts from now on, with what waits already.
    pub fn set_attachment_share(&mut self, slot: AttachmentSlot, share: Share) {
        if let Some(attachment) = self.attachments.get_mut(slot) {
            self.backlog.set_share(attachment.environment, slot, &share);
            attachment.share = share;
        }
    }

    /// Judges an environment's packets by another policy from now on, what waits too; by none without.
    pub fn set_policy(&mut self, slot: EnvironmentSlot, guard: Option<Arc<Guard>>) {
        if let Some(environment) = self.environments.get_mut(slot) {
            environment.guard = guard.filter(|guard| !guard.is_open());
        }
    }

    /// Swaps an environment's routes.
    pub fn set_routes(&mut self, slot: EnvironmentSlot, routes: Arc<RouteTable>) {
        if let Some(environment) = self.environments.get_mut(slot) {
            environment.routes = routes;
        }
    }

    /// Adds an attachment.
    pub fn add_attachment(&mut self, slot: AttachmentSlot, new: NewAttachment) {
        let attachment = Attachment {
            environment: new.environment,
            addresses: new.addresses,
            uso: new.uso,
            share: new.share,
            icmp: Bucket::new(ICMP_BURST, ICMP_INTERVAL),
            gateway: Bucket::new(GATEWAY_BURST, GATEWAY_INTERVAL),
            counters: new.counters,
        };
        self.attachments.insert(slot, attachment);
    }

    /// Forgets an attachment, and everything that was on its way from or to it: the next owner of
    /// the slot may belong to another environment.
    pub fn remove_attachment(&mut self, slot: AttachmentSlot) {
        if let Some(attachment) = self.attachments.remove(slot) {
            let forgotten = self.backlog.forget(attachment.environment, slot);
            self.count_drops(attachment.environment, DropReason::Congestion, forgotten);
        }
        self.join.forget(slot);
        for link in self.links.iter_mut() {
            let forgotten = link.pending.forget(slot);
            if let Some(environment) = self.environments.get(link.environment) {
                environment.counters.dropped_many(DropReason::NoSession, forgotten);
            }
        }
    }

    /// With what weights packets of an attachment are read; `None` when it is gone.
    #[must_use]
    pub fn reader(&self, slot: AttachmentSlot) -> Option<Reader> {
        let attachment = self.attachments.get(slot)?;
        let environment = self.environments.get(attachment.environment)?;
        Some(Reader {
            environment: attachment.environment,
            environment_weight: environment.share.weight,
            weight: attachment.share.weight,
        })
    }

    /// Adds a link, without a session yet.
    pub fn add_link(&mut self, slot: LinkSlot, new: NewLink) {
        let link = Link {
            environment: new.environment,
            way: Way::direct(new.endpoint),
            elsewhere: None,
            is_single: false,
            active: None,
            path: PathMtu::default(),
            pending: Pending::default(),
            counters: new.counters,
        };
        self.links.insert(slot, link);
    }

    /// Sends the link's datagrams another way from now on.
    pub fn set_way(&mut self, now: Instant, slot: LinkSlot, way: Way) {
        if let Some(link) = self.links.get_mut(slot)
            && link.way != way
        {
            link.way = way;
            link.elsewhere = None;
            link.path.reset();
            link.counters.datagram_max.set(link.path.current().into());
            self.confirm_now(now, slot);
        }
    }

    /// Whether the link's datagrams may leave in segmented sends. They may at first.
    pub fn set_segmented(&mut self, slot: LinkSlot, segmented: bool) {
        if let Some(link) = self.links.get_mut(slot) {
            link.is_single = !segmented;
        }
    }

    /// Forgets a link and the packets that wait on it. Its sessions are to be removed before.
    pub fn remove_link(&mut self, slot: LinkSlot) {
        if let Some(mut link) = self.links.remove(slot) {
            let forgotten = link.pending.take().len();
            self.count_drops(link.environment, DropReason::NoSession, forgotten);
        }
    }
}
