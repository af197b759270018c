//! Applying a configuration: the first one, and another one while everything runs.

use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use weft_config::{Config, plan};

use super::{EventKind, Node, NodeEvent, PeerSpec, Request, RequestError, link::no_peer};
use plan::Change;

impl From<&weft_config::Peer> for PeerSpec {
    fn from(peer: &weft_config::Peer) -> Self {
        let seconds = peer.keepalive_seconds.map(u64::from);
        Self {
            host: peer.host.clone(),
            endpoint: peer.endpoint,
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
                let _ = reply.send(self.add_peer(&environment, spec).await);
            }
            Request::RemovePeer(environment, host, reply) => {
                let _ = reply.send(self.remove_peer(&environment, &host).await);
            }
            Request::SetRoutes(environment, host, addresses, reply) => {
                let _ = reply.send(self.set_routes(&environment, &host, addresses).await);
            }
            Request::Status(environment, reply) => {
                let _ = reply.send(self.status(environment.as_ref()).map(Box::new));
            }
            Request::Reload(config, reply) => {
                let _ = reply.send(self.reload(*config).await);
            }
        }
    }

    /// Sets up all of the configuration that the node was made with, unless `stop` comes first.
    /// Each interface takes the kernel milliseconds, and there may be thousands: peers come after all of
    /// them, because what handshakes bring is looked at only when everything is set up, and a peer
    /// gives a session up that is not used within half a minute.
    pub(super) async fn apply_initial(
        &mut self,
        stop: &oneshot::Receiver<()>,
    ) -> anyhow::Result<()> {
        let environments = self.config.environments.clone();
        for environment in &environments {
            let id = &environment.id;
            self.add_environment(
                id,
                environment.subnets.clone(),
                environment.share,
                environment.anchor.clone(),
                environment.credentials.clone(),
            )
            .with_context(|| format!("environment {id}"))?;
            for attachment in &environment.attachments {
                if !stop.is_empty() {
                    return Ok(());
                }
                self.attach_configured(id, attachment.into())
                    .await
                    .with_context(|| format!("environment {id}, attachment {}", attachment.name))?;
            }
        }
        for environment in &environments {
            let id = &environment.id;
            for peer in &environment.peers {
                self.add_peer(id, peer.into())
                    .await
                    .with_context(|| format!("environment {id}, peer {}", peer.host))?;
            }
        }
        Ok(())
    }

    /// Runs another configuration. What did not change keeps its sessions and loses no packet.
    async fn reload(&mut self, desired: Config) -> Result<(), RequestError> {
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
            if let Err(error) = self.apply(change).await {
                // The rest still holds; what clashes with an attachment or peer that the local
                // API made is left out and said.
                let message = format!("one change was not carried out: {error}");
                self.publish(NodeEvent::new(EventKind::ReloadFailed, message));
            }
        }
        self.config = desired;
        let message = format!("configuration reloaded, changes: {count}");
        self.publish(NodeEvent::new(EventKind::Reloaded, message));
        Ok(())
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
                self.set_routes(&environment, &host, addresses).await?;
            }
            Change::RemoveEnvironment { environment } => {
                self.remove_environment(&environment).await;
            }
            Change::AddEnvironment { environment, subnets, share, anchor, credentials } => {
                self.add_environment(&environment, subnets, share, anchor, credentials)?;
            }
            Change::SetEnvironmentShare { environment, share } => {
                self.set_environment_share(&environment, share)?;
            }
            Change::SetAttachmentShare { environment, name, share } => {
                self.set_attachment_share(&environment, &name, share)?;
            }
            Change::ReplaceCredentials { environment, anchor, credentials } => {
                self.replace_credentials(&environment, anchor, credentials)?;
            }
            Change::SetPeerEndpoint { environment, host, endpoint } => {
                let entry = self.environment(&environment)?.peers.get(&host);
                let entry = entry.ok_or_else(|| no_peer(&environment, &host))?;
                let spec = PeerSpec { endpoint, ..entry.spec.clone() };
                self.add_peer(&environment, spec).await?;
            }
            Change::SetPeerKeepalive { environment, host, keepalive_seconds } => {
                let entry = self.peer_mut(&environment, &host);
                let entry = entry.ok_or_else(|| no_peer(&environment, &host))?;
                let seconds = keepalive_seconds.map(u64::from);
                entry.spec.keepalive = seconds.map(Duration::from_secs);
            }
            Change::AddPeer { environment, peer } => {
                self.add_peer(&environment, (&peer).into()).await?;
            }
            Change::AddAttachment { environment, attachment } => {
                self.attach_configured(&environment, (&attachment).into()).await?;
            }
        }
        Ok(())
    }
}
