//! What the store says, as facts.

use weft_store::Change;
use weft_types::{AttachmentName, EnvironmentId, HostId};

use crate::{
    id::ServiceName,
    policy::Policy,
    record::{
        Attachment, Authority, Drain, Environment, Health, Host, Lost, Record, RecordError, Role,
        Service,
    },
};

/// One thing that is so from now on, or no more (`None`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A host.
    Host(HostId, Option<Host>),
    /// A host is not heard of.
    Lost(HostId, Option<Lost>),
    /// Something of an environment.
    Of(EnvironmentId, EnvironmentFact),
}

/// Something of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvironmentFact {
    /// Itself.
    Environment(Option<Environment>),
    /// A generation of its authority.
    Authority(u32, Option<Authority>),
    /// See there.
    Attachment(AttachmentName, Option<Attachment>),
    /// See there.
    Service(ServiceName, Option<Service>),
    /// Of an attachment.
    Health(AttachmentName, Option<Health>),
    /// Of an attachment.
    Drain(AttachmentName, Option<Drain>),
    /// Of a service.
    Role(ServiceName, ServiceName, Option<Role>),
    /// See there.
    Policy(Option<Policy>),
}

impl Fact {
    /// What a change of the store says to hosts; `None` when that is nothing.
    ///
    /// # Errors
    /// [`RecordError`] when a record is damaged.
    pub fn of(change: &Change) -> Result<Option<Self>, RecordError> {
        let key = change.key();
        let parts: Vec<&str> = key.as_str().split('/').collect();
        let fact = match parts[..] {
            [Host::KIND, id] => id.parse().ok().map(|id| read(change, |r| Self::Host(id, r))),
            [Lost::KIND, id] => id.parse().ok().map(|id| read(change, |r| Self::Lost(id, r))),
            [kind, environment, ..] => {
                let Ok(environment) = environment.parse() else { return Ok(None) };
                let fact = EnvironmentFact::of(kind, &parts[2..], change);
                fact.map(|fact| fact.map(|fact| Self::Of(environment, fact)))
            }
            _ => None,
        };
        fact.transpose()
    }
}

impl EnvironmentFact {
    fn of(kind: &str, path: &[&str], change: &Change) -> Option<Result<Self, RecordError>> {
        match (kind, path) {
            (Environment::KIND, []) => Some(read(change, Self::Environment)),
            (Policy::KIND, []) => Some(read(change, Self::Policy)),
            (Authority::KIND, [generation]) => generation
                .parse()
                .ok()
                .map(|generation| read(change, |r| Self::Authority(generation, r))),
            (Attachment::KIND, [name]) => {
                name.parse().ok().map(|name| read(change, |r| Self::Attachment(name, r)))
            }
            (Health::KIND, [name]) => {
                name.parse().ok().map(|name| read(change, |r| Self::Health(name, r)))
            }
            (Drain::KIND, [name]) => {
                name.parse().ok().map(|name| read(change, |r| Self::Drain(name, r)))
            }
            (Service::KIND, [name]) => {
                name.parse().ok().map(|name| read(change, |r| Self::Service(name, r)))
            }
            (Role::KIND, [service, role]) => match (service.parse(), role.parse()) {
                (Ok(service), Ok(role)) => Some(read(change, |r| Self::Role(service, role, r))),
                _ => None,
            },
            _ => None,
        }
    }
}

fn read<R: Record, F>(
    change: &Change,
    make: impl FnOnce(Option<R>) -> F,
) -> Result<F, RecordError> {
    match change {
        Change::Put(entry) => R::decode(entry).map(|decoded| make(Some(decoded.record))),
        Change::Deleted(_) => Ok(make(None)),
    }
}
