//! Hosts: they join, watch, attach and report, and carry nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    task::JoinSet,
    time::{interval_at, timeout},
};
use tonic::transport::{Channel, Identity};
use weft_control_api::{
    MESSAGE_BYTES_MAX,
    v1::{
        self, enrolment_client::EnrolmentClient, host_agent_client::HostAgentClient,
        host_update::Update,
    },
};
use weft_pki::{KeyKind, request};

use crate::{
    Options, milliseconds,
    people::{AT_ONCE, Owned, People},
    plane::Plane,
};

/// Hosts of one environment.
pub(crate) const HOSTS_OF_ONE: u32 = 5;
/// Hosts that are told everything anew.
const RESYNCS: usize = 100;
/// How often a host says that it is there.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Longest wait for everything that there is to know.
const RESYNC_MAX: Duration = Duration::from_secs(60);

/// All hosts.
pub(crate) struct Fleet {
    pub(crate) hosts: Vec<Host>,
    environments: Vec<Owned>,
    pub(crate) heard: Arc<Heard>,
    running: JoinSet<()>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    id: String,
    channel: Channel,
}

/// When which host was told of an address of which environment first.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    is_recording: AtomicBool,
    all: Mutex<HashMap<(usize, String, String), Instant>>,
}

impl Heard {
    pub(crate) fn record(&self) {
        self.is_recording.store(true, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, host: usize, environment: &str, address: &str) -> Option<Instant> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(host, environment.to_owned(), address.to_owned())).copied()
    }

    fn news(&self, host: usize, updates: Vec<v1::HostUpdate>) {
        if !self.is_recording.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for update in updates.into_iter().filter_map(|update| update.update) {
            let (environment, addresses) = match update {
                Update::Attachment(of) => (of.environment, of.addresses),
                Update::Peer(of) => (of.environment, of.addresses),
                _ => continue,
            };
            for address in addresses {
                all.entry((host, environment.clone(), address)).or_insert(now);
            }
        }
    }
}

impl Host {
    async fn join(plane: &Plane, people: &People, id: String) -> Result<Self> {
        let token = people.join_token().await?;
        let key = request::new_key(KeyKind::EcdsaP256)?;
        let enrol = v1::EnrolRequest {
            token,
            host: id.clone(),
            signing_request: key.request,
            endpoints: vec!["192.0.2.1:5820".to_owned()],
            ..Default::default()
        };
        let enrolled = EnrolmentClient::new(people.channel()).enrol(enrol).await?.into_inner();
        let identity = Identity::from_pem(enrolled.certificate, key.key_pem.as_str());
        Ok(Self { id, channel: plane.connect(Some(identity)).await? })
    }

    fn agent(&self) -> HostAgentClient<Channel> {
        HostAgentClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) async fn attach(&self, environment: &Owned, name: String) -> Result<v1::Attachment> {
        let attach =
            v1::AttachRequest { environment: environment.id.clone(), name, ..Default::default() };
        Ok(self.agent().attach(attach).await?.into_inner())
    }

    /// Milliseconds until it knows everything.
    async fn resync(&self) -> Result<f64> {
        let begun = Instant::now();
        let mut news = self.agent().watch(v1::WatchRequest { revision: 0 }).await?.into_inner();
        while news.message().await?.context("the watch ended")?.more {}
        Ok(milliseconds(begun.elapsed()))
    }

    /// Watches and reports for ever.
    async fn follow(self, number: usize, heard: Arc<Heard>) -> Result<()> {
        let mut agent = self.agent();
        let mut news = agent.watch(v1::WatchRequest { revision: 0 }).await?.into_inner();
        let mut revision = 0;
        let first = REPORT_INTERVAL.mul_f64(f64::from(u32::try_from(number % 100)?) / 100.0);
        let mut reports = interval_at((Instant::now() + first).into(), REPORT_INTERVAL);
        loop {
            tokio::select! {
                told = news.message() => {
                    let told = told?.context("the watch ended")?;
                    revision = told.revision;
                    heard.news(number, told.updates);
                }
                _ = reports.tick() => {
                    let report = v1::ReportRequest {
                        revision,
                        version: "0.1.0".to_owned(),
                        ..Default::default()
                    };
                    agent.report(report).await?;
                }
            }
        }
    }
}

impl Fleet {
    pub(crate) async fn join(plane: &Plane, people: &People, options: &Options) -> Result<Self> {
        let mut fleet = Self {
            hosts: Vec::new(),
            environments: people.environments.clone(),
            heard: Arc::default(),
            running: JoinSet::new(),
        };
        for number in 0..options.hosts {
            let host = Host::join(plane, people, format!("host-{number}")).await?;
            let (id, heard, number) =
                (host.id.clone(), Arc::clone(&fleet.heard), fleet.hosts.len());
            let following = host.clone().follow(number, heard);
            fleet.running.spawn(async move {
                if let Err(error) = following.await {
                    eprintln!("{id}: {error:#}");
                }
            });
            fleet.hosts.push(host);
        }
        for (number, environment) in (0..).zip(&fleet.environments) {
            for part in 0..HOSTS_OF_ONE {
                let host = &fleet.hosts[fleet.host_of(number, part)];
                people.allow(environment, &host.id).await?;
            }
        }
        Ok(fleet)
    }

    /// The `part`-th host of the `environment`-th environment.
    pub(crate) fn host_of(&self, environment: u32, part: u32) -> usize {
        let hosts = self.hosts.len();
        let step = hosts / HOSTS_OF_ONE as usize;
        (environment as usize + part as usize * step) % hosts
    }

    pub(crate) fn environment(&self, number: u32) -> &Owned {
        &self.environments[number as usize]
    }

    /// Makes so many, evenly.
    pub(crate) async fn attach_all(&self, attachments: u32) -> Result<u32> {
        let environments = u32::try_from(self.environments.len())?;
        let mut making = JoinSet::new();
        for n in 0..attachments {
            if making.len() >= AT_ONCE {
                making.join_next().await.context("nothing is made")???;
            }
            let (environment, part) = (n % environments, n / environments % HOSTS_OF_ONE);
            let host = self.hosts[self.host_of(environment, part)].clone();
            let environment = self.environment(environment).clone();
            making
                .spawn(async move { host.attach(&environment, format!("a-{n}")).await.map(drop) });
        }
        while let Some(made) = making.join_next().await {
            made??;
        }
        Ok(attachments)
    }

    /// How long it takes for some of them to be told everything anew, one after the other, milliseconds.
    pub(crate) async fn resync(&self) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for host in self.hosts.iter().step_by((self.hosts.len() / RESYNCS).max(1)) {
            times.push(timeout(RESYNC_MAX, host.resync()).await.context("a resync has no end")??);
        }
        Ok(times)
    }
}
