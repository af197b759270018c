//! Names of environments: what their gateways answer.
//!
//! A zone is always replaced as a whole. Without a control plane it is made here, of the configuration's services and
//! the attachments on this host; with one it is what [`NodeHandle::set_zone`](super::NodeHandle::set_zone) was given.

use std::{collections::HashSet, sync::Arc};

use weft_config::Names;
use weft_dns::{AliasRecord, ServiceRecord, Zone, ZoneRecords};
use weft_proto::EnvironmentSlot;
use weft_types::{EnvironmentId, Subnet};

use super::{AttachSpec, EventKind, Node, NodeEvent, RequestError};
use crate::{
    gateway::{Answering, Gateways, Inlet, Outlet, Settings},
    worker::{Command, Worker},
};

/// One environment's names.
pub(super) struct Named {
    pub(super) answering: Answering,
    source: Source,
}

/// Where an environment's zone comes from.
enum Source {
    /// From here: these services, and the attachments on this host.
    Here(Vec<ServiceRecord>),
    /// From whoever knows the whole environment.
    Given,
}

impl Named {
    /// Makes the zone anew, if it is made here.
    fn refresh<'a>(
        &self,
        subnets: &[Subnet],
        attachments: impl Iterator<Item = &'a AttachSpec>,
    ) -> Result<(), RequestError> {
        let Source::Here(services) = &self.source else { return Ok(()) };
        let serial = self.answering.zone().serial().wrapping_add(1);
        self.replace(records(serial, subnets, services, attachments))
    }

    /// Answers other services and other names from now on, as the configuration has them. Whoever gives the zone
    /// goes before its services.
    fn configure(&mut self, names: Names) {
        self.answering.set_outside(names.outside);
        if let Source::Here(services) = &mut self.source {
            *services = names.services;
        }
    }

    /// Takes a zone that somebody else has made, here and from now on.
    fn give(&mut self, records: ZoneRecords) -> Result<(), RequestError> {
        self.replace(records)?;
        self.source = Source::Given;
        Ok(())
    }

    fn replace(&self, records: ZoneRecords) -> Result<(), RequestError> {
        let before = self.answering.zone();
        if records.subnets != before.subnets() {
            return Err(RequestError::Invalid(format!(
                "subnets: found {}; expected {}",
                listed(&records.subnets),
                listed(before.subnets())
            )));
        }
        self.answering.set_zone(zone(records)?);
        Ok(())
    }
}

fn listed(subnets: &[Subnet]) -> String {
    let texts: Vec<_> = subnets.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}

/// Every attachment is a service of its own, unless a service has that name.
fn records<'a>(
    serial: u32,
    subnets: &[Subnet],
    services: &[ServiceRecord],
    attachments: impl Iterator<Item = &'a AttachSpec>,
) -> ZoneRecords {
    let taken: HashSet<_> = services.iter().map(|service| service.name.as_str()).collect();
    let aliases = attachments.filter(|spec| !taken.contains(spec.name.as_str()));
    let alias = |spec: &AttachSpec| AliasRecord {
        name: spec.name.to_string(),
        addresses: spec.addresses.clone(),
    };
    ZoneRecords {
        serial,
        subnets: subnets.to_vec(),
        services: services.to_vec(),
        aliases: aliases.map(alias).collect(),
    }
}

/// To the worker that the destination's last byte chooses: which one gives a container its packets makes no
/// difference to it.
fn outlet(slot: EnvironmentSlot, workers: &[Worker]) -> Outlet {
    let doors: Vec<_> = workers.iter().map(Worker::door).collect();
    Box::new(move |packet| {
        // Where an IPv4 or IPv6 header ends.
        let end = if packet.first().is_some_and(|byte| byte >> 4 == 4) { 20 } else { 40 };
        let last = packet.get(end - 1).map_or(0, |byte| usize::from(*byte));
        let door = doors.get(last % doors.len().max(1));
        door.is_some_and(|door| door.try_send(Command::Answer(slot, packet)))
    })
}

impl Node {
    /// Begins to answer for an environment that has no attachments yet.
    pub(super) fn answer_names(
        &self,
        slot: EnvironmentSlot,
        subnets: &[Subnet],
        names: Names,
    ) -> Result<(Named, Inlet), RequestError> {
        open(&self.gateways, subnets, names, outlet(slot, &self.workers))
    }

    /// Attachments came or went: their names follow between everything else.
    pub(super) fn names_changed(&mut self, id: &EnvironmentId) {
        self.stale_names.insert(id.clone());
    }

    /// Makes the zones anew that attachments or services have changed.
    pub(super) fn refresh_names(&mut self) {
        for id in std::mem::take(&mut self.stale_names) {
            let Some(state) = self.environments.get(&id) else { continue };
            let attachments = state.attachments.values().map(|entry| &entry.spec);
            if let Err(error) = state.named.refresh(&state.subnets, attachments) {
                tracing::error!(environment = %id, %error, "names stay as they were");
            }
        }
    }

    /// Answers other names from now on, as the configuration has them.
    pub(super) fn set_names(
        &mut self,
        id: &EnvironmentId,
        names: Names,
    ) -> Result<(), RequestError> {
        self.environment_mut(id)?.named.configure(names);
        self.names_changed(id);
        self.publish(NodeEvent::new(EventKind::EnvironmentChanged, "names changed").of(id));
        Ok(())
    }

    /// Answers from a zone that somebody else has made: nothing of before, and no attachment's name that is not
    /// in it.
    pub(super) fn set_zone(
        &mut self,
        id: &EnvironmentId,
        records: ZoneRecords,
    ) -> Result<(), RequestError> {
        self.environment_mut(id)?.named.give(records)
    }
}

fn open(
    gateways: &Gateways,
    subnets: &[Subnet],
    names: Names,
    outlet: Outlet,
) -> Result<(Named, Inlet), RequestError> {
    let zone = zone(records(1, subnets, &names.services, std::iter::empty()))?;
    let opened = gateways.open(Settings { zone, outside: names.outside }, outlet);
    let (answering, inlet) = opened.map_err(|error| RequestError::Invalid(error.to_string()))?;
    Ok((Named { answering, source: Source::Here(names.services) }, inlet))
}

fn zone(records: ZoneRecords) -> Result<Arc<Zone>, RequestError> {
    let zone = Zone::new(records).map_err(|error| RequestError::Invalid(error.to_string()))?;
    Ok(Arc::new(zone))
}

#[cfg(test)]
mod tests;
