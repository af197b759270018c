//! Names of environments: what their gateways answer.
//!
//! A zone is always replaced as a whole. Without a control plane it is made here, of the configuration's services and
//! the attachments on this host; with one it is what [`NodeHandle::set_zone`](super::NodeHandle::set_zone) was given.

use std::{collections::HashSet, sync::Arc};

use weft_config::Names;
use weft_dns::{AliasRecord, ServiceRecord, Zone, ZoneRecords};
use weft_proto::EnvironmentSlot;
use weft_types::{EnvironmentId, Subnet};

use super::{
    EventKind, Node, NodeEvent, RequestError, attachment::AttachmentEntry,
    environment::EnvironmentState,
};
use crate::{
    gateway::{Answering, Inlet, Outlet, Settings},
    worker::{Command, Worker},
};

/// One environment's names.
pub(super) struct Named {
    pub(super) answering: Answering,
    source: Source,
    /// Of the zone that is answered from.
    serial: u32,
}

/// Where an environment's zone comes from.
enum Source {
    /// From here: these services, and the attachments on this host.
    Here(Vec<ServiceRecord>),
    /// From whoever knows the whole environment.
    Given,
}

impl EnvironmentState {
    /// The zone as this host knows it; none when it is given.
    fn zone_of_here(&self, serial: u32) -> Option<ZoneRecords> {
        let Source::Here(services) = &self.named.source else { return None };
        Some(records(serial, &self.subnets, services, self.attachments.values()))
    }
}

/// Every attachment is a service of its own, unless a service has that name.
fn records<'a>(
    serial: u32,
    subnets: &[Subnet],
    services: &[ServiceRecord],
    attachments: impl Iterator<Item = &'a AttachmentEntry>,
) -> ZoneRecords {
    let taken: HashSet<_> = services.iter().map(|service| service.name.as_str()).collect();
    let aliases = attachments.filter(|entry| !taken.contains(entry.spec.name.as_str()));
    let alias = |entry: &AttachmentEntry| AliasRecord {
        name: entry.spec.name.to_string(),
        addresses: entry.spec.addresses.clone(),
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
        let serial = 1;
        let zone = zone(records(serial, subnets, &names.services, std::iter::empty()))?;
        let settings = Settings { zone, outside: names.outside };
        let opened = self.gateways.open(settings, outlet(slot, &self.workers));
        let (answering, inlet) =
            opened.map_err(|error| RequestError::Invalid(error.to_string()))?;
        let source = Source::Here(names.services);
        Ok((Named { answering, source, serial }, inlet))
    }

    /// Attachments came or went: their names follow between everything else.
    pub(super) fn names_changed(&mut self, id: &EnvironmentId) {
        self.stale_names.insert(id.clone());
    }

    /// Makes the zones anew that attachments or services have changed.
    pub(super) fn refresh_names(&mut self) {
        for id in std::mem::take(&mut self.stale_names) {
            let Some(state) = self.environments.get(&id) else { continue };
            let serial = state.named.serial.wrapping_add(1);
            let Some(records) = state.zone_of_here(serial) else { continue };
            if let Err(error) = self.replace_zone(&id, records) {
                tracing::error!(environment = %id, %error, "names stay as they were");
            }
        }
    }

    /// Answers other services and other names from now on, as the configuration has them. Whoever gives the zone
    /// goes before it.
    pub(super) fn set_names(
        &mut self,
        id: &EnvironmentId,
        names: Names,
    ) -> Result<(), RequestError> {
        let named = &mut self.environment_mut(id)?.named;
        named.answering.set_outside(names.outside);
        if let Source::Here(services) = &mut named.source {
            *services = names.services;
        }
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
        self.replace_zone(id, records)?;
        self.environment_mut(id)?.named.source = Source::Given;
        Ok(())
    }

    fn replace_zone(
        &mut self,
        id: &EnvironmentId,
        records: ZoneRecords,
    ) -> Result<(), RequestError> {
        let state = self.environment_mut(id)?;
        if records.subnets != state.subnets {
            let text = |subnets: &[Subnet]| {
                subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
            };
            return Err(RequestError::Invalid(format!(
                "subnets: found {}; expected {}, as environment {id} has them",
                text(&records.subnets),
                text(&state.subnets)
            )));
        }
        let serial = records.serial;
        let zone = zone(records)?;
        state.named.serial = serial;
        state.named.answering.set_zone(zone);
        Ok(())
    }
}

fn zone(records: ZoneRecords) -> Result<Arc<Zone>, RequestError> {
    let zone = Zone::new(records).map_err(|error| RequestError::Invalid(error.to_string()))?;
    Ok(Arc::new(zone))
}
