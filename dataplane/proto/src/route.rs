//! Where the overlay addresses of one environment live.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::{AttachmentSlot, LinkSlot};

/// Where a destination lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// On this host.
    Local(AttachmentSlot),
    /// On a peer host.
    Remote(LinkSlot),
}

/// An immutable snapshot of one environment's routes: single addresses, each at one place. Made
/// anew for every change and swapped as a whole. Peers announce nothing; every entry comes from
/// the configuration or the control plane.
#[derive(Debug, Default)]
pub struct RouteTable(FxHashMap<IpAddr, Target>);

impl RouteTable {
    /// Where `address` lives.
    #[inline]
    #[must_use]
    pub fn get(&self, address: IpAddr) -> Option<Target> {
        self.0.get(&address).copied()
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(IpAddr, Target)> for RouteTable {
    fn from_iter<I: IntoIterator<Item = (IpAddr, Target)>>(routes: I) -> Self {
        Self(routes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lives_at_one_place_and_is_counted_once() {
        let [a, b] = ["10.40.0.2", "fd40::2"].map(|text| text.parse::<IpAddr>().unwrap());
        let (here, there) = (Target::Local(AttachmentSlot(3)), Target::Remote(LinkSlot(7)));
        let none = RouteTable::default();
        assert!((none.len(), none.is_empty(), none.get(a)) == (0, true, None));
        let table: RouteTable = [(a, here), (b, here), (b, there)].into_iter().collect();
        assert!((table.len(), table.is_empty()) == (2, false));
        assert_eq!((table.get(a), table.get(b)), (Some(here), Some(there)));
        assert_eq!(table.get("10.40.0.3".parse().unwrap()), None);
    }
}
