//! Messages and what they say.

use std::{net::IpAddr, str::FromStr, time::Duration};

use weft_control_api::v1;
use weft_model::{
    Decoded, SlotName, UnixMs,
    projection::{InstanceState, ServiceDocument},
    record::{
        self, Attachment, Authority, AuthorityState, EnvironmentState, Grant, HealthState, Host,
        HostState, Interface, Quotas, Share, Slot, SlotKey,
    },
    rotation::AUTHORITY_DAYS,
};

use super::{services, settings};
use crate::{
    app::{AttachmentHealth, Described, EnvironmentReference, Signs},
    error::AppError,
};

/// Entries of a page that does not say how many.
const PAGE_LEN: u32 = 100;
/// Most entries of a page.
const PAGE_LEN_MAX: u32 = 1_000;

/// Reads a field.
pub(super) fn parse<T: FromStr>(field: &'static str, text: &str) -> Result<T, AppError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|problem| AppError::invalid(field, problem))
}

/// Reads a field that may be left out.
pub(super) fn optional<T: FromStr>(field: &'static str, text: &str) -> Result<Option<T>, AppError>
where
    T::Err: std::fmt::Display,
{
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// Reads a repeated field.
pub(super) fn parse_all<T: FromStr>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, AppError>
where
    T::Err: std::fmt::Display,
{
    texts.iter().map(|text| parse(field, text)).collect()
}

pub(super) fn environment_name(
    name: Option<&v1::EnvironmentName>,
) -> Result<EnvironmentReference, AppError> {
    let name = name.ok_or_else(|| AppError::invalid("environment", "is missing"))?;
    name.value.parse()
}

/// How many entries, after which.
pub(super) fn page(page: Option<&v1::PageRequest>) -> Result<(usize, Option<&str>), AppError> {
    let (size, after) = page.map_or((0, ""), |page| (page.size, page.after.as_str()));
    if size > PAGE_LEN_MAX {
        return Err(AppError::invalid(
            "page.size",
            format!("{size}; expected at most {PAGE_LEN_MAX}"),
        ));
    }
    let size = if size == 0 { PAGE_LEN } else { size };
    Ok((size as usize, Some(after).filter(|after| !after.is_empty())))
}

/// Where a list of `len` entries goes on whose last has this id.
pub(super) fn page_info(len: usize, len_max: usize, last: Option<String>) -> Option<v1::PageInfo> {
    let next = last.filter(|_| len >= len_max).unwrap_or_default();
    Some(v1::PageInfo { next })
}

/// Seconds, within bounds, with what 0 means.
pub(super) fn seconds(
    field: &'static str,
    seconds: u32,
    default: u32,
    max: u32,
) -> Result<Duration, AppError> {
    if seconds > max {
        return Err(AppError::invalid(field, format!("{seconds}; expected at most {max}")));
    }
    Ok(Duration::from_secs(if seconds == 0 { default } else { seconds }.into()))
}

/// What a slot is called; without, the attachment's name is the service's.
pub(super) fn slot(slot: Option<&v1::SlotName>, name: &str) -> Result<SlotKey, AppError> {
    match slot {
        None => Ok(SlotKey { service: parse("name", name)?, slot: SlotName::Stable(0) }),
        Some(slot) => Ok(SlotKey {
            service: parse("slot.service", &slot.service)?,
            slot: parse("slot.slot", &slot.slot)?,
        }),
    }
}

pub(super) fn required_slot(found: Option<&v1::SlotName>) -> Result<SlotKey, AppError> {
    let found = found.ok_or_else(|| AppError::invalid("slot", "is missing"))?;
    slot(Some(found), "")
}

pub(super) fn slot_message(key: &SlotKey) -> Option<v1::SlotName> {
    Some(v1::SlotName { service: key.service.to_string(), slot: key.slot.to_string() })
}

pub(super) fn addresses(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

pub(super) fn share(share: Option<&v1::AttachmentShare>) -> Result<Option<Share>, AppError> {
    const WEIGHT_MAX: u32 = 10_000;
    let Some(share) = share else { return Ok(None) };
    let weight = match share.weight {
        0 => Share::default().weight,
        weight => u16::try_from(weight).ok().filter(|_| weight <= WEIGHT_MAX).ok_or_else(|| {
            AppError::invalid("share.weight", format!("{weight}; expected at most {WEIGHT_MAX}"))
        })?,
    };
    let egress_mbit_max = Some(share.egress_mbit_max).filter(|max| *max > 0);
    Ok(Some(Share { weight, egress_mbit_max }))
}

pub(super) fn share_message(share: Share) -> Option<v1::AttachmentShare> {
    let egress_mbit_max = share.egress_mbit_max.unwrap_or_default();
    Some(v1::AttachmentShare { weight: share.weight.into(), egress_mbit_max })
}

pub(super) fn quotas(quotas: Option<&v1::Quotas>) -> Quotas {
    let default = Quotas::default();
    let Some(quotas) = quotas else { return default };
    let or = |asked: u32, default: u32| if asked == 0 { default } else { asked };
    Quotas {
        attachments_max: or(quotas.attachments_max, default.attachments_max),
        addresses_max: or(quotas.addresses_max, default.addresses_max),
        egress_mbit_max: Some(quotas.egress_mbit_max).filter(|max| *max > 0),
    }
}

fn authority_generation(found: &Authority, until: Option<UnixMs>) -> v1::AuthorityGeneration {
    let state = match found.state {
        AuthorityState::Next => v1::AuthorityState::Next,
        AuthorityState::Current => v1::AuthorityState::Current,
        AuthorityState::Previous => v1::AuthorityState::Previous,
    };
    let days = u64::from(AUTHORITY_DAYS);
    v1::AuthorityGeneration {
        generation: found.generation,
        state: state.into(),
        since_ms: found.since().0,
        until_ms: until.map_or(0, |until| until.0),
        expires_ms: found.created.after(Duration::from_secs(days * 24 * 3_600)).0,
    }
}

pub(super) fn environment(found: Described) -> v1::Environment {
    let Described { environment: Decoded { record, modified }, usage, authority } = found;
    let lives = record.lifetimes;
    let authorities = authority
        .iter()
        .map(|generation| authority_generation(generation, authority.until(generation, lives)));
    let (state, purge_ms) = match record.state {
        EnvironmentState::Active => (v1::EnvironmentState::Active, 0),
        EnvironmentState::Suspended => (v1::EnvironmentState::Suspended, 0),
        EnvironmentState::Deleting { purge } => (v1::EnvironmentState::Deleting, purge.0),
        EnvironmentState::Purging => (v1::EnvironmentState::Deleting, 0),
    };
    v1::Environment {
        id: record.id.to_string(),
        organisation: record.organisation.to_string(),
        name: record.name.to_string(),
        state: state.into(),
        purge_ms,
        subnets: record.subnets.iter().map(ToString::to_string).collect(),
        quotas: Some(v1::Quotas {
            attachments_max: record.quotas.attachments_max,
            addresses_max: record.quotas.addresses_max,
            egress_mbit_max: record.quotas.egress_mbit_max.unwrap_or_default(),
        }),
        usage: Some(v1::Usage {
            attachments: usage.attachments,
            addresses_v4: usage.addresses_v4,
            addresses_v6: usage.addresses_v6,
        }),
        leaf_seconds: record.lifetimes.leaf_seconds,
        created_ms: record.created.0,
        revision: modified.0,
        authorities: authorities.collect(),
        held: record.held,
        other_names: Some(settings::other_names_message(&record.other_names)),
    }
}

fn health(state: Option<HealthState>) -> v1::HealthState {
    match state {
        None => v1::HealthState::Unspecified,
        Some(HealthState::Starting) => v1::HealthState::Starting,
        Some(HealthState::Healthy) => v1::HealthState::Healthy,
        Some(HealthState::Unhealthy) => v1::HealthState::Unhealthy,
    }
}

pub(super) fn attachment(attachment: Attachment, found: AttachmentHealth) -> v1::Attachment {
    let AttachmentHealth { state, said } = found;
    let reported_ms = said.as_ref().map_or(0, |said| said.since.0);
    let (interface, error) = match said.and_then(|said| said.interface) {
        None => (v1::InterfaceState::Unspecified, String::new()),
        Some(Interface::Pending) => (v1::InterfaceState::Pending, String::new()),
        Some(Interface::Up) => (v1::InterfaceState::Up, String::new()),
        Some(Interface::Failed { error }) => (v1::InterfaceState::Failed, error),
    };
    v1::Attachment {
        environment: attachment.environment.to_string(),
        name: attachment.name.to_string(),
        slot: slot_message(&attachment.slot),
        addresses: addresses(&attachment.addresses),
        host: attachment.host.to_string(),
        generation: attachment.generation,
        grant: match attachment.basis {
            record::Basis::Binding => String::new(),
            record::Basis::Grant(id) => id.to_string(),
        },
        share: share_message(attachment.share),
        health: health(state).into(),
        created_ms: attachment.created.0,
        interface: interface.into(),
        error,
        reported_ms,
    }
}

pub(super) fn slot_record(slot: Slot) -> v1::Slot {
    v1::Slot {
        environment: slot.environment.to_string(),
        name: slot_message(&slot.slot),
        addresses: addresses(&slot.addresses),
        attachment: slot.attachment.map(|name| name.to_string()).unwrap_or_default(),
        reserved: slot.reserved,
    }
}

pub(super) fn grant(grant: Grant) -> v1::Grant {
    v1::Grant {
        id: grant.id.to_string(),
        environment: grant.environment.to_string(),
        slot: slot_message(&grant.slot),
        host: grant.host.to_string(),
        attempt: grant.attempt,
        expires_ms: grant.expires.0,
        used_by: grant.used_by.map(|name| name.to_string()).unwrap_or_default(),
        secrets: grant.secrets.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn host_state(state: v1::HostState) -> Result<HostState, AppError> {
    match state {
        v1::HostState::Active => Ok(HostState::Active),
        v1::HostState::Cordoned => Ok(HostState::Cordoned),
        v1::HostState::Draining => Ok(HostState::Draining),
        v1::HostState::Revoked => Ok(HostState::Revoked),
        v1::HostState::Unspecified => Err(AppError::invalid("state", "is missing")),
    }
}

pub(super) fn host(found: Decoded<Host>, signs: Signs) -> v1::Host {
    let Decoded { record, modified } = found;
    let state = match record.state {
        HostState::Active => v1::HostState::Active,
        HostState::Cordoned => v1::HostState::Cordoned,
        HostState::Draining => v1::HostState::Draining,
        HostState::Revoked => v1::HostState::Revoked,
    };
    let endpoints = record.endpoints.into_iter().map(|endpoint| v1::Endpoint {
        address: endpoint.address.to_string(),
        pod: endpoint.pod.unwrap_or_default(),
    });
    let Signs { heartbeat, lost } = signs;
    let presence = match (&heartbeat, &lost) {
        (_, Some(_)) => v1::HostPresence::Lost,
        (Some(_), None) => v1::HostPresence::Present,
        (None, None) => v1::HostPresence::Expected,
    };
    let (version, heard_ms) = heartbeat.map(|last| (last.version, last.at.0)).unwrap_or_default();
    v1::Host {
        id: record.id.to_string(),
        state: state.into(),
        pod: record.place.pod,
        zone: record.place.zone,
        region: record.place.region,
        labels: record.labels.into_iter().collect(),
        endpoints: endpoints.collect(),
        capacity: Some(v1::Capacity {
            cpu_milli: record.capacity.cpu_milli,
            memory_bytes: record.capacity.memory_bytes,
        }),
        version,
        heard_ms,
        created_ms: record.created.0,
        revision: modified.0,
        presence: presence.into(),
        lost_ms: lost.map_or(0, |lost| lost.since.0),
    }
}

pub(super) fn service_state(document: ServiceDocument) -> v1::ServiceState {
    let ports = document.ports.into_iter().map(|(name, port)| services::port_message(&name, port));
    let instances = document.instances.into_iter().map(|(slot, instance)| v1::ServiceInstance {
        slot: slot.to_string(),
        addresses: addresses(&instance.addresses),
        healthy: instance.state == InstanceState::Healthy,
        state: services::state_message(instance.state).into(),
    });
    let roles = document.roles.into_iter().map(|(role, holder)| v1::ServiceRole {
        role: role.to_string(),
        slot: holder.slot.to_string(),
        epoch: holder.epoch,
    });
    v1::ServiceState {
        environment: document.environment.to_string(),
        name: document.name.to_string(),
        ports: ports.collect(),
        instances: instances.collect(),
        roles: roles.collect(),
    }
}
