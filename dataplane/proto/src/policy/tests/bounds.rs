//! However many flows there are, so much is remembered and no more.

use super::*;

fn to_port(source: u16, n: u32) -> Seen {
    let from = std::net::Ipv4Addr::from(0x0a01_0000 + n).to_string();
    udp(&from, DB, (source, 443))
}

fn open_to_db() -> Rules {
    let rule = Rule { to: both('9'), ..rule("all", Verdict::Allow) };
    Rules { default: Verdict::Deny, rules: vec![rule] }
}

#[test]
fn memory_is_bounded_and_small_at_first() {
    let world = World::new(&open_to_db());
    assert!(world.passes(&to_port(1, 0)));
    assert!(world.guard.capacity() <= 64, "{}", world.guard.capacity());
    for n in 0..1_000 {
        assert!(world.passes(&to_port(1, n)));
    }
    let used = world.guard.capacity();
    assert!(used <= 8_192, "{used} places for 1,000 flows");
    // All are still known.
    let back = |n: u32| {
        let to = std::net::Ipv4Addr::from(0x0a01_0000 + n).to_string();
        udp(DB, &to, (443, 1))
    };
    assert!((0..1_000).all(|n| world.passes(&back(n))));
    for n in 0..3 * u32::try_from(FLOWS_MAX).unwrap() {
        assert!(world.passes(&to_port(1, n)), "a full table denies nothing");
    }
    assert_eq!(world.guard.capacity(), FLOWS_MAX);
    let known = (0..3 * u32::try_from(FLOWS_MAX).unwrap()).filter(|n| world.passes(&back(*n)));
    let known = known.count();
    assert!((FLOWS_MAX * 9 / 10..=FLOWS_MAX).contains(&known), "{known}");
}

#[test]
fn what_would_end_first_makes_room() {
    let mut world = World::new(&open_to_db());
    let connection = |n: u16, flags| tcp(WEB, DB, (n, 443), flags);
    let answered = |n: u16, flags| tcp(DB, WEB, (443, n), flags);
    for n in 1..=1_000 {
        assert!(world.passes(&connection(n, SYN)) && world.passes(&answered(n, SYN_ACK)));
    }
    // A flood of what is never answered, of twice as many flows as there is room for.
    for n in 0..2 * u32::try_from(FLOWS_MAX).unwrap() {
        assert!(world.passes(&to_port(1, n)));
    }
    let before = world.hits("all");
    assert!((1..=1_000).all(|n| world.passes(&answered(n, ACK))));
    assert_eq!(world.hits("all"), before, "no connection was forgotten");
    // What is over makes room before anything else.
    world.wait(31);
    let before = world.hits("all");
    assert!((0..1_000).all(|n| world.passes(&to_port(2, n))));
    assert!((0..1_000).all(|n| world.passes(&to_port(2, n))));
    assert_eq!(world.hits("all"), before + 1_000);
}
