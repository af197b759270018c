//! A daemon that follows a control plane: its node, as the agent sees it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use tokio::sync::Mutex;
use weft_agent::{
    Actual, ActualAttachment, ActualPeer, Agent, AgentHandle, Dataplane, Desired, Lookup, Seal,
    Settings, State,
};
use weft_config::{Account, Attachment, Config, Control};
use weft_dns::{ServiceRecord, ZoneRecords};
use weft_proto::policy::Rules;
use weft_types::{EnvironmentId, HostId};

use crate::{
    VERSION,
    kept::private_folder,
    node::{AttachmentState, NodeHandle, RequestError, SessionState, Status},
};

/// Opens what the host has kept of its control plane, while the daemon can still make folders.
///
/// # Errors
/// When it cannot be made or read, or was sealed with another key; nothing of it is touched then.
pub fn open(host: &HostId, control: &Control, user: Option<&Account>) -> anyhow::Result<Agent> {
    let folder = &control.state;
    own(folder, user)
        .with_context(|| format!("control.state: {} cannot be used", folder.display()))?;
    let seal = seal(folder, control).context("control.seal")?;
    let settings = Settings {
        url: control.url.clone(),
        lookup: Lookup::Name,
        join_token: control.join_token.clone(),
        host: host.clone(),
        endpoints: control.endpoints.clone(),
        version: VERSION.to_owned(),
    };
    let opened = as_user(user, || {
        let seal = seal.map_or_else(|| Seal::beside(&State::key_file(folder)), Ok);
        let state = State::new(folder, seal.context("control.seal")?);
        Agent::open(settings, state).context("control.state")
    });
    opened?
}

/// With the rights of whom the daemon becomes: what is kept is that user's, and root may not be allowed to read it.
fn as_user<T: Send>(user: Option<&Account>, act: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    match user {
        Some(user) => user.run(act),
        None => Ok(act()),
    }
}

/// Makes the folder if it is missing, and gives it to the daemon's user, if nothing else is in it.
fn own(folder: &Path, user: Option<&Account>) -> anyhow::Result<()> {
    let names = || -> std::io::Result<Vec<_>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let found = names().or_else(|_| as_user(user, names).and_then(|names| names));
    for name in found.into_iter().flatten() {
        let is_ours = name.to_str().is_some_and(State::is_own_file);
        ensure!(is_ours, "it holds {name:?}; expected a folder for weftd alone");
    }
    private_folder(folder, user)?;
    let reached = as_user(user, names).and_then(|names| names);
    reached.context("its user does not reach it; expected a way to it").map(drop)
}

/// The key that the operator gives, which root may read; `None` when it is kept beside what it seals.
fn seal(folder: &Path, control: &Control) -> anyhow::Result<Option<Seal>> {
    match &control.seal {
        weft_config::Seal::File(path) => Ok(Some(Seal::read(path)?)),
        weft_config::Seal::Disk => {
            tracing::warn!(
                folder = %folder.display(),
                "seal is \"disk\": whoever has this host's disk has its certificates"
            );
            Ok(None)
        }
    }
}

/// The node of a host that follows.
#[derive(Clone)]
pub struct ManagedNode {
    node: NodeHandle,
    agent: AgentHandle,
    running: Arc<Mutex<Running>>,
}

/// What runs: the file's part, and the control plane's.
struct Running {
    config: Config,
    policies: BTreeMap<EnvironmentId, Rules>,
    /// What gateways answer from; the numbers of zones are left out.
    zones: BTreeMap<EnvironmentId, ZoneRecords>,
    /// Of the newest zone.
    serial: u32,
}

impl ManagedNode {
    /// A node that runs `config` now, judged by `policies`.
    #[must_use]
    pub fn new(
        node: NodeHandle,
        agent: AgentHandle,
        config: Config,
        policies: BTreeMap<EnvironmentId, Rules>,
    ) -> Self {
        // Serial numbers go on when another daemon begins, as far as anybody remembers those of this one.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let serial = u32::try_from(since_1970.as_secs() % u64::from(u32::MAX)).unwrap_or(0);
        let running = Running { config, policies, zones: BTreeMap::new(), serial };
        Self { node, agent, running: Arc::new(Mutex::new(running)) }
    }

    /// Runs another file with the same environments; another join token is for the next time that one is needed.
    ///
    /// # Errors
    /// [`RequestError`]; what runs stays then.
    pub async fn reload(&self, file: Config) -> Result<(), RequestError> {
        let token = join_token(&file);
        let mut running = self.running.lock().await;
        let is_other = token != join_token(&running.config);
        let environments = running.config.environments.clone();
        running.config = *self.node.reload(Box::new(Config { environments, ..file })).await?;
        // The agent may wait for what runs.
        drop(running);
        if is_other {
            self.agent.join_with(token).await;
            tracing::info!("another join token is read, if one is needed");
        }
        Ok(())
    }

    async fn run(&self, desired: Desired) -> Result<(), RequestError> {
        let mut running = self.running.lock().await;
        // Before anybody comes whom they are about; and what goes is judged until it is gone.
        let mut policies = std::mem::take(&mut running.policies);
        policies.extend(desired.policies.clone());
        running.policies = desired.policies.clone();
        let mut judged = self.node.set_policies(policies).await;
        let next = Config { environments: desired.environments, ..running.config.clone() };
        let changes = weft_config::plan(&running.config, &next);
        if !changes.is_ok_and(|changes| changes.is_empty()) {
            running.config = *self.node.reload(Box::new(next)).await?;
        }
        judged = judged.and(self.node.set_policies(desired.policies).await);
        self.name(&mut running, desired.services).await;
        judged
    }

    /// Lets gateways answer the names of these services, where they are others than before.
    async fn name(
        &self,
        running: &mut Running,
        services: BTreeMap<EnvironmentId, Vec<ServiceRecord>>,
    ) {
        let before = std::mem::take(&mut running.zones);
        for (id, services) in services {
            let environment = running.config.environments.iter().find(|e| e.id == id);
            let Some(environment) = environment else { continue };
            let subnets = environment.subnets.clone();
            let zone = ZoneRecords { serial: 0, subnets, services, aliases: Vec::new() };
            if before.get(&id) != Some(&zone) {
                running.serial = running.serial.wrapping_add(1);
                let records = ZoneRecords { serial: running.serial, ..zone.clone() };
                if let Err(error) = self.node.set_zone(id.clone(), Box::new(records)).await {
                    // It is that environment's own matter, and is tried again with the next news.
                    tracing::error!(environment = %id, %error, "names stay as they were");
                    continue;
                }
            }
            running.zones.insert(id, zone);
        }
    }
}

fn join_token(config: &Config) -> Option<PathBuf> {
    config.control.as_ref().and_then(|control| control.join_token.clone())
}

impl Dataplane for ManagedNode {
    async fn apply(&self, desired: Desired) -> Result<(), String> {
        self.run(desired).await.map_err(|error| error.to_string())
    }

    async fn make(
        &self,
        environment: EnvironmentId,
        attachment: Attachment,
    ) -> Result<(), RequestError> {
        // Nothing comes or goes meanwhile.
        let running = self.running.lock().await;
        let mut environments = running.config.environments.iter();
        let is_desired = environments
            .find(|known| known.id == environment)
            .is_some_and(|known| known.attachments.contains(&attachment));
        if !is_desired {
            let name = &attachment.name;
            let gone = format!("attachment {name} of environment {environment} ended meanwhile");
            return Err(RequestError::NotFound(gone));
        }
        let made = self.node.attach(environment, (&attachment).into()).await;
        made.map(drop)
    }

    async fn actual(&self) -> Option<Actual> {
        self.node.status(None).await.ok().map(|status| actual(&status))
    }
}

fn actual(status: &Status) -> Actual {
    let attachments = status.environments.iter().flat_map(|environment| {
        environment.attachments.iter().map(|attachment| ActualAttachment {
            environment: environment.id.clone(),
            name: attachment.spec.name.clone(),
            is_up: attachment.state == AttachmentState::Up,
            error: match &attachment.state {
                AttachmentState::Failed(error) => error.clone(),
                AttachmentState::Gone => "its container is gone".to_owned(),
                AttachmentState::Waiting | AttachmentState::Up => String::new(),
            },
        })
    });
    let peers = status.environments.iter().flat_map(|environment| {
        environment.peers.iter().map(|peer| {
            let (is_established, key_age) = match peer.session {
                SessionState::Established { key_age, .. } => (true, key_age),
                SessionState::Idle | SessionState::Handshaking | SessionState::Backoff => {
                    (false, None)
                }
            };
            ActualPeer {
                environment: environment.id.clone(),
                host: peer.spec.host.clone(),
                is_established,
                key_age,
                error: peer.last_error.clone(),
            }
        })
    });
    Actual { attachments: attachments.collect(), peers: peers.collect() }
}
