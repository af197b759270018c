//! Addresses against a plain model, and the words of every refusal.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::id::SlotName;

fn slot(n: u32) -> SlotKey {
    SlotKey { service: "db".parse().unwrap(), slot: SlotName::Stable(n) }
}

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn put(ledger: &mut Ledger, address: IpAddr, used: AddressUse, revision: u64) {
    let environment = "env-a".parse().unwrap();
    let record = Address { environment, address, used };
    ledger.put(Decoded { record, modified: Revision(revision) });
}

fn take(ledger: &mut Ledger, of: &Subnet, slot: &SlotKey, now: u64) -> Result<IpAddr, IpamError> {
    let choice = ledger.choose(of, slot, None, UnixMs(now))?;
    put(ledger, choice.address, AddressUse::Slot(slot.clone()), 1);
    Ok(choice.address)
}

#[test]
fn network_gateway_and_broadcast_are_given_to_nobody() {
    for (of, expected) in [("10.0.0.0/29", 2..=6), ("10.0.0.248/29", 250..=254)] {
        let (of, mut ledger) = (subnet(of), Ledger::default());
        let mut given: Vec<IpAddr> =
            (0..5).map(|n| take(&mut ledger, &of, &slot(n), 0).unwrap()).collect();
        given.sort_unstable();
        let all: Vec<IpAddr> = expected.map(|n| ip(&format!("10.0.0.{n}"))).collect();
        assert_eq!(given, all);
        let full = take(&mut ledger, &of, &slot(9), 0).unwrap_err();
        assert_eq!(
            full,
            IpamError::Exhausted { subnet: of, held: 5, quarantined: 0, free_at: None }
        );
    }
    let (of, mut ledger) = (subnet("fd40::/125"), Ledger::default());
    let mut given: Vec<IpAddr> =
        (0..6).map(|n| take(&mut ledger, &of, &slot(n), 0).unwrap()).collect();
    given.sort_unstable();
    assert_eq!(given, (2..8).map(|n| ip(&format!("fd40::{n}"))).collect::<Vec<_>>());
    let (of, mut low) = (subnet("::/125"), Ledger::default());
    let lowest: Vec<IpAddr> = (0..6).map(|n| take(&mut low, &of, &slot(n), 0).unwrap()).collect();
    assert!(lowest.iter().all(IpAddr::is_ipv6));
    for small in ["10.0.0.0/31", "10.0.0.0/32", "10.0.0.2/31", "fd40::/127", "fd40::/128"] {
        assert_eq!(
            check_subnet(&subnet(small)),
            Err(IpamError::TooSmall(subnet(small))),
            "{small}"
        );
    }
    for good in ["10.0.0.0/30", "0.0.0.0/0", "fd40::/126", "::/0"] {
        assert_eq!(check_subnet(&subnet(good)), Ok(()), "{good}");
    }
}

#[test]
fn a_released_address_goes_to_its_slot_or_waits() {
    let (of, mut ledger) = (subnet("10.0.0.0/30"), Ledger::default());
    let address = take(&mut ledger, &of, &slot(1), 0).unwrap();
    let until = UnixMs(1_000).after(QUARANTINE);
    put(&mut ledger, address, AddressUse::Quarantine { slot: slot(1), until }, 5);
    let early = ledger.choose(&of, &slot(2), None, UnixMs(until.0 - 1));
    let nothing =
        IpamError::Exhausted { subnet: of, held: 0, quarantined: 1, free_at: Some(until) };
    assert_eq!(early, Err(nothing));
    let asked = ledger.choose(&of, &slot(2), Some(address), UnixMs(until.0 - 1));
    assert_eq!(asked, Err(IpamError::Quarantined { address, until }));
    let back = Ok(Choice { address, replaces: Some(Revision(5)) });
    assert_eq!(ledger.choose(&of, &slot(1), None, UnixMs(1_001)), back);
    assert_eq!(ledger.choose(&of, &slot(2), None, until), back);
    assert_eq!(ledger.choose(&of, &slot(2), Some(address), until), back);
    assert_eq!(ledger.expired(until, 9).collect::<Vec<_>>(), [(address, Revision(5))]);
    assert_eq!(ledger.expired(UnixMs(until.0 - 1), 9).count(), 0);
}

#[test]
fn what_is_asked_for_is_given_or_the_reason_is_said() {
    let (of, mut ledger) = (subnet("10.0.0.0/24"), Ledger::default());
    let wanted = ip("10.0.0.77");
    let ask = |ledger: &Ledger, address| ledger.choose(&of, &slot(1), Some(address), UnixMs(0));
    assert_eq!(ask(&ledger, wanted), Ok(Choice { address: wanted, replaces: None }));
    for outside in ["10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.2", "::a00:4d"] {
        let refused = ask(&ledger, ip(outside)).unwrap_err();
        let (first, last) = (ip("10.0.0.2"), ip("10.0.0.254"));
        assert_eq!(refused, IpamError::Outside { address: ip(outside), first, last });
    }
    put(&mut ledger, wanted, AddressUse::Slot(slot(2)), 1);
    let taken = ledger.choose(&of, &slot(1), Some(wanted), UnixMs(0)).unwrap_err();
    assert_eq!(taken.to_string(), "10.0.0.77 belongs to 2 of db");
}

#[test]
fn a_slot_finds_the_same_address_again() {
    let of = subnet("10.0.0.0/16");
    let fresh = take(&mut Ledger::default(), &of, &slot(7), 0);
    let mut others = Ledger::default();
    for n in 100..200 {
        take(&mut others, &of, &slot(n), 0).unwrap();
    }
    assert_eq!(take(&mut others, &of, &slot(7), 0), fresh);
}

#[derive(Debug, Clone)]
enum Step {
    Take(u32),
    TakeThis(u32, u8),
    Release(prop::sample::Index),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u32..12).prop_map(Step::Take),
        2 => (0u32..12, any::<u8>()).prop_map(|(n, last)| Step::TakeThis(n, last)),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        2 => (0u64..400_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// The plain model: who has what, and who had what until when. A free address is always found, and
    /// nothing is given that is another's or was another's not long ago.
    #[test]
    fn behaves_like_a_plain_model(steps in steps(), size in prop_oneof![Just(29u8), Just(28)]) {
        let of = Subnet::new(ip("10.9.0.0"), size).unwrap();
        let last = (1_u32 << (32 - size)) - 2;
        let all: Vec<IpAddr> = (2..=last).map(|n| ip(&format!("10.9.0.{n}"))).collect();
        let mut ledger = Ledger::default();
        let mut held: HashMap<IpAddr, u32> = HashMap::new();
        let mut left: HashMap<IpAddr, (u32, u64)> = HashMap::new();
        let mut now = 0;
        let mut revision = 0;
        for step in steps {
            let (n, wanted) = match step {
                Step::Wait(ms) => {
                    now += ms;
                    continue;
                }
                Step::Release(index) => {
                    if held.is_empty() {
                        continue;
                    }
                    let mut addresses: Vec<_> = held.keys().copied().collect();
                    addresses.sort_unstable();
                    let address = addresses[index.index(addresses.len())];
                    let n = held.remove(&address).unwrap();
                    let until = UnixMs(now).after(QUARANTINE);
                    left.insert(address, (n, until.0));
                    revision += 1;
                    put(&mut ledger, address, AddressUse::Quarantine { slot: slot(n), until }, revision);
                    continue;
                }
                Step::Take(n) => (n, None),
                Step::TakeThis(n, last) => (n, Some(all[usize::from(last) % all.len()])),
            };
            let can_have = |address: &IpAddr| {
                !held.contains_key(address)
                    && left.get(address).is_none_or(|(before, until)| *before == n || *until <= now)
            };
            match ledger.choose(&of, &slot(n), wanted, UnixMs(now)) {
                Ok(choice) => {
                    prop_assert!(all.contains(&choice.address));
                    prop_assert!(can_have(&choice.address));
                    prop_assert!(wanted.is_none_or(|wanted| wanted == choice.address));
                    prop_assert_eq!(choice.replaces.is_some(), left.remove(&choice.address).is_some());
                    held.insert(choice.address, n);
                    revision += 1;
                    put(&mut ledger, choice.address, AddressUse::Slot(slot(n)), revision);
                }
                Err(_) => match wanted {
                    Some(wanted) => prop_assert!(!can_have(&wanted)),
                    None => prop_assert!(!all.iter().any(can_have)),
                },
            }
        }
    }
}
