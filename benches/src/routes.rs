//! Tables of routes, and the order in which they are asked.

use std::net::{IpAddr, Ipv4Addr};

use weft_proto::{LinkSlot, RouteTable, Target};

/// First address of the table: the start of a private network with room for 2^24.
const FIRST: u32 = 0x0a00_0000;
/// Multiplies positions into an order without pattern; odd, and no multiple of 5, so that it has
/// no factor in common with a power of ten.
const STRIDE: u64 = 0x9e37_79b1;
const _: () = assert!(!STRIDE.is_multiple_of(2) && !STRIDE.is_multiple_of(5));

/// A table of `len` addresses on peer hosts, and every one of them once, in an order in which no
/// address is beside its neighbour. `len` is a power of ten, at most 10^7.
///
/// # Panics
/// When it is beyond.
#[must_use]
pub fn table(len: u32) -> (RouteTable, Vec<IpAddr>) {
    assert!(len <= 10_000_000, "{len} routes; expected at most 10,000,000");
    let address = |n: u32| IpAddr::V4(Ipv4Addr::from(FIRST + n));
    let table = (0..len).map(|n| (address(n), Target::Remote(LinkSlot(n)))).collect();
    let order = (0..u64::from(len)).map(|n| n * STRIDE % u64::from(len));
    let order = order.map(|n| address(u32::try_from(n).expect("below len"))).collect();
    (table, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_once() {
        for len in [10, 1_000, 100_000] {
            let (table, order) = table(len);
            let asked: std::collections::HashSet<_> = order.iter().collect();
            assert_eq!((table.len(), asked.len()), (len as usize, len as usize));
            assert!(order.iter().all(|address| table.get(*address).is_some()));
        }
    }
}
