//! A transaction in the making.

use super::{
    Address, AddressUse, AttachmentName, Basis, Decoded, EnvironmentState, Host, IpAddr,
    PlacementError, Record, Revision, Right, Scene, Slot, SlotKey, Transaction, UnixMs, Usage,
};
use crate::{
    ipam::QUARANTINE,
    record::{Grant, Role},
};

/// Rests on the environment and on what it uses from the start.
pub(crate) struct Draft<'a> {
    scene: &'a Scene<'a>,
    transaction: Transaction,
    usage: Usage,
}

impl<'a> Draft<'a> {
    /// `makes` something new, which only an active environment takes.
    pub(crate) fn new(scene: &'a Scene<'a>, makes: bool) -> Result<Self, PlacementError> {
        let environment = &scene.environment.record;
        let state = match environment.state {
            EnvironmentState::Active => None,
            EnvironmentState::Suspended => Some("suspended"),
            EnvironmentState::Deleting { .. } | EnvironmentState::Purging => Some("being deleted"),
        };
        if let Some(state) = state.filter(|_| makes) {
            return Err(PlacementError::EnvironmentState(state));
        }
        let usage = match scene.usage {
            Some(usage) => usage.record.clone(),
            None => Usage::none(environment.id.clone()),
        };
        let mut draft = Self { scene, transaction: Transaction::new(), usage };
        draft.rests_on(scene.environment)?;
        match scene.usage {
            Some(usage) => draft.rests_on(usage)?,
            None => draft.absent::<Usage>(&environment.id.to_string())?,
        }
        Ok(draft)
    }

    pub(crate) fn rests_on<R: Record>(&mut self, on: &Decoded<R>) -> Result<(), PlacementError> {
        let key = on.record.key()?;
        self.transaction.conditions.push(weft_store::Condition::At(key, on.modified));
        Ok(())
    }

    pub(crate) fn absent<R: Record>(&mut self, path: &str) -> Result<(), PlacementError> {
        self.transaction.conditions.push(weft_store::Condition::Absent(R::key_at(path)?));
        Ok(())
    }

    pub(crate) fn put(&mut self, record: &impl Record) -> Result<(), PlacementError> {
        let (key, value) = (record.key()?, record.encode()?.into());
        self.transaction.writes.push(weft_store::Write::Put { key, value, lease: None });
        Ok(())
    }

    pub(crate) fn delete<R: Record>(&mut self, path: &str) -> Result<(), PlacementError> {
        self.transaction.writes.push(weft_store::Write::Delete(R::key_at(path)?));
        Ok(())
    }

    /// What a host has a right to, by what; a grant is used up.
    pub(crate) fn use_right(
        &mut self,
        right: &Right<'_>,
        host: &Host,
        slot: &SlotKey,
        name: &AttachmentName,
        now: UnixMs,
    ) -> Result<Basis, PlacementError> {
        let environment = &self.scene.environment.record.id;
        let grant = match right {
            Right::Binding(binding) => {
                if (&binding.record.environment, &binding.record.host) != (environment, &host.id) {
                    return Err(PlacementError::NoRight(host.id.clone()));
                }
                self.rests_on(binding)?;
                return Ok(Basis::Binding);
            }
            Right::Grant(grant) => grant,
        };
        let Grant { id, expires, used_by, .. } = &grant.record;
        let wrong = if grant.record.environment != *environment {
            Some("is for another environment")
        } else if grant.record.host != host.id {
            Some("is for another host")
        } else if grant.record.slot != *slot {
            Some("is for another slot")
        } else if *expires <= now {
            Some("has expired")
        } else if used_by.is_some() {
            Some("was used")
        } else {
            None
        };
        if let Some(what) = wrong {
            return Err(PlacementError::Grant { id: id.clone(), what });
        }
        self.rests_on(grant)?;
        self.put(&Grant { used_by: Some(name.clone()), ..grant.record.clone() })?;
        Ok(Basis::Grant(id.clone()))
    }

    /// Nothing rests any more on what gave a host its right: a grant that was used is over with its attachment.
    pub(crate) fn give_right_up(&mut self, basis: &Basis) -> Result<(), PlacementError> {
        match basis {
            Basis::Binding => Ok(()),
            Basis::Grant(id) => {
                let path = format!("{}/{id}", self.scene.environment.record.id);
                self.delete::<Grant>(&path)
            }
        }
    }

    /// The slot as it is, or a new one with addresses. Writing it is left to the caller.
    pub(crate) fn slot(
        &mut self,
        key: &SlotKey,
        wanted: &[IpAddr],
        existing: Option<&Decoded<Slot>>,
        now: UnixMs,
    ) -> Result<Slot, PlacementError> {
        let environment = &self.scene.environment.record;
        if let Some(existing) = existing {
            super::has_wanted(&existing.record, wanted)?;
            self.rests_on(existing)?;
            return Ok(existing.record.clone());
        }
        let addresses = self.addresses(key, wanted, now)?;
        let (environment, slot) = (environment.id.clone(), key.clone());
        let slot = Slot { environment, slot, addresses, attachment: None, reserved: false };
        self.absent::<Slot>(&slot.path())?;
        Ok(slot)
    }

    fn addresses(
        &mut self,
        slot: &SlotKey,
        wanted: &[IpAddr],
        now: UnixMs,
    ) -> Result<Vec<IpAddr>, PlacementError> {
        let environment = &self.scene.environment.record;
        let mut wanted = wanted.to_vec();
        let mut addresses = Vec::new();
        for subnet in &environment.subnets {
            let of_family = |address: &IpAddr| address.is_ipv4() == subnet.address().is_ipv4();
            let asked = wanted.iter().position(of_family).map(|at| wanted.swap_remove(at));
            let choice = self.scene.ledger.choose(subnet, slot, asked, now)?;
            let address = choice.address;
            let record = Address {
                environment: environment.id.clone(),
                address,
                used: AddressUse::Slot(slot.clone()),
            };
            match choice.replaces {
                Some(modified) => self.rests_on(&Decoded { record: record.clone(), modified })?,
                None => {
                    self.absent::<Address>(&record.path())?;
                    let max = environment.quotas.addresses_max;
                    count(self.usage.addresses_mut(address), max, "addresses of a version of IP")?;
                }
            }
            self.put(&record)?;
            addresses.push(address);
        }
        match wanted.first() {
            None => Ok(addresses),
            Some(left) => Err(PlacementError::Wanted(*left)),
        }
    }

    /// The slot is gone, and its addresses in quarantine.
    pub(crate) fn free_slot(&mut self, slot: &Slot, now: UnixMs) -> Result<(), PlacementError> {
        self.delete::<Slot>(&slot.path())?;
        for address in &slot.addresses {
            let used =
                AddressUse::Quarantine { slot: slot.slot.clone(), until: now.after(QUARANTINE) };
            let environment = slot.environment.clone();
            self.put(&Address { environment, address: *address, used })?;
        }
        Ok(())
    }

    pub(crate) fn free_address(
        &mut self,
        address: IpAddr,
        modified: Revision,
    ) -> Result<(), PlacementError> {
        let path = format!("{}/{address}", self.scene.environment.record.id);
        let key = Address::key_at(&path)?;
        self.transaction.conditions.push(weft_store::Condition::At(key, modified));
        self.delete::<Address>(&path)?;
        let count = self.usage.addresses_mut(address);
        *count = count.saturating_sub(1);
        Ok(())
    }

    pub(crate) fn count_attachment(&mut self) -> Result<(), PlacementError> {
        let max = self.scene.environment.record.quotas.attachments_max;
        count(&mut self.usage.attachments, max, "attachments")
    }

    /// Higher than all before, and at most the revision of the commit that gives it. What was given after a backup is
    /// not in the store that is brought back; but that one's revisions begin after all of those.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.usage.generation = (self.usage.generation + 1).max(self.scene.revision.0);
        self.usage.generation
    }

    pub(crate) fn uncount_attachment(&mut self) {
        self.usage.attachments = self.usage.attachments.saturating_sub(1);
    }

    /// Nobody has the roles any more that this attachment has: what acts in them next is another container, or on
    /// another host, and takes them anew, with a higher epoch.
    pub(crate) fn vacate(&mut self, holder: &AttachmentName) -> Result<(), PlacementError> {
        let held = self.scene.roles.iter().filter(|role| role.record.holder == *holder);
        for role in held {
            self.delete::<Role>(&role.record.path())?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Transaction, PlacementError> {
        let usage = self.usage.clone();
        self.put(&usage)?;
        Ok(self.transaction)
    }
}

fn count(count: &mut u32, max: u32, what: &'static str) -> Result<(), PlacementError> {
    if *count >= max {
        return Err(PlacementError::Quota { what, max });
    }
    *count += 1;
    Ok(())
}
