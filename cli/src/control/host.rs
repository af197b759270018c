//! Hosts.

mod report;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use weft_control_api::v1::{self, hosts_client::HostsClient};

use super::{
    Output,
    call::{Connection, answer},
    line::Line,
    session::word,
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Make a token with which one host joins, once
    Token(Token),
    /// List tokens that no host has joined with yet
    Tokens(Output),
    /// Make such a token useless
    RevokeToken {
        /// Its id (tok-…)
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// List hosts
    List {
        /// Only those of this pod
        #[arg(long)]
        pod: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show one host: what it is to have and has, and how its sessions are
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
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// The host's id again, where it is revoked, so that it is not another one by mistake
        #[arg(long, value_name = "HOST")]
        confirm: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Change where a host stands, its labels and endpoints
    Update(Update),
}

/// What is not said stays.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Its id
    host: String,
    /// Hosts that are managed together
    #[arg(long)]
    pod: Option<String>,
    /// What fails together
    #[arg(long)]
    zone: Option<String>,
    /// What is near
    #[arg(long)]
    region: Option<String>,
    /// A label; all of them together replace those that it has
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Where other hosts reach it, best first, for hosts of one pod or for all; all together replace those that it has
    #[arg(long = "endpoint", value_name = "ADDRESS:PORT[,POD]")]
    endpoints: Vec<String>,
    #[command(flatten)]
    output: Output,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn endpoint(text: &str) -> v1::Endpoint {
    let (address, pod) = text.split_once(',').unwrap_or((text, ""));
    v1::Endpoint { address: address.to_owned(), pod: pod.to_owned() }
}

impl Update {
    /// What is to be, after what is.
    fn of(self, host: v1::Host) -> v1::UpdateHostRequest {
        let labels =
            if self.labels.is_empty() { host.labels } else { self.labels.into_iter().collect() };
        let endpoints = if self.endpoints.is_empty() {
            host.endpoints
        } else {
            self.endpoints.iter().map(|text| endpoint(text)).collect()
        };
        v1::UpdateHostRequest {
            id: host.id,
            revision: host.revision,
            pod: self.pod.unwrap_or(host.pod),
            zone: self.zone.unwrap_or(host.zone),
            region: self.region.unwrap_or(host.region),
            labels,
            endpoints,
        }
    }
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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

impl State {
    fn effect(self) -> &'static str {
        match self {
            Self::Active => "take what is new",
            Self::Cordoned => "keep what it has and get nothing new",
            Self::Draining => "get nothing new, and what it has is to be moved away",
            Self::Revoked => {
                "be shut out for good: its sessions end, and nothing that it has is reached any more"
            }
        }
    }
}

impl HostCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Token(Token { output, .. })
            | Self::Tokens(output)
            | Self::RevokeToken { output, .. }
            | Self::Update(Update { output, .. })
            | Self::List { output, .. }
            | Self::Show { output, .. }
            | Self::Set { output, .. } => *output,
        }
    }
}

fn item(host: v1::Host) -> Item {
    let state = word(host.state().as_str_name(), "HOST_STATE_");
    let presence = word(host.presence().as_str_name(), "HOST_PRESENCE_");
    let written = |endpoint: v1::Endpoint| match &*endpoint.pod {
        "" => endpoint.address,
        pod => format!("{},{pod}", endpoint.address),
    };
    let endpoints: Vec<String> = host.endpoints.into_iter().map(written).collect();
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

/// With its labels, for whoever looks at one.
fn whole(host: v1::Host) -> Item {
    let mut labels: Vec<String> =
        host.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    item(host).with("labels", labels)
}

fn token_item(token: v1::JoinToken) -> Item {
    Item::new()
        .with("id", token.id)
        .with_some("host", token.host)
        .with("created_ms", token.created_ms)
        .with("expires_ms", token.expires_ms)
}

/// All that a host has.
async fn reports(
    connection: &Connection,
    hosts: &mut HostsClient<Line>,
    id: &str,
) -> Result<Vec<v1::EnvironmentReport>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let request = v1::GetHostReportRequest { id: id.to_owned(), page };
        let part = answer(hosts.get_host_report(connection.request(request)).await)?;
        all.extend(part.environments);
        after = part.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(all);
        }
    }
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
        HostCommand::Tokens(_) => {
            let (mut items, mut after) = (Vec::new(), String::new());
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let request = connection.request(v1::ListJoinTokensRequest { page });
                let listed = answer(hosts.list_join_tokens(request).await)?;
                items.extend(listed.tokens.into_iter().map(token_item));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no tokens" });
                }
            }
        }
        HostCommand::RevokeToken { id, .. } => {
            let sentence = format!("no host joins with {id} any more");
            let request = v1::RevokeJoinTokenRequest { id };
            answer(hosts.revoke_join_token(connection.request(request)).await)?;
            Ok(Shown::Done(sentence, Item::new()))
        }
        HostCommand::Update(update) => {
            let get = v1::GetHostRequest { id: update.host.clone() };
            let found = answer(hosts.get_host(connection.request(get)).await)?;
            let request = connection.request(update.of(found));
            let updated = answer(hosts.update_host(request).await)?;
            Ok(Shown::Done(format!("host {} is changed", updated.id), whole(updated)))
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
            let found = answer(hosts.get_host(connection.request(request)).await)?;
            let reports = reports(&connection, &mut hosts, &found.id).await?;
            Ok(report::shown(whole(found), reports))
        }
        HostCommand::Set { host, state, dry_run, confirm, .. } => {
            if dry_run {
                let get = v1::GetHostRequest { id: host };
                let found = answer(hosts.get_host(connection.request(get)).await)?;
                let is = word(found.state().as_str_name(), "HOST_STATE_");
                let sentence =
                    format!("host {}, which is {is}, would {}", found.id, state.effect());
                return Ok(Shown::Done(sentence, item(found)));
            }
            if state == State::Revoked && confirm.as_ref() != Some(&host) {
                bail!(
                    "nothing was done: a host that is revoked stays so; say --confirm {host} to revoke it, or \
                     --dry-run to see what would happen"
                );
            }
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
