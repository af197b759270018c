//! What a busy installation does: attachments come, and people look.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::transport::Channel;
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, environments_client::EnvironmentsClient,
    services_client::ServicesClient,
};

use crate::{
    Options,
    fleet::{Fleet, HOSTS_OF_ONE},
    milliseconds,
    people::{Owned, People},
};

/// How long after the last request it is waited for news.
const LATE_MAX: Duration = Duration::from_secs(5);
/// Steps through environments; has no divisor in common with any usual number of them.
const STRIDE: u32 = 7_919;

/// Times, milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// From a request to its answer.
    pub(crate) answered: Vec<f64>,
    /// … until the host that asked was told that the attachment is to be there.
    pub(crate) told_itself: Vec<f64>,
    /// … until another host of the environment was told where its address lives.
    pub(crate) told: Vec<f64>,
    /// From a read to its answer.
    pub(crate) reads: Vec<f64>,
}

/// A request that was answered.
struct Asked {
    begun: Instant,
    answered: Instant,
    environment: String,
    address: String,
    host: usize,
    other: usize,
}

impl Load {
    pub(crate) async fn run(fleet: &Fleet, people: &People, options: &Options) -> Result<Self> {
        fleet.heard.record();
        let (asked, reads) = tokio::join!(attach(fleet, options), read(people, fleet, options));
        sleep(LATE_MAX).await;
        let mut load = Self { reads: reads?, ..Self::default() };
        for asked in asked? {
            let since = |then: Instant| milliseconds(then.duration_since(asked.begun));
            load.answered.push(since(asked.answered));
            let heard = |host| fleet.heard.of(host, &asked.environment, &asked.address).map(since);
            load.told_itself.extend(heard(asked.host));
            load.told.extend(heard(asked.other));
        }
        Ok(load)
    }
}

/// Requests at a fixed rate, however long the answers take.
async fn attach(fleet: &Fleet, options: &Options) -> Result<Vec<Asked>> {
    let mut ticks = interval(Duration::from_secs(1) / options.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut asking, begun) = (JoinSet::new(), Instant::now());
    let mut n: u32 = 0;
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        ticks.tick().await;
        let number = n.wrapping_mul(STRIDE) % options.environments;
        let part = n % HOSTS_OF_ONE;
        let host = fleet.host_of(number, part);
        let other = fleet
            .host_of(number, (part + 1 + n / HOSTS_OF_ONE % (HOSTS_OF_ONE - 1)) % HOSTS_OF_ONE);
        let (agent, environment) = (fleet.hosts[host].clone(), fleet.environment(number).clone());
        asking.spawn(async move {
            let begun = Instant::now();
            let made = agent.attach(&environment, format!("m-{n}")).await?;
            let answered = Instant::now();
            let address = made.addresses.into_iter().next().unwrap_or_default();
            anyhow::Ok(Asked { begun, answered, environment: environment.id, address, host, other })
        });
        n += 1;
    }
    asking.join_all().await.into_iter().collect()
}

/// Reads at a fixed rate, however long the answers take.
async fn read(people: &People, fleet: &Fleet, options: &Options) -> Result<Vec<f64>> {
    let mut ticks = interval(Duration::from_secs(1) / options.reads);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut reading, begun) = (JoinSet::new(), Instant::now());
    let mut n: u32 = 0;
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        ticks.tick().await;
        let number = n.wrapping_mul(STRIDE) % options.environments;
        let environment = fleet.environment(number).clone();
        reading.spawn(one_read(people.channel(), environment, number, n));
        n += 1;
    }
    reading.join_all().await.into_iter().collect()
}

/// One of four reads in turn; milliseconds.
async fn one_read(channel: Channel, of: Owned, number: u32, n: u32) -> Result<f64> {
    let begun = Instant::now();
    match n % 4 {
        0 => {
            let get = v1::GetEnvironmentRequest { environment: of.name() };
            EnvironmentsClient::new(channel).get_environment(of.request(get)?).await?;
        }
        1 => {
            let list = v1::ListAttachmentsRequest { environment: of.name(), page: None };
            AttachmentsClient::new(channel).list_attachments(of.request(list)?).await?;
        }
        2 => {
            let list = v1::ListServicesRequest { environment: of.name(), page: None };
            ServicesClient::new(channel).list_services(of.request(list)?).await?;
        }
        _ => {
            let (environment, name) = (of.name(), format!("a-{number}"));
            let get = v1::GetAttachmentRequest { environment, name };
            AttachmentsClient::new(channel).get_attachment(of.request(get)?).await?;
        }
    }
    Ok(milliseconds(begun.elapsed()))
}
