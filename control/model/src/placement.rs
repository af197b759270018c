//! What a host may have, and what a move changes.
//!
//! ```text
//!   reserve ──▶ slot with addresses ──▶ attach ──▶ attachment, generation n, on host-a
//!                      ▲                              │ move_to
//!                      │                              ▼
//!                      └───────── release ◀── generation n + 1, on host-b
//! ```
//!
//! A decision is a transaction. It rests on every record that it was made from: whoever decides from an older
//! state changes nothing. All decisions of an environment rest on its [`Usage`] and write it, so that quotas
//! hold exactly. A right comes from an operator's [`Binding`] or the scheduler's [`Grant`], never from the host that
//! asks.

pub(crate) mod draft;
mod request;

use std::net::IpAddr;

use weft_store::{Revision, Transaction};
use weft_types::{AttachmentName, HostId};

use self::draft::Draft;
pub use self::request::{AttachRequest, Right, Scene};
use crate::{
    id::{GrantId, ServiceName},
    ipam::IpamError,
    record::{
        Address, AddressUse, Attachment, Basis, Decoded, Drain, EnvironmentState, Health, Host,
        HostState, Record, RecordError, Slot, SlotKey, UnixMs, Usage,
    },
};

/// Most released addresses that one transaction frees.
pub const SWEEP_LEN_MAX: usize = 64;

/// Why there is no such decision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// Nothing new is made in this environment.
    #[error("the environment is {0}")]
    EnvironmentState(&'static str),
    /// The host takes nothing new.
    #[error("host {host} is {state}")]
    HostState {
        /// Which.
        host: HostId,
        /// What it is.
        state: &'static str,
    },
    /// An operator's word is for something else.
    #[error("host {0} has no right to it")]
    NoRight(HostId),
    /// The scheduler's leave is for something else, or over.
    #[error("grant {id} {what}")]
    Grant {
        /// Which.
        id: GrantId,
        /// What is the matter with it.
        what: &'static str,
    },
    /// Another attachment has the name.
    #[error("{name} is there already, as {} of {} on {host}", slot.slot, slot.service)]
    Name {
        /// Which name.
        name: AttachmentName,
        /// What it fills.
        slot: SlotKey,
        /// Where it is.
        host: HostId,
    },
    /// It is there already and is asked for again, and not as it is.
    #[error(
        "{name} is there already with {field} {has}, not {wanted}; release it to have another one"
    )]
    Differs {
        /// Which.
        name: AttachmentName,
        /// Field of what was asked for.
        field: &'static str,
        /// What it has there.
        has: String,
        /// What was asked for.
        wanted: String,
    },
    /// The name is a role of the service: under it, two things would be found.
    #[error("{name} is a role of {service}: an attachment of it has another name")]
    Role {
        /// Which name.
        name: AttachmentName,
        /// Of which service.
        service: ServiceName,
    },
    /// Another attachment fills the slot.
    #[error("{} of {} is filled by {by}", slot.slot, slot.service)]
    Slot {
        /// Which.
        slot: SlotKey,
        /// By what.
        by: AttachmentName,
    },
    /// The slot has other addresses than are asked for.
    #[error("{} of {} has {has:?}, not {wanted}", slot.slot, slot.service)]
    SlotAddress {
        /// Which.
        slot: SlotKey,
        /// What it has.
        has: Vec<IpAddr>,
        /// What was asked for.
        wanted: IpAddr,
    },
    /// Two addresses of one version of IP are asked for, or one of a version that the environment does not have.
    #[error(
        "{0} cannot be asked for: expected at most one address for each subnet of the environment"
    )]
    Wanted(IpAddr),
    /// No address is to be had.
    #[error(transparent)]
    Address(#[from] IpamError),
    /// The environment uses all it may.
    #[error("the environment's quota of {max} {what} is used up")]
    Quota {
        /// Of what.
        what: &'static str,
        /// How many.
        max: u32,
    },
    /// What is stored is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<T> {
    /// Nothing: it is so already.
    Already(T),
    /// This; then it is so.
    Commit(Transaction, T),
}

impl<T> Decision<T> {
    /// What is, or will be.
    pub fn outcome(&self) -> &T {
        match self {
            Self::Already(outcome) | Self::Commit(_, outcome) => outcome,
        }
    }

    /// The same, told otherwise.
    pub fn map<U>(self, tell: impl FnOnce(T) -> U) -> Decision<U> {
        match self {
            Self::Already(outcome) => Decision::Already(tell(outcome)),
            Self::Commit(transaction, outcome) => Decision::Commit(transaction, tell(outcome)),
        }
    }
}

/// A slot's addresses before anything fills it; they stay when nothing fills it any more.
///
/// # Errors
/// [`PlacementError`].
pub fn reserve(
    scene: &Scene<'_>,
    key: &SlotKey,
    wanted: &[IpAddr],
    existing: Option<&Decoded<Slot>>,
    now: UnixMs,
) -> Result<Decision<Slot>, PlacementError> {
    if let Some(existing) = existing {
        let slot = &existing.record;
        has_wanted(slot, wanted)?;
        if slot.reserved {
            return Ok(Decision::Already(slot.clone()));
        }
    }
    let mut draft = Draft::new(scene, true)?;
    let slot = Slot { reserved: true, ..draft.slot(key, wanted, existing, now)? };
    draft.put(&slot)?;
    Ok(Decision::Commit(draft.finish()?, slot))
}

/// A slot is not kept any longer than something fills it.
///
/// # Errors
/// [`PlacementError::Record`].
pub fn unreserve(
    scene: &Scene<'_>,
    slot: &Decoded<Slot>,
    now: UnixMs,
) -> Result<Decision<()>, PlacementError> {
    if !slot.record.reserved {
        return Ok(Decision::Already(()));
    }
    let mut draft = Draft::new(scene, false)?;
    draft.rests_on(slot)?;
    if slot.record.attachment.is_some() {
        draft.put(&Slot { reserved: false, ..slot.record.clone() })?;
    } else {
        draft.free_slot(&slot.record, now)?;
    }
    Ok(Decision::Commit(draft.finish()?, ()))
}

/// A new attachment. One that is there already is left as it is: what is asked for must be so, and what is not said may be
/// as it likes.
///
/// # Errors
/// [`PlacementError`].
pub fn attach(
    scene: &Scene<'_>,
    request: &AttachRequest<'_>,
    slot: Option<&Decoded<Slot>>,
    existing: Option<&Decoded<Attachment>>,
    now: UnixMs,
) -> Result<Decision<Attachment>, PlacementError> {
    let host = &request.host.record;
    if let Some(existing) = existing {
        let attachment = &existing.record;
        if attachment.host != host.id || attachment.slot != request.slot {
            return Err(PlacementError::Name {
                name: attachment.name.clone(),
                slot: attachment.slot.clone(),
                host: attachment.host.clone(),
            });
        }
        if let Some(slot) = slot {
            has_wanted(&slot.record, &request.wanted)?;
        }
        is_as_asked(attachment, request)?;
        return Ok(Decision::Already(attachment.clone()));
    }
    takes_new(host)?;
    is_no_role(scene, request)?;
    let mut draft = Draft::new(scene, true)?;
    draft.rests_on(request.host)?;
    let basis = draft.use_right(&request.right, host, &request.slot, &request.name, now)?;
    if let Some(by) = slot.and_then(|slot| slot.record.attachment.as_ref()) {
        return Err(PlacementError::Slot { slot: request.slot.clone(), by: by.clone() });
    }
    let filled = draft.slot(&request.slot, &request.wanted, slot, now)?;
    let filled = Slot { attachment: Some(request.name.clone()), ..filled };
    draft.count_attachment()?;
    let attachment = Attachment {
        environment: scene.environment.record.id.clone(),
        name: request.name.clone(),
        slot: request.slot.clone(),
        addresses: filled.addresses.clone(),
        host: host.id.clone(),
        generation: draft.next_generation(),
        basis,
        share: request.share.unwrap_or_default(),
        created: now,
    };
    draft.absent::<Attachment>(&attachment.path())?;
    draft.put(&attachment)?;
    draft.put(&filled)?;
    Ok(Decision::Commit(draft.finish()?, attachment))
}

/// An attachment is on another host from now on, with the same addresses and the next generation, whatever has
/// become of the host that it was on. It has no role there until it takes one.
///
/// # Errors
/// [`PlacementError`].
pub fn move_to(
    scene: &Scene<'_>,
    attachment: &Decoded<Attachment>,
    slot: &Decoded<Slot>,
    host: &Decoded<Host>,
    right: &Right<'_>,
    now: UnixMs,
) -> Result<Decision<Attachment>, PlacementError> {
    let before = &attachment.record;
    if before.host == host.record.id {
        return Ok(Decision::Already(before.clone()));
    }
    takes_new(&host.record)?;
    let mut draft = Draft::new(scene, true)?;
    draft.rests_on(attachment)?;
    draft.rests_on(slot)?;
    draft.rests_on(host)?;
    let basis = draft.use_right(right, &host.record, &before.slot, &before.name, now)?;
    draft.give_right_up(&before.basis)?;
    let generation = draft.next_generation();
    let moved = Attachment {
        host: host.record.id.clone(),
        generation,
        basis,
        created: now,
        ..before.clone()
    };
    draft.put(&moved)?;
    // How it was on the other host says nothing of it here.
    draft.delete::<Health>(&moved.path())?;
    draft.delete::<Drain>(&moved.path())?;
    draft.vacate(&moved.name)?;
    Ok(Decision::Commit(draft.finish()?, moved))
}

/// An attachment is over, and nobody has its roles. Its slot keeps the addresses if somebody reserved it; otherwise they go into
/// quarantine.
///
/// # Errors
/// [`PlacementError::Record`].
pub fn release(
    scene: &Scene<'_>,
    attachment: &Decoded<Attachment>,
    slot: &Decoded<Slot>,
    now: UnixMs,
) -> Result<Decision<()>, PlacementError> {
    let mut draft = Draft::new(scene, false)?;
    draft.rests_on(attachment)?;
    draft.rests_on(slot)?;
    let path = attachment.record.path();
    draft.delete::<Attachment>(&path)?;
    draft.delete::<Health>(&path)?;
    draft.delete::<Drain>(&path)?;
    draft.vacate(&attachment.record.name)?;
    draft.give_right_up(&attachment.record.basis)?;
    draft.uncount_attachment();
    if slot.record.reserved {
        draft.put(&Slot { attachment: None, ..slot.record.clone() })?;
    } else {
        draft.free_slot(&slot.record, now)?;
    }
    Ok(Decision::Commit(draft.finish()?, ()))
}

/// Released addresses whose time has come are free. `None` when there are none.
///
/// # Errors
/// [`PlacementError::Record`].
pub fn sweep(scene: &Scene<'_>, now: UnixMs) -> Result<Option<Transaction>, PlacementError> {
    let expired: Vec<_> = scene.ledger.expired(now, SWEEP_LEN_MAX).collect();
    if expired.is_empty() {
        return Ok(None);
    }
    let mut draft = Draft::new(scene, false)?;
    for (address, modified) in expired {
        draft.free_address(address, modified)?;
    }
    draft.finish().map(Some)
}

fn takes_new(host: &Host) -> Result<(), PlacementError> {
    let state = match host.state {
        HostState::Active => return Ok(()),
        HostState::Cordoned => "cordoned",
        HostState::Draining => "draining",
        HostState::Revoked => "revoked",
    };
    Err(PlacementError::HostState { host: host.id.clone(), state })
}

/// A service's attachments and roles are found under its name: no word is both.
fn is_no_role(scene: &Scene<'_>, request: &AttachRequest<'_>) -> Result<(), PlacementError> {
    let (service, name) = (&request.slot.service, &request.name);
    let mut roles = scene.roles.iter().map(|role| &role.record);
    if roles.any(|role| role.service == *service && role.role.as_str() == name.as_str()) {
        return Err(PlacementError::Role { name: name.clone(), service: service.clone() });
    }
    Ok(())
}

/// A share and a grant that are asked for are those that it has.
fn is_as_asked(attachment: &Attachment, request: &AttachRequest<'_>) -> Result<(), PlacementError> {
    let differs = |field, has: String, wanted: String| PlacementError::Differs {
        name: attachment.name.clone(),
        field,
        has,
        wanted,
    };
    if let Some(wanted) = request.share.filter(|wanted| *wanted != attachment.share) {
        return Err(differs("share", attachment.share.to_string(), wanted.to_string()));
    }
    match (&request.right, &attachment.basis) {
        (Right::Grant(wanted), Basis::Grant(has)) if wanted.record.id == *has => Ok(()),
        (Right::Grant(wanted), has) => {
            let has = match has {
                Basis::Grant(has) => has.to_string(),
                Basis::Binding => "none".to_owned(),
            };
            Err(differs("grant", has, wanted.record.id.to_string()))
        }
        // None is asked for.
        (Right::Binding(_), _) => Ok(()),
    }
}

fn has_wanted(slot: &Slot, wanted: &[IpAddr]) -> Result<(), PlacementError> {
    match wanted.iter().find(|wanted| !slot.addresses.contains(wanted)) {
        None => Ok(()),
        Some(wanted) => Err(PlacementError::SlotAddress {
            slot: slot.slot.clone(),
            has: slot.addresses.clone(),
            wanted: *wanted,
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
