//! Which address is given to whom.
//!
//! ```text
//!   free ──▶ slot ──▶ quarantine, 10 minutes ──▶ free
//!              ▲          │ only for the same slot
//!              └──────────┘
//! ```
//!
//! A slot looks from a place on that its name gives, so that it finds the same address again where it can, and
//! different slots rarely look at the same. The network's address, the gateway and the broadcast address are
//! given to nobody. Where nothing is free, that is an error that says when something will be.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use weft_store::Revision;
use weft_types::Subnet;

use crate::record::{Address, AddressUse, Decoded, SlotKey, UnixMs};

/// How long a released address is not given to another slot: longer than the name service's answers live, and
/// than a host may go on with what it knew before it hears of the change.
pub const QUARANTINE: Duration = Duration::from_secs(10 * 60);

/// Why no address is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// It is no address for containers of this subnet.
    #[error("{address} cannot be given: expected one of {first} to {last}")]
    Outside {
        /// What was asked for.
        address: IpAddr,
        /// The first that can be given.
        first: IpAddr,
        /// The last.
        last: IpAddr,
    },
    /// It belongs to another slot.
    #[error("{address} belongs to {} of {}", slot.slot, slot.service)]
    Taken {
        /// What was asked for.
        address: IpAddr,
        /// Whose it is.
        slot: SlotKey,
    },
    /// It was another slot's.
    #[error("{address} was released and is not given again before {} ms since 1970", until.0)]
    Quarantined {
        /// What was asked for.
        address: IpAddr,
        /// Until then.
        until: UnixMs,
    },
    /// Nothing is free.
    #[error("no address of {subnet} is free: {held} are in use, {quarantined} in quarantine")]
    Exhausted {
        /// Of which.
        subnet: Subnet,
        /// Addresses of slots.
        held: usize,
        /// Addresses that were released.
        quarantined: usize,
        /// When the first of these is free again.
        free_at: Option<UnixMs>,
    },
    /// The subnet has no address for containers at all.
    #[error("{0} has no address for containers")]
    TooSmall(Subnet),
}

/// An address that can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub address: IpAddr,
    /// The record of its quarantine, if there is one: whoever takes it replaces just this.
    pub replaces: Option<Revision>,
}

/// Every address of one environment that is not free.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    used: BTreeMap<IpAddr, (AddressUse, Revision)>,
    /// No quarantine that ends later is over, whatever time it is said to be; see [`crate::settled`].
    settled: Option<UnixMs>,
}

impl Ledger {
    /// With quarantines that end later than this never over.
    #[must_use]
    pub fn settled_at(self, settled: UnixMs) -> Self {
        Self { settled: Some(settled), ..self }
    }

    fn time(&self, now: UnixMs) -> UnixMs {
        self.settled.map_or(now, |settled| settled.min(now))
    }

    /// An address is used, or differently.
    pub fn put(&mut self, address: Decoded<Address>) {
        let Decoded { record, modified } = address;
        self.used.insert(record.address, (record.used, modified));
    }

    /// An address is free.
    pub fn remove(&mut self, address: IpAddr) {
        self.used.remove(&address);
    }

    /// What an address is used for.
    #[must_use]
    pub fn get(&self, address: IpAddr) -> Option<(&AddressUse, Revision)> {
        self.used.get(&address).map(|(used, modified)| (used, *modified))
    }

    /// How many are not free.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether all are free.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Released addresses whose time has come, at most `len_max`.
    pub fn expired(&self, now: UnixMs, len_max: usize) -> impl Iterator<Item = (IpAddr, Revision)> {
        let now = self.time(now);
        let over = move |used: &AddressUse| matches!(used, AddressUse::Quarantine { until, .. } if *until <= now);
        self.used
            .iter()
            .filter(move |(_, (used, _))| over(used))
            .map(|(address, (_, modified))| (*address, *modified))
            .take(len_max)
    }

    /// An address of `subnet` for `slot`: the one that is wanted, or the one that it had, or any.
    ///
    /// # Errors
    /// [`IpamError`] says why there is none.
    pub fn choose(
        &self,
        subnet: &Subnet,
        slot: &SlotKey,
        wanted: Option<IpAddr>,
        now: UnixMs,
    ) -> Result<Choice, IpamError> {
        let now = self.time(now);
        let range = Range::of(subnet).ok_or(IpamError::TooSmall(*subnet))?;
        if let Some(address) = wanted {
            return self.wanted(&range, slot, address, now);
        }
        if let Some(before) = self.had(&range, slot) {
            return Ok(before);
        }
        let start = range.at(hash(slot));
        self.free(&range, slot, (start, range.last), now)
            .or_else(|| self.free(&range, slot, (range.first, start), now))
            .ok_or_else(|| self.exhausted(subnet, &range, now))
    }

    fn wanted(
        &self,
        range: &Range,
        slot: &SlotKey,
        address: IpAddr,
        now: UnixMs,
    ) -> Result<Choice, IpamError> {
        let inside = address.is_ipv4() == range.is_ipv4
            && (range.first..=range.last).contains(&number(address));
        if !inside {
            let (first, last) = (range.address(range.first), range.address(range.last));
            return Err(IpamError::Outside { address, first, last });
        }
        match self.get(address) {
            None => Ok(Choice { address, replaces: None }),
            Some((used, modified)) if is_free(used, slot, now) => {
                Ok(Choice { address, replaces: Some(modified) })
            }
            Some((AddressUse::Slot(owner), _)) => {
                Err(IpamError::Taken { address, slot: owner.clone() })
            }
            Some((AddressUse::Quarantine { until, .. }, _)) => {
                Err(IpamError::Quarantined { address, until: *until })
            }
        }
    }

    /// What this slot released and nobody else can have yet.
    fn had(&self, range: &Range, slot: &SlotKey) -> Option<Choice> {
        self.within(range.first, range.last, range).find_map(|(address, used, modified)| match used
        {
            AddressUse::Quarantine { slot: before, .. } if before == slot => {
                Some(Choice { address, replaces: Some(modified) })
            }
            _ => None,
        })
    }

    fn within<'a>(
        &'a self,
        first: u128,
        last: u128,
        range: &Range,
    ) -> impl Iterator<Item = (IpAddr, &'a AddressUse, Revision)> + use<'a> {
        self.used
            .range(range.address(first)..=range.address(last))
            .map(|(address, (used, modified))| (*address, used, *modified))
    }

    /// The first free address between these two.
    fn free(
        &self,
        range: &Range,
        slot: &SlotKey,
        (first, last): (u128, u128),
        now: UnixMs,
    ) -> Option<Choice> {
        let mut next = first;
        for (address, used, modified) in self.within(first, last, range) {
            if number(address) != next {
                break;
            }
            if is_free(used, slot, now) {
                return Some(Choice { address, replaces: Some(modified) });
            }
            next += 1;
        }
        (next <= last).then(|| Choice { address: range.address(next), replaces: None })
    }

    fn exhausted(&self, subnet: &Subnet, range: &Range, now: UnixMs) -> IpamError {
        let (mut held, mut quarantined, mut free_at) = (0, 0, None::<UnixMs>);
        for (_, used, _) in self.within(range.first, range.last, range) {
            match used {
                AddressUse::Slot(_) => held += 1,
                AddressUse::Quarantine { until, .. } => {
                    quarantined += 1;
                    free_at = Some(free_at.map_or(*until, |at| at.min(*until)).max(now));
                }
            }
        }
        IpamError::Exhausted { subnet: *subnet, held, quarantined, free_at }
    }
}

fn is_free(used: &AddressUse, slot: &SlotKey, now: UnixMs) -> bool {
    match used {
        AddressUse::Slot(_) => false,
        AddressUse::Quarantine { slot: before, until } => *until <= now || before == slot,
    }
}

/// Whether containers can have addresses of a subnet.
///
/// # Errors
/// [`IpamError::TooSmall`].
pub fn check_subnet(subnet: &Subnet) -> Result<(), IpamError> {
    Range::of(subnet).map(|_| ()).ok_or(IpamError::TooSmall(*subnet))
}

/// Addresses as numbers.
struct Range {
    first: u128,
    last: u128,
    is_ipv4: bool,
}

impl Range {
    fn of(subnet: &Subnet) -> Option<Self> {
        let is_ipv4 = subnet.address().is_ipv4();
        let bits = u32::from(subnet.prefix_len());
        let hosts = match is_ipv4 {
            true => u128::from(u32::MAX.checked_shr(bits).unwrap_or(0)),
            false => u128::MAX.checked_shr(bits).unwrap_or(0),
        };
        let network = number(subnet.address());
        // After the network's own address and the gateway, before the broadcast address.
        let first = network.checked_add(2)?;
        let last = network.checked_add(hosts)?.checked_sub(u128::from(is_ipv4))?;
        (first <= last).then_some(Self { first, last, is_ipv4 })
    }

    fn at(&self, hash: u128) -> u128 {
        match (self.last - self.first).checked_add(1) {
            Some(len) => self.first + hash % len,
            None => hash,
        }
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(v4) if self.is_ipv4 => IpAddr::V4(v4.into()),
            _ => IpAddr::V6(number.into()),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// FNV-1a of 128 bits (draft-eastlake-fnv, section 5): the same for ever, and spread well enough.
fn hash(slot: &SlotKey) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let text = format!("{}/{}", slot.service, slot.slot);
    text.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests;
