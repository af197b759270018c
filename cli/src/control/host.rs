//! Hosts.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use weft_control_api::v1::{self, hosts_client::HostsClient};

use super::{
    Output,
    call::{Connection, answer},
    session::word,
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Make a token with which one host joins, once
    Token(Token),
    /// List hosts
    List {
        /// Only those of this pod
        #[arg(long)]
        pod: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show one host
    Show {
        /// Its id
        host: String,
        #[command(flatten)]
        output: Output,
    },
    /// Say what a host may do; a host that is revoked stays so
    Set {
        /// Its id
        host: String,
        /// What it may do
        state: State,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The host that it is for; any new one without
    #[arg(long)]
    host: Option<String>,
    /// How long it is good, seconds
    #[arg(long, default_value_t = 3_600)]
    seconds: u32,
    /// Hosts that are managed together
    #[arg(long, default_value = "")]
    pod: String,
    /// What fails together
    #[arg(long, default_value = "")]
    zone: String,
    /// What is near
    #[arg(long, default_value = "")]
    region: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Everything
    Active,
    /// Keep what it has, get nothing new
    Cordoned,
    /// Lose what it has, get nothing new
    Draining,
    /// Nothing any more
    Revoked,
}

impl HostCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Token(Token { output, .. })
            | Self::List { output, .. }
            | Self::Show { output, .. }
            | Self::Set { output, .. } => *output,
        }
    }
}

fn item(host: v1::Host) -> Item {
    let state = word(host.state().as_str_name(), "HOST_STATE_");
    let presence = word(host.presence().as_str_name(), "HOST_PRESENCE_");
    let endpoints: Vec<String> =
        host.endpoints.into_iter().map(|endpoint| endpoint.address).collect();
    Item::new()
        .with("id", host.id)
        .with("state", state)
        .with("presence", presence)
        .with_some("pod", host.pod)
        .with_some("zone", host.zone)
        .with_some("region", host.region)
        .with("endpoints", endpoints)
        .with_some("version", host.version)
        .with_some("heard_ms", host.heard_ms)
        .with_some("lost_ms", host.lost_ms)
}

pub(super) async fn run(connection: Connection, command: HostCommand) -> Result<Shown> {
    let mut hosts = HostsClient::new(connection.channel());
    match command {
        HostCommand::Token(token) => {
            let request = v1::CreateJoinTokenRequest {
                host: token.host.unwrap_or_default(),
                seconds: token.seconds,
                pod: token.pod,
                zone: token.zone,
                region: token.region,
                labels: Default::default(),
            };
            let made = answer(hosts.create_join_token(connection.request(request)).await)?;
            let sentence = made.secret.clone();
            let item = Item::new()
                .with("id", made.id)
                .with("secret", made.secret)
                .with("expires_ms", made.expires_ms);
            Ok(Shown::Done(sentence, item))
        }
        HostCommand::List { pod, .. } => {
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let request = v1::ListHostsRequest { pod: pod.clone().unwrap_or_default(), page };
                let listed = answer(hosts.list_hosts(connection.request(request)).await)?;
                items.extend(listed.hosts.into_iter().map(item));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no hosts" });
                }
            }
        }
        HostCommand::Show { host, .. } => {
            let request = v1::GetHostRequest { id: host };
            Ok(Shown::One(item(answer(hosts.get_host(connection.request(request)).await)?)))
        }
        HostCommand::Set { host, state, .. } => {
            let state = match state {
                State::Active => v1::HostState::Active,
                State::Cordoned => v1::HostState::Cordoned,
                State::Draining => v1::HostState::Draining,
                State::Revoked => v1::HostState::Revoked,
            };
            let request = v1::SetHostStateRequest { id: host, state: state.into() };
            let found = answer(hosts.set_host_state(connection.request(request)).await)?;
            let sentence = format!(
                "host {} is {}",
                found.id,
                word(found.state().as_str_name(), "HOST_STATE_")
            );
            Ok(Shown::Done(sentence, item(found)))
        }
    }
}
