//! Applying a configuration: the first one, and another one while everything runs.

use std::time::Duration;

use anyhow::Context as _;
use weft_config::{Config, plan};
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{EventKind, Node, NodeEvent, Origin, PeerSpec, Request, RequestError, link::no_peer};
use crate::kept::Thing;
use plan::Change;

impl From<&weft_config::Peer> for PeerSpec {
    fn from(peer: &weft_config::Peer) -> Self {
        let seconds = peer.keepalive_seconds.map(u64::from);
        Self {
            host: peer.host.clone(),
            endpoint: peer.endpoint,
            alternatives: peer.alternatives.clone(),
            addresses: peer.addresses.clone(),
            keepalive: seconds.map(Duration::from_secs),
        }
    }
}

impl Node {
    pub(super) async fn handle_request(&mut self, request: Request) {
        // Whoever asked may have gone away: then nobody minds.
        match request {
            Request::Attach(environment, spec, reply) => {
                let _ = reply.send(self.attach(&environment, spec).await);
            }
            Request::Detach(environment, name, reply) => {
                let _ = reply.send(self.detach(&environment, &name).await);
            }
            Request::AddPeer(environment, spec, reply) => {
                let _ = reply.send(self.add_peer(&environment, spec, Origin::Api).await);
            }
            Request::RemovePeer(environment, host, reply) => {
                let _ = reply.send(self.remove_peer(&environment, &host).await);
            }
            Request::SetRoutes(environment, host, addresses, reply) => {
                let _ =
                    reply.send(self.set_routes(&environment, &host, addresses, Origin::Api).await);
            }
            Request::SetPolicies(policies, reply) => {
                let _ = reply.send(self.set_policies(policies));
            }
            Request::SetZone(environment, records, reply) => {
                let _ = reply.send(self.set_zone(&environment, *records));
            }
            Request::Status(environment, reply) => {
                let _ = reply.send(self.status(environment.as_ref()).map(Box::new));
            }
            Request::Reload(config, reply) => {
                let _ = reply.send(self.reload(*config).await);
            }
        }
    }

    /// Sets up all of the configuration that the node was made with; interfaces follow. A file is right as a whole, or
    /// the daemon does not start; what the control plane has said is set up as far as it can be.
    pub(super) async fn apply_initial(&mut self) -> anyhow::Result<()> {
        for environment in self.config.environments.clone() {
            let id = &environment.id;
            let added = self
                .add_environment(
                    id,
                    environment.subnets.clone(),
                    environment.share,
                    environment.anchor.clone(),
                    environment.credentials.clone(),
                    environment.names.clone(),
                )
                .with_context(|| format!("environment {id}"));
            if !self.goes_on(added)? {
                continue;
            }
            for attachment in &environment.attachments {
                let planned = self
                    .plan_attachment(id, attachment.into(), Origin::Configuration)
                    .with_context(|| format!("environment {id}, attachment {}", attachment.name));
                self.goes_on(planned)?;
            }
            for peer in &environment.peers {
                let added = self
                    .add_peer(id, peer.into(), Origin::Configuration)
                    .await
                    .with_context(|| format!("environment {id}, peer {}", peer.host));
                self.goes_on(added.map(drop))?;
            }
        }
        for thing in self.kept.load() {
            self.restore(thing).await;
        }
        Ok(())
    }

    /// Whether something was set up at the start, where it may be missing.
    fn goes_on(&self, done: anyhow::Result<()>) -> anyhow::Result<bool> {
        match done {
            Ok(()) => Ok(true),
            Err(error) if self.config.control.is_some() => {
                self.publish(NodeEvent::new(EventKind::ReloadFailed, format!("{error:#}")));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets up again what the local API had made, unless the configuration has changed so much that it
    /// makes no sense any more.
    async fn restore(&mut self, thing: Thing) {
        let (restored, event) = match thing {
            Thing::Attachment(environment, spec) => {
                let name = spec.name.clone();
                let restored = self.plan_attachment(&environment, spec, Origin::Api);
                if restored.is_err() {
                    self.kept.forget_attachment(&environment, &name);
                }
                let event = NodeEvent::new(EventKind::AttachmentLost, "not made again");
                (restored, event.of(&environment).attachment(&name))
            }
            Thing::Peer(environment, spec) => {
                let host = spec.host.clone();
                let restored = self.restore_peer(&environment, spec);
                if restored.is_err() {
                    self.kept.forget_peer(&environment, &host);
                }
                let event = NodeEvent::new(EventKind::PeerRemoved, "not added again");
                (restored, event.of(&environment).peer(&host))
            }
        };
        if let Err(error) = restored {
            let message = format!("{}: {error}", event.message);
            self.publish(NodeEvent { message, ..event });
        }
    }

    /// Runs another configuration. What did not change keeps its sessions and loses no packet.
    /// What runs then is returned: what could not be added is not in it, and so is tried again with the next one.
    async fn reload(&mut self, mut desired: Config) -> Result<Box<Config>, RequestError> {
        let changes = match plan::plan(&self.config, &desired) {
            Ok(changes) => changes,
            Err(error) => {
                let error = error.to_string();
                self.publish(NodeEvent::new(EventKind::ReloadFailed, error.clone()));
                return Err(RequestError::Invalid(error));
            }
        };
        let count = changes.len();
        for change in changes {
            let addition = Addition::of(&change);
            if let Err(error) = self.apply(change).await {
                if let Some(addition) = addition {
                    addition.take_out(&mut desired);
                }
                // The rest still holds; what clashes with an attachment or peer that the local
                // API made is left out and said.
                let message = format!("one change was not carried out: {error}");
                self.publish(NodeEvent::new(EventKind::ReloadFailed, message));
            }
        }
        self.config = desired;
        let message = format!("configuration reloaded, changes: {count}");
        self.publish(NodeEvent::new(EventKind::Reloaded, message));
        Ok(Box::new(self.config.clone()))
    }

    async fn apply(&mut self, change: Change) -> Result<(), RequestError> {
        match change {
            Change::SetLog(log) => crate::logging::set_level(log.level),
            Change::SetKeyLimits(limits) => self.config.keys = limits,
            Change::RemoveAttachment { environment, name } => {
                self.detach(&environment, &name).await?;
            }
            Change::RemovePeer { environment, host } => {
                self.remove_peer(&environment, &host).await?;
            }
            Change::SetPeerAddresses { environment, host, addresses } => {
                self.set_routes(&environment, &host, addresses, Origin::Configuration).await?;
            }
            Change::RemoveEnvironment { environment } => {
                self.owed.settle(&environment);
                self.remove_environment(&environment).await;
            }
            Change::AddEnvironment { environment, subnets, share, anchor, credentials, names } => {
                self.add_environment(&environment, subnets, share, anchor, credentials, names)?;
            }
            Change::SetEnvironmentShare { environment, share } => {
                self.set_environment_share(&environment, share)?;
            }
            Change::SetNames { environment, names } => self.set_names(&environment, names)?,
            Change::SetAttachmentShare { environment, name, share } => {
                self.set_attachment_share(&environment, &name, share)?;
            }
            Change::ReplaceCredentials { environment, anchor, credentials } => {
                self.renew_credentials(&environment, anchor, credentials)?;
            }
            Change::SetPeerEndpoints { environment, host, endpoint, alternatives } => {
                let entry = self.environment(&environment)?.peers.get(&host);
                let entry = entry.ok_or_else(|| no_peer(&environment, &host))?;
                let spec = PeerSpec { endpoint, alternatives, ..entry.spec.clone() };
                self.add_peer(&environment, spec, Origin::Configuration).await?;
            }
            Change::SetPeerKeepalive { environment, host, keepalive_seconds } => {
                let entry = self.peer_mut(&environment, &host);
                let entry = entry.ok_or_else(|| no_peer(&environment, &host))?;
                let seconds = keepalive_seconds.map(u64::from);
                entry.spec.keepalive = seconds.map(Duration::from_secs);
            }
            Change::AddPeer { environment, peer } => {
                self.add_peer(&environment, (&peer).into(), Origin::Configuration).await?;
            }
            Change::AddAttachment { environment, attachment } => {
                self.plan_attachment(&environment, (&attachment).into(), Origin::Configuration)?;
            }
        }
        Ok(())
    }
}

/// What a change adds.
enum Addition {
    Environment(EnvironmentId),
    Peer(EnvironmentId, HostId),
    Attachment(EnvironmentId, AttachmentName),
}

impl Addition {
    fn of(change: &Change) -> Option<Self> {
        match change {
            Change::AddEnvironment { environment, .. } => {
                Some(Self::Environment(environment.clone()))
            }
            Change::AddPeer { environment, peer } => {
                Some(Self::Peer(environment.clone(), peer.host.clone()))
            }
            Change::AddAttachment { environment, attachment } => {
                Some(Self::Attachment(environment.clone(), attachment.name.clone()))
            }
            _ => None,
        }
    }

    fn take_out(&self, config: &mut Config) {
        let (Self::Environment(id) | Self::Peer(id, _) | Self::Attachment(id, _)) = self;
        match self {
            Self::Environment(id) => {
                config.environments.retain(|environment| environment.id != *id);
            }
            Self::Peer(_, host) => {
                let environment = config.environments.iter_mut().find(|e| e.id == *id);
                environment.into_iter().for_each(|e| e.peers.retain(|peer| peer.host != *host));
            }
            Self::Attachment(_, name) => {
                let environment = config.environments.iter_mut().find(|e| e.id == *id);
                environment.into_iter().for_each(|e| e.attachments.retain(|a| a.name != *name));
            }
        }
    }
}
