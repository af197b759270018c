//! The node as others see it.

use std::collections::BTreeMap;

use tokio::sync::{broadcast, mpsc, oneshot};
use weft_config::Config;
use weft_dns::ZoneRecords;
use weft_proto::policy::Rules;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use super::{AttachSpec, EventKind, Message, NodeEvent, PeerSpec, RequestError, Status};

type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

/// A question to the node, with where the answer goes.
pub enum Request {
    /// Make an attachment; answers whether it is new.
    Attach(EnvironmentId, AttachSpec, Reply<bool>),
    /// Remove an attachment.
    Detach(EnvironmentId, AttachmentName, Reply<()>),
    /// Add or change a peer; answers whether it is new.
    AddPeer(EnvironmentId, PeerSpec, Reply<bool>),
    /// Remove a peer.
    RemovePeer(EnvironmentId, HostId, Reply<()>),
    /// Replace the addresses that live at a peer.
    SetRoutes(EnvironmentId, HostId, Vec<std::net::IpAddr>, Reply<()>),
    /// Judge environments' packets by these rules, and those of all others by none.
    SetPolicies(BTreeMap<EnvironmentId, Rules>, Reply<()>),
    /// Answer from this zone and from nothing else.
    SetZone(EnvironmentId, Box<ZoneRecords>, Reply<()>),
    /// Tell everything, or about one environment.
    Status(Option<EnvironmentId>, Reply<Box<Status>>),
    /// Run another configuration; answers what runs.
    Reload(Box<Config>, Reply<Box<Config>>),
}

/// Asks the node things. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    inbox: mpsc::Sender<Message>,
    events: broadcast::Sender<NodeEvent>,
}

macro_rules! ask {
    ($self:ident, $variant:ident $(, $argument:expr)*) => {{
        let (reply, answer) = oneshot::channel();
        let request = Request::$variant($($argument,)* reply);
        $self
            .inbox
            .send(Message::Request(request))
            .await
            .map_err(|_| RequestError::Stopping)?;
        answer.await.map_err(|_| RequestError::Stopping)?
    }};
}

impl NodeHandle {
    pub(super) fn new(inbox: mpsc::Sender<Message>, events: broadcast::Sender<NodeEvent>) -> Self {
        Self { inbox, events }
    }

    /// Makes an attachment. Idempotent by name; answers whether this call made it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn attach(
        &self,
        environment: EnvironmentId,
        spec: AttachSpec,
    ) -> Result<bool, RequestError> {
        ask!(self, Attach, environment, spec)
    }

    /// Removes an attachment and its interface.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn detach(
        &self,
        environment: EnvironmentId,
        name: AttachmentName,
    ) -> Result<(), RequestError> {
        ask!(self, Detach, environment, name)
    }

    /// Adds a peer, or changes the one that is there; answers whether this call made it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn add_peer(
        &self,
        environment: EnvironmentId,
        spec: PeerSpec,
    ) -> Result<bool, RequestError> {
        ask!(self, AddPeer, environment, spec)
    }

    /// Removes a peer with its routes and sessions.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn remove_peer(
        &self,
        environment: EnvironmentId,
        host: HostId,
    ) -> Result<(), RequestError> {
        ask!(self, RemovePeer, environment, host)
    }

    /// Replaces the overlay addresses that live at a peer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn set_routes(
        &self,
        environment: EnvironmentId,
        host: HostId,
        addresses: Vec<std::net::IpAddr>,
    ) -> Result<(), RequestError> {
        ask!(self, SetRoutes, environment, host, addresses)
    }

    /// Judges the packets of these environments by these rules from now on, also of those that are not here yet, and
    /// those of all others by none: everything is allowed there.
    ///
    /// # Errors
    /// [`RequestError`], when one is no policy: everything is denied there then, and the others hold.
    pub async fn set_policies(
        &self,
        policies: BTreeMap<EnvironmentId, Rules>,
    ) -> Result<(), RequestError> {
        ask!(self, SetPolicies, policies)
    }

    /// Replaces an environment's zone as a whole, for whoever knows all of its services. Nothing that this
    /// host knows by itself is among its names any more: no service of the configuration, no attachment that
    /// `records` does not name.
    ///
    /// # Errors
    /// [`RequestError`], with the field when the records are no zone; the old one stays then.
    pub async fn set_zone(
        &self,
        environment: EnvironmentId,
        records: Box<ZoneRecords>,
    ) -> Result<(), RequestError> {
        ask!(self, SetZone, environment, records)
    }

    /// Everything that the daemon knows about itself, or about one environment.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn status(
        &self,
        environment: Option<EnvironmentId>,
    ) -> Result<Box<Status>, RequestError> {
        ask!(self, Status, environment)
    }

    /// Runs another configuration; what did not change is not touched. Returns what runs: without what could not be added.
    ///
    /// # Errors
    /// [`RequestError`]; the running configuration stays then.
    pub async fn reload(&self, config: Box<Config>) -> Result<Box<Config>, RequestError> {
        ask!(self, Reload, config)
    }

    /// Tells watchers and the log that another configuration was refused before it got here, for
    /// example because its file has errors.
    pub fn refuse_reload(&self, reason: &str) {
        tracing::error!(reason, "configuration not reloaded");
        // Nobody watches: fine.
        let _ = self.events.send(NodeEvent::new(EventKind::ReloadFailed, reason));
    }

    /// Events from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }
}
