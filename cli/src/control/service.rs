//! Services: what is registered of them, who has their roles, what is out of service.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use weft_control_api::v1::{self, services_client::ServicesClient};

use super::{
    Output,
    call::{Connection, answer, found},
    environment::name,
    line::Line,
    session::word,
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List the services of an environment
    List(Of),
    /// Show one service with what fills its slots
    Show(One),
    /// Say where a service listens and what those who use it should know, instead of all that was said before
    Set(Set),
    /// Forget what was said of a service; its slots have to be empty
    Delete {
        #[command(flatten)]
        one: One,
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
        /// Its name again, so that it is not another one by mistake
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
    /// Take an attachment out of service: nobody is sent to it
    Drain(Instance),
    /// Take it back into service
    Resume(Instance),
    /// Who has which role of a service
    #[command(subcommand)]
    Role(RoleCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// List the roles that somebody has
    List(One),
    /// Give a role that nobody has to an attachment
    Acquire {
        #[command(flatten)]
        role: OfRole,
        /// The attachment that is to have it
        #[arg(long, value_name = "ATTACHMENT")]
        holder: String,
    },
    /// Give a role from whoever has it to an attachment: a failover
    Transfer {
        #[command(flatten)]
        role: OfRole,
        /// The attachment that is to have it
        #[arg(long, value_name = "ATTACHMENT")]
        holder: String,
        /// The role's present epoch, as weft service role list shows it
        #[arg(long)]
        epoch: u64,
    },
    /// Nobody is to have a role any more
    Release {
        #[command(flatten)]
        role: OfRole,
        /// The role's present epoch, as weft service role list shows it
        #[arg(long)]
        epoch: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    /// The service
    service: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    one: One,
    /// A port: its name, tcp or udp, and its number, as in http=tcp/80
    #[arg(long = "port", value_name = "NAME=PROTOCOL/PORT")]
    ports: Vec<Port>,
    /// What those who use it should know
    #[arg(long = "metadata", value_name = "NAME=VALUE")]
    metadata: Vec<Entry>,
}

#[derive(Debug, Args)]
pub(crate) struct Instance {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    /// The attachment
    attachment: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct OfRole {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    /// The service
    service: String,
    /// The role, for example primary
    role: String,
    #[command(flatten)]
    output: Output,
}

/// A port as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: v1::Protocol,
    port: u32,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (name, place) = text.split_once('=')?;
            let (protocol, port) = place.split_once('/')?;
            let protocol = match protocol {
                "tcp" => v1::Protocol::Tcp,
                "udp" => v1::Protocol::Udp,
                _ => return None,
            };
            Some(Self { name: name.to_owned(), protocol, port: port.parse().ok()? })
        };
        read().ok_or_else(|| "expected NAME=tcp/PORT or NAME=udp/PORT".to_owned())
    }
}

/// An entry of metadata as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry(String, String);

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

impl ServiceCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::List(Of { output, .. })
            | Self::Show(One { output, .. })
            | Self::Set(Set { one: One { output, .. }, .. })
            | Self::Delete { one: One { output, .. }, .. }
            | Self::Drain(Instance { output, .. })
            | Self::Resume(Instance { output, .. })
            | Self::Role(RoleCommand::List(One { output, .. }))
            | Self::Role(
                RoleCommand::Acquire { role: OfRole { output, .. }, .. }
                | RoleCommand::Transfer { role: OfRole { output, .. }, .. }
                | RoleCommand::Release { role: OfRole { output, .. }, .. },
            ) => *output,
        }
    }
}

fn item(service: v1::Service) -> Item {
    let ports = service.ports.iter().map(|port| {
        let protocol = word(port.protocol().as_str_name(), "PROTOCOL_");
        format!("{}={protocol}/{}", port.name, port.port)
    });
    let roles = service.roles.iter().map(|role| format!("{}={}", role.role, role.holder));
    let offered = |instance: &&v1::Instance| instance.state() == v1::InstanceState::Healthy;
    let healthy = service.instances.iter().filter(offered).count();
    Item::new()
        .with("name", service.name)
        .with("ports", ports.collect::<Vec<_>>())
        .with("instances", service.instances.len())
        .with("healthy", healthy)
        .with("roles", roles.collect::<Vec<_>>())
        .with_some("revision", service.revision)
}

/// Everything of a service: for people, an instance is a word each.
fn details(service: v1::Service) -> Item {
    let instances: Vec<String> = service
        .instances
        .iter()
        .map(|instance| {
            let state = word(instance.state().as_str_name(), "INSTANCE_STATE_");
            format!(
                "{} {} {state} {}",
                instance.slot,
                instance.attachment,
                instance.addresses.join(" ")
            )
        })
        .collect();
    let metadata: BTreeMap<String, String> = service.metadata.clone().into_iter().collect();
    let metadata: serde_json::Map<_, _> =
        metadata.into_iter().map(|(name, value)| (name, value.into())).collect();
    item(service).with("slots", instances).with("metadata", metadata)
}

fn role_item(role: v1::Role) -> Item {
    Item::new()
        .with("role", role.role)
        .with("holder", role.holder)
        .with("slot", role.slot)
        .with("epoch", role.epoch)
}

fn taken(role: v1::Role) -> Shown {
    let sentence = format!("{} is {} from epoch {} on", role.holder, role.role, role.epoch);
    Shown::Done(sentence, role_item(role))
}

async fn find(
    connection: &Connection,
    services: &mut ServicesClient<Line>,
    one: &One,
) -> Result<v1::Service> {
    let (environment, name) = (name(one.environment.clone()), one.service.clone());
    let request = v1::GetServiceRequest { environment, name };
    answer(services.get_service(connection.request(request)).await)
}

pub(super) async fn run(connection: Connection, command: ServiceCommand) -> Result<Shown> {
    let mut services = ServicesClient::new(connection.channel());
    match command {
        ServiceCommand::List(of) => list(&connection, &mut services, of).await,
        ServiceCommand::Show(one) => {
            Ok(Shown::One(details(find(&connection, &mut services, &one).await?)))
        }
        ServiceCommand::Set(wish) => set(&connection, &mut services, wish).await,
        ServiceCommand::Delete { one, dry_run, confirm } => {
            let found = find(&connection, &mut services, &one).await?;
            if dry_run {
                let sentence = format!("what is registered of service {} would go", found.name);
                return Ok(Shown::Done(sentence, details(found)));
            }
            if confirm.as_deref() != Some(&found.name) {
                bail!(
                    "nothing was done: say --confirm {} to delete it, or --dry-run to see what would go",
                    found.name
                );
            }
            let request = v1::DeleteServiceRequest {
                environment: name(one.environment),
                name: one.service,
                revision: found.revision,
            };
            answer(services.delete_service(connection.request(request)).await)?;
            Ok(Shown::Done(format!("service {} is forgotten", found.name), Item::new()))
        }
        ServiceCommand::Drain(instance) => drain(&connection, &mut services, instance, true).await,
        ServiceCommand::Resume(instance) => {
            drain(&connection, &mut services, instance, false).await
        }
        ServiceCommand::Role(command) => role(&connection, &mut services, command).await,
    }
}

async fn list(
    connection: &Connection,
    services: &mut ServicesClient<Line>,
    of: Of,
) -> Result<Shown> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let request = v1::ListServicesRequest { environment: name(of.environment.clone()), page };
        let listed = answer(services.list_services(connection.request(request)).await)?;
        items.extend(listed.services.into_iter().map(item));
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(Shown::Many { items, empty: "no services" });
        }
    }
}

/// Replaces what is registered now. Who registers the same service at the same time is not overwritten.
async fn set(
    connection: &Connection,
    services: &mut ServicesClient<Line>,
    wish: Set,
) -> Result<Shown> {
    let (environment, service) = (name(wish.one.environment.clone()), wish.one.service.clone());
    let get = v1::GetServiceRequest { environment, name: service };
    let before = found(services.get_service(connection.request(get)).await)?;
    let ports = wish.ports.into_iter().map(|port| v1::ServicePort {
        name: port.name,
        protocol: port.protocol.into(),
        port: port.port,
    });
    let request = v1::PutServiceRequest {
        environment: name(wish.one.environment),
        name: wish.one.service,
        ports: ports.collect(),
        metadata: wish.metadata.into_iter().map(|Entry(name, value)| (name, value)).collect(),
        revision: before.map_or(0, |before| before.revision),
    };
    let put = answer(services.put_service(connection.request(request)).await)?;
    let sentence = format!("service {} is registered, revision {}", put.name, put.revision);
    Ok(Shown::Done(sentence, details(put)))
}

async fn drain(
    connection: &Connection,
    services: &mut ServicesClient<Line>,
    instance: Instance,
    drained: bool,
) -> Result<Shown> {
    let is = if drained { "out of service" } else { "in service" };
    let sentence = format!("{} is {is}", instance.attachment);
    let request = v1::SetDrainedRequest {
        environment: name(instance.environment),
        attachment: instance.attachment,
        generation: 0,
        drained,
    };
    answer(services.set_drained(connection.request(request)).await)?;
    Ok(Shown::Done(sentence, Item::new().with("drained", drained)))
}

async fn role(
    connection: &Connection,
    services: &mut ServicesClient<Line>,
    command: RoleCommand,
) -> Result<Shown> {
    match command {
        RoleCommand::List(one) => {
            let found = find(connection, services, &one).await?;
            let items = found.roles.into_iter().map(role_item).collect();
            Ok(Shown::Many { items, empty: "no roles" })
        }
        RoleCommand::Acquire { role: OfRole { environment, service, role, .. }, holder } => {
            let environment = name(environment);
            let request = v1::AcquireRoleRequest { environment, service, role, holder };
            answer(services.acquire_role(connection.request(request)).await).map(taken)
        }
        RoleCommand::Transfer {
            role: OfRole { environment, service, role, .. },
            holder,
            epoch,
        } => {
            let environment = name(environment);
            let request = v1::TransferRoleRequest { environment, service, role, holder, epoch };
            answer(services.transfer_role(connection.request(request)).await).map(taken)
        }
        RoleCommand::Release { role: OfRole { environment, service, role, .. }, epoch } => {
            let sentence = format!("nobody is {role} of {service}");
            let environment = name(environment);
            let request = v1::ReleaseRoleRequest { environment, service, role, epoch };
            answer(services.release_role(connection.request(request)).await)?;
            Ok(Shown::Done(sentence, Item::new()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_metadata_as_people_write_them() {
        let http = Port { name: "http".to_owned(), protocol: v1::Protocol::Tcp, port: 80 };
        assert_eq!("http=tcp/80".parse(), Ok(http));
        for bad in ["", "http", "http=80", "http=tcp", "http=sctp/80", "http=tcp/x", "http=tcp/-1"]
        {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
        assert_eq!("a=b=c".parse(), Ok(Entry("a".to_owned(), "b=c".to_owned())));
        assert_eq!("a".parse::<Entry>(), Err("expected NAME=VALUE".to_owned()));
    }
}
