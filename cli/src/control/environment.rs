//! Environments.

mod deny;
mod settings;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use weft_control_api::{
    GRACE_SECONDS_MIN,
    v1::{self, environments_client::EnvironmentsClient},
};

use self::settings::Update;
use super::{
    Output,
    call::{Connection, answer},
    member::{self, EnvironmentRole, OfMember},
    session::{Proof, word},
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Make an environment
    Create(Create),
    /// List the environments that you may see
    List {
        /// Only those of this organisation
        #[arg(long)]
        org: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show one environment
    Show(One),
    /// Stop its traffic; everything else stays
    Suspend(One),
    /// Let its traffic flow again, or take a deletion back
    Resume(One),
    /// Stop its traffic, and remove everything of it after a time of grace
    Delete {
        #[command(flatten)]
        one: One,
        /// Seconds until everything goes; less than a day asks for your password
        #[arg(long, default_value_t = 604_800)]
        grace_seconds: u32,
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
        /// Its name again, so that it is not another one by mistake
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        proof: Proof,
    },
    /// Replace its certificate authority, step by step, with nothing interrupted
    RotateAuthority {
        #[command(flatten)]
        one: One,
        /// Its key is stolen: trust nothing of it any more from this moment on; sessions end
        #[arg(long)]
        emergency: bool,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
        /// The environment's name again, in an emergency, so that it is not another one by mistake
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
    /// Change its settings; what is not said stays
    Update(Update),
    /// Change what it may use; what is not said stays
    SetQuotas {
        #[command(flatten)]
        one: One,
        /// Most attachments
        #[arg(long)]
        attachments: Option<u32>,
        /// Most addresses of each version of IP, with those in quarantine
        #[arg(long)]
        addresses: Option<u32>,
        /// What it may send from one host to others, Mbit/s; 0 for no limit
        #[arg(long)]
        egress_mbit: Option<u32>,
    },
    /// Say that a host may have attachments of it
    AllowHost(OnHost),
    /// Take that back
    DenyHost {
        #[command(flatten)]
        on: OnHost,
        /// Attachments that rest on it go as well
        #[arg(long)]
        remove_attachments: bool,
        /// Only show what would go, or what is in the way
        #[arg(long)]
        dry_run: bool,
    },
    /// List the hosts that may have attachments of it
    Hosts(One),
    /// List who has a role in it
    Members(One),
    /// Give somebody of its organisation a role in it
    SetRole {
        #[command(flatten)]
        of: OfMember,
        /// As what
        role: EnvironmentRole,
    },
    /// Take somebody's role in it
    RemoveRole(OfMember),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// ORGANISATION/NAME
    environment: String,
    /// An address range, ADDRESS/LENGTH; one of IPv4, one of IPv6, or both
    #[arg(long = "subnet", value_name = "SUBNET", required = true)]
    subnets: Vec<String>,
    /// How long certificates of its hosts are valid, seconds
    #[arg(long, default_value_t = 86_400)]
    leaf_seconds: u32,
    /// Traffic inside it is denied unless a rule allows it
    #[arg(long)]
    deny_by_default: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its id, or ORGANISATION/NAME
    environment: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct OnHost {
    /// Its id, or ORGANISATION/NAME
    environment: String,
    /// The host
    host: String,
    #[command(flatten)]
    output: Output,
}

impl EnvCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Create(Create { output, .. })
            | Self::List { output, .. }
            | Self::Show(One { output, .. })
            | Self::Suspend(One { output, .. })
            | Self::Resume(One { output, .. })
            | Self::Delete { one: One { output, .. }, .. }
            | Self::RotateAuthority { one: One { output, .. }, .. }
            | Self::Update(Update { one: One { output, .. }, .. })
            | Self::SetQuotas { one: One { output, .. }, .. }
            | Self::AllowHost(OnHost { output, .. })
            | Self::DenyHost { on: OnHost { output, .. }, .. }
            | Self::Hosts(One { output, .. })
            | Self::Members(One { output, .. })
            | Self::SetRole { of: OfMember { output, .. }, .. }
            | Self::RemoveRole(OfMember { output, .. }) => *output,
        }
    }
}

/// How an environment is named in a request.
pub(super) fn name(environment: String) -> Option<v1::EnvironmentName> {
    Some(v1::EnvironmentName { value: environment })
}

fn state(environment: &v1::Environment) -> String {
    word(environment.state().as_str_name(), "ENVIRONMENT_STATE_")
}

fn authority(of: &v1::AuthorityGeneration) -> Value {
    let state = word(of.state().as_str_name(), "AUTHORITY_STATE_");
    json!({
        "generation": of.generation,
        "state": state,
        "since_ms": of.since_ms,
        "until_ms": of.until_ms,
        "expires_ms": of.expires_ms,
    })
}

fn issuing(environment: &v1::Environment) -> u32 {
    let issues = |of: &&v1::AuthorityGeneration| of.state() == v1::AuthorityState::Current;
    environment.authorities.iter().find(issues).map_or(0, |of| of.generation)
}

/// With its authority, for whoever looks at one.
fn whole(environment: v1::Environment) -> Item {
    let authorities: Vec<Value> = environment.authorities.iter().map(authority).collect();
    let (quotas, held) = (environment.quotas.unwrap_or_default(), environment.held);
    let leaf_seconds = environment.leaf_seconds;
    let other_names = environment.other_names.clone().unwrap_or_default();
    item(environment)
        .with("held", held)
        .with("leaf_seconds", leaf_seconds)
        .with("other_names", word(other_names.rule().as_str_name(), "OTHER_NAMES_RULE_"))
        .with("name_servers", other_names.name_servers)
        .with("attachments_max", quotas.attachments_max)
        .with("addresses_max", quotas.addresses_max)
        .with_some("egress_mbit_max", quotas.egress_mbit_max)
        .with("authorities", authorities)
}

fn item(environment: v1::Environment) -> Item {
    let (state, usage) = (state(&environment), environment.usage.unwrap_or_default());
    Item::new()
        .with("id", environment.id)
        .with("organisation", environment.organisation)
        .with("name", environment.name)
        .with("state", state)
        .with("subnets", environment.subnets)
        .with("attachments", usage.attachments)
        .with("addresses_v4", usage.addresses_v4)
        .with("addresses_v6", usage.addresses_v6)
        .with_some("purge_ms", environment.purge_ms)
}

fn changed(environment: v1::Environment) -> Shown {
    let sentence = format!("environment {} is {}", environment.name, state(&environment));
    Shown::Done(sentence, item(environment))
}

pub(super) async fn run(connection: Connection, command: EnvCommand) -> Result<Shown> {
    let mut environments = EnvironmentsClient::new(connection.channel());
    match command {
        EnvCommand::Create(create) => {
            let Some((organisation, name)) = create.environment.split_once('/') else {
                bail!(
                    "{:?} is no name of a new environment; expected ORGANISATION/NAME",
                    create.environment
                );
            };
            let request = v1::CreateEnvironmentRequest {
                organisation: organisation.to_owned(),
                name: name.to_owned(),
                subnets: create.subnets,
                quotas: None,
                leaf_seconds: create.leaf_seconds,
                deny_by_default: create.deny_by_default,
            };
            let made = answer(environments.create_environment(connection.request(request)).await)?;
            let sentence = format!("environment {} is made: {}", made.name, made.id);
            Ok(Shown::Done(sentence, item(made)))
        }
        EnvCommand::List { org, .. } => list(&connection, org.unwrap_or_default()).await,
        EnvCommand::Show(one) => {
            let request = v1::GetEnvironmentRequest { environment: name(one.environment) };
            let found = answer(environments.get_environment(connection.request(request)).await)?;
            Ok(Shown::One(whole(found)))
        }
        EnvCommand::Suspend(one) => {
            let request = v1::SuspendEnvironmentRequest { environment: name(one.environment) };
            answer(environments.suspend_environment(connection.request(request)).await).map(changed)
        }
        EnvCommand::Resume(one) => {
            let request = v1::ResumeEnvironmentRequest { environment: name(one.environment) };
            answer(environments.resume_environment(connection.request(request)).await).map(changed)
        }
        EnvCommand::Delete { one, grace_seconds, dry_run, confirm, proof } => {
            let get = v1::GetEnvironmentRequest { environment: name(one.environment) };
            let found = answer(environments.get_environment(connection.request(get)).await)?;
            if dry_run {
                let usage = found.usage.unwrap_or_default();
                let sentence = format!(
                    "environment {} ({}) would stop now and go in {grace_seconds} s, with {} attachments, its \
                     certificates, its secrets and its key",
                    found.name, found.id, usage.attachments
                );
                return Ok(Shown::Done(sentence, item(found)));
            }
            if confirm.as_deref() != Some(&found.name) {
                bail!(
                    "nothing was done: say --confirm {} to delete it, or --dry-run to see what would go",
                    found.name
                );
            }
            let (password, code) =
                if grace_seconds < GRACE_SECONDS_MIN { proof.show()? } else { Default::default() };
            let request = v1::DeleteEnvironmentRequest {
                environment: name(found.id),
                grace_seconds: Some(grace_seconds),
                password,
                code,
            };
            let deleting =
                answer(environments.delete_environment(connection.request(request)).await)?;
            let sentence = format!(
                "environment {} is stopped and goes in {grace_seconds} s; weft env resume takes it back until then",
                deleting.name
            );
            Ok(Shown::Done(sentence, item(deleting)))
        }
        EnvCommand::Update(update) => settings::update(&connection, update).await,
        EnvCommand::SetQuotas { one, attachments, addresses, egress_mbit } => {
            let get = v1::GetEnvironmentRequest { environment: name(one.environment) };
            let found = answer(environments.get_environment(connection.request(get)).await)?;
            let before = found.quotas.unwrap_or_default();
            let quotas = v1::Quotas {
                attachments_max: attachments.unwrap_or(before.attachments_max),
                addresses_max: addresses.unwrap_or(before.addresses_max),
                egress_mbit_max: egress_mbit.unwrap_or(before.egress_mbit_max),
            };
            let request =
                v1::SetQuotasRequest { environment: name(found.id), quotas: Some(quotas) };
            let changed = answer(environments.set_quotas(connection.request(request)).await)?;
            Ok(Shown::Done(
                format!("environment {} has other quotas now", changed.name),
                whole(changed),
            ))
        }
        EnvCommand::RotateAuthority { one, emergency, dry_run, confirm } => {
            let get = v1::GetEnvironmentRequest { environment: name(one.environment) };
            let found = answer(environments.get_environment(connection.request(get)).await)?;
            let generation = issuing(&found);
            if dry_run {
                let what = if emergency {
                    "would not be trusted any more at once: sessions end, and hosts get new certificates"
                } else {
                    "would be replaced step by step, with nothing interrupted"
                };
                let sentence =
                    format!("generation {generation} of the authority of {} {what}", found.name);
                return Ok(Shown::Done(sentence, whole(found)));
            }
            if emergency && confirm.as_deref() != Some(&found.name) {
                bail!(
                    "nothing was done: say --confirm {} to end its sessions, or --dry-run to see what would be done",
                    found.name
                );
            }
            let request =
                v1::RotateAuthorityRequest { environment: name(found.id), generation, emergency };
            let rotated = answer(environments.rotate_authority(connection.request(request)).await)?;
            let sentence = if emergency {
                format!(
                    "generation {} of the authority of {} issues, and no other is trusted",
                    issuing(&rotated),
                    rotated.name
                )
            } else {
                format!(
                    "generation {generation} of the authority of {} is being replaced; weft env show says how far it is",
                    rotated.name
                )
            };
            Ok(Shown::Done(sentence, whole(rotated)))
        }
        EnvCommand::AllowHost(on) => {
            let sentence = format!("host {} may have attachments of {}", on.host, on.environment);
            let request = v1::AllowHostRequest { environment: name(on.environment), host: on.host };
            let allowed = answer(environments.allow_host(connection.request(request)).await)?;
            Ok(Shown::Done(sentence, Item::new().with("created", allowed.created)))
        }
        EnvCommand::DenyHost { on, remove_attachments, dry_run: true } => {
            deny::show(&connection, on.environment, &on.host, remove_attachments).await
        }
        EnvCommand::DenyHost { on, remove_attachments, .. } => {
            let request = v1::DenyHostRequest {
                environment: name(on.environment),
                host: on.host,
                remove_attachments,
            };
            let denied = answer(environments.deny_host(connection.request(request)).await)?;
            let removed = denied.attachments_removed;
            let sentence = format!("denied; attachments removed: {removed}");
            Ok(Shown::Done(sentence, Item::new().with("attachments_removed", removed)))
        }
        EnvCommand::Hosts(one) => {
            let page = Some(v1::PageRequest { size: 1_000, after: String::new() });
            let request = v1::ListAllowedHostsRequest { environment: name(one.environment), page };
            let listed =
                answer(environments.list_allowed_hosts(connection.request(request)).await)?;
            let items =
                listed.hosts.into_iter().map(|host| Item::new().with("host", host)).collect();
            Ok(Shown::Many { items, empty: "no hosts" })
        }
        EnvCommand::Members(one) => member::list_in(&connection, one.environment).await,
        EnvCommand::SetRole { of, role } => member::set_in(&connection, of, role).await,
        EnvCommand::RemoveRole(of) => member::remove_in(&connection, of).await,
    }
}

async fn list(connection: &Connection, organisation: String) -> Result<Shown> {
    let mut environments = EnvironmentsClient::new(connection.channel());
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let request = v1::ListEnvironmentsRequest { organisation: organisation.clone(), page };
        let listed = answer(environments.list_environments(connection.request(request)).await)?;
        items.extend(listed.environments.into_iter().map(item));
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(Shown::Many { items, empty: "no environments" });
        }
    }
}
